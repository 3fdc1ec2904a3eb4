"""Policies for tests: shells are given scripts of a folder, everything else any argument."""

import re
from pathlib import Path
from typing import Any

from roundsman.worker.policy import CommandPolicy, Policy

INTERPRETERS = ("sh", "bash", "python3")
ANYTHING = re.compile(".*", re.DOTALL)


def policy(scripts: Path, *names: str, **more: Any) -> Policy:
    """Allow these; `more` goes to the policy itself."""
    commands = {
        name: CommandPolicy(
            executable=name,
            scripts=scripts if name in INTERPRETERS or name.startswith("./") else None,
            arguments=(ANYTHING,),
        )
        for name in names
    }
    return Policy(commands=commands, **more)

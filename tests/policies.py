"""Policies for tests: shells are given scripts of a folder, everything else any argument."""

from pathlib import Path
from typing import Any

from roundsman.worker.policy import CommandPolicy, OnStop, Policy

INTERPRETERS = ("sh", "bash", "python3")
ANYTHING = "(?s:.*)"


def policy(scripts: Path, *names: str, on_stop: OnStop = OnStop.STOP, **more: Any) -> Policy:
    """Allow these, killed at once when stopped; `more` goes to each of them."""
    commands = {
        name: CommandPolicy(
            **{
                "executable": name,
                "scripts": scripts if name in INTERPRETERS or name.startswith("./") else None,
                "arguments": (ANYTHING,),
                "grace_seconds": 0.0,
                **more,
            }
        )
        for name in names
    }
    return Policy(commands=commands, on_stop=on_stop)

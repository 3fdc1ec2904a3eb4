"""State machines of devices are walked: what is read is what was sent, or a failure that is listed.

The suite walks all logins and one in ten of the other ways; `make corpus` walks all.
"""

import asyncio
import itertools
import os
import re
from pathlib import Path

import pytest
import yaml

from roundsman.simulator.machine import MachineError
from roundsman.worker.runners.interface import RunFailedError
from tests.worker.sessions import machines
from tests.worker.sessions.machines import Walk

ALL = bool(os.environ.get("ROUNDSMAN_CORPUS_ALL"))
AT_ONCE = 8
FILES = machines.files()
LISTED = yaml.safe_load((Path(__file__).parent / "machines.yaml").read_text())
UNREADABLE = {"spitfire_enable2": "state spitfire_enable2, commands, '<<BR': unknown: "}

pytestmark = pytest.mark.skipif(
    not FILES, reason=f"no state machines in {machines.UNICON}: set ROUNDSMAN_CORPUS"
)


async def walked(walk: Walk, folder: Path) -> str:
    """What came of it: exact, less, wrong, or a failure's class."""
    folder.mkdir()
    try:
        read, sent = await walk.result(folder)
    except RunFailedError as error:
        return error.failure_class
    if read == sent:
        return "exact"
    # Nothing of what was sent may be missing.
    return "less" if read.startswith(sent) else "wrong"


def reasons(walk: Walk, verdict: str) -> set[str]:
    """Those listed for it, by the pattern that finds its title."""
    found = (e for e in LISTED if re.search(e["walk"], walk.title) and verdict in e["failure"])
    return {entry["walk"] for entry in found}


# All at once where the list as a whole is looked at.
@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize(
    "files", [FILES] if ALL else [[file] for file in FILES], ids=lambda files: files[0].stem
)
async def test_machines_are_walked(files: list[Path], tmp_path: Path) -> None:
    found = [walk for file in files for walk in machines.walks(file)]
    errors = [walk for walk in found if isinstance(walk, MachineError)]
    unexpected = [e for e in errors if not any(text in e.text for text in UNREADABLE.values())]
    assert not unexpected
    chosen = [
        walk
        for number, walk in enumerate(walk for walk in found if isinstance(walk, Walk))
        if ALL or walk.leading is None or number % 10 == 0
    ]
    at_once = asyncio.Semaphore(AT_ONCE)
    numbers = itertools.count()
    at_work: set[str] = set()

    async def one(walk: Walk) -> str | None:
        async with at_once:
            verdict = await walked(walk, tmp_path / str(next(numbers)))
        if verdict == "exact":
            return None
        found = reasons(walk, verdict)
        at_work.update(found)
        return None if found else f"{walk.title}: {verdict}"

    wrong = [said for said in await asyncio.gather(*map(one, chosen)) if said]
    assert not wrong, "\n".join(wrong)
    if ALL:
        idle = {entry["walk"] for entry in LISTED} - at_work
        assert not idle, "no longer needed: " + ", ".join(sorted(idle))

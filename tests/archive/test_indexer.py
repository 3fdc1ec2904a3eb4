"""The index for searches is brought up to date beside everything else, and takes little of it."""

import asyncio
from pathlib import Path

import pytest

from roundsman.archive import indexer
from roundsman.archive.command import Git
from roundsman.archive.programs import Programs

TAKEN = 0.02


class Slow(Programs):
    """Takes its time, and says when it has been run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Git(folder), folder)
        self.runs: asyncio.Queue[float] = asyncio.Queue()

    async def index(self, repository: Path) -> None:
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(TAKEN)
        self.runs.put_nowait(begun)


async def test_it_rests_longer_than_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "PAUSE", 0.0)
    programs = Slow(tmp_path)
    running = indexer.Indexer(programs, tmp_path)
    running.start()
    first = await programs.runs.get()
    running.note_batch()
    second = await programs.runs.get()
    await running.stop()
    assert second - first >= 5 * TAKEN

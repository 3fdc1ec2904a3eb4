"""Keeps the index for searches up to date, some seconds behind, beside everything else."""

import asyncio
from pathlib import Path
from typing import Final

from roundsman import logs
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.programs import Programs

PAUSE: Final = 5.0
"""Seconds from a change to the program that takes it in; what changes meanwhile is one with it."""

log = logs.get(__name__)


class Indexer:
    """Looks after one index. Belongs to one event loop."""

    def __init__(self, programs: Programs, repository: Path) -> None:
        """Nothing runs before `start`."""
        self._programs = programs
        self._repository = repository
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow from now on; what was missed is taken in."""
        self._changed.set()
        self._running = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End what runs. Stopping twice, or before a start, is harmless."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    def note_batch(self) -> None:
        """There are new versions."""
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(PAUSE)
            self._changed.clear()
            try:
                await self._programs.index(self._repository)
            except (OSError, ArchiveUnavailableError) as error:  # searches read more, that is all
                log.warning("archive.index_behind", error=str(error))

"""Keeps the index for searches up to date, some seconds behind, beside everything else."""

import asyncio
from pathlib import Path
from typing import Final

from roundsman import logs
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.programs import Programs

PAUSE: Final = 10.0
"""Seconds from a change to the program that takes it in; what changes meanwhile is one with it."""
_REST: Final = 4
"""The program rests so many times as long as it ran: while results stream in without end, it has a
fifth of a core at most, and a device whose result changes again and again costs it less."""

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
        loop = asyncio.get_running_loop()
        taken = 0.0
        while True:
            await self._changed.wait()
            await asyncio.sleep(max(PAUSE, _REST * taken))
            self._changed.clear()
            began = loop.time()
            try:
                await self._programs.index(self._repository)
            except (OSError, ArchiveUnavailableError) as error:  # searches read more, that is all
                log.warning("archive.index_behind", error=str(error))
            taken = loop.time() - began

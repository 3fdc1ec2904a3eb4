"""What runs left behind that made no version: transcripts of failed ones, results in quarantine.

Kept beside the run, never in the archive, and not for ever.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from roundsman.controller.spool import Received, SpoolUnavailableError

GROWTH_BYTES: Final = 64 << 20
"""After so much more, it is looked whether it is too much."""


class Evidence:
    """One file a run, named after it, and beside it the recording of its session."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched before the first is kept."""
        self.grown = asyncio.Event()
        """Set when much was kept since the last `prune`."""
        self._folder = folder
        self._since = 0

    def path(self, run_id: str) -> Path:
        """Where the evidence of a run is, if there is any. Takes only ids made here."""
        return self._folder / run_id

    async def keep(self, run_id: str, content: Received) -> None:
        """Keep what a run left behind, flushed to disk. Raises `SpoolUnavailableError`."""
        await content.move(self.path(run_id))
        self._since += content.size
        if self._since >= GROWTH_BYTES:
            self.grown.set()

    def recording_path(self, run_id: str) -> Path:
        """Where the recording of a run's session is, compressed by gzip, if there is any."""
        return self._folder / f"{run_id}.yaml.gz"

    async def keep_recording(self, run_id: str, content: bytes) -> None:
        """Keep the recording of a run's session. Raises `SpoolUnavailableError`."""
        try:
            await asyncio.to_thread(self.recording_path(run_id).write_bytes, content)
        except OSError as error:
            raise SpoolUnavailableError(
                f"a recording cannot be written: {error.strerror}", remedy="check the disk"
            ) from error
        self._since += len(content)

    async def copy(self, path: Path, pieces: AsyncIterator[bytes]) -> None:
        """Keep what another controller has under a path of this folder, whole or not at all.

        Raises `SpoolUnavailableError`, and what reading the pieces raises.
        """
        fresh = self._folder / f".{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with fresh.open("xb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
                    self._since += len(piece)
            fresh.rename(path)
        except OSError as error:
            raise SpoolUnavailableError(
                f"a copy of another controller's evidence cannot be written: {error.strerror}",
                remedy="check the disk",
            ) from error
        finally:
            fresh.unlink(missing_ok=True)

    def drop(self, run_id: str) -> None:
        """Forget the evidence of a run that was not kept after all."""
        self.path(run_id).unlink(missing_ok=True)
        self.recording_path(run_id).unlink(missing_ok=True)

    async def prune(self, *, before: float, most_bytes: int) -> int:
        """Remove what was kept before an instant, and the oldest beyond so many bytes; how many.

        Raises `OSError`.
        """
        self._since = 0
        self.grown.clear()
        return await asyncio.to_thread(self._prune, before, most_bytes)

    def _prune(self, before: float, most_bytes: int) -> int:
        if not self._folder.is_dir():
            return 0
        found = [(file.stat(), file) for file in self._folder.iterdir()]
        found.sort(key=lambda item: item[0].st_mtime, reverse=True)
        kept = removed = 0
        for status, file in found:
            kept += status.st_size
            if status.st_mtime < before or kept > most_bytes:
                file.unlink(missing_ok=True)
                removed += 1
        return removed

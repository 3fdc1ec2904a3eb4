"""What failed runs left behind: kept beside the run, never a version in the archive."""

from pathlib import Path

from roundsman.controller.spool import Received


class Evidence:
    """One file a run, named after it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched before the first is kept."""
        self._folder = folder

    def path(self, run_id: str) -> Path:
        """Where the evidence of a run is, if there is any. Takes only ids made here."""
        return self._folder / run_id

    async def keep(self, run_id: str, content: Received) -> None:
        """Keep what a run left behind, flushed to disk. Raises `SpoolUnavailableError`."""
        await content.move(self.path(run_id))

    def drop(self, run_id: str) -> None:
        """Forget the evidence of a run that was not kept after all."""
        self.path(run_id).unlink(missing_ok=True)

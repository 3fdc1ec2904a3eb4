"""The lock on the data folder: two controllers on one ledger would hand out everything twice."""

import fcntl
import os
from pathlib import Path

from roundsman.ledger.interface import LedgerUnavailableError

LOCK_FILE = "controller.lock"


class LedgerLockedError(LedgerUnavailableError):
    """Another process serves from this data folder."""

    code = "ledger.locked"


class FolderLock:
    """An exclusive lock on a folder, let go by `release` or with the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock, or raise `LedgerLockedError`, or `OSError` where no file can be made."""
        path = folder / LOCK_FILE
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise LedgerLockedError(
                f"{folder}: expected to be the only controller here, but process"
                f" {holder or 'unknown'} holds {path.name}",
                remedy="stop that one, or give this one another data folder",
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others in. The file stays: removing it could take it from under the next holder."""
        os.close(self._file)

"""Folders for the temporary files of processes: each has one to itself, which goes with it.

One that was left empty is given to the next instead of being made anew: making and removing folders
is slow on a disk whose file system keeps a journal.
"""

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

_MODE: Final = 0o700
_SPARE: Final = 32


class TemporaryFolders:
    """Those of one keeper."""

    def __init__(self) -> None:
        """Made as they are needed, where this machine has its temporary files."""
        self._parent = Path(tempfile.gettempdir())
        self._own = os.geteuid()
        self._spare: list[Path] = []

    def choose(self) -> Path:
        """A folder that nobody else may look into, or its name, which cannot be guessed."""
        if self._spare:
            return self._spare.pop()
        return self._parent / f"roundsman-{secrets.token_hex(8)}"

    def make(self, folder: Path) -> None:
        """Have it there, and empty. Raises `OSError`."""
        if not self._is_fresh(folder):
            folder.mkdir(mode=_MODE)

    def give_back(self, folder: Path) -> None:
        """Nobody uses it any more."""
        if len(self._spare) < _SPARE and self._is_fresh(folder):
            self._spare.append(folder)
        else:
            remove(folder)

    def close(self) -> None:
        """Remove what is spare."""
        while self._spare:
            remove(self._spare.pop())

    def _is_fresh(self, folder: Path) -> bool:
        """Whether it is there as this keeper makes them: its own, for itself alone, empty."""
        try:
            said = os.lstat(folder)
            if (said.st_uid, said.st_mode) != (self._own, stat.S_IFDIR | _MODE):
                return False
            return next(folder.iterdir(), None) is None
        except OSError:
            return False


def remove(folder: Path) -> None:
    """Remove it with all that is in it."""
    try:
        folder.rmdir()
    except OSError:  # there is something in it
        shutil.rmtree(folder, ignore_errors=True)

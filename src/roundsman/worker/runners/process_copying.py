"""Copying a folder of scripts while others may be changing it, without being led out of it."""

import contextlib
import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from roundsman.errors import RoundsmanError

MOST_BYTES: Final = 64 << 20

_TRIES: Final = 100  # to find out what a name is that is swapped all the time
_READ_BYTES: Final = 1 << 20
_NO_LINK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class ScriptsError(RoundsmanError):
    """A folder of scripts cannot be copied; `text` says why."""

    code = "process.scripts"


def copy(source: Path, folder: int, target: Path, left_out: Collection[str]) -> None:
    """Copy the open `folder`, which is at `source`, to `target`, which is made: for reading only.

    Files, folders and links are; what else there is, what cannot be read, and folders with a name
    of `left_out` are not. Relative links out of it lead where they led.

    Raises `ScriptsError`, and `OSError`.
    """
    copying = _Copying(source)
    target.mkdir(mode=0o700)
    made: list[Path] = []
    for path, folders, files, descriptor in os.fwalk(".", dir_fd=folder):
        below = target / path
        made.append(below)
        links = {name for name in folders if _is_link(name, descriptor)}
        # The walk goes on only to where there is a folder of ours to copy to, whatever is swapped.
        folders[:] = [name for name in folders if name not in links and name not in left_out]
        for name in folders:
            (below / name).mkdir(mode=0o700)
        for name in (*files, *links):
            copying.take(name, descriptor, Path(path), below / name)
    for below in made:
        below.chmod(0o555)


def _is_link(name: str, folder: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


class _Copying:
    """One copy in the making."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._room = MOST_BYTES

    def take(self, name: str, folder: int, path: Path, target: Path) -> None:
        """Copy one file or link, whichever it is at that moment."""
        for _ in range(_TRIES):
            try:
                said = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(said.st_mode):
                    target.symlink_to(self._kept(os.readlink(name, dir_fd=folder), path))
                elif stat.S_ISREG(said.st_mode):
                    self._take_file(os.open(name, _NO_LINK, dir_fd=folder), target)
                return
            except FileNotFoundError:
                return  # it has gone
            except PermissionError:
                return  # not ours to read: then it is no script for us either
            except OSError as error:
                # A link by now, or no link any more: look again.
                if error.errno not in (errno.ELOOP, errno.EINVAL):
                    raise
        raise ScriptsError(f"{self._source / path / name} is being changed all the time")

    def _kept(self, link: str, path: Path) -> str:
        """Where a link of the folder `path` has to lead from the copy."""
        if link.startswith("/"):
            return link
        within = os.path.normpath(path / link)
        return str(self._source / within) if within.split("/")[0] == ".." else link

    def _take_file(self, descriptor: int, target: Path) -> None:
        with open(descriptor, "rb", buffering=0) as file:
            said = os.fstat(descriptor)
            if not stat.S_ISREG(said.st_mode):
                return
            mode = 0o555 if said.st_mode & 0o111 else 0o444
            with target.open("xb", buffering=0) as copied:
                while data := file.read(_READ_BYTES):
                    self._room -= len(data)
                    if self._room < 0:
                        text = f"{self._source} holds more than {MOST_BYTES >> 20} MiB"
                        raise ScriptsError(text)
                    copied.write(data)
                os.fchmod(copied.fileno(), mode)

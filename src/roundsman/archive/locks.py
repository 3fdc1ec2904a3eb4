"""Locks: ours, so that there is one writer, and git's, which others may hold or leave behind.

Git makes a lock a file beside what it locks, and says nowhere whose it is. A lock is taken for left
behind when no git program works on the repository any more: the kernel knows which do.
"""

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from roundsman import logs
from roundsman.archive.files import Files
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.clock import Clock

PATIENCE_SECONDS: Final = 5.0
"""How long a lock that somebody holds is waited for."""

MARK: Final = "ROUNDSMAN_ARCHIVE"
"""In the environment of the git programs that we start ourselves."""

_LOOK_SECONDS: Final = 0.02
_OLD_SECONDS: Final = 600
"""Where the kernel does not tell who works on what, a lock of this age is left behind."""
_PROCESSES: Final = Path("/proc")
_MADE_BY: Final = re.compile(rb"(?:receive-pack|fetch-pack) (\d+) on ")

log = logs.get(__name__)


class WriterLockedError(ArchiveUnavailableError):
    """Another process writes the repository."""


class WriterLock:
    """Held by the one process that writes a repository; the kernel lets it go when that dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> None:
        """Raises `WriterLockedError` when another process has it; `OSError`."""
        if self._descriptor >= 0:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise WriterLockedError(
                f"{self._path.parent.parent}: expected to be its only writer, but another process "
                "writes it",
                remedy="end the other controller, or give this one a data folder of its own",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of it; twice is harmless."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class GitLocks:
    """The locks that git programs leave in one repository."""

    def __init__(self, folder: Path, files: Files, clock: Clock) -> None:
        self._folder = folder
        self._files = files
        self._clock = clock

    def await_free(self, lock: Path) -> bool:
        """Wait until a lock is gone, or remove it if whoever made it is; whether it is free now."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        pause = threading.Event()
        while lock.exists():
            if not self._is_held(lock):
                log.warning("archive.lock_cleared", lock=str(lock))
                self._files.unlink(lock)
                return True
            if self._clock.monotonic() >= deadline:
                return False
            pause.wait(_LOOK_SECONDS)
        return True

    def clear(self) -> None:
        """Remove what programs that are gone left: locks, unfinished files, marks on packs."""
        held = [lock for lock in self._locks() if not self.await_free(lock)]
        if held or any(self._at_work()):
            return  # what lies about may be somebody's
        for path in self._unfinished():
            log.warning("archive.leftover_cleared", file=str(path))
            self._files.unlink(path)

    def _locks(self) -> Iterator[Path]:
        yield from self._folder.glob("*.lock")
        yield from (self._folder / "refs").rglob("*.lock")
        yield from (self._folder / "objects").rglob("*.lock")

    def _unfinished(self) -> Iterator[Path]:
        packs = self._folder / "objects" / "pack"
        for pattern in ("tmp_*", ".tmp-*"):
            yield from packs.glob(pattern)
        yield from (self._folder / "objects").glob("??/tmp_obj_*")
        yield from (self._folder / "roundsman").glob("*.new")
        for suffix in (".idx", ".keep"):
            for path in packs.glob(f"*{suffix}"):
                if not path.with_suffix(".pack").exists():
                    yield path
        for path in packs.glob("*.keep"):
            made_by = _MADE_BY.match(path.read_bytes())
            if made_by and not (_PROCESSES / made_by[1].decode()).exists():
                yield path

    def _is_held(self, lock: Path) -> bool:
        """Whether somebody may still need it."""
        if _PROCESSES.joinpath("self").exists():
            return any(self._at_work())
        with suppress(FileNotFoundError):
            return self._clock.now() - lock.stat().st_mtime < _OLD_SECONDS
        return False

    def _at_work(self) -> Iterator[int]:
        """The git programs that work on this repository and are not ours."""
        if not _PROCESSES.exists():
            return
        named = os.fsencode(self._folder)
        for process in _PROCESSES.iterdir():
            if not process.name.isdigit():
                continue
            with suppress(OSError):  # it is gone, or another user's and busy elsewhere
                if not process.joinpath("comm").read_bytes().startswith(b"git"):
                    continue
                if f"{MARK}=".encode() in process.joinpath("environ").read_bytes():
                    continue
                place = process.joinpath("cwd").resolve()
                inside = place == self._folder or self._folder in place.parents
                if inside or named in process.joinpath("cmdline").read_bytes():
                    yield int(process.name)

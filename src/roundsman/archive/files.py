"""The calls that change the disk: all that the archive does to it passes here.

One small seam, so that tests make each call fail in turn, or record all of them and see what is
left when the power goes. What the git program does by itself is not among them.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

_AT_ONCE: Final = 2


class NewFile:
    """A file being written for the first time."""

    def __init__(self, path: Path, mode: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def write(self, data: bytes) -> None:
        """Append all of `data`."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def sync(self) -> None:
        """Make the content durable."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of it; twice is harmless."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class Files:
    """The file system. Every method raises `OSError`."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def sync_together(self, files: Sequence[NewFile]) -> None:
        """Make the contents of several files durable: at once, so that the disk flushes once."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, "archive-sync")
        syncing = [self._threads.submit(file.sync) for file in files[1:]]
        try:
            files[0].sync()  # to hand it to a thread may take as long as the flush
        finally:
            wait(syncing)
        for done in syncing:
            done.result()

    def close(self) -> None:
        """Let go of the threads; the next use begins new ones."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def create(self, path: Path, mode: int = 0o644) -> NewFile:
        """A new file; `FileExistsError` when there is one."""
        return NewFile(path, mode)

    def replace(self, path: Path, content: bytes) -> None:
        """Give a file this content, durably: it is the old one or the new one, never a mixture."""
        fresh = path.with_name(path.name + ".new")
        self.unlink(fresh)
        file = self.create(fresh)
        try:
            file.write(content)
            file.sync()
        finally:
            file.close()
        self.rename(fresh, path)
        self.sync_folder(path.parent)

    def take(self, content: bytes | Path, path: Path) -> None:
        """Make a file of a content, durably but for its name; another file is linked if it can."""
        if isinstance(content, bytes):
            file = self.create(path)
            try:
                file.write(content)
                file.sync()
            finally:
                file.close()
            return
        try:
            path.hardlink_to(content)
        except OSError:  # another file system, or one without links
            shutil.copyfile(content, path)
        self.sync_file(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give another name, in place of what had it."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Make a folder, and those above it, if it is not there."""
        path.mkdir(parents=True, exist_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""
        sync_folder(folder)

    def sync_file(self, path: Path) -> None:
        """Make a file's content durable, whoever wrote it."""
        sync_file(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable, whoever wrote it. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

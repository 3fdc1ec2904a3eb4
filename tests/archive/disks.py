"""Disks that fail on request, and a disk whose power goes."""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from roundsman.archive.files import Files, NewFile

T = TypeVar("T")


class FailingFiles(Files):
    """Lets the calls that change the disk fail: one of them, or all from one on."""

    def __init__(self, error: int, *, torn: bool = False) -> None:
        super().__init__()
        self._error = error
        self._torn = torn
        self._left: int | None = None
        self._lasting = False
        self.failed = 0

    def fail_at(self, number: int, *, lasting: bool = False) -> None:
        self._left = number
        self._lasting = lasting
        self.failed = 0

    def heal(self) -> None:
        self._left = None

    def expect(self) -> None:
        """Fail now, if it is time."""
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            if not self._lasting:
                self._left = None
            self.failed += 1
            raise OSError(self._error, os.strerror(self._error))

    def create(self, path: Path, mode: int = 0o644) -> NewFile:
        self.expect()
        return FailingFile(self, path, mode, torn=self._torn)

    def sync_together(self, files: Sequence[NewFile]) -> None:
        for file in files:
            file.sync()

    def rename(self, old: Path, new: Path) -> None:
        self.expect()
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self.expect()
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self.expect()
        super().make_folder(path)

    def sync_folder(self, folder: Path) -> None:
        self.expect()
        super().sync_folder(folder)

    def sync_file(self, path: Path) -> None:
        self.expect()
        super().sync_file(path)


class FailingFile(NewFile):
    def __init__(self, files: FailingFiles, path: Path, mode: int, *, torn: bool) -> None:
        super().__init__(path, mode)
        self._files = files
        self._torn = torn

    def write(self, data: bytes) -> None:
        try:
            self._files.expect()
        except OSError:
            if self._torn:
                super().write(data[: len(data) // 2])
            raise
        super().write(data)

    def sync(self) -> None:
        self._files.expect()
        super().sync()


class Step(msgspec.Struct, frozen=True):
    """A call that changed the disk."""

    what: str
    path: Path
    inode: int = 0
    data: bytes = b""
    to: Path | None = None


class RecordingFiles(Files):
    """Remembers every call that changed the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._inodes = 0

    def create(self, path: Path, mode: int = 0o644) -> NewFile:
        self._inodes += 1
        inode = self._inodes
        file = RecordedFile(path, mode, lambda what, data: self._note(what, path, inode, data))
        self._note("create", path, inode)
        return file

    def sync_together(self, files: Sequence[NewFile]) -> None:
        for file in files:
            file.sync()

    def take(self, content: bytes | Path, path: Path) -> None:
        # A link would be to a file that somebody else wrote, and flushed: not the harder case.
        super().take(content if isinstance(content, bytes) else content.read_bytes(), path)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.steps.append(Step("rename", old, to=new))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._note("unlink", path)

    def make_folder(self, path: Path) -> None:
        if not path.exists():
            self._note("folder", path)
        super().make_folder(path)

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self._note("sync folder", folder)

    def sync_file(self, path: Path) -> None:
        super().sync_file(path)
        self._note("sync", path)

    def _note(self, what: str, path: Path, inode: int = 0, data: bytes = b"") -> None:
        self.steps.append(Step(what, path, inode, data))


class RecordedFile(NewFile):
    def __init__(self, path: Path, mode: int, note: Callable[[str, bytes], None]) -> None:
        super().__init__(path, mode)
        self._note = note

    def write(self, data: bytes) -> None:
        super().write(data)
        self._note("write", data)

    def sync(self) -> None:
        super().sync()
        self._note("sync", b"")


class _Disk:
    """What is in the files and folders that were touched, and how much of it is durable."""

    def __init__(self, before: Path, folder: Path) -> None:
        self._before = before
        self._folder = folder
        self.names: dict[Path, int | None] = {}
        self.durable_names: dict[Path, int | None] = {}
        self.contents: dict[int, bytes] = {}
        self.durable: dict[int, bytes] = {}
        self._old = 0

    def inode(self, path: Path) -> int | None:
        """What has this name now; from before, when it was not touched yet."""
        if path not in self.names:
            old = self._before / path.relative_to(self._folder)
            inode = None
            if old.is_file():
                self._old -= 1
                inode = self._old
                self.contents[inode] = self.durable[inode] = old.read_bytes()
            self.names[path] = self.durable_names[path] = inode
        return self.names[path]

    def take(self, step: Step) -> None:
        if step.what == "create":
            self.inode(step.path)
            self.names[step.path] = step.inode
            self.contents[step.inode] = self.durable[step.inode] = b""
        elif step.what == "write":
            self.contents[step.inode] += step.data
        elif step.what == "sync":
            inode = step.inode or self.inode(step.path)
            if inode is not None:
                self.durable[inode] = self.contents[inode]
        elif step.what == "rename":
            assert step.to is not None
            self.inode(step.to)
            self.names[step.to] = self.inode(step.path)
            self.names[step.path] = None
        elif step.what == "unlink":
            self.inode(step.path)
            self.names[step.path] = None
        elif step.what == "sync folder":
            for path in [path for path in self.names if path.parent == step.path]:
                self.durable_names[path] = self.names[path]


def after_power_loss(
    steps: Sequence[Step], before: Path, folder: Path, made: Path, rng: random.Random
) -> None:
    """Make at `made` what is left of `folder`, which was like `before`, when the power goes.

    What was synced is there. Of the rest each name may be the old or the new one, and each content
    may be lacking, cut off, complete, or zeros.
    """
    shutil.copytree(before, made)
    disk = _Disk(before, folder)
    for step in steps:
        if step.what == "folder":
            (made / step.path.relative_to(folder)).mkdir(parents=True, exist_ok=True)
        else:
            disk.take(step)
    for path, now in disk.names.items():
        inode = rng.choice([now, disk.durable_names[path]])
        there = made / path.relative_to(folder)
        there.unlink(missing_ok=True)
        if inode is not None:
            there.write_bytes(_survivor(disk.durable[inode], disk.contents[inode], rng))


def _survivor(durable: bytes, content: bytes, rng: random.Random) -> bytes:
    if durable == content:
        return content
    rest = content[len(durable) :]
    return durable + rng.choice([b"", rest, rest[: rng.randrange(len(rest))], bytes(len(rest))])

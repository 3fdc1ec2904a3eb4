"""Contents too large for git, or not text: beside the repository, named by pointer files.

Both as git LFS has them: an object is the file `lfs/objects/12/34/1234…`, named by its SHA-256, and
what stands in git in its place is a text of three lines. So a stock `git lfs pull` in a clone finds
them. An object is on the disk, flushed, before its pointer is committed; the same content is kept
once. Of the objects whose pointer never came into the repository, since a crash came between, the
old ones are removed in time.
"""

import asyncio
import hashlib
import os
import re
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from roundsman import logs
from roundsman.archive.command import Git
from roundsman.archive.files import Files, sync_file, sync_folder
from roundsman.archive.interface import ArchiveUnavailableError, Entry
from roundsman.archive.objects import BLOB, object_id
from roundsman.config.records import PointerSettings

GRACE_SECONDS: Final = 14 * 86400.0
"""An object that no pointer names is removed when it is so old, as git has it with its own."""

_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n"
)
POINTER_BYTES: Final = 200
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LOOKED_AT: Final = 8000
_PIECE: Final = 1 << 18

log = logs.get(__name__)


class Pointer(msgspec.Struct, frozen=True):
    """What stands in git for a content that is kept beside it."""

    digest: str
    """SHA-256 of the content, hexadecimal."""
    size: int
    """Its length in bytes."""

    def encode(self) -> bytes:
        """The pointer file.

        >>> Pointer("0" * 64, 7).encode().splitlines()[0]
        b'version https://git-lfs.github.com/spec/v1'
        """
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.digest}\nsize {self.size}\n"
        ).encode()


def parse_pointer(content: bytes) -> Pointer | None:
    """The pointer that a file is; none for any other content."""
    found = _POINTER.fullmatch(content) if len(content) <= POINTER_BYTES else None
    return None if found is None else Pointer(found[1].decode(), int(found[2]))


class LargeContents:
    """The store beside a repository; one process writes it. Any thread may call."""

    def __init__(self, git: Git, files: Files, settings: PointerSettings) -> None:
        """Touches nothing before the first is kept."""
        self._git = git
        self._files = files
        self._settings = settings
        self._objects = git.folder / "lfs" / "objects"
        self._unfinished = git.folder / "lfs" / "tmp"
        self._changing = threading.Lock()

    def open(self) -> None:
        """Clear what a crash left unfinished. Raises `OSError`."""
        for leftover in self._unfinished.glob("*"):
            self._files.unlink(leftover)

    def find(self, digest: str) -> Path | None:
        """Where the content of that SHA-256 is; none when there is none, or it is no digest."""
        path = self._path(digest)
        return path if _DIGEST.fullmatch(digest) and path.is_file() else None

    def wants(self, content: bytes | Path) -> bool:
        """Whether a content is kept here and not in git. Raises `OSError`.

        One that looks like a pointer is, too: else it would be taken for one when it is read.
        """
        if isinstance(content, bytes):
            size, head = len(content), content
        else:
            size, head = content.stat().st_size, _head_of(content)
        return (
            size > self._settings.above_bytes
            or (self._settings.binary and b"\0" in head[:_LOOKED_AT])
            or parse_pointer(head) is not None
        )

    def keep(self, entry: Entry) -> Entry:
        """Keep a content, flushed to disk; the entry with what is to stand in git for it.

        A file is linked, not copied, and may be removed afterwards. Raises `OSError`; then nothing
        was changed, or it is kept for nothing.
        """
        content = entry.content
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        pointer = Pointer(entry.sha256 or _digest_of(content), size)
        path = self._path(pointer.digest)
        if not self._is_wanted(path):
            self._make_folders(path.parent)
            unfinished = self._unfinished / f"{pointer.digest}-{uuid.uuid4().hex}"
            try:
                self._files.take(content, unfinished)
                os.utime(unfinished)
                unfinished.chmod(0o444)
                with self._changing:
                    self._files.rename(unfinished, path)
            finally:
                self._files.unlink(unfinished)
            self._files.sync_folder(path.parent)
        return msgspec.structs.replace(entry, content=pointer.encode())

    def _is_wanted(self, path: Path) -> bool:
        """Whether an object is here; if so, its days of grace begin anew."""
        with self._changing:
            if not path.exists():
                return False
            os.utime(path)
        self._files.sync_folder(path.parent)  # whoever put it there may have died before this
        return True

    async def resolved(self, blob: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The content that a blob stands for: another one where it is a pointer, else itself.

        A pointer to what is not here, such as one that others brought, is only a text. Raises
        `ArchiveUnavailableError` when a content turns out not to be what its name says.
        """
        first = await anext(blob, b"")
        pointer = parse_pointer(first)
        path = None if pointer is None else self.find(pointer.digest)
        if path is not None:
            async for piece in self.read(path):
                yield piece
            return
        yield first
        async for piece in blob:
            yield piece

    async def read(self, path: Path) -> AsyncIterator[bytes]:
        """An object in pieces. Raises `ArchiveUnavailableError` at its end if it is damaged."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, _PIECE):
                digest.update(piece)
                yield piece
        if digest.hexdigest() != path.name:
            raise ArchiveUnavailableError(
                f"{path}: expected the content of that SHA-256, got another",
                remedy="restore that file from a backup or a clone",
            )

    def damaged(self) -> Iterator[str]:
        """The digests of objects that are not what their names say; reads everything."""
        for path in self._all():
            if _digest_of(path) != path.name:
                yield path.name

    def prune(self, now: float) -> int:
        """Remove objects that no pointer in the repository names, after their days of grace.

        How many went. Raises `OSError`, `ArchiveUnavailableError`.
        """
        old = [path for path in self._all() if path.stat().st_mtime < now - GRACE_SECONDS]
        unnamed = _unnamed(self._git, old)
        with self._changing:
            for path in unnamed:
                if path.stat().st_mtime < now - GRACE_SECONDS:
                    self._files.unlink(path)
                    log.info("archive.large_content_removed", digest=path.name)
        return len(unnamed)

    def _path(self, digest: str) -> Path:
        return self._objects / digest[:2] / digest[2:4] / digest

    def _all(self) -> Iterator[Path]:
        return kept_contents(self._git.folder)

    def _make_folders(self, folder: Path) -> None:
        """Make the folder of an object and those above it, their names flushed."""
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        self._files.make_folder(folder)
        for path in missing:
            self._files.sync_folder(path.parent)
        self._files.make_folder(self._unfinished)


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LOOKED_AT)


def _digest_of(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unnamed(git: Git, paths: list[Path]) -> list[Path]:
    """Those whose pointer is not in the repository: its id follows from the content's."""
    if not paths:
        return []
    ids = [object_id(BLOB, Pointer(path.name, path.stat().st_size).encode()) for path in paths]
    asked = "".join(f"{item.hex()}\n" for item in ids)
    said = git.run("cat-file", "--batch-check", stdin=asked.encode()).splitlines()
    return [path for path, line in zip(paths, said, strict=True) if line.endswith(b" missing")]


def carry_over_named(repository: Path, git: Git) -> int:
    """Give git's repository the contents kept beside another that its own pointers name.

    They are linked where the disk can do that. How many were left out. Raises `OSError`,
    `ArchiveUnavailableError`.
    """
    paths = [*(repository / "lfs" / "objects").glob("??/??/" + "?" * 64)]
    left = {*_unnamed(git, paths)}
    for path in paths:
        if path not in left:
            copy = git.folder / path.relative_to(repository)
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, copy)
    return len(left)


def link_or_copy(path: str | Path, there: str | Path) -> None:
    """The same file under another name, without copying it where the disk can do that."""
    try:
        os.link(path, there)
    except OSError:
        shutil.copyfile(path, there)


def kept_contents(repository: Path) -> Iterator[Path]:
    """Every content kept beside a repository, named by its digest."""
    return (repository / "lfs" / "objects").glob("??/??/" + "?" * 64)


def copy_contents(repository: Path, other: Path) -> None:
    """Give another bare repository the contents kept beside this one that it lacks.

    Raises `OSError`.
    """
    if not (other / "objects").is_dir():
        return
    for path in kept_contents(repository):
        copy = other / path.relative_to(repository)
        if copy.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_name(f"{copy.name}-{uuid.uuid4().hex}")
        try:
            shutil.copyfile(path, unfinished)
            sync_file(unfinished)
            unfinished.rename(copy)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(copy.parent)

"""Where results wait between the network and the archive, so that memory stays flat.

A small result waits in memory; a large one, and any when memory is short, in a file. What is
worth knowing of a content (size, digest, lines, whether it is text) is learnt while it comes.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from roundsman.archive.files import sync_file, sync_folder
from roundsman.errors import UnavailableError

BUFFER_BYTES: Final = 256 << 10
"""A result up to this size waits in memory; a larger one is written and digested in such pieces,
off the event loop."""
MEMORY_BYTES: Final = 32 << 20
"""What all results being received hold in memory; beyond it each piece goes to the disk."""
SPARE_BYTES: Final = 64 << 20
"""What a large result has to leave free on the disk: ledger and repository need some too."""
_HELD_BYTES: Final = 2047
"""hashlib lets go of the interpreter for more than this. To get it back in a busy process can take
a hundred times as long as the digest of a small result does, so that is made in pieces."""
LOOKED_AT_BYTES: Final = 8000
"""A NUL in the first so many bytes makes a content binary, as git has it."""


class SpoolUnavailableError(UnavailableError):
    """The spool cannot take it just now, most likely because the disk is full."""

    code = "spool.unavailable"


class Received:
    """One content being received; gone when its `async with` ends, unless it was moved away."""

    def __init__(self, spool: "Spool", folder: Path) -> None:
        """Nothing is created before there is too much for memory."""
        self.size = 0
        self.lines = 0
        """Line ends so far."""
        self.binary = False
        """Whether it begins like something other than text; known after `finish`."""
        self._spool = spool
        self._folder = folder
        self._path = folder  # its own once it has a file: most never do, and a name costs time
        self._announced = 0
        self._to_look_at = LOOKED_AT_BYTES
        self._digest = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._held = 0
        self._file: BinaryIO | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal; whole after `finish`."""
        return self._digest.hexdigest()

    @property
    def content(self) -> bytes | Path:
        """The whole content, after `finish`: itself where it is small, else the file with it."""
        return self._pieces[0] if self._file is None else self._path

    def announce(self, size: int) -> None:
        """So much is to come. Raises `SpoolUnavailableError` when the disk has no room for it."""
        if size > BUFFER_BYTES:
            with _unavailable():
                self._spool.expect_room(size)
            self._promise(size)

    def take(self, piece: bytes) -> bool:
        """Take more of the content; whether `flush` is due before more is taken."""
        self._pieces.append(piece)
        self.size += len(piece)
        self._held += len(piece)
        self._spool.held += len(piece)
        return self._held > BUFFER_BYTES or self._spool.held > MEMORY_BYTES

    async def flush(self) -> None:
        """Write what is held to the disk. Raises `SpoolUnavailableError`."""
        pieces, self._pieces = self._pieces, []
        with _unavailable():
            await asyncio.to_thread(self._write_and_learn, b"".join(pieces))
        self._promise(-min(self._held, self._announced))
        self._spool.held -= self._held
        self._held = 0

    async def finish(self) -> None:
        """All is there: `content` holds it. Raises `SpoolUnavailableError`."""
        if self._file is None:
            self._pieces = [b"".join(self._pieces)]
            self._learn(self._pieces[0])
            return
        if self._held:
            await self.flush()
        self._file.close()

    async def move(self, target: Path) -> None:
        """Keep it under another path of the same file system, flushed to disk."""
        with _unavailable():
            await asyncio.to_thread(self._move, target)

    def _write_and_learn(self, data: bytes) -> None:
        self._spool.expect_room(len(data))
        self._write(data)
        self._learn(data)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._path = self._folder / uuid.uuid4().hex
            self._file = self._path.open("xb", buffering=0)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _learn(self, data: bytes) -> None:
        self.binary = self.binary or b"\0" in data[: self._to_look_at]
        self._to_look_at = max(0, self._to_look_at - len(data))
        self.lines += data.count(b"\n")
        if len(data) > BUFFER_BYTES:  # in a thread of its own
            self._digest.update(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _HELD_BYTES):
            self._digest.update(view[start : start + _HELD_BYTES])

    def _move(self, target: Path) -> None:
        if self._file is None:
            self._write(self._pieces[0])
        sync_file(self._path)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.rename(target)
        sync_folder(target.parent)

    def _promise(self, by: int) -> None:
        self._announced += by
        self._spool.promised += by

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pieces = []
        self._spool.held -= self._held
        self._promise(-self._announced)
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):  # what is left here, the next start clears away
                self._path.unlink()


class Spool:
    """What is being received: the folder of the large ones, and the memory of the small ones."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched before `open`."""
        self.held = 0
        """Bytes in memory."""
        self.promised = 0
        """Bytes that are announced and yet to be written."""
        self._folder = folder

    def open(self) -> None:
        """Make the folder, and clear what an earlier life left: none of it was answered 200."""
        with _unavailable():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in self._folder.iterdir():
                leftover.unlink()

    def receive(self) -> Received:
        """A new content; to be used with `async with`."""
        return Received(self, self._folder)

    def expect_room(self, size: int) -> None:
        """Raise `OSError` when so much, beside what is promised, would fill the disk."""
        room = os.statvfs(self._folder)
        if room.f_bavail * room.f_frsize < self.promised + size + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolUnavailableError(
            f"a result cannot be written: {error.strerror}",
            remedy="check the disk",
            retry_after_seconds=30,
        ) from error

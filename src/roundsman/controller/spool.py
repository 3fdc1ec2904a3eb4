"""Where results wait between the network and the archive: files, so that memory stays flat."""

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from roundsman.errors import UnavailableError

BUFFER_BYTES: Final = 256 << 10
"""Written and digested in such pieces, off the event loop; 500 uploads at once hold 128 MB."""


class SpoolUnavailableError(UnavailableError):
    """The spool cannot take it just now, most likely because the disk is full."""

    code = "spool.unavailable"


class SpoolFile:
    """One file being received; gone when its `async with` ends, unless it was moved away."""

    def __init__(self, path: Path) -> None:
        """Nothing is created before the first byte."""
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._file: BinaryIO | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, hexadecimal; whole after `finish`."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Take more of the content. Raises `SpoolUnavailableError`."""
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= BUFFER_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """All is there: it can be read under `path`. Raises `SpoolUnavailableError`."""
        await self._flush()
        self._close()

    async def move(self, target: Path) -> None:
        """Keep it under another path of the same file system, flushed to disk."""
        with _unavailable():
            await asyncio.to_thread(_move, self.path, target)

    async def _flush(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        with _unavailable():
            await asyncio.to_thread(self._write, buffer)

    def _write(self, buffer: bytearray) -> None:
        if self._file is None:
            self._file = self.path.open("xb", buffering=0)
        rest = memoryview(buffer)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._digest.update(buffer)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        with contextlib.suppress(OSError):  # what is left here, the next start clears away
            self.path.unlink()


class Spool:
    """The folder of files being received."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched before `open`."""
        self._folder = folder

    def open(self) -> None:
        """Make the folder, and clear what an earlier life left: none of it was answered 200."""
        with _unavailable():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in self._folder.iterdir():
                leftover.unlink()

    def receive(self) -> SpoolFile:
        """A new file; to be used with `async with`."""
        return SpoolFile(self._folder / uuid.uuid4().hex)


def _move(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    source.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolUnavailableError(
            f"a result cannot be written: {error.strerror}", remedy="check the disk"
        ) from error

"""The fleet as of an instant as a tar archive, in pieces: one file `device/job` each."""

import subprocess
import tarfile
from collections.abc import Generator, Iterator
from typing import IO, Final, cast

from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.interface import Chosen
from roundsman.archive.large import LargeContents, parse_pointer
from roundsman.archive.objects import BLOB
from roundsman.archive.timeline import Found, Timeline

_PAGE: Final = 200
_PIECE: Final = 1 << 18
_SMALL: Final = 1 << 20
"""Contents up to so many bytes are read whole."""


class Snapshots:
    """Makes them. For any thread, each for one."""

    def __init__(self, git: Git, timeline: Timeline, contents: LargeContents) -> None:
        """Nothing is read before it is asked for."""
        self._git = git
        self._timeline = timeline
        self._contents = contents

    def pieces(self, at: float, chosen: Chosen) -> Generator[bytes, None, None]:
        """The pieces, in constant memory.

        Raises `sqlite3.Error`, `OSError`, `ArchiveUnavailableError`.
        """
        reader = ObjectReader(self._git)
        place = ("", "")
        try:
            while page := self._timeline.as_of(at, after=place, limit=_PAGE, chosen=chosen):
                for found in page:
                    yield from self._file(reader, found)
                place = (page[-1].device, page[-1].job)
        finally:
            reader.close()
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _file(self, reader: ObjectReader, found: Found) -> Iterator[bytes]:
        """One file: its header, its content, and zeros up to the next block."""
        if found.version.size <= _SMALL:
            content = reader.read(BLOB, [found.blob])[0]
            if parse_pointer(content) is None:
                yield _header(found, len(content)) + content + _filling(len(content))
                return
        yield from self._large_file(found)

    def _large_file(self, found: Found) -> Iterator[bytes]:
        with subprocess.Popen(
            self._git.arguments("cat-file", "blob", found.blob.hex()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._git.environment,
        ) as process:
            stream = cast("IO[bytes]", process.stdout)
            try:
                first = stream.read(_PIECE)
                pointer = parse_pointer(first)
                path = None if pointer is None else self._contents.find(pointer.digest)
                size = len(first) if pointer is not None and path is None else found.version.size
                yield _header(found, size)
                if path is None:
                    yield from _exactly(first, stream, size)
                else:
                    with path.open("rb") as file:
                        yield from _exactly(b"", file, size)
                yield _filling(size)
            finally:
                process.kill()


def _exactly(first: bytes, stream: IO[bytes], size: int) -> Iterator[bytes]:
    """What is read first, and what follows it. Raises `OSError` when it is not of that size."""
    read = len(first)
    yield first
    while piece := stream.read(_PIECE):
        read += len(piece)
        yield piece
    if read != size:
        raise OSError(f"expected {size} bytes of a content, got {read}")


def _header(found: Found, size: int) -> bytes:
    entry = tarfile.TarInfo(f"{found.device}/{found.job}")
    entry.size = size
    entry.mtime = found.version.at
    return entry.tobuf(tarfile.PAX_FORMAT)


def _filling(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)

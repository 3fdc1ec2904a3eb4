"""Whole files from a device, streamed, and unpacked as they come."""

import zlib
from collections.abc import Callable, Iterator
from typing import Final, cast

import asyncssh

from roundsman.wire.job import Compression, File
from roundsman.worker.sessions.errors import ClosedEarlyError, FileError

_BLOCK: Final = 1 << 18
_GZIP: Final = 16 + zlib.MAX_WBITS


async def fetch(client: asyncssh.SFTPClient, file: File, write: Callable[[bytes], None]) -> None:
    """Read one file to its end, handing its content to `write` in pieces, unpacked.

    `write` bounds the size: it raises when there is too much, and no more is unpacked.
    """
    unpacker = _Gunzip(file.name) if file.compression is Compression.GZIP else None
    try:
        async with client.open(file.name, "rb", encoding=None) as source:
            while block := cast("bytes", await source.read(_BLOCK)):  # no encoding: bytes
                for piece in unpacker.feed(block) if unpacker else (block,):
                    write(piece)
    except asyncssh.SFTPNoSuchFile:
        raise FileError(f"there is no file {file.name!r} on the device") from None
    except asyncssh.SFTPPermissionDenied:
        raise FileError(f"the file {file.name!r} may not be read by this user") from None
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError):
        raise ClosedEarlyError(f"the device closed the connection within {file.name!r}") from None
    except asyncssh.SFTPError as error:
        raise FileError(f"the file {file.name!r} cannot be read: {error.reason!r}") from None
    if unpacker:
        unpacker.finish()


class _Gunzip:
    """RFC 1952 as a stream: one or more members, then nothing but padding with zeros."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False  # within a member
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes unpack to, in bounded pieces."""
        while data:
            if not self._begun:
                data = data.lstrip(b"\0") if self._members else data
                if not data:
                    return
                self._member = zlib.decompressobj(_GZIP)
                self._begun = True
            try:
                yield self._member.decompress(data, _BLOCK)
            except zlib.error as error:
                raise FileError(f"{self._name!r} is not intact gzip: {error}") from None
            data = self._member.unconsumed_tail
            if self._member.eof:
                data = self._member.unused_data
                self._members += 1
                self._begun = False

    def finish(self) -> None:
        """Check that the file ended where a member ended."""
        if self._begun or not self._members:
            raise FileError(f"{self._name!r} is not intact gzip: it ends in the middle")

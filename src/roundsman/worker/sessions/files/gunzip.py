"""Unpacks a file as it comes."""

import zlib
from collections.abc import Iterator
from typing import Final

from roundsman.worker.sessions.errors import FileError

_BLOCK: Final = 1 << 18
_GZIP: Final = 16 + zlib.MAX_WBITS


class Gunzip:
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

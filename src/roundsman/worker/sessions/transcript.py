"""Everything that a device said in one run, on disk."""

import os
from collections.abc import Callable, Iterator
from typing import IO, Final, NamedTuple

from roundsman.worker.sessions.errors import TooLargeError

BLOCK: Final = 1 << 18
"""Bytes read at a time."""


class Span(NamedTuple):
    """A part of a transcript, from one position up to, not including, another."""

    start: int
    end: int


class Transcript:
    """What came, in order. Only ever grows, on disk; positions in it are therefore lasting."""

    def __init__(
        self,
        file: IO[bytes],
        *,
        max_bytes: int,
        on_growth: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Write to `file`, which is empty; `TooLargeError` beyond `max_bytes`.

        `on_growth` hears how many bytes came, whenever some come.
        """
        self._file = file
        self._max_bytes = max_bytes
        self._on_growth = on_growth
        self._at_end = True
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append; raises `TooLargeError`, having written nothing, beyond the limit."""
        if self.size + len(data) > self._max_bytes:
            raise TooLargeError(f"the device sent more than {self._max_bytes} bytes")
        if not self._at_end:
            self._file.seek(0, os.SEEK_END)
            self._at_end = True
        self._file.write(data)
        self.size += len(data)
        self._on_growth(len(data))

    def read(self, span: Span) -> Iterator[bytes]:
        """The bytes of a part, in blocks. Nothing may be written while it is read."""
        self._at_end = False
        self._file.seek(span.start)
        left = span.end - span.start
        while left and (block := self._file.read(min(BLOCK, left))):
            left -= len(block)
            yield block

    def last_lines(self, count: int) -> bytes:
        """At most the last `count` bytes, from the beginning of a line on."""
        text = b"".join(self.read(Span(max(0, self.size - count), self.size)))
        return text if len(text) == self.size else text[text.find(b"\n") + 1 :]

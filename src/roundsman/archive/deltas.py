"""Deltas in git's format: an object as pieces to copy of another one, and new bytes between."""

from collections.abc import Iterator
from typing import Final

from roundsman.archive.objects import Buffer

_COPY_LIMIT: Final = 0xFFFFFF  # the most that one copy instruction says, in bytes
_INSERT_LIMIT: Final = 127  # the most that one insert instruction says, in bytes
_PIECE: Final = 32
"""Parts that differ are not told apart more finely than this."""


def sizes(old: int, new: int) -> bytes:
    """How a delta begins."""
    return _varint(old) + _varint(new)


def copies(start: int, end: int) -> Iterator[bytes]:
    """Instructions to copy a part of the old version."""
    while start < end:
        size = min(end - start, _COPY_LIMIT)
        code = 0x80
        arguments = bytearray()
        for bit, value in enumerate((*start.to_bytes(4, "little"), *size.to_bytes(3, "little"))):
            if value:
                code |= 1 << bit
                arguments.append(value)
        yield bytes([code]) + arguments
        start += size


def inserts(data: Buffer) -> Iterator[bytes]:
    """Instructions to say new bytes."""
    for start in range(0, len(data), _INSERT_LIMIT):
        piece = data[start : start + _INSERT_LIMIT]
        yield bytes([len(piece)]) + piece


def delta_in_place(old: bytes, new: bytes) -> bytes:
    """How `new` is made of `old`, which is as long: what changed, changed where it stood.

    Takes microseconds where little changed, whatever the length.
    """
    parts = [sizes(len(old), len(new))]
    position = 0
    for start, end in _joined(_differing(old, new)):
        parts += copies(position, start)
        parts += inserts(new[start:end])
        position = end
    parts += copies(position, len(old))
    return b"".join(parts)


def _differing(old: bytes, new: bytes) -> Iterator[tuple[int, int]]:
    """Where two versions differ, in small pieces, in their order."""
    waiting = [(0, len(new))]
    while waiting:
        start, end = waiting.pop()
        if old[start:end] != new[start:end]:
            if end - start <= _PIECE:
                yield start, end
            else:
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]


def _joined(pieces: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same, those that touch as one."""
    begun: tuple[int, int] | None = None
    for start, end in pieces:
        if begun is not None and begun[1] == start:
            begun = (begun[0], end)
            continue
        if begun is not None:
            yield begun
        begun = (start, end)
    if begun is not None:
        yield begun


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    out.append(number)
    return bytes(out)

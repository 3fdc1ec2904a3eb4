"""The index of a pack, by which git finds an object in it."""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_SMALL_OFFSET: Final = 1 << 31


class Indexed(NamedTuple):
    """What a pack's index says of an object."""

    id: bytes
    offset: int
    crc: int


def encode_index(entries: Iterable[Indexed], checksum: bytes) -> bytes:
    """A pack's index, version 2."""
    entries = sorted(entries)
    counts = [0] * 256
    for object_id, _, _ in entries:
        counts[object_id[0]] += 1
    fan_out = []
    total = 0
    for count in counts:
        total += count
        fan_out.append(total)
    small, large = _offsets([offset for _, offset, _ in entries])
    count = len(entries)
    body = b"".join(
        (
            b"\xfftOc",
            struct.pack(">L256L", 2, *fan_out),
            b"".join([object_id for object_id, _, _ in entries]),
            struct.pack(f">{count}L", *(crc for _, _, crc in entries)),
            struct.pack(f">{count}L", *small),
            struct.pack(f">{len(large)}Q", *large),
            checksum,
        )
    )
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _offsets(offsets: Sequence[int]) -> tuple[list[int], list[int]]:
    """The two tables of an index: offsets of four bytes, and those that need eight."""
    small: list[int] = []
    large: list[int] = []
    for offset in offsets:
        if offset < _SMALL_OFFSET:
            small.append(offset)
        else:
            small.append(_SMALL_OFFSET | len(large))
            large.append(offset)
    return small, large

"""Packs read as they stand: where each object is, and its bytes, without inflating anything."""

import hashlib
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from roundsman.archive.objects import OFFSET_DELTA, REFERENCE_DELTA

_VERSION: Final = b"\xfftOc\0\0\0\2"
_FAN_OUT: Final = 8
_NAMES: Final = _FAN_OUT + 1024
_LARGE: Final = 1 << 31
_TRAILER: Final = 20


class PackDamagedError(Exception):
    """A pack or its index is not what it should be."""


class Packed(NamedTuple):
    """An object in a pack."""

    id: bytes
    offset: int
    end: int
    crc: int


class PackReader:
    """One pack and its index. Use as a context."""

    def __init__(self, pack: Path, *, damaged: bool = False) -> None:
        """Open a pack; one that is known to be damaged if only its index is right.

        Raises `OSError`, `PackDamagedError`.
        """
        self.path = pack
        self._damaged = damaged
        index = pack.with_suffix(".idx").read_bytes()
        with pack.open("rb") as file:
            try:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:  # it is empty
                raise PackDamagedError(f"{pack}: {error}") from error
        try:
            self.objects = self._read_index(index)
            """What it holds, in the order in which it stands there."""
        except (struct.error, IndexError) as error:
            self._data.close()
            raise PackDamagedError(f"{pack}: its index is cut off") from error
        except PackDamagedError:
            self._data.close()
            raise
        self.is_complete = self._is_complete(index)
        """Whether its two ends are what they should be."""
        self._ids = {item.offset: item.id for item in self.objects}

    def __enter__(self) -> "PackReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def raw(self, item: Packed) -> bytes:
        """An object as it stands in the pack."""
        return self._data[item.offset : item.end]

    def is_whole(self, item: Packed) -> bool:
        """Whether it is as it was written."""
        with memoryview(self._data) as data, data[item.offset : item.end] as raw:
            return zlib.crc32(raw) == item.crc

    def base(self, item: Packed, raw: bytes) -> bytes | None:
        """The id of what the object is a delta of; none if it is no delta.

        Raises `PackDamagedError` when there is no such object in this pack.
        """
        kind, _, at = parse_header(raw)
        if kind == REFERENCE_DELTA:
            return raw[at : at + 20]
        if kind != OFFSET_DELTA:
            return None
        distance, _ = parse_distance(raw, at)
        try:
            return self._ids[item.offset - distance]
        except KeyError:
            raise PackDamagedError(f"{self.path}: a delta of nothing at {item.offset}") from None

    def _is_complete(self, index: bytes) -> bool:
        start = b"PACK" + struct.pack(">LL", 2, len(self.objects))
        return self._data[:12] == start and self._data[-_TRAILER:] == index[-40:-20]

    def _read_index(self, index: bytes) -> list[Packed]:
        if index[:8] != _VERSION:
            raise PackDamagedError(f"{self.path}: its index is of no version that is known here")
        if hashlib.sha1(index[:-20], usedforsecurity=False).digest() != index[-20:]:
            raise PackDamagedError(f"{self.path}: its index is damaged")
        if not self._damaged and index[-40:-20] != self._data[-_TRAILER:]:
            raise PackDamagedError(f"{self.path}: its index belongs to another pack")
        count = struct.unpack_from(">L", index, _NAMES - 4)[0]
        crcs = _NAMES + 20 * count
        offsets = crcs + 4 * count
        large = offsets + 4 * count
        found = []
        for position, (crc, offset) in enumerate(
            zip(
                struct.unpack_from(f">{count}L", index, crcs),
                struct.unpack_from(f">{count}L", index, offsets),
                strict=True,
            )
        ):
            at = offset
            if offset & _LARGE:
                at = struct.unpack_from(">Q", index, large + 8 * (offset ^ _LARGE))[0]
            start = _NAMES + 20 * position
            found.append((at, index[start : start + 20], crc))
        found.sort()
        ends = [*(at for at, _, _ in found[1:]), len(self._data) - _TRAILER]
        return [
            Packed(object_id, at, end, crc)
            for (at, object_id, crc), end in zip(found, ends, strict=True)
        ]


def ids_by_first_byte(pack: Path) -> Iterator[list[bytes]]:
    """The ids of what a pack holds, as its index tells: 256 lists, some of them empty.

    Raises `OSError`, `PackDamagedError`.
    """
    with pack.with_suffix(".idx").open("rb") as index:
        head = index.read(_NAMES)
        if head[:8] != _VERSION or len(head) < _NAMES:
            raise PackDamagedError(f"{pack}: its index is of no version that is known here")
        last = 0
        for end in struct.unpack_from(">256L", head, _FAN_OUT):
            names = index.read(20 * (end - last))
            yield [names[at : at + 20] for at in range(0, len(names), 20)]
            last = end


def parse_header(raw: bytes) -> tuple[int, int, int]:
    """Kind and size of an object in a pack, and where what follows begins."""
    byte = raw[0]
    kind, size, shift, at = byte >> 4 & 7, byte & 0x0F, 4, 1
    while byte & 0x80:
        byte = raw[at]
        size |= (byte & 0x7F) << shift
        shift += 7
        at += 1
    return kind, size, at


def parse_distance(raw: bytes, at: int) -> tuple[int, int]:
    """How far back the base of a delta begins, and where what follows begins."""
    byte = raw[at]
    distance = byte & 0x7F
    at += 1
    while byte & 0x80:
        byte = raw[at]
        distance = (distance + 1) << 7 | byte & 0x7F
        at += 1
    return distance, at


def packs_in(folder: Path) -> Iterator[Path]:
    """The packs of a folder that git would find."""
    for path in folder.glob("pack-*.pack"):
        if path.with_suffix(".idx").exists():
            yield path

"""Git objects as bytes: their ids, and how they stand in a pack."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
OFFSET_DELTA: Final = 6
REFERENCE_DELTA: Final = 7
_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}

Buffer: TypeAlias = bytes | bytearray | memoryview

_BLOCK: Final = 0xFFFF  # the most that one stored block of a zlib stream holds
_BLOCK_HEADER: Final = struct.Struct("<BHH")
_HELD: Final = 2047
"""hashlib lets go of the interpreter for more than this, zlib for more than `_SUMMED`. To get it
back in a busy process can take a thousand times as long as hashing a tree does, so what is not very
long is hashed and summed in pieces."""
_SUMMED: Final = 5 << 10
_LONG: Final = 256 << 10


class Digest(Protocol):
    """A digest in the making, as hashlib has it."""

    def update(self, content: Buffer, /) -> None:
        """Go on with this."""
        ...


def header(kind: int, size: int) -> bytes:
    """What git puts before the content when it computes an id."""
    return b"%s %d\0" % (_NAMES[kind], size)


def object_id(kind: int, content: Buffer) -> bytes:
    """The id of an object: SHA-1, 20 bytes."""
    digest = hashlib.sha1(header(kind, len(content)), usedforsecurity=False)
    hash_in_pieces(digest, content)
    return digest.digest()


def hash_in_pieces(digest: Digest, content: Buffer) -> None:
    """Go on with a digest, without letting go of the interpreter unless it takes long."""
    size = len(content)
    if size <= _HELD or size > _LONG:
        digest.update(content)
        return
    view = memoryview(content)
    for start in range(0, size, _HELD):
        digest.update(view[start : start + _HELD])


def entry_header(kind: int, size: int) -> bytes:
    """Kind and size: three bits and four in the first byte, seven in each that follows.

    >>> entry_header(BLOB, 100).hex()
    'b406'
    """
    byte = kind << 4 | size & 0x0F
    size >>= 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    out.append(byte)
    return bytes(out)


def base_distance(distance: int) -> bytes:
    """How far back the base begins: seven bits a byte, big end first, each carry less one."""
    out = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        out.append(0x80 | distance & 0x7F)
    return bytes(reversed(out))


def stored(content: Buffer) -> bytes:
    """A zlib stream that holds `content` as it is: valid, and next to no work.

    Where a result is waited for nothing is deflated; packs are when they are joined.

    >>> zlib.decompress(stored(b"hello"))
    b'hello'
    """
    size = len(content)
    parts: list[Buffer] = [b"\x78\x01"]
    for start in range(0, max(size, 1), _BLOCK):
        length = min(_BLOCK, size - start)
        last = start + length == size
        parts.append(
            b"%c%s%s"
            % (last, length.to_bytes(2, "little"), (length ^ _BLOCK).to_bytes(2, "little"))
        )
        parts.append(memoryview(content)[start : start + length])
    parts.append(_in_pieces(zlib.adler32, content, 1).to_bytes(4, "big"))
    return b"".join(parts)


def crc32(raw: Buffer) -> int:
    """The checksum that a pack's index keeps of an object."""
    return _in_pieces(zlib.crc32, raw, 0)


def _in_pieces(checksum: Callable[[Buffer, int], int], content: Buffer, value: int) -> int:
    size = len(content)
    if size <= _SUMMED or size > _LONG:
        return checksum(content, value)
    view = memoryview(content)
    for start in range(0, size, _SUMMED):
        value = checksum(view[start : start + _SUMMED], value)
    return value


def whole(kind: int, content: Buffer) -> bytes:
    """An object as it stands in a pack, not as a delta and not deflated."""
    return entry_header(kind, len(content)) + stored(content)

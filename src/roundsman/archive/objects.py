"""Git objects as bytes: their ids, and how they stand in a pack."""

import hashlib
import zlib
from typing import Final

import msgspec

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
OFFSET_DELTA: Final = 6
_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}

COMPRESSION: Final = 1
"""zlib level: 10 KB of configuration cost 0.1 ms, a third of level 6, and end a tenth larger; what
stays is made small by deltas when packs are consolidated."""


class PackedObject(msgspec.Struct, frozen=True):
    """An object ready to be written into a pack."""

    kind: int
    """COMMIT, TREE or BLOB; OFFSET_DELTA when `base` is set."""
    id: bytes
    """SHA-1, 20 bytes."""
    size: int
    """Length of what `body` inflates to."""
    body: bytes
    """The content, or the delta against `base`, deflated."""
    base: bytes | None = None
    """Id of the object that the delta applies to; it stands earlier in the same pack."""


def header(kind: int, size: int) -> bytes:
    """What git puts before the content when it computes an id."""
    return b"%s %d\0" % (_NAMES[kind], size)


def object_id(kind: int, content: bytes) -> bytes:
    """The id of an object."""
    digest = hashlib.sha1(header(kind, len(content)), usedforsecurity=False)
    digest.update(content)
    return digest.digest()


def pack_object(kind: int, content: bytes) -> PackedObject:
    """An object written whole."""
    return PackedObject(
        kind, object_id(kind, content), len(content), zlib.compress(content, COMPRESSION)
    )

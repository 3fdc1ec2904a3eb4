"""What is done to a result before its turn at the writer: reading, naming, deflating.

Many results are prepared at once, in threads. A small one waits for its batch deflated in memory; a
large one goes straight to the disk, as a pack of its own that nothing refers to yet.
"""

import zlib
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.command import LARGE_BLOB
from roundsman.archive.interface import Entry
from roundsman.archive.objects import BLOB, COMPRESSION, PackedObject, object_id
from roundsman.archive.packs import blob_id, write_blob_pack

IN_MEMORY: Final = 256 << 10
"""Results up to this many bytes wait in memory."""


class Current(msgspec.Struct, frozen=True):
    """What a path holds, as far as it is known without reading."""

    blob: bytes | None
    """Id of the content; none when the path is new, or was not looked at yet."""
    generation: int
    """Raised whenever the branch was found to be moved by somebody else."""


class Prepared(msgspec.Struct, frozen=True):
    """A result whose content needs no more work."""

    entry: Entry
    blob: bytes
    """Id of the content."""
    packed: PackedObject | None = None
    """The content, when the batch has to write it."""
    seen_in: int | None = None
    """The generation in which the path had this very content, when nothing was written for it."""


def is_large(entry: Entry) -> bool:
    """Whether preparing it is long work. Raises `OSError`."""
    return isinstance(entry.content, Path) and entry.content.stat().st_size > IN_MEMORY


def prepare(entry: Entry, packs: Path, current: Current) -> Prepared:
    """Read a result, once if it is small, and make its content ready. Raises `OSError`."""
    if isinstance(entry.content, Path) and is_large(entry):
        return _prepare_large(entry, entry.content, packs, current)
    content = entry.read()
    blob = object_id(BLOB, content)
    if blob == current.blob:
        return Prepared(entry, blob, seen_in=current.generation)
    body = zlib.compress(content, COMPRESSION)
    return Prepared(entry, blob, packed=PackedObject(BLOB, blob, len(content), body))


def _prepare_large(entry: Entry, content: Path, packs: Path, current: Current) -> Prepared:
    blob, size = blob_id(content)
    if blob == current.blob:
        return Prepared(entry, blob, seen_in=current.generation)
    write_blob_pack(packs, content, blob, size, apart=size >= LARGE_BLOB)
    return Prepared(entry, blob)

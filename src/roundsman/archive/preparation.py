"""What is done to a result before its turn at the writer: reading and naming it.

A small one waits for its batch in memory, ready to be written; a large one is deflated straight to
the disk, as a pack of its own that nothing refers to yet.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.command import LARGE_BLOB
from roundsman.archive.files import Files
from roundsman.archive.interface import ArchiveUnavailableError, Entry
from roundsman.archive.large import parse_pointer
from roundsman.archive.objects import BLOB, object_id, whole
from roundsman.archive.packs import blob_id, write_blob_pack
from roundsman.archive.walking import extent

IN_MEMORY: Final = 256 << 10
"""Results up to this many bytes wait in memory."""
_PIECE: Final = 1 << 18


class Prepared(msgspec.Struct, frozen=True):
    """A result whose content needs no more work."""

    entry: Entry
    blob: bytes
    """Id of the content."""
    raw: bytes | None = None
    """The content as it stands in a pack; none when it is in a pack of its own, or was not written
    since its path was seen to hold it."""
    pack: str = ""
    """Name of the pack of its own."""
    seen_in: int | None = None
    """The generation of the branch in which the path held this very content."""
    pointer: bool = False
    """Whether it stands for a content that is kept beside the repository."""
    size: int | None = None
    """Bytes of the content; of a pointer, of that which it stands for."""
    lines: int | None = None
    """Its line ends; none: it is no text, or is kept beside the repository."""


class Current(msgspec.Struct, frozen=True):
    """What a path holds, as far as it is known without reading."""

    blob: bytes | None
    """Id of the content; none when the path is new, or was not looked at yet."""
    generation: int
    """Raised whenever the branch was found to be moved by somebody else."""


def is_large(entry: Entry) -> bool:
    """Whether its content is streamed rather than held. Raises `OSError`."""
    return isinstance(entry.content, Path) and entry.content.stat().st_size > IN_MEMORY


def prepare_small(entries: Sequence[Entry]) -> list[Prepared | ArchiveUnavailableError]:
    """Read and name results that fit into memory."""
    return [_prepare_small(entry) for entry in entries]


def _prepare_small(entry: Entry) -> Prepared | ArchiveUnavailableError:
    try:
        content = entry.read()
    except OSError as error:
        return unreadable(entry, error)
    size, lines = extent(content)
    return Prepared(
        entry,
        object_id(BLOB, content),
        raw=whole(BLOB, content),
        pointer=parse_pointer(content) is not None,
        size=size,
        lines=lines,
    )


def prepare_large(entry: Entry, files: Files, packs: Path, name: str, current: Current) -> Prepared:
    """Name a result, and write its content as a pack of this name if its path does not hold it.

    Raises `OSError`.
    """
    assert isinstance(entry.content, Path)  # noqa: S101 - who asked `is_large` knows
    blob, size = blob_id(entry.content)
    if blob == current.blob:
        return Prepared(entry, blob, pack=name, seen_in=current.generation)
    apart = size >= LARGE_BLOB
    write_blob_pack(files, packs / name, entry.content, blob, size, apart=apart)
    return Prepared(entry, blob, pack=name, size=size, lines=_lines(entry.content))


def _lines(path: Path) -> int | None:
    """The line ends of a file; none: it is no text."""
    with path.open("rb") as file:
        first = file.read(_PIECE)
        _, lines = extent(first)
        while lines is not None and (piece := file.read(_PIECE)):
            lines += piece.count(b"\n")
    return lines


def unreadable(entry: Entry, error: OSError) -> ArchiveUnavailableError:
    """What the file system said of a result, as the archive's own error."""
    return ArchiveUnavailableError(
        f"{entry.job} on {entry.device}: expected to read and keep the result, got: {error}",
        remedy="free or mend the disk; results that wait are sent again",
    )

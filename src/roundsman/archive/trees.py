"""Git trees as ready bytes, in which one entry can be changed without touching the rest.

Each commit holds a new version of the tree of every folder above what it changed, and such a tree
may be hundreds of kilobytes long. It is kept as git writes it; a new id is put in place of the old
one, and what was changed since the version before is known, so that the version after it can be
written as a delta of some dozens of bytes, in git's own delta format.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

from roundsman.archive.deltas import copies, inserts, sizes
from roundsman.archive.objects import Buffer

FILE_MODE: Final = b"100644"
TREE_MODE: Final = b"40000"

_ID: Final = 20
_FEW: Final = 512
"""Trees of up to so many bytes are searched from their front; for others it is noted where each
name stands."""


class TreeEntry(NamedTuple):
    """What a tree says of one name."""

    mode: bytes
    id: bytes


class _Hunk(NamedTuple):
    """A part of the tree that stands in place of a part of an earlier version of it."""

    start: int
    size: int
    old_start: int
    old_size: int


class Tree:
    """A git tree."""

    __slots__ = ("_hunks", "_places", "raw")

    def __init__(self, raw: Buffer = b"") -> None:
        """Take a tree as git keeps it; empty by default."""
        self.raw = bytearray(raw)
        """The tree as git keeps it; to be read only."""
        self._places: dict[bytes, int] | None = None
        self._hunks: list[_Hunk] = []

    def __len__(self) -> int:
        return len(self.raw)

    def copy(self) -> Self:
        """A tree that can be changed apart from this one."""
        other = type(self)(self.raw)
        other._places = self._places  # never changed, only replaced
        other._hunks = [*self._hunks]
        return other

    def entries(self) -> Iterator[tuple[bytes, TreeEntry]]:
        """Every name with what is said of it, in git's order."""
        for start, name in _names(self.raw):
            yield name, self._entry(start, name)

    def get(self, name: bytes) -> TreeEntry | None:
        """The entry of a name, whatever its mode."""
        start = self._find(name)
        return None if start is None else self._entry(start, name)

    def set(self, name: bytes, mode: bytes, object_id: bytes) -> None:
        """Put an entry in place of what has that name."""
        start = self._find(name)
        if start is not None:
            if self.raw.startswith(mode + b" ", start):
                self._change(start + len(mode) + len(name) + 2, _ID, object_id)
                return
            self.remove(name)
        at = self._position(name + b"/" if mode == TREE_MODE else name)
        self._change(at, 0, b"%s %s\0%s" % (mode, name, object_id))
        self._places = None

    def remove(self, name: bytes) -> None:
        """Take away the entry of a name, if there is one."""
        start = self._find(name)
        if start is not None:
            end = self.raw.index(b"\0", start) + 1 + _ID
            self._change(start, end - start, b"")
            self._places = None

    def take_delta(self) -> bytes:
        """How this version is made from the one at the last call, and begin anew.

        Copy and insert instructions in git's format. The first call speaks of the tree as it was
        taken.
        """
        hunks, self._hunks = self._hunks, []
        size = len(self.raw)
        old_size = size + sum(hunk.old_size - hunk.size for hunk in hunks)
        parts = [sizes(old_size, size)]
        position = 0
        for hunk in hunks:
            parts += copies(position, hunk.old_start)
            parts += inserts(self.raw[hunk.start : hunk.start + hunk.size])
            position = hunk.old_start + hunk.old_size
        parts += copies(position, old_size)
        return b"".join(parts)

    def forget_changes(self) -> None:
        """Begin anew, without asking what was changed."""
        self._hunks = []

    def _entry(self, start: int, name: bytes) -> TreeEntry:
        space = self.raw.index(b" ", start)
        id_start = space + len(name) + 2
        return TreeEntry(bytes(self.raw[start:space]), bytes(self.raw[id_start : id_start + _ID]))

    def _find(self, name: bytes) -> int | None:
        """Where the entry of a name starts."""
        if len(self.raw) <= _FEW:
            return next((start for start, found in _names(self.raw) if found == name), None)
        if self._places is None:
            self._places = {found: start for start, found in _names(self.raw)}
        return self._places.get(name)

    def _position(self, key: bytes) -> int:
        """Where an entry of this sort key belongs; git orders a folder as if it ended in `/`."""
        for start, name in _names(self.raw):
            found = name + b"/" if self.raw.startswith(TREE_MODE + b" ", start) else name
            if found > key:
                return start
        return len(self.raw)

    def _change(self, at: int, removed: int, inserted: bytes) -> None:
        """Put bytes in place of others, and note it."""
        self.raw[at : at + removed] = inserted
        end = at + removed
        growth = len(inserted) - removed
        before: list[_Hunk] = []
        after: list[_Hunk] = []
        touched: list[_Hunk] = []
        shift = 0  # how much further on the bytes at `at` stand than they did in the old version
        for hunk in self._hunks:
            if hunk.start + hunk.size < at:
                before.append(hunk)
                shift += hunk.size - hunk.old_size
            elif hunk.start > end:
                after.append(hunk._replace(start=hunk.start + growth))
            else:
                touched.append(hunk)
        start = min([at, *(hunk.start for hunk in touched)])
        stop = max([end, *(hunk.start + hunk.size for hunk in touched)])
        grown = sum(hunk.size - hunk.old_size for hunk in touched)
        made = _Hunk(start, stop - start + growth, start - shift, stop - start - grown)
        self._hunks = [*before, made, *after]


def encode_tree(entries: Iterable[tuple[bytes, bytes, bytes]]) -> bytes:
    """A tree of these names, modes and ids, in any order."""
    ordered = sorted(
        (name + b"/" if mode == TREE_MODE else name, b"%s %s\0%s" % (mode, name, object_id))
        for name, mode, object_id in entries
    )
    return b"".join([entry for _, entry in ordered])


def _names(raw: bytearray) -> Iterator[tuple[int, bytes]]:
    """Where each entry starts, and its name."""
    start = 0
    size = len(raw)
    while start < size:
        end = raw.index(b"\0", start)
        yield start, bytes(raw[raw.index(b" ", start) + 1 : end])
        start = end + 1 + _ID

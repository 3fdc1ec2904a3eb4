"""Git trees that can be changed in one place without touching the rest.

The tree of a hundred thousand devices is 4 MB long, and each commit holds a new version of it. It
is kept as a list of leaves of some dozens of entries, which are never changed but replaced: a copy
of the tree costs a copy of the list, and two versions tell by identity where they differ. So what
is written for a new version is a delta of some dozens of bytes, in git's own delta format.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import is_
from typing import Final, Self

import msgspec

FILE_MODE: Final = b"100644"
TREE_MODE: Final = b"40000"

_LEAF_ENTRIES: Final = 64
_COPY_LIMIT: Final = 0xFFFFFF  # the most that one copy instruction says, in bytes
_INSERT_LIMIT: Final = 127  # the most that one insert instruction says, in bytes


class TreeEntry(msgspec.Struct, frozen=True):
    """What a tree says of one name."""

    mode: bytes
    id: bytes


class _Leaf:
    """Some neighbouring entries; never changed."""

    __slots__ = ("entries", "raw")

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = entries
        self.raw = b"".join(entries)


class Tree:
    """A git tree."""

    __slots__ = ("_firsts", "leaves")

    def __init__(self, raw: bytes = b"") -> None:
        """Read a tree as git keeps it; empty by default."""
        entries = list(_split(raw))
        self.leaves = [
            _Leaf(entries[start : start + _LEAF_ENTRIES])
            for start in range(0, len(entries), _LEAF_ENTRIES)
        ]
        self._firsts = [_sort_key(leaf.entries[0]) for leaf in self.leaves]

    def copy(self) -> Self:
        """A tree that can be changed apart from this one."""
        other = type(self)()
        other.leaves = self.leaves.copy()
        other._firsts = self._firsts.copy()
        return other

    def raw(self) -> bytes:
        """The tree as git keeps it."""
        return b"".join([leaf.raw for leaf in self.leaves])

    def replaced(self, other: "Tree") -> float:
        """Which part of this tree's leaves another version has replaced, from 0 to 1."""
        if len(self.leaves) != len(other.leaves):
            return 1.0
        kept = sum(map(is_, self.leaves, other.leaves))
        return 1 - kept / max(1, len(self.leaves))

    def get(self, name: bytes) -> TreeEntry | None:
        """The entry of a name, whatever its mode."""
        for key in (name, name + b"/"):
            place, index, found = self._find(key)
            if found:
                entry = self.leaves[place].entries[index]
                return TreeEntry(entry.partition(b" ")[0], entry[-20:])
        return None

    def set(self, name: bytes, mode: bytes, object_id: bytes) -> None:
        """Put an entry in place of what has that name."""
        is_tree = mode == TREE_MODE
        self._discard(name if is_tree else name + b"/")
        key = name + b"/" if is_tree else name
        entry = b"%s %s\0%s" % (mode, name, object_id)
        place, index, found = self._find(key)
        if place < 0:
            self._replace(0, 0, [entry])
            return
        entries = [*self.leaves[place].entries]
        entries[index : index + found] = [entry]
        self._replace(place, 1, entries)

    def _discard(self, key: bytes) -> None:
        place, index, found = self._find(key)
        if found:
            entries = [*self.leaves[place].entries]
            del entries[index]
            self._replace(place, 1, entries)

    def _find(self, key: bytes) -> tuple[int, int, bool]:
        """Leaf, place in the leaf, and whether it is there; leaf -1 in an empty tree."""
        if not self.leaves:
            return -1, 0, False
        place = max(0, bisect_right(self._firsts, key) - 1)
        entries = self.leaves[place].entries
        index = bisect_left(entries, key, key=_sort_key)
        return place, index, index < len(entries) and _sort_key(entries[index]) == key

    def _replace(self, place: int, count: int, entries: list[bytes]) -> None:
        """Put one or two leaves, or none, of these entries in place of `count` leaves."""
        half = len(entries) if len(entries) <= 2 * _LEAF_ENTRIES else len(entries) // 2
        leaves = [_Leaf(part) for part in (entries[:half], entries[half:]) if part]
        self.leaves[place : place + count] = leaves
        self._firsts[place : place + count] = [_sort_key(leaf.entries[0]) for leaf in leaves]


def delta(old: Tree, new: Tree) -> bytes:
    """How `new` is made from `old`, as git's copy and insert instructions."""
    starts = [0, *accumulate([len(leaf.raw) for leaf in old.leaves])]
    script = _Script()
    position = 0  # the leaf of `old` up to which `new` is said
    for before, until, fresh in _differences(old.leaves, new.leaves):
        script.copy(starts[position], starts[before] - starts[position])
        gap = old.leaves[before:until]
        if len(gap) == len(fresh) and all(map(_same_length, gap, fresh)):
            script.change_entries(starts[before], gap, fresh)
        else:
            script.change(starts[before], _joined(gap), _joined(fresh))
        position = until
    script.copy(starts[position], starts[-1] - starts[position])
    return _varint(starts[-1]) + _varint(script.size) + script.encode()


def _differences(
    old: Sequence[_Leaf], new: Sequence[_Leaf]
) -> Iterator[tuple[int, int, Sequence[_Leaf]]]:
    """Which leaves of `old`, from and until, are replaced by which of `new`; in order."""
    if len(old) == len(new):
        # Nearly always: no leaf came to be or was parted. A wrong guess costs some bytes only.
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            if before is not after:
                yield index, index + 1, [after]
        return
    places = {id(leaf): index for index, leaf in enumerate(old)}
    position = 0
    fresh: list[_Leaf] = []
    for leaf in new:
        place = places.get(id(leaf))
        if place is None:
            fresh.append(leaf)
            continue
        if fresh or place != position:
            yield position, place, fresh
            fresh = []
        position = place + 1
    if fresh or position != len(old):
        yield position, len(old), fresh


def _same_length(first: _Leaf, second: _Leaf) -> bool:
    return len(first.entries) == len(second.entries)


def _joined(leaves: Sequence[_Leaf]) -> bytes:
    return b"".join([leaf.raw for leaf in leaves])


class _Script:
    """Delta instructions, neighbouring copies joined."""

    def __init__(self) -> None:
        self.size = 0
        self._steps: list[tuple[int, int] | bytes] = []

    def copy(self, offset: int, size: int) -> None:
        if not size:
            return
        self.size += size
        if self._steps and isinstance(self._steps[-1], tuple):
            start, length = self._steps[-1]
            if start + length == offset:
                self._steps[-1] = (start, length + size)
                return
        self._steps.append((offset, size))

    def insert(self, data: bytes) -> None:
        if data:
            self.size += len(data)
            self._steps.append(data)

    def change(self, offset: int, old: bytes, new: bytes) -> None:
        """Say `new` where `old` stood at `offset`, sharing what both begin and end with."""
        head = _common_prefix(old, new)
        tail = _common_prefix(old[head:][::-1], new[head:][::-1])
        self.copy(offset, head)
        self.insert(new[head : len(new) - tail])
        self.copy(offset + len(old) - tail, tail)

    def change_entries(self, offset: int, old: Sequence[_Leaf], new: Sequence[_Leaf]) -> None:
        """Say leaves whose entries stand for one another."""
        for before, after in zip(old, new, strict=True):
            position = offset
            for index, entry in enumerate(after.entries):
                was = before.entries[index]
                if was is not entry:
                    start = offset + sum(map(len, before.entries[:index]))
                    self.copy(position, start - position)
                    self.change(start, was, entry)
                    position = start + len(was)
            offset += len(before.raw)
            self.copy(position, offset - position)

    def encode(self) -> bytes:
        parts: list[bytes] = []
        for step in self._steps:
            if isinstance(step, bytes):
                for start in range(0, len(step), _INSERT_LIMIT):
                    piece = step[start : start + _INSERT_LIMIT]
                    parts.append(bytes([len(piece)]) + piece)
                continue
            offset, size = step
            while size:
                length = min(size, _COPY_LIMIT)
                parts.append(_copy_instruction(offset, length))
                offset += length
                size -= length
        return b"".join(parts)


def _copy_instruction(offset: int, size: int) -> bytes:
    code = 0x80
    arguments = bytearray()
    for bit, value in enumerate((*offset.to_bytes(4, "little"), *size.to_bytes(3, "little"))):
        if value:
            code |= 1 << bit
            arguments.append(value)
    return bytes([code]) + arguments


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    out.append(number)
    return bytes(out)


def _common_prefix(first: bytes, second: bytes) -> int:
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _split(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        end = raw.index(b"\0", start) + 21
        yield raw[start:end]
        start = end


def _sort_key(entry: bytes) -> bytes:
    """Git orders a subtree as if its name ended with a slash."""
    mode, _, rest = entry[:-21].partition(b" ")
    return rest + b"/" if mode == TREE_MODE else rest

"""A batch in the making: results in, objects and a new tip out. Touches no disk.

What of a batch does not depend on its results is paid once: a pack, its index, a few flushes.
What depends on the fleet is the tree `by_device`, of which each commit holds a version. At 1,000
devices it costs 20 microseconds and some dozens of bytes of delta; at 100,000 its id alone costs
2 ms of SHA-1 over 4 MB. So when that tree is large, results share commits: a batch hashes about
`_TREE_BYTES` of it at most.
"""

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from roundsman.archive.commits import commit_object, subject
from roundsman.archive.history import Kept
from roundsman.archive.interface import Entry
from roundsman.archive.layout import ROOT
from roundsman.archive.objects import (
    COMMIT,
    COMPRESSION,
    OFFSET_DELTA,
    TREE,
    PackedObject,
    object_id,
    pack_object,
)
from roundsman.archive.preparation import Prepared
from roundsman.archive.trees import FILE_MODE, TREE_MODE, Tree, delta

_TREE_BYTES: Final = 8 << 20
_CHAIN: Final = 32
"""Deltas that may stand on one another; to read the last is to apply them all."""
_BASE_WORN: Final = 0.25
"""A base is replaced when this part of it was: what stands on it grows, and takes time to find."""


class State(msgspec.Struct):
    """What the branch holds, as far as it was looked at."""

    tip: bytes | None
    root: Tree
    by_device: Tree
    devices: dict[bytes, bytes]
    """Trees of the devices seen so far, as git keeps them."""
    generation: int


class Base(msgspec.Struct, frozen=True):
    """A version of `by_device` that each pack repeats whole, for its deltas to stand on."""

    tree: Tree
    packed: PackedObject


class Change:
    """A result that gets a version; those of one group share a commit."""

    __slots__ = ("blob", "commit", "entry")

    def __init__(self, entry: Entry, blob: bytes) -> None:
        self.entry = entry
        self.blob = blob
        self.commit = b""
        """Set when its group is sealed."""


class Batch:
    """One batch, on top of a state that it leaves as it is."""

    def __init__(self, state: State, base: Base | None, *, results: int, now: float) -> None:
        self.tip = state.tip
        self.root = state.root.copy()
        self.by_device = state.by_device.copy()
        self.devices: dict[bytes, bytes] = {}
        self.objects: dict[bytes, PackedObject] = {}
        self.versions: list[Kept] = []
        self.base = base
        self._state = state
        self._now = now
        self._latest: dict[tuple[str, str], Change] = {}
        self._group: dict[tuple[str, str], Change] = {}
        tree_bytes = sum(len(leaf.raw) for leaf in self.by_device.leaves)
        self._group_size = max(1, -(-results * tree_bytes // _TREE_BYTES))
        self._previous: tuple[Tree, bytes, int] | None = None

    def pending(self, entry: Entry) -> Change | None:
        """The change of the same path that this batch holds already."""
        return self._latest.get((entry.device, entry.job))

    def blob(self, entry: Entry) -> bytes | None:
        """What the path holds on top of this batch."""
        pending = self.pending(entry)
        if pending is not None:
            return pending.blob
        kept = self._device(entry.device.encode()).get(entry.job.encode())
        return None if kept is None or kept.mode == TREE_MODE else kept.id

    def add(self, item: Prepared) -> Change:
        """Give a result a version."""
        path = (item.entry.device, item.entry.job)
        if path in self._group:
            self.seal()
        if item.packed is not None:
            self.objects.setdefault(item.blob, item.packed)
        change = Change(item.entry, item.blob)
        self._group[path] = self._latest[path] = change
        if len(self._group) >= self._group_size:
            self.seal()
        return change

    def seal(self) -> None:
        """Make the commit of what was added since the last one."""
        if not self._group:
            return
        changes = [*self._group.values()]
        self._group = {}
        for change in changes:
            device = change.entry.device.encode()
            tree = self._device(device)
            tree.set(change.entry.job.encode(), FILE_MODE, change.blob)
            self.devices[device] = tree.raw()
        for device in {change.entry.device.encode() for change in changes}:
            self.by_device.set(device, TREE_MODE, self._put(TREE, self.devices[device]))
        self.root.set(ROOT, TREE_MODE, self._put_by_device())
        root = self._put(TREE, self.root.raw())
        entries = [change.entry for change in changes]
        self.tip = self._put(COMMIT, commit_object(root, self.tip, entries, self._now))
        self._note(changes, self.tip, subject(entries))

    def _note(self, changes: Sequence[Change], commit: bytes, line: str) -> None:
        for change in changes:
            change.commit = commit
            self.versions.append(
                Kept(
                    change.entry.device,
                    change.entry.job,
                    commit,
                    change.blob,
                    int(self._now),
                    line,
                )
            )

    def _device(self, device: bytes) -> Tree:
        raw = self.devices.get(device)
        return Tree(self._state.devices[device] if raw is None else raw)

    def _put(self, kind: int, content: bytes) -> bytes:
        packed = pack_object(kind, content)
        self.objects.setdefault(packed.id, packed)
        return packed.id

    def _put_by_device(self) -> bytes:
        """Write `by_device` as what differs from its version before."""
        raw = self.by_device.raw()
        tree_id = object_id(TREE, raw)
        tree = self.by_device.copy()
        depth = 0
        if tree_id not in self.objects:
            if self._previous is None:
                self._begin_chain(tree, tree_id, raw)
            elif self._previous[2] < _CHAIN:
                self._put_delta(tree, tree_id, self._previous[0], self._previous[1])
                depth = self._previous[2] + 1
            elif self.base is not None:
                self._put_delta(tree, tree_id, self.base.tree, self.base.packed.id)
        self._previous = (tree, tree_id, depth)
        return tree_id

    def _begin_chain(self, tree: Tree, tree_id: bytes, raw: bytes) -> None:
        """The first version in a pack stands on the base, or is the new base."""
        if self.base is not None and self.base.tree.replaced(tree) < _BASE_WORN:
            self.objects[self.base.packed.id] = self.base.packed
            self._put_delta(tree, tree_id, self.base.tree, self.base.packed.id)
            return
        packed = PackedObject(TREE, tree_id, len(raw), zlib.compress(raw, COMPRESSION))
        self.base = Base(tree, packed)
        self.objects[tree_id] = packed

    def _put_delta(self, tree: Tree, tree_id: bytes, on: Tree, on_id: bytes) -> None:
        change = delta(on, tree)
        body = zlib.compress(change, COMPRESSION)
        self.objects.setdefault(
            tree_id, PackedObject(OFFSET_DELTA, tree_id, len(change), body, on_id)
        )

"""A batch in the making: results in, objects and a new tip out. Touches no disk.

What of a batch does not depend on its results is paid once: a pack, its index, a few flushes. What
depends on the fleet are the trees above a result, which each commit hashes and of which it holds a
version. In a pack the first version of a tree stands whole, and those that follow as what was
changed. When the trees of all results are large, results share commits: a batch hashes about
`_TREE_BYTES` at most.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from roundsman.archive import attributes, overview
from roundsman.archive.attributes import marked
from roundsman.archive.commits import (
    commit_object,
    overview_commit,
    seconds,
    subject,
    withdrawing_commit,
)
from roundsman.archive.copies import Places
from roundsman.archive.folders import Folders, above
from roundsman.archive.interface import Entry, Withdrawal
from roundsman.archive.objects import BLOB, COMMIT, TREE, object_id, whole
from roundsman.archive.overviews import Overviews
from roundsman.archive.packs import Pack
from roundsman.archive.preparation import Prepared
from roundsman.archive.small_files import SmallFiles
from roundsman.archive.trees import FILE_MODE, TREE_MODE, Tree, TreeEntry
from roundsman.archive.walking import Kept

_TREE_BYTES: Final = 32 << 20
_CHAIN: Final = 32
"""Deltas that may stand on one another; to read the last is to apply them all."""
_WHOLE: Final = 200
"""Trees of up to so many bytes are no longer whole than as a delta, or not by much."""


class Change:
    """A result that is written; those of one group share a commit."""

    __slots__ = ("blob", "commit", "entry", "lines", "size")

    def __init__(self, item: Prepared) -> None:
        self.entry = item.entry
        self.blob = item.blob
        self.size = item.size
        self.lines = item.lines
        self.commit = b""
        """Set when its group is sealed."""


class _Written(msgspec.Struct, frozen=True):
    """The last version of a tree in this pack."""

    id: bytes
    depth: int


class Batch:
    """One batch, on top of folders that it leaves as they are."""

    def __init__(
        self,
        tip: bytes | None,
        folders: Folders,
        known: SmallFiles,
        *,
        now: float,
        one_commit: bool,
        overviews: Overviews | None = None,
    ) -> None:
        """`known` are the attributes of the folders."""
        self.tip = tip
        self.trees: dict[bytes, Tree] = {}
        """The folders that were changed."""
        self.pack = Pack()
        self.versions: list[Kept] = []
        self.entries: list[Entry] = []
        self.withdrawn: Sequence[Withdrawal] = ()
        self._folders = folders
        self._attributes = known
        self.now = now
        """When it is committed, Unix seconds."""
        self._one_commit = one_commit
        self._latest: dict[bytes, Change] = {}
        self._group: dict[bytes, Change] = {}
        self._group_size = 1
        self._touched: set[bytes] = set()
        self._written: dict[bytes, _Written] = {}
        self._overviews = overviews
        if overviews is not None:
            overviews.begin(self._tree_now)

    def expect(self, paths: Sequence[bytes]) -> None:
        """Take note of what will be stored, to see how many results share a commit."""
        hashed = sum(self._folders.size(folder) for path in paths for folder in above(path))
        self._group_size = max(1, -(-hashed // _TREE_BYTES))

    def pending(self, path: bytes) -> Change | None:
        """The change of this path that the batch holds already."""
        return self._latest.get(path)

    def blob(self, path: bytes) -> bytes | None:
        """What a path holds on top of this batch."""
        folder, _, name = path.rpartition(b"/")
        entry = self._tree_now(folder).get(name)
        return None if entry is None or entry.mode == TREE_MODE else entry.id

    def is_marked(self, path: bytes) -> bool:
        """Whether the attributes of its folder say that a path holds a pointer."""
        folder, _, name = path.rpartition(b"/")
        entry = self._tree_now(folder).get(attributes.NAME)
        said = self._attributes.get(None if entry is None else entry.id)
        return marked(said, name, pointer=True) == said

    def add(
        self,
        item: Prepared,
        places: Places,
        *,
        is_version: bool = True,
        changed_at: float | None = None,
    ) -> Change:
        """Put a result in all its places.

        What is no version only comes to more of them: it changed when it did, by default now.
        """
        if places.path in self._group or (
            not self._one_commit and len(self._group) >= self._group_size
        ):
            self._seal()
        if item.raw is not None and is_version:
            self.pack.add(item.blob, item.raw)
        change = Change(item)
        self.entries.append(item.entry)
        self._group[places.path] = change
        if is_version:
            self._latest[places.path] = change
        for path in (places.path, *places.copies):
            self._set(path, item.blob)
            self._mark(path, pointer=item.pointer)
            if self._overviews is not None:
                self._overviews.show(path, self.now if changed_at is None else changed_at)
        for path in places.gone:
            self.take_away(path)
        return change

    def replay(
        self, changes: Mapping[bytes, TreeEntry | None], content: Callable[[bytes], bytes]
    ) -> None:
        """Make a commit that was made before elsewhere: paths with what they hold from now on.

        `content` gives the commit for the id of its tree.
        """
        for path, entry in changes.items():
            if entry is None:
                self._remove(path)
            else:
                self._set(path, entry.id, entry.mode)
        self._touched.add(b"")
        self._commit(content(self._write_trees()))

    def put_back(self, path: bytes, blob: bytes, *, pointer: bool, changed_at: float) -> None:
        """Have a path hold again what is in the repository already."""
        self._set(path, blob)
        self._mark(path, pointer=pointer)
        if self._overviews is not None:
            self._overviews.show(path, changed_at)

    def take_away(self, path: bytes) -> None:
        """Have a path hold nothing."""
        self._remove(path)
        self._mark(path, pointer=False)
        self.hide(path)

    def seal_withdrawal(self, withdrawn: Sequence[Withdrawal]) -> bytes:
        """Make the commit that withdraws these, with what was put back; its id."""
        assert self.tip is not None  # noqa: S101 - what is withdrawn stands below it
        self._show(all_of_them=True)
        self._touched.add(b"")
        root = self._write_trees()
        self.withdrawn = withdrawn
        return self._commit(withdrawing_commit(root, self.tip, withdrawn, self.now))

    def hide(self, path: bytes) -> None:
        """Show no more what is gone, nor folders in which there is nothing else."""
        overviews = self._overviews
        if overviews is None:
            return
        overviews.hide(path)
        folder, _, _ = path.rpartition(b"/")
        while folder and overviews.is_alone(folder):
            self._remove(folder + b"/" + overview.NAME)
            overviews.forget(folder)
            self._remove(folder)
            overviews.hide(folder)
            folder, _, _ = folder.rpartition(b"/")

    def finish(self) -> None:
        """Make the commit of what was added last, and of all overviews that changed.

        Where nothing was added, a commit of overviews alone.
        """
        self._show(all_of_them=True)
        if self._group:
            self._seal()
        elif self._touched and self.tip is not None:
            self._commit(overview_commit(self._write_trees(), self.tip, self.now))

    def _seal(self) -> None:
        """Make the commit of what was added since the last one."""
        self._show(all_of_them=False)
        group, self._group = self._group, {}
        root = self._write_trees()
        entries = [change.entry for change in group.values()]
        commit = self._commit(commit_object(root, self.tip, entries, self.now))
        line = subject(entries)
        for path, change in group.items():
            change.commit = commit
            if self._latest.get(path) is change:
                entry = change.entry
                self.versions.append(
                    Kept(
                        device=entry.device,
                        job=entry.job,
                        commit=commit,
                        blob=change.blob,
                        at=int(self.now),
                        ended_at=seconds(entry.ended_at),
                        subject=line,
                        run_id=entry.run_id,
                        size=change.size,
                        lines=change.lines,
                    )
                )

    def _commit(self, content: bytes) -> bytes:
        self.tip = object_id(COMMIT, content)
        self.pack.add(self.tip, whole(COMMIT, content))
        return self.tip

    def _show(self, *, all_of_them: bool) -> None:
        """Put overviews into their folders."""
        if self._overviews is None:
            return
        for folder, content in self._overviews.take(all_of_them=all_of_them):
            tree = self._tree(folder)
            if content:
                blob = object_id(BLOB, content)
                before = tree.get(overview.NAME)
                if before is not None and before.id == blob:
                    continue
                self.pack.add(blob, whole(BLOB, content))
                self._overviews.files.add(blob, content)
                tree.set(overview.NAME, FILE_MODE, blob)
            else:
                tree.remove(overview.NAME)
            self._touched.add(folder)

    def _set(self, path: bytes, blob: bytes, mode: bytes = FILE_MODE) -> None:
        folder, _, name = path.rpartition(b"/")
        self._tree(folder).set(name, mode, blob)
        self._touched.add(folder)

    def _mark(self, path: bytes, *, pointer: bool) -> None:
        """Have the attributes of its folder say whether a path holds a pointer."""
        folder, _, name = path.rpartition(b"/")
        tree = self._tree(folder)
        entry = tree.get(attributes.NAME)
        if entry is None and not pointer:
            return
        before = self._attributes.get(None if entry is None else entry.id)
        after = marked(before, name, pointer=pointer)
        if after == before:
            return
        if not after:
            tree.remove(attributes.NAME)
            return
        blob = object_id(BLOB, after)
        self.pack.add(blob, whole(BLOB, after))
        self._attributes.add(blob, after)
        tree.set(attributes.NAME, FILE_MODE, blob)

    def _remove(self, path: bytes) -> None:
        folder, _, name = path.rpartition(b"/")
        self._tree(folder).remove(name)
        self._touched.add(folder)

    def _tree_now(self, folder: bytes) -> Tree:
        """A folder on top of this batch, not to be changed."""
        tree = self.trees.get(folder)
        return self._folders.get(folder) if tree is None else tree

    def _tree(self, folder: bytes) -> Tree:
        tree = self.trees.get(folder)
        if tree is None:
            tree = self.trees[folder] = self._folders.get(folder).copy()
        return tree

    def _write_trees(self) -> bytes:
        """Write the folders that were touched, deepest first; the root's id."""
        waiting: dict[int, set[bytes]] = {}
        for folder in self._touched:
            waiting.setdefault(_depth(folder), set()).add(folder)
        self._touched = set()
        for depth in range(max(waiting), 0, -1):
            parents = waiting.setdefault(depth - 1, set())
            for folder in sorted(waiting[depth]):
                parent, _, name = folder.rpartition(b"/")
                if self._tree(folder).raw:
                    self._tree(parent).set(name, TREE_MODE, self._write_tree(folder))
                elif _is_folder(self._tree(parent), name):  # else a file took its place
                    self._tree(parent).remove(name)
                parents.add(parent)
        return self._write_tree(b"")

    def _write_tree(self, folder: bytes) -> bytes:
        """Write a folder as it is now: whole, or as what was changed since the last time."""
        tree = self._tree(folder)
        tree_id = object_id(TREE, tree.raw)
        before = self._written.get(folder)
        depth = 0
        if before is None or len(tree) <= _WHOLE or before.depth >= _CHAIN:
            tree.forget_changes()
            self.pack.add(tree_id, whole(TREE, tree.raw))
        else:
            depth = before.depth + 1
            self.pack.add_delta(tree_id, tree.take_delta(), before.id)
        self._written[folder] = _Written(tree_id, depth)
        return tree_id


def _is_folder(tree: Tree, name: bytes) -> bool:
    entry = tree.get(name)
    return entry is not None and entry.mode == TREE_MODE


def _depth(folder: bytes) -> int:
    return folder.count(b"/") + 1 if folder else 0

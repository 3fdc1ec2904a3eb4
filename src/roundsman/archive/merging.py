"""Putting our line and that of others on one commit, without touching a commit of either.

Three trees are compared, folder by folder, and only where they differ: what one side changed since
the lines parted is as that side has it. Of a result that both brought the one stands that was due
later, and of anything else that both changed ours; the other stays in its history. Of overviews
that both changed the rows are put together, and what a person wrote in place of one stands. What
attributes say of a result comes from the side that it comes from.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from roundsman.archive import attributes
from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.commits import joining_commit
from roundsman.archive.interface import ArchiveUnavailableError, Pair
from roundsman.archive.objects import BLOB, COMMIT, TREE, object_id, whole
from roundsman.archive.overview import NAME, Overview
from roundsman.archive.packs import Pack
from roundsman.archive.trees import FILE_MODE, TREE_MODE, Tree, TreeEntry, encode_tree
from roundsman.archive.walking import dues

_DEEPEST: Final = 100


def merged(
    git: Git,
    reader: ObjectReader,
    pack: Pack,
    ours: bytes,
    theirs: bytes,
    *,
    owner: Callable[[bytes], Pair | None],
    now: float,
) -> bytes:
    """Add the commit that stands on both, ours first; its id. `owner` says whose a path is.

    Raises `ArchiveUnavailableError` when git cannot read one of them.
    """
    base = git.common_ancestor(ours, theirs)
    commits = reader.read(COMMIT, [ours, theirs, *([] if base is None else [base])])
    roots = [bytes.fromhex(commit[5:45].decode()) for commit in commits]

    @cache
    def newest() -> list[dict[Pair, str]]:
        return [dues(git, base, tip) for tip in (ours, theirs)]

    def is_later(path: bytes) -> bool:
        """Whether theirs is, of a result that both lines brought."""
        pair = owner(path)
        if pair is None:
            return False
        mine, other = (each.get(pair, "") for each in newest())
        return "" < mine < other

    merge = _Merge(reader, pack, is_later)
    root = merge.tree(roots[2] if base is not None else None, roots[0], roots[1])
    content = joining_commit(root, ours, theirs, now)
    made = object_id(COMMIT, content)
    pack.add(made, whole(COMMIT, content))
    return made


class _Merge:
    def __init__(self, reader: ObjectReader, pack: Pack, is_later: Callable[[bytes], bool]) -> None:
        self._is_later = is_later
        self._reader = reader
        self._pack = pack

    def tree(
        self,
        base: bytes | None,
        ours: bytes,
        theirs: bytes,
        folder: bytes = b"",
        depth: int = 0,
    ) -> bytes:
        """The id of the tree of both, at `folder`.

        Raises `ArchiveUnavailableError` where no sane one ends.
        """
        if depth > _DEEPEST:
            raise ArchiveUnavailableError(
                f"expected folders of at most {_DEEPEST} levels in what others pushed",
                remedy="take them away on the remote",
            )
        if theirs in (ours, base):
            return ours
        if ours == base:
            return theirs
        mine, other = self._entries(ours), self._entries(theirs)
        before = {} if base is None else self._entries(base)
        entries: dict[bytes, TreeEntry] = {}
        for name in mine | other:
            sides = before.get(name), mine.get(name), other.get(name)
            entry = self._overview(*sides) if name == NAME else None
            entry = entry or self._entry(*sides, folder + name, depth)
            if entry is not None:
                entries[name] = entry
        self._mark(mine, other, entries)
        raw = encode_tree((name, *entry) for name, entry in entries.items())
        made = object_id(TREE, raw)
        self._pack.add(made, whole(TREE, raw))
        return made

    def _entry(
        self,
        base: TreeEntry | None,
        ours: TreeEntry | None,
        theirs: TreeEntry | None,
        path: bytes,
        depth: int,
    ) -> TreeEntry | None:
        if theirs in (ours, base):
            return ours
        if ours == base:
            return theirs
        if ours is None or theirs is None or not ours.mode == theirs.mode == TREE_MODE:
            return theirs if self._is_later(path) else ours
        below = base.id if base is not None and base.mode == TREE_MODE else None
        return TreeEntry(TREE_MODE, self.tree(below, ours.id, theirs.id, path + b"/", depth + 1))

    def _mark(
        self,
        mine: Mapping[bytes, TreeEntry],
        other: Mapping[bytes, TreeEntry],
        entries: dict[bytes, TreeEntry],
    ) -> None:
        """Have the attributes say of each file what those of the side said that it is from."""
        sides = [(side, side.get(attributes.NAME)) for side in (mine, other)]
        if sides[0][1] == sides[1][1]:
            return
        marks = [(side, frozenset(attributes.lines(self._plain(said)))) for side, said in sides]
        pointers = {
            name: any(
                side.get(name) == entries.get(name) and attributes.line(name) in lines
                for side, lines in marks
            )
            for name in (*mine, *other)
        }
        content = attributes.all_marked(self._plain(entries.get(attributes.NAME)), pointers)
        if content:
            blob = object_id(BLOB, content)
            self._pack.add(blob, whole(BLOB, content))
            entries[attributes.NAME] = TreeEntry(FILE_MODE, blob)
        else:
            entries.pop(attributes.NAME, None)

    def _plain(self, entry: TreeEntry | None) -> bytes:
        """What a file says; nothing where there is none, or it is no plain one."""
        if entry is None or entry.mode != FILE_MODE:
            return b""
        return self._reader.read(BLOB, [entry.id])[0]

    def _overview(
        self, base: TreeEntry | None, ours: TreeEntry | None, theirs: TreeEntry | None
    ) -> TreeEntry | None:
        """The file of that name, if it is an overview and both sides changed it."""
        if ours is None or theirs is None or ours in (base, theirs) or theirs == base:
            return None
        mine = self._parsed(ours)
        if mine is None:
            return None
        other = self._parsed(theirs)
        if other is None:
            return theirs
        mine.join(self._parsed(base), other)
        content = mine.content()
        if not content:
            return theirs
        blob = object_id(BLOB, content)
        self._pack.add(blob, whole(BLOB, content))
        return TreeEntry(FILE_MODE, blob)

    def _parsed(self, entry: TreeEntry | None) -> Overview | None:
        if entry is None or entry.mode != FILE_MODE:
            return None
        return Overview.parse(self._reader.read(BLOB, [entry.id])[0])

    def _entries(self, tree: bytes) -> dict[bytes, TreeEntry]:
        return dict(Tree(self._reader.read(TREE, [tree])[0]).entries())

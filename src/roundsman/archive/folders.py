"""The trees of the branch, by folder, as far as they were looked at."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from roundsman.archive.objects import TREE
from roundsman.archive.trees import TREE_MODE, Tree

_KEPT_BYTES: Final = 28 << 20
"""Enough for 50,000 devices, and for the shards of 100,000. The folders of so many devices, each
looked at once a round, would be forgotten before the next in twice as much."""
_OVERHEAD: Final = 250
"""What a small tree costs beside its bytes: its name, and its place among the others."""
_SMALL: Final = 512
_OF_LARGE: Final = 5
"""How often the bytes of a large tree are counted: it knows where each name stands."""


class Reader(Protocol):
    """What reads objects."""

    def read(self, kind: int, ids: list[bytes]) -> list[bytes]:
        """The contents of these objects."""
        ...


class Folders:
    """Trees by the path of their folder; the root's is empty. Small ones are kept as bytes."""

    def __init__(self, root: Tree, reader: Reader) -> None:
        """Begin with the root's tree only."""
        self._trees: dict[bytes, Tree | bytes] = {b"": root}
        self._cost = 0
        self._reader = reader

    def get(self, folder: bytes) -> Tree:
        """The tree of a folder that was loaded; not to be changed."""
        tree = self._trees.get(folder, b"")
        return Tree(tree) if isinstance(tree, bytes) else tree

    def known(self, folder: bytes) -> bool:
        """Whether it was looked at."""
        return folder in self._trees

    def size(self, folder: bytes) -> int:
        """How many bytes its tree is long."""
        return len(self._trees.get(folder, b""))

    def load(self, folders: Iterable[bytes]) -> None:
        """Look at these folders; one that is not there is empty."""
        missing = {
            parent
            for folder in folders
            for parent in (folder, *above(folder))
            if parent not in self._trees
        }
        by_depth: dict[int, list[bytes]] = {}
        for folder in missing:
            by_depth.setdefault(folder.count(b"/"), []).append(folder)
        for _, level in sorted(by_depth.items()):
            found = {folder: tree_id for folder in level if (tree_id := self._id(folder))}
            contents = self._reader.read(TREE, [*found.values()])
            self.update({folder: Tree() for folder in level if folder not in found})
            self.update(dict(zip(found, map(Tree, contents), strict=True)))

    def update(self, trees: dict[bytes, Tree]) -> None:
        """Take newer trees."""
        for folder, tree in trees.items():
            self._cost -= _cost(self._trees.pop(folder, None))
            self._trees[folder] = kept = bytes(tree.raw) if len(tree) <= _SMALL else tree
            self._cost += _cost(kept)

    def trim(self) -> None:
        """Forget what was not looked at for longest, when it is too much."""
        while self._cost > _KEPT_BYTES and len(self._trees) > 1:
            folder = next(iter(self._trees))
            tree = self._trees.pop(folder)
            if folder == b"":
                self._trees[folder] = tree  # it is the way to all others
            else:
                self._cost -= _cost(tree)

    def _id(self, folder: bytes) -> bytes | None:
        parent, _, name = folder.rpartition(b"/")
        entry = self.get(parent).get(name)
        return entry.id if entry is not None and entry.mode == TREE_MODE else None


def above(folder: bytes) -> Iterator[bytes]:
    """The folders above one, the root last.

    >>> [*above(b"a/b/c")]
    [b'a/b', b'a', b'']
    """
    while folder:
        folder = folder.rpartition(b"/")[0]
        yield folder


def _cost(tree: Tree | bytes | None) -> int:
    if tree is None:
        return 0
    if isinstance(tree, bytes):
        return _OVERHEAD + len(tree)
    return _OVERHEAD + _OF_LARGE * len(tree)

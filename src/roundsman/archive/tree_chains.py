"""Whole trees, of packs that are joined, as what was changed since one of another pack.

Each batch's pack begins the versions of a folder with a whole tree, since a pack has to hold the
bases of its deltas. In the pack that many of them become, it need not be whole again.
"""

from typing import Final, NamedTuple

from roundsman.archive.deltas import delta_in_place

MOST_WHOLE: Final = 200
"""Trees of up to so many bytes stay whole: as deltas they would not be shorter by much."""

_HEADS: Final = 16
"""So many whole trees make one chain at most."""
_DEPTH: Final = 50
"""Deltas that may stand on one another, those of the batches included: as many as git makes."""
_KEPT_BYTES: Final = 64 << 20


class _Head(NamedTuple):
    """A whole tree that was seen last of its folder."""

    id: bytes
    content: bytes
    depth: int


class TreeChains:
    """Finds an earlier version of each tree, without knowing of which folder it is.

    Two trees of one length that begin with the same name are taken for versions of one folder.
    Where they are not, the delta is a poor one, or there is none.
    """

    def __init__(self) -> None:
        self._heads: dict[tuple[int, bytes], _Head] = {}
        self._bytes = 0

    def delta(self, tree_id: bytes, content: bytes, height: int) -> tuple[bytes, bytes] | None:
        """The id of an earlier version and a delta against it; none if the tree is to stay whole.

        `height` is how many deltas stand on it, each on the one before. Trees come oldest first.
        """
        size = len(content)
        key = (size, content[: content.index(b"\0")])
        before = self._heads.pop(key, None)
        if before is None:
            self._bytes += size
            if self._bytes > _KEPT_BYTES:
                self._heads.clear()
                self._bytes = size
        elif before.depth + 1 < _HEADS and before.depth + 1 + height <= _DEPTH:
            delta = delta_in_place(before.content, content)
            if len(delta) < size // 2:
                self._heads[key] = _Head(tree_id, content, before.depth + 1)
                return before.id, delta
        self._heads[key] = _Head(tree_id, content, 0)
        return None

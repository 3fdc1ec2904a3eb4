"""The overviews that a batch changes.

Folders stand in folders, so a result is told of in the overview of its own folder and of each above
it. Short ones are part of the result's commit. The longer are written once for each batch, with its
last commit: the branch is moved by whole batches, so it always names overviews that are right.
"""

from collections.abc import Callable, Iterator
from typing import Final

from roundsman.archive.layout import Layout
from roundsman.archive.overview import NAME, Overview
from roundsman.archive.small_files import SmallFiles
from roundsman.archive.trees import FILE_MODE, Tree

SHORT: Final = 50
"""Rows of an overview that is written with each commit."""
_ALONE: Final = len(b"%s %s\0" % (FILE_MODE, NAME)) + 20
"""Bytes of a tree in which there is nothing else."""


class Overviews:
    """What is shown of one batch. Trees and files were loaded, up to the root."""

    def __init__(self, layout: Layout, files: SmallFiles) -> None:
        self.files = files
        """Those that stand there."""
        self._layout = layout
        self._tree: Callable[[bytes], Tree] = lambda _: Tree()
        self._open: dict[bytes, Overview | None] = {}
        self._changed: set[bytes] = set()

    def begin(self, tree: Callable[[bytes], Tree]) -> None:
        """Stand on what gives a folder as it is on top of the batch."""
        self._tree = tree

    def show(self, path: bytes, at: float) -> None:
        """A result at this path changed."""
        folder, _, name = path.rpartition(b"/")
        self._set(folder, name, at, forward=False)
        while folder:
            folder, _, name = folder.rpartition(b"/")
            self._set(folder, name, at, forward=True)

    def hide(self, path: bytes) -> None:
        """A result or folder is gone, and with it perhaps the last change of the folders above."""
        folder, _, name = path.rpartition(b"/")
        page = self._page(folder)
        if page is None or not page.remove(name):
            return
        self._changed.add(folder)
        while folder and len(page):
            newest = page.newest()
            folder, _, name = folder.rpartition(b"/")
            page = self._page(folder)
            if page is None or not page.put_back(name, newest):
                return
            self._changed.add(folder)

    def clear(self, folder: bytes) -> None:
        """Let the overview of a folder, if it has one, list nothing."""
        page = self._page(folder)
        if page is not None:
            page.clear(newest=self._layout.meaning(folder)[0] == "shard")
            self._changed.add(folder)

    def is_alone(self, folder: bytes) -> bool:
        """Whether there is nothing in a folder but its overview, or not even that."""
        page = self._page(folder)
        if page is None or len(page):
            return False
        tree = self._tree(folder)
        return not tree.raw or (len(tree) == _ALONE and tree.get(NAME) is not None)

    def forget(self, folder: bytes) -> None:
        """A folder is not there any more."""
        self._open.pop(folder, None)
        self._changed.discard(folder)

    def take(self, *, all_of_them: bool) -> Iterator[tuple[bytes, bytes]]:
        """The folders whose overviews are to be written now, and these; empty: to be removed."""
        for folder in [*self._changed]:
            page = self._open[folder]
            if page is not None and (all_of_them or len(page) <= SHORT):
                self._changed.discard(folder)
                yield folder, page.content()

    def _set(self, folder: bytes, name: bytes, at: float, *, forward: bool) -> None:
        page = self._page(folder)
        if page is not None and page.set(name, at, forward=forward):
            self._changed.add(folder)

    def _page(self, folder: bytes) -> Overview | None:
        """The overview of a folder, a new one where there is none; none where others have a file.

        Capitals aside: both would be one file on many file systems.
        """
        if folder not in self._open:
            self._open[folder] = self._opened(folder)
        return self._open[folder]

    def _opened(self, folder: bytes) -> Overview | None:
        tree = self._tree(folder)
        entry = tree.get(NAME)
        if entry is not None:
            is_file = entry.mode == FILE_MODE
            return Overview.parse(self.files.get(entry.id)) if is_file else None
        if b" " + NAME.lower() + b"\0" in tree.raw.lower():
            return None
        own, of = self._layout.meaning(folder)
        return Overview.begin(folder, of, newest=own == "shard")

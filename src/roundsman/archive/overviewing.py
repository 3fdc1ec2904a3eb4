"""Overviews of what is there already: when they are asked for, and when others changed it."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, TypeVar

from roundsman.archive.batch import Batch
from roundsman.archive.command import Git
from roundsman.archive.folders import above
from roundsman.archive.history import History
from roundsman.archive.interface import Pair
from roundsman.archive.layouts import Layouts
from roundsman.archive.moving import files_of
from roundsman.archive.overview import NAME
from roundsman.archive.overviews import Overviews
from roundsman.archive.trees import FILE_MODE

T = TypeVar("T")

AT_ONCE: Final = 4000
"""Results whose overviews are made in one commit: their folders and files are held until then."""


class Overviewing:
    """Brings the overviews of a branch up to date, in a commit of their own if need be."""

    def __init__(
        self,
        git: Git,
        layouts: Layouts,
        history: History,
        load: Callable[[set[bytes]], None],
    ) -> None:
        """`load` looks at folders, at those above them, and at their overviews."""
        self._git = git
        self._layouts = layouts
        self._history = history
        self._load = load

    def settle(
        self,
        tip: bytes,
        begin: Callable[[], tuple[Batch, Overviews]],
        flush: Callable[[Batch], None],
    ) -> None:
        """Have every folder of results an overview that is right, or no folder any.

        Some thousand results at a time: `begin` begins a batch on top of what was flushed.
        """
        pages = {*self._pages(tip)}
        for results in _some(self._results(tip) if self._layouts.overviews else iter(())):
            work, overviews = begin()
            self._load({path.rpartition(b"/")[0] for path, _ in results})
            for path, pair in results:
                for folder in pages.intersection(above(path)):
                    overviews.clear(folder)
                    pages.discard(folder)
                at = self._history.changed_at(*pair)
                if at is not None:
                    overviews.show(path, at)
            work.finish()
            flush(work)
        for folders in _some(iter(pages)):
            work, overviews = begin()
            self._load({*folders})
            for folder in folders:
                overviews.clear(folder)
            work.finish()
            flush(work)

    def _pages(self, tip: bytes) -> Iterator[bytes]:
        """The folders that have a file of an overview's name."""
        for path, (mode, _) in files_of(self._git, tip):
            folder, _, name = path.rpartition(b"/")
            if name == NAME and mode == FILE_MODE:
                yield folder

    def _results(self, tip: bytes) -> Iterator[tuple[bytes, Pair]]:
        """The paths of results, with their devices and jobs."""
        for path, (mode, _) in files_of(self._git, tip):
            pair = self._layouts.current.owner(path) if mode.startswith(b"100") else None
            if pair is not None:
                yield path, pair

    def mend(self, before: bytes | None, tip: bytes, work: Batch, overviews: Overviews) -> bool:
        """Show what others changed since a commit without saying so in the overviews.

        False: it cannot be told from what changed, and all are to be looked at. Others who keep
        overviews changed them with their results, and are believed.
        """
        if before is None or not self._git.is_ancestor(before, tip):
            return False
        changed = dict(self._changed(before, tip))
        self._load({path.rpartition(b"/")[0] for path in changed})
        told = {path.rpartition(b"/")[0] for path in changed if _is_page(path)}
        for path, is_gone in changed.items():
            folder = path.rpartition(b"/")[0]
            pair = self._layouts.current.owner(path)
            if _is_page(path):
                if is_gone and not overviews.is_alone(folder):
                    return False
                if is_gone and folder and folder.rpartition(b"/")[0] not in told:
                    work.hide(folder)  # all of it is gone
            elif pair is not None and folder not in told:
                at = None if is_gone else self._history.changed_at(*pair)
                if is_gone:
                    work.hide(path)
                elif at is not None:
                    overviews.show(path, at)
        work.finish()
        return True

    def _changed(self, before: bytes, tip: bytes) -> Iterator[tuple[bytes, bool]]:
        """Paths that differ, and whether they are gone."""
        fields = self._git.records(
            "diff-tree", "-r", "-z", "--raw", "--no-renames", before.hex(), tip.hex(), "--"
        )
        for said in fields:
            if said.startswith(b":"):
                yield next(fields), said.endswith(b"D")


def _some(items: Iterator[T]) -> Iterator[list[T]]:
    """What fits into a commit."""
    while some := [*islice(items, AT_ONCE)]:
        yield some


def _is_page(path: bytes) -> bool:
    return path.rpartition(b"/")[2] == NAME

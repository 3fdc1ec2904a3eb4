"""Overviews of what is there already: when they are asked for, and when others changed it."""

from collections.abc import Callable, Iterator

from roundsman.archive.batch import Batch
from roundsman.archive.command import Git
from roundsman.archive.history import History
from roundsman.archive.layouts import Layouts
from roundsman.archive.moving import files_of
from roundsman.archive.overview import NAME
from roundsman.archive.overviews import Overviews
from roundsman.archive.trees import FILE_MODE


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

    def settle(self, tip: bytes, work: Batch, overviews: Overviews) -> None:
        """Have every folder of results an overview that is right, or no folder any."""
        pages, results = set(), []
        for path, (mode, _) in files_of(self._git, tip):
            folder, _, name = path.rpartition(b"/")
            if name == NAME and mode == FILE_MODE:
                pages.add(folder)
            elif mode.startswith(b"100") and self._layouts.overviews:
                pair = self._layouts.current.owner(path)
                if pair is not None:
                    results.append((path, pair))
        self._load(pages | {path.rpartition(b"/")[0] for path, _ in results})
        for folder in pages:
            overviews.clear(folder)
        changed = self._history.changed() if results else {}
        for path, pair in results:
            if pair in changed:
                overviews.show(path, changed[pair])
        work.finish()

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


def _is_page(path: bytes) -> bool:
    return path.rpartition(b"/")[2] == NAME

"""The thinned history: commits anew, in a repository of its own, without the versions that go.

A commit stays if it brings a version that stays, or changes anything that is no result. Its
message, its author and its dates stay; in its tree each result is as of its last version that
stays. As long as nothing went, commits keep their ids too. Where a message names a version that
is withdrawn, or was kept instead, it names the commit that this is now.

Histories that an adopted repository began with are lines of their own, made before the one that
they were joined to: the commit that joined one stands on what became of it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import msgspec

from roundsman.archive import attributes, overview
from roundsman.archive.batch import Batch
from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.files import Files
from roundsman.archive.folders import Folders
from roundsman.archive.interface import Pair
from roundsman.archive.layouts import Layouts
from roundsman.archive.objects import COMMIT
from roundsman.archive.packs import write_pack
from roundsman.archive.replay import rewritten
from roundsman.archive.small_files import SmallFiles
from roundsman.archive.thinning_plan import Plan, Slots, is_file
from roundsman.archive.trees import Tree, TreeEntry
from roundsman.archive.walking import Change, Commit, commits, withdrawals

_COMMITS_AT_ONCE: Final = 2000
_CHANGES_AT_ONCE: Final = 20_000
_LINK_MODE: Final = b"160000"
_DERIVED: Final = (attributes.NAME, overview.NAME)
"""Names of files that come with results: alone they are no reason for a commit to stay."""


class Fate(msgspec.Struct, frozen=True):
    """What became of a version."""

    pair: Pair
    at: int
    old: bytes
    """The commit that brought it."""
    new: bytes | None
    """That commit in the new repository; none: the version went."""


class _Step(msgspec.Struct, frozen=True):
    """A commit of the old line."""

    commit: Commit
    versions: Sequence[tuple[Pair, bool]]
    """The results that it brought to another content, and whether that version stays."""
    changes: dict[bytes, TreeEntry | None] | None
    """What its paths hold from now on; none: the commit goes."""
    other: dict[bytes, bytes]
    """The contents among them that are no result's, with their paths."""


class Line:
    """Makes the new line of commits."""

    def __init__(self, source: Git, git: Git, files: Files, layouts: Layouts, plan: Plan) -> None:
        """Read from `source`, and write to the repository of `git`."""
        self._source = source
        self._git = git
        self._files = files
        self._layouts = layouts
        self._plan = plan
        self._reader = ObjectReader(source)
        self._made = ObjectReader(git)
        self._folders = Folders(Tree(), self._made)
        self._slots = Slots(layouts.pair)
        self._versions = 0
        self._named: set[str] = set()
        """Commits that others withdraw, or say that were kept instead."""
        self._now: dict[bytes, bytes] = {}
        """Those to the commits that have their places, in hexadecimal."""
        self.joined: dict[bytes, bytes] = {}
        """The newest commits of the lines that were joined, to those in the places of them."""
        self.tip: bytes | None = None
        self.commits = 0
        """How many there are on the new line."""
        self.first_left: bytes | None = None
        """The first commit of the old line that is not on the new one."""

    def close(self) -> None:
        """End the programs that it reads through."""
        self._reader.close()
        self._made.close()

    def write(
        self,
        ends: Sequence[bytes],
        named: Callable[[bytes, bytes], None],
        note_other: Callable[[dict[bytes, bytes]], None],
    ) -> Iterator[Fate]:
        """Write commits and trees, but no contents; yield what became of each version.

        `ends` are the newest commits of the lines, as they were given to `decide`. `named` is told
        each old commit with the one that has its place now, `note_other` the contents that are no
        result's with their paths. Raises `ArchiveUnavailableError`, `OSError`.
        """
        for each in withdrawals(self._source, None, ends[-1]):
            self._named |= {each.version, each.kept or each.version}
        for end in ends:
            self._begin_line()
            yield from self._write_line(end, named, note_other)
            if self.tip is not None and end != ends[-1]:
                self.joined[end] = self.tip

    def _begin_line(self) -> None:
        self._slots.begin_line()
        self._folders = Folders(Tree(), self._made)
        self.tip = self.first_left = None

    def _write_line(
        self,
        tip: bytes,
        named: Callable[[bytes, bytes], None],
        note_other: Callable[[dict[bytes, bytes]], None],
    ) -> Iterator[Fate]:
        for steps in _grouped(self._steps(tip)):
            known = SmallFiles(attributes.NAME, self._made)
            batch = Batch(self.tip, self._folders, known, now=0.0, one_commit=False)
            paths = chain.from_iterable(step.changes or () for step in steps)
            self._folders.load({path.rpartition(b"/")[0] for path in paths})
            olds = [step.commit.id for step in steps if step.changes is not None]
            raws = iter(self._reader.read(COMMIT, olds))
            for step in steps:
                if step.changes is not None:
                    self._replay(batch, step.changes, next(raws))
                if step.commit.id != batch.tip and self.first_left is None:
                    self.first_left = step.commit.id
                if batch.tip is not None:
                    named(step.commit.id, batch.tip)
                    if (name := step.commit.id.hex()) in self._named:
                        self._now[name.encode()] = batch.tip.hex().encode()
                for pair, stays in step.versions:
                    new = batch.tip if stays else None
                    yield Fate(pair, step.commit.at, step.commit.id, new)
            write_pack(self._files, self._git.folder / "objects" / "pack", batch.pack)
            self.tip = batch.tip
            self._folders.update(batch.trees)
            self._folders.trim()
            note_other({blob: path for step in steps for blob, path in step.other.items()})

    def _replay(self, batch: Batch, changes: dict[bytes, TreeEntry | None], raw: bytes) -> None:
        """Add one commit; the same one, if all that it says is still so."""
        lines = raw.partition(b"\n\n")[0].split(b"\n")
        olds = [bytes.fromhex(line[7:].decode()) for line in lines if line.startswith(b"parent ")]
        joined = [self.joined[old] for old in olds[1:] if old in self.joined]
        parents = [*([] if batch.tip is None else [batch.tip]), *joined]

        def content(tree: bytes) -> bytes:
            same = parents == olds and lines[0] == b"tree " + tree.hex().encode()
            return raw if same else rewritten(raw, tree, parents, self._now)

        batch.replay(changes, content)
        self.commits += 1

    def _steps(self, tip: bytes) -> Iterator[_Step]:
        pending: dict[bytes, TreeEntry | None] = {}
        for commit in commits(self._source, None, tip):
            versions: dict[Pair, bool] = {}
            for pair, slot in self._slots.versions(commit):
                stays = self._plan.keeps(self._versions)
                versions[pair] = versions.get(pair, False) or stays
                slot.kept = slot.blob if stays else slot.kept
                self._versions += 1
            results, others = self._changes(commit, versions, pending)
            if versions and not results and not others and commit.id != tip:
                yield _Step(commit, [*versions.items()], None, {})
                continue
            others = {**pending, **others}
            pending = {}
            needed = {
                entry.id: path
                for path, entry in others.items()
                if entry is not None and entry.mode != _LINK_MODE
            }
            yield _Step(commit, [*versions.items()], {**others, **results}, needed)

    def _changes(
        self,
        commit: Commit,
        versions: dict[Pair, bool],
        pending: dict[bytes, TreeEntry | None],
    ) -> tuple[dict[bytes, TreeEntry | None], dict[bytes, TreeEntry | None]]:
        """What stays of the changes of a commit: of results, and others.

        What is no reason for it to stay goes to `pending`.
        """
        results: dict[bytes, TreeEntry | None] = {}
        others: dict[bytes, TreeEntry | None] = {}
        for change in commit.changes:
            entry = TreeEntry(change.mode, change.blob) if change.status != b"D" else None
            pair = self._owner(change)
            slot = None if pair is None else self._slots.get(pair)
            if pair is not None and slot is not None and entry is not None:
                if change.status == b"M" and versions.get(pair) is False:
                    continue
                if change.blob == slot.blob:  # else somebody else's change of a copy
                    results[change.path] = TreeEntry(change.mode, slot.kept)
                    continue
            if slot is None and versions and change.path.rpartition(b"/")[2] in _DERIVED:
                pending[change.path] = entry
            else:
                others[change.path] = entry
        return results, others

    def _owner(self, change: Change) -> Pair | None:
        """Whose result stands at a path, be it where it is looked for or a copy."""
        if change.status != b"D" and not is_file(change):
            return None
        return self._layouts.pair(change.path) or self._layouts.owner(change.path)


def _grouped(steps: Iterable[_Step]) -> Iterator[list[_Step]]:
    group: list[_Step] = []
    size = 0
    for step in steps:
        group.append(step)
        size += len(step.changes or ())
        if len(group) >= _COMMITS_AT_ONCE or size >= _CHANGES_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group

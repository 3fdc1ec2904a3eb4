"""The one writer: follows the branch, and moves it on by a batch at a time."""

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final, TypeVar

from roundsman import logs
from roundsman.archive import attributes, overview
from roundsman.archive.batch import Batch, Change
from roundsman.archive.command import ObjectReader
from roundsman.archive.copies import Copies, Places
from roundsman.archive.damage import Origin
from roundsman.archive.drafts import Drafts
from roundsman.archive.folders import Folders, above
from roundsman.archive.history import History
from roundsman.archive.interface import (
    ArchiveDamagedError,
    ArchiveUnavailableError,
    Entry,
    Stored,
    Withdrawal,
)
from roundsman.archive.layouts import Layouts
from roundsman.archive.merging import merged
from roundsman.archive.moving import moved
from roundsman.archive.objects import COMMIT, TREE
from roundsman.archive.overviewing import Overviewing
from roundsman.archive.overviews import Overviews
from roundsman.archive.packs import Pack, StagedPack, probe, write_pack
from roundsman.archive.preparation import Current, Prepared, prepare_small
from roundsman.archive.repository import BranchMovedError, Repository
from roundsman.archive.small_files import SmallFiles
from roundsman.archive.trees import Tree
from roundsman.archive.withdrawing import Withdrawing
from roundsman.clock import Clock

T = TypeVar("T")
Answer = Stored | ArchiveUnavailableError

BATCH_RESULTS: Final = 128
"""Results written together at most."""
BATCH_BYTES: Final = 8 << 20
"""A batch is closed when its contents are so many."""

_ATTEMPTS: Final = 3
_DEVICES: Final = b"by_device"

log = logs.get(__name__)


class Writer:
    """Writes batches. Its methods belong to one thread."""

    def __init__(
        self,
        repository: Repository,
        history: History,
        clock: Clock,
        layouts: Layouts,
        origins: Sequence[Origin],
        *,
        one_commit: bool,
        drafts: bool,
    ) -> None:
        """`drafts`: nobody is told of a commit before the one remote has it."""
        self._repository = repository
        self._files = repository.files
        self._history = history
        self._clock = clock
        self._layouts = layouts
        self._origins = origins
        self._one_commit = one_commit
        self._reader = ObjectReader(repository.git)
        self._tip: bytes | None = None
        self._folders = Folders(Tree(), self._reader)
        self._attributes = SmallFiles(attributes.NAME, self._reader)
        self._overviews = SmallFiles(overview.NAME, self._reader)
        self._overviewing = Overviewing(repository.git, layouts, history, self._look_at)
        self._foreign: bytes | None = None
        """The commit up to which overviews are known to be right, where others moved the branch."""
        self._has_foreign = False
        self._generation = secrets.randbits(32)  # never one of an earlier writer
        self._flushed = True
        self._copies = Copies(layouts)
        self._withdrawing = Withdrawing(repository.git, self._reader, history)
        self._drafts = Drafts(repository.git, layouts, repository.files, wanted=drafts)

    def open(self) -> None:
        """Open the repository and see where it stands. Raises `ArchiveUnavailableError`."""
        try:
            try:
                self._open()
            except ArchiveDamagedError as error:
                self.rebuild(str(error))
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error

    def _open(self, *, rebuilt: bool = False) -> None:
        self._repository.open()
        self._layouts.load()
        if rebuilt and self._layouts.overviews:
            self._layouts.noted = False  # some may be lost
        if self._repository.tip() is None and self._history.reached() is not None:
            raise ArchiveDamagedError(f"{self._repository.folder}: the branch is gone")
        for _ in range(_ATTEMPTS):
            try:
                self._follow()
                self._settle_paths()
            except BranchMovedError:
                continue
            self._drafts.open(self._tip)
            return
        raise self._outrun()

    def rebuild(self, reason: str) -> None:
        """Set a damaged repository aside, and go on with what is whole. Raises as `open` does."""
        log.error("archive.damaged", reason=reason)
        self._reader.close()
        self._history.close()
        self._repository.rebuild(self._clock.now(), self._origins)
        self._load(None)
        self._flushed = True
        self._open(rebuilt=True)

    def close(self) -> None:
        """Let go of everything."""
        self._reader.close()
        self._history.close()
        self._repository.close()

    def check(self) -> None:
        """Raise `ArchiveUnavailableError` if the repository cannot be written now."""
        try:
            try:
                self._follow()
            except ArchiveDamagedError as error:
                self.rebuild(str(error))
            probe(self._files, self._repository.packs)
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error

    def when_settled(self, call: Callable[[], T]) -> T:
        """Make a call while every pack is complete, and either referred to or given up."""
        if not self._flushed:
            raise ArchiveUnavailableError(
                f"{self._repository.folder}: it is not known yet whether the last batch is kept"
            )
        return call()

    def current(self, device: str, job: str) -> Current:
        """What a path holds, as far as it is known without reading."""
        generation, folders = self._generation, self._folders
        folder, _, name = self._layouts.current.path(device, job).rpartition(b"/")
        entry = folders.get(folder).get(name)
        return Current(None if entry is None else entry.id, generation)

    def write(self, batch: Sequence[Entry | Prepared]) -> list[Answer]:
        """Keep results in their order; when this returns, those stored are flushed."""
        small = [item for item in batch if isinstance(item, Entry)]
        done = iter(prepare_small(small))
        prepared = [next(done) if isinstance(item, Entry) else item for item in batch]
        answers = iter(self._keep([item for item in prepared if isinstance(item, Prepared)]))
        return [next(answers) if isinstance(item, Prepared) else item for item in prepared]

    def _keep(self, batch: Sequence[Prepared]) -> Sequence[Answer]:
        failure = self._outrun()
        for _ in range(_ATTEMPTS):
            try:
                return self._write(batch)
            except BranchMovedError:
                continue
            except ArchiveDamagedError as error:
                failure = error
                try:
                    self.rebuild(str(error))
                except (OSError, sqlite3.Error) as problem:
                    failure = unavailable(self._repository, problem)
                    break
                except ArchiveUnavailableError as problem:
                    failure = problem
                    break
                continue
            except ArchiveUnavailableError as error:
                failure = error
            except (OSError, sqlite3.Error) as error:
                failure = unavailable(self._repository, error)
            break
        log.warning("archive.write_failed", error=str(failure), results=len(batch))
        return [failure] * len(batch)

    def _write(self, batch: Sequence[Prepared]) -> list[Answer]:
        self._follow()
        self._settle_paths()
        places = [self._copies.places(item.entry, self._folders) for item in batch]
        self._load_folders({folder for place in places for folder in place.folders()})
        work = self._begin(self._shown() if self._layouts.overviews else None)
        work.expect([place.path for place in places])
        outcomes = [
            self._outcome(work, item, place) for item, place in zip(batch, places, strict=True)
        ]
        work.finish()
        self._flush(work)
        return [
            outcome
            if isinstance(outcome, ArchiveUnavailableError)
            else Stored(version=outcome[0].commit.hex(), changed=outcome[1])
            for outcome in outcomes
        ]

    def _outcome(
        self, work: Batch, item: Prepared, places: Places
    ) -> tuple[Change, bool] | ArchiveUnavailableError:
        """The change that holds a result, and whether it is this result's own."""
        if work.blob(places.path) == item.blob:
            if places.gone or not all(_stands(work, item, path) for path in places.all):
                changed_at = self._history.changed_at(item.entry.device, item.entry.job)
                work.add(item, places, is_version=False, changed_at=changed_at)
            pending = work.pending(places.path)
            if pending is not None:
                return pending, pending.entry.run_id == item.entry.run_id
            kept, run_id = self._kept(item)
            return kept, run_id == item.entry.run_id  # the same result, sent once more
        if item.seen_in not in (None, self._generation):
            return ArchiveUnavailableError(
                f"{self._repository.folder}: somebody else moved the branch meanwhile"
            )
        return work.add(item, places), True

    def _kept(self, item: Prepared) -> tuple[Change, str | None]:
        """The change by which a path came to its content before, and of which run that was."""
        device, job = item.entry.device, item.entry.job
        kept = self._history.latest(device, job)
        if kept is None or kept.blob != item.blob:
            log.warning("archive.history_rebuilt", device=device, job=job)
            self._history.rebuild(self._tip)
            kept = self._history.latest(device, job)
        if kept is None:
            raise ArchiveUnavailableError(
                f"{self._repository.folder}: no commit brought {job} on {device} to its content",
                remedy="run git fsck --strict on the repository",
            )
        change = Change(item)
        change.commit = kept.commit
        if kept.run_id is None:  # what others pushed was joined meanwhile, or it was put back
            run_id = item.entry.run_id
            brought = self._history.brought(device, job, item.blob, run_id)
            if brought is not None and (kept.says_again or brought[1] == run_id):
                change.commit, run_id = brought
                return change, run_id
        return change, kept.run_id

    def _flush(self, work: Batch) -> None:
        """Pack first, then the branch; only then is it so."""
        if work.tip is None or (self._flushed and work.tip == self._tip):
            return
        with ExitStack() as staged:
            written = []
            pack = None
            if len(work.pack):
                packs = self._repository.packs
                pack = staged.enter_context(StagedPack(self._files, packs, work.pack))
                written += pack.written
            move = staged.enter_context(self._repository.advancing(self._tip, work.tip))
            self._files.sync_together([*written, move.written])
            if pack is not None:
                pack.keep()
            # If this fails half way, the branch may have moved, but not for sure: move it again.
            self._flushed = False
            move.keep()
            self._flushed = True
        self._tip = work.tip
        self._folders.update(work.trees)
        self._folders.trim()
        for entry in work.entries:
            self._copies.note(entry)
        try:
            self._history.add(work.versions, work.tip, work.withdrawn)
        except (OSError, sqlite3.Error) as error:  # it is kept; the list catches up from git
            log.warning("archive.history_behind", error=str(error))

    def take_in(self, theirs: bytes) -> bool:
        """Move the branch to a commit on top of what it has and of what others pushed elsewhere.

        To theirs where that stands on what it has, or it has nothing, or only drafts that were
        overtaken: whether it was that. Their objects are here already.
        Raises `ArchiveUnavailableError`.
        """
        try:
            for _ in range(_ATTEMPTS):
                self._follow()
                git = self._repository.git
                if self._tip is not None and git.is_ancestor(theirs, self._tip):
                    return False
                tip, overtaken = theirs, None
                if self._tip is not None and not git.is_ancestor(self._tip, theirs):
                    overtaken = self._drafts.overtaken(self._tip, theirs)
                    if overtaken is None:
                        tip = self._joined(self._tip, theirs)
                    else:
                        self._history.take_back(overtaken)
                        log.info("archive.overtaken", versions=len(overtaken.versions))
                try:
                    self._repository.advance(self._tip, tip)
                except BranchMovedError:
                    continue
                self._follow()
                return overtaken is not None
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error
        raise self._outrun()

    def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        """Say by a commit that versions are not what was kept of their runs.

        Those that are not here, or were withdrawn before, are passed over. Raises
        `ArchiveUnavailableError`.
        """
        try:
            for _ in range(_ATTEMPTS):
                self._follow()
                try:
                    self._settle_paths()
                    blobs = {each: self._withdrawing.brought_by(each) for each in withdrawals}
                    wanted = {each: blob for each, blob in blobs.items() if blob is not None}
                    if wanted:
                        self._withdraw(wanted)
                except BranchMovedError:
                    continue
                return
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error
        raise self._outrun()

    def _withdraw(self, wanted: Mapping[Withdrawal, bytes]) -> None:
        """`wanted` is what each of them brought."""
        places = {each: self._copies.of(each) for each in wanted}
        self._load_folders({folder for place in places.values() for folder in place.folders()})
        work = self._begin(self._shown() if self._layouts.overviews else None)
        self._withdrawing.fill(work, wanted, places)
        self._flush(work)
        log.info("archive.withdrawn", versions=len(wanted))

    def _load_folders(self, folders: set[bytes]) -> None:
        if self._layouts.overviews:
            self._look_at(folders)
        else:
            self._folders.load(folders)
        self._attributes.load(self._folders, folders)

    def _joined(self, ours: bytes, theirs: bytes) -> bytes:
        """The commit that stands on both, written but not flushed into the branch."""
        pack = Pack()
        now = self._clock.now()
        git, owner = self._repository.git, self._layouts.owner
        tip = merged(git, self._reader, pack, ours, theirs, owner=owner, now=now)
        write_pack(self._files, self._repository.packs, pack)
        return tip

    def _settle_paths(self) -> None:
        """Move all results to where the paths say, unless they are known to stand there."""
        self._folders.load([_DEVICES])
        if not self._layouts.noted:
            self._layouts.recognise([name for name, _ in self._folders.get(_DEVICES).entries()])
        self._layouts.shard_if_crowded(self._folders.size(_DEVICES))
        if self._layouts.noted:
            self._mend_overviews()
            return
        if self._tip is not None:
            pack = Pack()
            git, now = self._repository.git, self._clock.now()
            tip = moved(git, self._reader, self._tip, self._layouts, pack, now=now)
            if tip != self._tip:
                write_pack(self._files, self._repository.packs, pack)
                self._repository.advance(self._tip, tip)
                log.info("archive.moved", paths=self._layouts.current.texts)
                self._follow()
            self._settle_overviews()
        self._layouts.note()

    def _settle_overviews(self) -> None:
        """Look at every overview. They are removed where they are not wanted any more."""
        if self._tip is not None:
            self._overviewing.settle(self._tip, self._begin_shown, self._flush)
        self._has_foreign = False

    def _mend_overviews(self) -> None:
        """Show what others changed."""
        if not self._has_foreign or not self._layouts.overviews or self._tip is None:
            return
        work, overviews = self._begin_shown()
        if self._overviewing.mend(self._foreign, self._tip, work, overviews):
            self._flush(work)
            self._has_foreign = False
        else:
            self._settle_overviews()

    def _begin(self, overviews: Overviews | None) -> Batch:
        return Batch(
            self._tip,
            self._folders,
            self._attributes,
            now=self._clock.now(),
            one_commit=self._one_commit,
            overviews=overviews,
        )

    def _begin_shown(self) -> tuple[Batch, Overviews]:
        overviews = self._shown()
        return self._begin(overviews), overviews

    def _shown(self) -> Overviews:
        return Overviews(self._layouts.current, self._overviews)

    def _look_at(self, folders: set[bytes]) -> None:
        """Load folders and those above them, and what overviews they have."""
        all_of_them = {each for folder in folders for each in (folder, *above(folder))}
        self._folders.load(all_of_them)
        self._overviews.load(self._folders, all_of_them)

    def _outrun(self) -> ArchiveUnavailableError:
        return ArchiveUnavailableError(
            f"{self._repository.folder}: others move the branch all the time"
        )

    def _follow(self) -> None:
        """See whether somebody else moved the branch, and bring the list of versions up to it."""
        tip = self._repository.tip()
        if (tip is None and self._tip is not None) or not self._repository.packs.is_dir():
            raise ArchiveDamagedError(
                f"{self._repository.folder}: the branch, or the folder of packs, is gone"
            )
        if tip != self._tip:
            if not self._has_foreign:
                self._has_foreign, self._foreign = True, self._history.reached()
            self._load(tip)
        self._history.catch_up(tip)

    def _load(self, tip: bytes | None) -> None:
        root = Tree()
        if tip is not None:
            commit = self._reader.read(COMMIT, [tip])[0]
            root = Tree(self._reader.read(TREE, [bytes.fromhex(commit[5:45].decode())])[0])
        self._folders = Folders(root, self._reader)
        self._copies.forget()
        self._tip = tip
        self._generation += 1


def _stands(work: Batch, item: Prepared, path: bytes) -> bool:
    """Whether a path holds this content already, as it should."""
    return work.blob(path) == item.blob and (not item.pointer or work.is_marked(path))


def unavailable(repository: Repository, error: OSError | sqlite3.Error) -> ArchiveUnavailableError:
    """What the file system said, as the archive's own error."""
    return ArchiveUnavailableError(
        f"{repository.folder}: expected to read and write it, got: {error}",
        remedy="free or mend the disk; results that wait are sent again",
    )

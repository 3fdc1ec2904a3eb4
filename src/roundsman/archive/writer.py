"""The one writer: follows the branch, and moves it on by a batch at a time."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from roundsman import logs
from roundsman.archive.batch import Base, Batch, Change, State
from roundsman.archive.command import ObjectReader
from roundsman.archive.history import History
from roundsman.archive.interface import ArchiveUnavailableError, Stored
from roundsman.archive.layout import ROOT
from roundsman.archive.objects import COMMIT, TREE
from roundsman.archive.packs import probe, write_pack
from roundsman.archive.preparation import Current, Prepared
from roundsman.archive.repository import BranchMovedError, Repository
from roundsman.archive.trees import TREE_MODE, Tree
from roundsman.clock import Clock

Answer = Stored | ArchiveUnavailableError

_ATTEMPTS: Final = 3

log = logs.get(__name__)


class Writer:
    """Writes batches. Its methods belong to one thread, but for `current`."""

    def __init__(self, repository: Repository, history: History, clock: Clock) -> None:
        self._repository = repository
        self._history = history
        self._clock = clock
        self._reader = ObjectReader(repository.git)
        self._state = State(None, Tree(), Tree(), {}, 0)
        self._base: Base | None = None
        self._flushed = True

    def open(self) -> None:
        """Open the repository and see where it stands. Raises `ArchiveUnavailableError`."""
        try:
            self._repository.open()
            self._follow()
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error

    def close(self) -> None:
        """Let go of everything."""
        self._reader.close()
        self._history.close()

    def check(self) -> None:
        """Raise `ArchiveUnavailableError` if the repository cannot be written now."""
        try:
            self._follow()
            probe(self._repository.packs)
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error

    def current(self, device: str, job: str) -> Current:
        """What a path holds, as far as it is known without reading."""
        state = self._state
        raw = state.devices.get(device.encode())
        entry = None if raw is None else Tree(raw).get(job.encode())
        return Current(None if entry is None else entry.id, state.generation)

    def write(self, batch: Sequence[Prepared]) -> list[Answer]:
        """Keep results in their order; when this returns, those stored are flushed."""
        failure = ArchiveUnavailableError(
            f"{self._repository.folder}: others move the branch all the time"
        )
        for _ in range(_ATTEMPTS):
            try:
                return self._write(batch)
            except BranchMovedError:
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
        self._read_devices([item.entry.device.encode() for item in batch])
        work = Batch(self._state, self._base, results=len(batch), now=self._clock.now())
        outcomes = [self._outcome(work, item) for item in batch]
        work.seal()
        self._flush(work)
        return [
            outcome
            if isinstance(outcome, ArchiveUnavailableError)
            else Stored(version=outcome[0].commit.hex(), changed=outcome[1])
            for outcome in outcomes
        ]

    def _outcome(
        self, work: Batch, item: Prepared
    ) -> tuple[Change, bool] | ArchiveUnavailableError:
        """The change that holds a result, and whether it is this result's own."""
        if work.blob(item.entry) == item.blob:
            return work.pending(item.entry) or self._kept(item), False
        if item.seen_in not in (None, self._state.generation):
            return ArchiveUnavailableError(
                f"{self._repository.folder}: somebody else moved the branch meanwhile"
            )
        return work.add(item), True

    def _kept(self, item: Prepared) -> Change:
        """The change by which a path came to its content, long ago."""
        device, job = item.entry.device, item.entry.job
        kept = self._history.latest(device, job)
        if kept is None or kept[1] != item.blob:
            log.warning("archive.history_rebuilt", device=device, job=job)
            self._history.rebuild(self._state.tip)
            kept = self._history.latest(device, job)
        if kept is None:
            raise ArchiveUnavailableError(
                f"{self._repository.folder}: no commit brought {job} on {device} to its content",
                remedy="run git fsck --strict on the repository",
            )
        change = Change(item.entry, item.blob)
        change.commit = kept[0]
        return change

    def _flush(self, work: Batch) -> None:
        """Pack first, then the branch; only then is it so."""
        if work.tip is None or (self._flushed and not work.versions):
            return
        if work.objects:
            write_pack(self._repository.packs, [*work.objects.values()])
        # If this fails half way, the branch may have moved, but not for sure: move it again.
        self._flushed = False
        self._repository.advance(self._state.tip, work.tip)
        self._flushed = True
        self._state.devices.update(work.devices)
        self._state = State(
            work.tip, work.root, work.by_device, self._state.devices, self._state.generation
        )
        self._base = work.base
        try:
            self._history.add(work.versions, work.tip)
        except (OSError, sqlite3.Error) as error:  # it is kept; the list catches up from git
            log.warning("archive.history_behind", error=str(error))

    def _follow(self) -> None:
        """See whether somebody else moved the branch, and bring the list of versions up to it."""
        tip = self._repository.tip()
        if tip != self._state.tip:
            self._load(tip)
        self._history.catch_up(tip)

    def _load(self, tip: bytes | None) -> None:
        root, by_device = Tree(), Tree()
        if tip is not None:
            commit = self._reader.read(COMMIT, [tip])[0]
            root = self._tree(bytes.fromhex(commit[5:45].decode()))
            entry = root.get(ROOT)
            if entry is not None and entry.mode == TREE_MODE:
                by_device = self._tree(entry.id)
        self._base = None
        self._state = State(tip, root, by_device, {}, self._state.generation + 1)

    def _read_devices(self, devices: Sequence[bytes]) -> None:
        for device in devices:
            if device not in self._state.devices:
                entry = self._state.by_device.get(device)
                known = entry is not None and entry.mode == TREE_MODE
                self._state.devices[device] = (
                    self._reader.read(TREE, [entry.id])[0] if entry is not None and known else b""
                )

    def _tree(self, tree_id: bytes) -> Tree:
        return Tree(self._reader.read(TREE, [tree_id])[0])


def unavailable(repository: Repository, error: OSError | sqlite3.Error) -> ArchiveUnavailableError:
    """What the file system said, as the archive's own error."""
    return ArchiveUnavailableError(
        f"{repository.folder}: expected to read and write it, got: {error}",
        remedy="free or mend the disk; results that wait are sent again",
    )

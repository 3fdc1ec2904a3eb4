"""The archive as a bare git repository.

General layout, in the order in which a result passes: `preparation` reads and names it; `layouts`
and `copies` say where it stands; `writing` brings it to the `writer`, in a thread here or in a
process of its own (`writing_apart`, `writing_program`). That takes what waits as one `batch`,
keeping the `trees` of `folders` in memory; `packs` writes it; `repository` moves the branch;
`history` notes the versions, of which `reading` answers what is asked; `indexer` keeps the index
for searches.
What is too large for git goes to `large`, and a pointer in its place; `attributes` say so.
`maintenance` joins and compacts packs beside all that, and `command` is the git program, which
reads. All that changes the disk goes through `files`.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from roundsman import logs
from roundsman.archive.damage import Origin
from roundsman.archive.files import Files
from roundsman.archive.history import History
from roundsman.archive.indexer import Indexer
from roundsman.archive.interface import (
    Archive,
    ArchiveNameError,
    ArchiveState,
    ArchiveUnavailableError,
    BroughtPage,
    Chosen,
    Difference,
    Entry,
    Execution,
    LargeContent,
    OvertakenError,
    Pair,
    Search,
    Stored,
    Version,
    VersionNotFoundError,
    Withdrawal,
)
from roundsman.archive.large import LargeContents
from roundsman.archive.layouts import Layouts
from roundsman.archive.maintenance import Maintainer
from roundsman.archive.packs import new_pack_name
from roundsman.archive.preparation import Current, Prepared, is_large, prepare_large, unreadable
from roundsman.archive.programs import Programs
from roundsman.archive.reading import Reading
from roundsman.archive.remotes.followers import Followers
from roundsman.archive.repository import Repository
from roundsman.archive.snapshots import Snapshots
from roundsman.archive.timeline import Timeline
from roundsman.archive.writer import BATCH_RESULTS, Writer, unavailable
from roundsman.archive.writing import ThreadWriting, Writing
from roundsman.archive.writing_apart import ProcessWriting
from roundsman.archive.writing_messages import Open
from roundsman.clock import Clock
from roundsman.config.records import Acknowledge, ArchiveSettings, CommitPer
from roundsman.wire.names import is_valid_name
from roundsman.wire.remote import RemoteState
from roundsman.wire.search import SearchPage
from roundsman.wire.version import FleetVersion, Origins

_IN_HAND: Final = 2 * BATCH_RESULTS
"""Results waited for at once at most; 64 MB of memory by the bound in `preparation`."""
_LARGE_THREADS: Final = 2
"""Threads that deflate large results, so that small ones need not wait behind them."""
_DEFAULT: Final = ArchiveSettings()

log = logs.get(__name__)


class GitArchive(Archive):
    """A bare git repository at `folder`, which no other process may write while it is open."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        settings: ArchiveSettings = _DEFAULT,
        *,
        files: Files | None = None,
        origins: Sequence[Origin] = (),
        apart: bool = False,
    ) -> None:
        """Serve the repository at `folder`; a damaged one may be had again from `origins`.

        With `apart` a process of its own writes it.
        """
        self._folder = folder
        self._clock = clock
        self._settings = settings
        self._files = Files() if files is None else files
        self._repository = Repository(folder, self._files, clock)
        own = folder / "roundsman"
        self._followers = Followers(
            self._repository,
            settings.remotes,
            self._take_in,
            clock,
            acknowledge_pushed=settings.acknowledge is Acknowledge.PUSHED,
        )
        self._origins = (*origins, *self._followers.remotes)
        self._reading = Reading(self._repository.git, own / "versions.sqlite")
        self._contents = LargeContents(self._repository.git, self._files, settings.pointers)
        self._snapshots = Snapshots(
            self._repository.git, Timeline(own / "versions.sqlite"), self._contents
        )
        self._indexer = Indexer(
            Programs(self._repository.git, self._repository.packs), self._repository.folder
        )
        self._writing = self._apart() if apart else self._in_a_thread()
        self._opened = False
        self._gave_up = 0
        """How often drafts were."""
        self._following = False
        self._in_hand = asyncio.Semaphore(_IN_HAND)
        self._turns = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self._maintainer = Maintainer(
            self._repository, clock, self._writing.packs, self._rebuild, self._contents
        )

    async def open(self) -> None:
        if self._opened:
            return
        self._large = ThreadPoolExecutor(_LARGE_THREADS, "archive-large")
        self._opened = True
        try:
            await self._writing.open()
            await asyncio.to_thread(self._contents.open)
        except BaseException:
            await self.close()
            raise
        self._maintainer.start()
        self._indexer.start()
        self._reading.start()
        self._followers.start()
        self._following = True

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        for _ in range(_IN_HAND):  # all of them: nothing is in hand any more
            await self._in_hand.acquire()
        if self._following:
            self._following = False
            await self._followers.stop()
        await self._writing.finish()  # before what is being written looks like a leftover
        await self._maintainer.stop()
        await self._indexer.stop()
        await self._reading.stop()
        await self._writing.close()
        self._large.shutdown()
        self._in_hand = asyncio.Semaphore(_IN_HAND)

    async def check(self) -> None:
        self._expect_open()
        await self._writing.check()

    async def store(self, entry: Entry) -> Stored:
        self._refuse(entry)
        gave_up = self._gave_up
        async with self._in_hand:
            stored = await (await self._hand_in(entry))
        await self._followers.acknowledged()
        if self._gave_up != gave_up:
            try:
                await self.version(entry.device, entry.job, stored.version)
            except VersionNotFoundError:
                raise OvertakenError.of(entry.device, entry.job) from None
        return stored

    def _refuse(self, entry: Entry) -> None:
        """Raise unless it may be stored now."""
        for name in (entry.device, entry.job):
            if not is_valid_name(name):
                raise ArchiveNameError.of(name)
        self._expect_open()

    async def _hand_in(self, entry: Entry) -> "asyncio.Future[Stored]":
        """Put a result among those that wait for the writer."""
        path = (entry.device, entry.job)
        in_memory = isinstance(entry.content, bytes) and not self._contents.wants(entry.content)
        if in_memory and path not in self._turns:
            return self._writing.put(entry)
        turn = self._turns.setdefault(path, asyncio.Lock())
        async with turn:  # of one path, who came first waits first
            return self._writing.put(entry) if in_memory else await self._put_prepared(entry)

    async def state(self) -> ArchiveState:
        self._expect_open()
        with self._reporting():
            size, packs, loose = await asyncio.to_thread(self._repository.measure)
            set_aside = await asyncio.to_thread(self._repository.set_aside)
        return ArchiveState(
            bytes=size,
            packs=packs,
            loose=loose,
            set_aside=set_aside,
            maintenance=self._maintainer.last,
        )

    async def remotes(self) -> Sequence[RemoteState]:
        self._expect_open()
        with self._reporting():
            return await asyncio.to_thread(self._followers.states)

    async def catch_up(self) -> None:
        self._expect_open()
        with self._reporting():
            await self._followers.catch_up()

    async def brought(self, after: str | None, *, limit: int) -> BroughtPage:
        with self._asking():
            return await self._reading.brought(after, limit)

    async def execution(self, device: str, job: str, version: str) -> Execution | None:
        with self._asking():
            return await self._reading.execution(device, job, version)

    async def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        self._expect_open()
        await self._writing.withdraw(withdrawals)

    async def versions(
        self, device: str, job: str, *, limit: int, before: str | None = None
    ) -> list[Version]:
        with self._asking():
            return await self._reading.versions(device, job, before, limit)

    async def version(self, device: str, job: str, version: str | None = None) -> Version:
        with self._asking():
            return (await self._reading.find(device, job, version)).version

    async def sizes(self, paths: Sequence[tuple[str, str]]) -> list[int | None]:
        with self._asking():
            return await self._reading.sizes(paths)

    async def read(self, device: str, job: str, version: str | None = None) -> AsyncIterator[bytes]:
        with self._asking():
            found = await self._reading.find(device, job, version)
        try:
            async for piece in self._contents.resolved(self._reading.blob(found)):
                yield piece
        except ArchiveUnavailableError:
            self._maintainer.suspect()
            raise

    async def large(self, digest: str) -> LargeContent | None:
        self._expect_open()
        path = self._contents.find(digest)
        if path is None:
            return None
        return LargeContent(path.stat().st_size, self._contents.read(path))

    async def diff(
        self, device: str, job: str, old: str | None, new: str | None, *, context: int
    ) -> Difference:
        with self._asking():
            return await self._reading.diff(device, job, old, new, context)

    async def origins(
        self, device: str, job: str, version: str | None, *, first: int = 0, limit: int
    ) -> Origins:
        with self._asking():
            return await self._reading.origins(device, job, version, first, limit)

    async def as_of(
        self, at: float, *, after: Pair, limit: int, chosen: Chosen
    ) -> list[FleetVersion]:
        with self._asking():
            return await self._reading.as_of(at, after, limit, chosen)

    async def snapshot(self, at: float, *, chosen: Chosen) -> AsyncIterator[bytes]:
        pieces = self._snapshots.pieces(at, chosen)
        try:
            with self._asking():
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    yield piece
        finally:
            await asyncio.to_thread(pieces.close)

    async def search(self, search: Search) -> SearchPage:
        with self._asking():
            return await self._reading.search(search)

    async def _put_prepared(self, entry: Entry) -> "asyncio.Future[Stored]":
        """Have a thread do what is long work before a result's turn at the writer."""
        current = await self._writing.current(entry.device, entry.job)
        name = new_pack_name()
        self._maintainer.pending.add(name)
        prepared: Entry | Prepared | None = None
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(
                self._large, self._prepare_in_thread, entry, name, current
            )
        finally:
            if not isinstance(prepared, Prepared):
                self._maintainer.pending.discard(name)
        stored = self._writing.put(prepared)
        if isinstance(prepared, Prepared):
            stored.add_done_callback(lambda _: self._maintainer.pending.discard(name))
        # A caller that is cancelled gives up its answer: the pack is pending until the writer's.
        return asyncio.shield(stored)

    def _prepare_in_thread(self, entry: Entry, name: str, current: Current) -> Entry | Prepared:
        try:
            if self._contents.wants(entry.content):
                return self._contents.keep(entry)
            if is_large(entry):
                return prepare_large(entry, self._files, self._repository.packs, name, current)
            return msgspec.structs.replace(entry, content=entry.read())
        except OSError as error:
            raise unreadable(entry, error) from error

    def _in_a_thread(self) -> Writing:
        return ThreadWriting(self._new_writer(), self._repository.packs, self._note_batch)

    def _apart(self) -> Writing:
        settings = self._settings
        opening = Open(
            str(self._repository.folder),
            settings.paths,
            settings.overviews,
            settings.commit_per is CommitPer.BATCH,
            self._drafts,
        )
        return ProcessWriting(self._repository, opening, self._mend, self._clock, self._note_batch)

    def _new_writer(self) -> Writer:
        settings, own = self._settings, self._folder / "roundsman"
        layouts = Layouts(own, self._files, settings.paths, overviews=settings.overviews)
        return Writer(
            self._repository,
            History(own / "versions.sqlite", self._repository.git, layouts),
            self._clock,
            layouts,
            self._origins,
            one_commit=settings.commit_per is CommitPer.BATCH,
            drafts=self._drafts,
        )

    def _mend(self, reason: str) -> None:
        """Rebuild the repository, which no process writes, and let go of it again."""
        writer = self._new_writer()
        try:
            writer.rebuild(reason)
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error
        finally:
            writer.close()

    def _note_batch(self) -> None:
        self._maintainer.note_batch()
        self._indexer.note_batch()
        self._followers.note_batch()

    async def _rebuild(self, reason: str) -> None:
        with self._reporting():
            await self._writing.rebuild(reason)

    async def _take_in(self, theirs: bytes) -> None:
        self._gave_up += await self._writing.take_in(theirs)

    @property
    def _drafts(self) -> bool:
        """Whether nobody is told of a commit before the one remote has it."""
        settings = self._settings
        return settings.acknowledge is Acknowledge.PUSHED and len(settings.remotes) == 1

    def _expect_open(self) -> None:
        if not self._opened:
            raise ArchiveUnavailableError(f"{self._folder}: the archive is not open")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Answer a question about versions while the archive is open."""
        self._expect_open()
        with self._reporting():
            yield

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Report what the disk says as the archive's own error."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error

"""The archive as a bare git repository.

General layout, in the order in which a result passes: `preparation` names and deflates it in a
thread; `writer` takes what waits as one `batch` of `objects`, keeping `trees` in memory; `packs`
writes it; `repository` moves the branch; `history` notes the versions. `consolidation` joins packs
beside all that, and `command` is the git program, which reads.
"""

import asyncio
import re
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from roundsman import logs
from roundsman.archive.consolidation import PACKS_ADDED, consolidate
from roundsman.archive.history import History
from roundsman.archive.interface import (
    Archive,
    ArchiveNameError,
    ArchiveUnavailableError,
    Entry,
    Stored,
    Version,
    VersionNotFoundError,
)
from roundsman.archive.preparation import Prepared, is_large, prepare
from roundsman.archive.reading import blob_pieces
from roundsman.archive.repository import Repository
from roundsman.archive.writer import Writer, unavailable
from roundsman.clock import Clock
from roundsman.wire.names import is_valid_name

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_BATCH: Final = 128
"""Results written together at most."""
_IN_HAND: Final = 2 * _BATCH
"""Results prepared or written at once at most; 64 MB of memory by the bound in `preparation`."""
_SMALL_THREADS: Final = 4
"""Threads that prepare small results: deflating and the disk let go of the interpreter."""
_LARGE_THREADS: Final = 2
"""Threads that prepare large ones, so that small ones need not wait behind them."""
_COMMIT_ID: Final = re.compile(r"[0-9a-f]{40}")

log = logs.get(__name__)


class GitArchive(Archive):
    """A bare git repository at `folder`, in which this process is the only one to write.

    The caller holds the lock that makes it so.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._repository = Repository(folder)
        self._history = History(folder / "roundsman" / "versions.sqlite", self._repository.git)
        self._writer = Writer(self._repository, self._history, clock)
        self._opened = False
        self._in_hand = asyncio.Semaphore(_IN_HAND)
        self._waiting: deque[tuple[Prepared, asyncio.Future[Stored]]] = deque()
        self._turns = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self._writing: asyncio.Task[None] | None = None
        self._consolidating: asyncio.Task[None] | None = None
        self._packs_added = PACKS_ADDED  # what an earlier life left is looked at first

    async def open(self) -> None:
        if self._opened:
            return
        self._writer_thread = ThreadPoolExecutor(1, "archive-writer")
        self._small = ThreadPoolExecutor(_SMALL_THREADS, "archive-small")
        self._large = ThreadPoolExecutor(_LARGE_THREADS, "archive-large")
        self._opened = True
        try:
            await self._by_writer(self._writer.open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        for _ in range(_IN_HAND):  # all of them: nothing is in hand any more
            await self._in_hand.acquire()
        if self._consolidating is not None:
            self._consolidating.cancel()
            await asyncio.wait([self._consolidating])
        await self._by_writer(self._writer.close)
        for threads in (self._writer_thread, self._small, self._large):
            threads.shutdown()
        self._in_hand = asyncio.Semaphore(_IN_HAND)

    async def check(self) -> None:
        self._expect_open()
        await self._by_writer(self._writer.check)

    async def store(self, entry: Entry) -> Stored:
        for name in (entry.device, entry.job):
            if not is_valid_name(name):
                raise ArchiveNameError.of(name)
        self._expect_open()
        async with self._in_hand:
            stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
            turn = self._turns.setdefault((entry.device, entry.job), asyncio.Lock())
            async with turn:  # of one path, who came first waits first
                self._waiting.append((await self._prepare(entry), stored))
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_what_waits())
            return await stored

    async def versions(self, device: str, job: str, *, limit: int) -> list[Version]:
        self._expect_open()
        with self._reporting():
            return await asyncio.to_thread(self._history.versions, device, job, limit)

    async def read(self, device: str, job: str, version: str | None = None) -> AsyncIterator[bytes]:
        self._expect_open()
        if version is not None and not _COMMIT_ID.fullmatch(version):
            raise VersionNotFoundError.of(device, job, version)
        commit = None if version is None else bytes.fromhex(version)
        with self._reporting():
            blob = await asyncio.to_thread(self._history.blob, device, job, commit)
        if blob is None:
            raise VersionNotFoundError.of(device, job, version)
        async for piece in blob_pieces(self._repository.git, blob):
            yield piece

    async def _prepare(self, entry: Entry) -> Prepared:
        with self._reporting():
            threads = self._large if is_large(entry) else self._small
            current = self._writer.current(entry.device, entry.job)
            packs = self._repository.packs
            return await asyncio.get_running_loop().run_in_executor(
                threads, prepare, entry, packs, current
            )

    async def _write_what_waits(self) -> None:
        """Write batch after batch until nothing waits; what comes meanwhile is the next batch."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            writing = self._by_writer(self._writer.write, [prepared for prepared, _ in batch])
            await asyncio.wait([writing])
            failure = writing.exception()
            answers = [failure] * len(batch) if failure else writing.result()
            for (_, stored), answer in zip(batch, answers, strict=True):
                if stored.done():  # its caller was cancelled
                    continue
                if isinstance(answer, Stored):
                    stored.set_result(answer)
                else:
                    stored.set_exception(answer)
            self._note_pack()
        self._writing = None

    def _note_pack(self) -> None:
        self._packs_added += 1
        if self._packs_added >= PACKS_ADDED and self._consolidating is None:
            self._packs_added = 0
            self._consolidating = asyncio.create_task(self._consolidate())

    async def _consolidate(self) -> None:
        try:
            joined = await consolidate(self._repository)
            log.debug("archive.consolidated", packs=joined)
        except (OSError, ArchiveUnavailableError) as error:  # tried again after some more packs
            log.warning("archive.consolidation_failed", error=str(error))
        finally:
            self._consolidating = None

    def _by_writer(self, call: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._writer_thread, call, *args)

    def _expect_open(self) -> None:
        if not self._opened:
            raise ArchiveUnavailableError(f"{self._folder}: the archive is not open")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Report what the disk says as the archive's own error."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise unavailable(self._repository, error) from error

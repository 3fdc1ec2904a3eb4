"""The ledger on SQLite: each call handed to the writer or to a reader."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from roundsman.errors import NotFoundError
from roundsman.ledger.fairness import Turns
from roundsman.ledger.interface import (
    UNLIMITED,
    AccountQuery,
    AuditQuery,
    BatchQuery,
    ClaimLimits,
    Finish,
    FinishAnswer,
    IdempotencyKey,
    KeptBatch,
    KeptResult,
    Leadership,
    LeasedSlot,
    Ledger,
    LedgerUnavailableError,
    Page,
    Pause,
    PauseKind,
    PlannedSlot,
    Presence,
    ProcessChange,
    ProcessQuery,
    RegisteredController,
    ResultKey,
    ResumedSlot,
    Resumption,
    RunEnd,
    RunNow,
    RunQuery,
    SlotAccount,
    SlotQuery,
    Standing,
    SyncSummary,
    TagFilter,
)
from roundsman.ledger.spans import NewId
from roundsman.ledger.sqlite import (
    accounts,
    batches,
    claims,
    controllers,
    holds,
    lists,
    pauses,
    processes,
    results,
    retention,
    runs,
    sync,
    workers,
)
from roundsman.ledger.sqlite import (
    audit as audit_lines,
)
from roundsman.ledger.sqlite.database import connect
from roundsman.ledger.sqlite.failures import translate
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.lock import FolderLock
from roundsman.ledger.sqlite.migrations import migrate
from roundsman.ledger.sqlite.readers import Readers
from roundsman.ledger.sqlite.statements import load
from roundsman.ledger.sqlite.writer import Writer
from roundsman.wire.accounts import DaySum
from roundsman.wire.audit import AuditEntry
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.process import Process, ProcessState, StopProof
from roundsman.wire.run import Run, Slot
from roundsman.wire.worker import Worker

READERS = 3
WRITER_CACHE_MEGABYTES = 32  # 100,000 slots with their indexes are some 25 MB
READER_CACHE_MEGABYTES = 4


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: Writer
    readers: Readers
    lock: FolderLock


class SqliteLedger(Ledger):
    """One file and the only process that writes to it."""

    def __init__(self, path: Path, new_id: NewId = lambda: str(uuid4())) -> None:
        """Take the file, made when absent, and what makes the ids of runs it writes by itself.

        The folder of the file is locked while the ledger is open.
        """
        self._path = path
        self._new_id = new_id
        self._opened: _Opened | None = None
        self._lanes = Lanes()
        self._turns = Turns()
        self._sync = asyncio.Lock()

    # life

    async def open(self) -> None:
        if self._opened is None:
            self._lanes.forget()
            self._opened = await asyncio.to_thread(self._open)

    def _open(self) -> _Opened:
        with ExitStack() as undo:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = FolderLock(self._path.parent)
                undo.callback(lock.release)
                writing = connect(self._path, cache_megabytes=WRITER_CACHE_MEGABYTES)
                undo.callback(writing.close)
                migrate(writing)
                controllers.remove_all(writing)
                reading = []
                for _ in range(READERS):
                    reading.append(
                        connect(self._path, cache_megabytes=READER_CACHE_MEGABYTES, read_only=True)
                    )
                    undo.callback(reading[-1].close)
            except sqlite3.Error as error:
                raise translate(error) from error
            except OSError as error:
                raise LedgerUnavailableError(
                    f"{self._path}: {error.strerror}",
                    remedy="name a data folder that this user can write",
                ) from error
            undo.pop_all()
            return _Opened(Writer(writing, self._lanes.forget), Readers(reading), lock)

    async def close(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.readers.close()
            await opened.writer.close()
            opened.lock.release()

    async def check(self) -> None:
        await self._writer.do(lambda connection: connection.execute(load("life")["probe"]))
        await self._readers.do(
            lambda connection: connection.execute(load("life")["read_probe"]).fetchone()
        )

    @property
    def commits(self) -> int:
        """Transactions committed since it was opened."""
        return self._writer.commits

    @property
    def _writer(self) -> Writer:
        return self._must_be_open().writer

    @property
    def _readers(self) -> Readers:
        return self._must_be_open().readers

    def _must_be_open(self) -> _Opened:
        if self._opened is None:
            raise LedgerUnavailableError("the ledger is not open")
        return self._opened

    # slots and leases

    async def sync_slots(
        self, planned: Sequence[PlannedSlot], now: float, *, term: int | None = None
    ) -> SyncSummary:
        async with self._sync:
            differences = await self._readers.do(lambda c: sync.compare(c, planned))
            if differences:

                def apply(connection: sqlite3.Connection) -> None:
                    controllers.must_be_term(connection, term)
                    sync.apply(connection, self._lanes, differences, now=now, new_id=self._new_id)

                await self._writer.do(apply)
            # A controller keeps Python's collector off what stands when it begins to serve; to go
            # through a million slots takes it as long as a dozen claims.
            if not self._lanes.known:
                await self._writer.do(self._lanes.read)
            return differences.summary

    async def claim(
        self,
        tags: TagFilter,
        *,
        limit: int,
        horizon: float,
        now: float,
        lease_seconds: float,
        worker_id: str | None,
        limits: ClaimLimits = UNLIMITED,
    ) -> list[LeasedSlot]:
        return await self._writer.do(
            lambda c: claims.claim(
                c,
                self._lanes,
                self._turns,
                tags,
                limit=limit,
                horizon=horizon,
                now=now,
                lease_seconds=lease_seconds,
                worker_id=worker_id,
                limits=limits,
            )
        )

    async def renew(
        self, keys: Sequence[LeaseKey], *, worker_id: str | None, now: float, until: float
    ) -> list[bool]:
        return await self._writer.do(
            lambda c: claims.renew(c, self._lanes, keys, worker_id=worker_id, until=until)
        )

    async def standings(self, results: Sequence[ResultKey]) -> list[Standing]:
        return await self._readers.do(lambda c: claims.standings(c, results))

    async def finish(self, finishes: Sequence[Finish], now: float) -> list[FinishAnswer]:
        return await self._writer.do(
            lambda c: claims.finish(c, self._lanes, finishes, now=now, new_id=self._new_id)
        )

    async def record_stale(self, run: Run) -> None:
        await self._writer.do(lambda c: runs.add_stale(c, run))

    async def result_of(self, device: str, job: str) -> KeptResult | None:
        return await self._readers.do(lambda c: results.of(c, device, job))

    async def accept(
        self, run_id: str, *, version: str, changed: bool, by: str, now: float
    ) -> bool:
        return await self._writer.do(
            lambda c: results.accept(c, run_id, version=version, changed=changed, by=by, now=now)
        )

    async def run_now(self, device: str, job: str, now: int, *, beside: bool = False) -> RunNow:
        done = await self._writer.do(
            lambda c: claims.run_now(c, self._lanes, device, job, now, beside=beside)
        )
        if done is None:
            raise NotFoundError(f"job {job} on device {device} is not configured")
        return done

    # pauses

    async def pause(self, pause: Pause) -> bool:
        return await self._writer.do(lambda c: pauses.add(c, self._lanes, pause))

    async def to_resume(self, kind: PauseKind, name: str) -> list[ResumedSlot] | None:
        return await self._readers.do(lambda c: pauses.to_resume(c, kind, name))

    async def resume(
        self, kind: PauseKind, name: str, resumptions: Sequence[Resumption], now: float
    ) -> bool:
        return await self._writer.do(
            lambda c: pauses.resume(
                c, self._lanes, kind, name, resumptions, now=now, new_id=self._new_id
            )
        )

    async def pauses(self) -> list[Pause]:
        return await self._readers.do(pauses.in_force)

    # devices held back

    async def breaker(self, device: str) -> Breaker | None:
        return await self._readers.do(lambda c: holds.by_device(c, device))

    async def open_breakers(self) -> list[Breaker]:
        return await self._readers.do(holds.open_ones)

    async def close_breaker(self, device: str, now: float) -> bool:
        return await self._writer.do(lambda c: holds.close(c, self._lanes, device, now))

    # accounts

    async def accounts(self, query: AccountQuery, now: float) -> Page[SlotAccount]:
        return await self._readers.do(lambda c: accounts.accounts(c, query, now))

    async def note_presences(self, presences: Sequence[Presence]) -> None:
        await self._writer.do(lambda c: accounts.note_presences(c, presences))

    async def presences(self, since: float, until: float) -> list[Presence]:
        return await self._readers.do(lambda c: accounts.presences(c, since, until))

    # what is kept no longer

    async def recorded_beyond(self, most: int) -> float | None:
        return await self._readers.do(lambda c: retention.beyond(c, most))

    async def prune(self, *, before: float, limit: int, term: int | None = None) -> int:
        def take_away(connection: sqlite3.Connection) -> int:
            controllers.must_be_term(connection, term)
            return retention.prune(connection, before=before, limit=limit)

        return await self._writer.do(take_away)

    async def accounted_since(self) -> int:
        return await self._readers.do(retention.kept_since)

    async def daily(self, since: int, until: int, job: str | None) -> list[DaySum]:
        return await self._readers.do(lambda c: retention.daily(c, since, until, job))

    # lists

    async def slots(self, query: SlotQuery, now: float) -> Page[Slot]:
        return await self._readers.do(lambda c: lists.slots(c, query, now))

    async def runs(self, query: RunQuery) -> Page[Run]:
        return await self._readers.do(lambda c: lists.runs(c, query))

    async def run(self, run_id: str) -> Run | None:
        return await self._readers.do(lambda c: runs.by_id(c, run_id))

    async def ends_of(self, run_ids: Sequence[str]) -> list[RunEnd | None]:
        return await self._readers.do(lambda c: runs.ends_of(c, run_ids))

    # workers

    async def add_worker(self, worker: Worker, token_digest: str) -> None:
        await self._writer.do(lambda c: workers.add(c, worker, token_digest))

    async def worker_tokens(self) -> dict[str, str]:
        return await self._readers.do(workers.tokens)

    async def touch_worker(
        self,
        worker_id: str,
        *,
        now: float,
        address: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> bool:
        return await self._writer.do(
            lambda c: workers.touch(
                c, worker_id, now=now, address=address, version=version, tags=tags
            )
        )

    async def workers(self) -> list[Worker]:
        return await self._readers.do(workers.every)

    async def worker(self, worker_id: str) -> Worker | None:
        return await self._readers.do(lambda c: workers.by_id(c, worker_id))

    async def remove_worker(self, worker_id: str) -> bool:
        return await self._writer.do(lambda c: workers.remove(c, worker_id))

    # controllers

    async def note_controller(self, controller: RegisteredController) -> None:
        await self._writer.do(lambda c: controllers.note(c, controller))

    async def controllers(self) -> list[RegisteredController]:
        return await self._readers.do(controllers.every)

    async def remove_controller(self, controller_id: str) -> None:
        await self._writer.do(lambda c: controllers.remove(c, controller_id))

    async def lead(
        self, controller_id: str, *, term: int | None, now: float, until: float
    ) -> Leadership:
        return await self._writer.do(
            lambda c: controllers.lead(c, controller_id, term=term, now=now, until=until)
        )

    async def call_to_reload(self) -> int:
        return await self._writer.do(controllers.call_to_reload)

    # processes

    async def add_process(self, process: Process, audit: Sequence[AuditEntry] = ()) -> None:
        await self._writer.do(lambda c: processes.add(c, process, audit))

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        return await self._writer.do(lambda c: processes.change_many(c, changes, audit))

    async def begin_process(
        self, process_id: str, *, not_after: float, audit: Sequence[AuditEntry] = ()
    ) -> bool:
        return await self._writer.do(lambda c: processes.begin(c, process_id, not_after, audit))

    async def keep_stop(self, process_id: str, worker_id: str, proof: StopProof) -> None:
        await self._writer.do(lambda c: processes.keep_stop(c, process_id, worker_id, proof))

    async def touch_processes(self, worker_id: str, now: float) -> None:
        await self._writer.do(lambda c: processes.touch(c, worker_id, now))

    async def process(self, process_id: str) -> Process | None:
        return await self._readers.do(lambda c: processes.by_id(c, process_id))

    async def processes(self, query: ProcessQuery) -> Page[Process]:
        return await self._readers.do(lambda c: lists.processes(c, query))

    # batches

    async def add_batch(
        self,
        batch: Batch,
        work: BatchWork,
        processes: Sequence[Process],
        *,
        key: IdempotencyKey | None,
    ) -> KeptBatch:
        return await self._writer.do(lambda c: batches.add(c, batch, work, processes, key))

    async def kept_batch(self, requested_by: str, key: IdempotencyKey) -> KeptBatch | None:
        return await self._readers.do(lambda c: batches.of_key(c, requested_by, key))

    async def batch(self, batch_id: str) -> Batch | None:
        return await self._readers.do(lambda c: batches.by_id(c, batch_id))

    async def batch_work(self, batch_id: str) -> BatchWork | None:
        return await self._readers.do(lambda c: batches.work(c, batch_id))

    async def batch_processes(self, batch_id: str) -> list[Process]:
        return await self._readers.do(lambda c: batches.members(c, batch_id))

    async def change_batch(
        self, batch_id: str, state: BatchState, *, now: float, reason: str | None = None
    ) -> Batch | None:
        return await self._writer.do(
            lambda c: batches.change(c, batch_id, state, now=now, reason=reason)
        )

    async def skip_processes(self, batch_id: str, error: str) -> None:
        await self._writer.do(lambda c: processes.skip(c, batch_id, error))

    async def batches(self, query: BatchQuery) -> Page[Batch]:
        return await self._readers.do(lambda c: batches.page(c, query))

    # the audit

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        await self._writer.do(lambda c: audit_lines.add(c, entries))

    async def audit(self, query: AuditQuery) -> Page[AuditEntry]:
        return await self._readers.do(lambda c: audit_lines.page(c, query))

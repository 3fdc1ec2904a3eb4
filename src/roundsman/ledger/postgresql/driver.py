"""The ledger on PostgreSQL: each call given a connection."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from roundsman.clock import Clock
from roundsman.errors import NotFoundError
from roundsman.ledger.crossing import Crossing
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
from roundsman.ledger.postgresql import (
    accounts,
    batches,
    claims,
    controllers,
    holds,
    lists,
    pauses,
    processes,
    queue,
    results,
    retention,
    runs,
    sync,
    upkeep,
    workers,
)
from roundsman.ledger.postgresql import (
    audit as audit_lines,
)
from roundsman.ledger.postgresql.claiming import Claim, Claimer
from roundsman.ledger.postgresql.clock import DatabaseClock
from roundsman.ledger.postgresql.crossing import PostgresqlCrossing
from roundsman.ledger.postgresql.database import Database, connect
from roundsman.ledger.postgresql.doorbell import Doorbell
from roundsman.ledger.postgresql.finishes import finish as finish_all
from roundsman.ledger.postgresql.hosts import Hosts
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.spans import NewId
from roundsman.ledger.sqlite.lock import FolderLock
from roundsman.secret import Secret
from roundsman.wire.accounts import DaySum
from roundsman.wire.audit import AuditEntry
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.process import Process, ProcessState, StopProof
from roundsman.wire.run import Run, Slot
from roundsman.wire.worker import Worker

T = TypeVar("T")

SYNC_SECONDS: Final = 600.0
COUNT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Opened:
    database: Database
    lock: FolderLock
    upkeep: "asyncio.Task[None]"


class PostgresqlLedger(Ledger):
    """One database, which any number of processes write to."""

    def __init__(
        self,
        url: str,
        password: Secret | None,
        *,
        folder: Path,
        clock: Clock,
        new_id: NewId = lambda: str(uuid4()),
    ) -> None:
        """Take the database's URL, and what makes the ids of runs it writes by itself.

        The folder, that of the controller's other data, is locked while the ledger is open.
        """
        self._url = url
        self._password = password
        self._folder = folder
        self._new_id = new_id
        self._opened: _Opened | None = None
        self._claimer = Claimer(lambda: self._database, Turns())
        self._controller_id: str | None = None
        self.clock = DatabaseClock(clock)
        """The database's clock; from it comes the `now` that callers pass."""

    # life

    async def open(self) -> None:
        if self._opened is not None:
            return
        lock = await asyncio.to_thread(self._lock)
        try:
            database = await connect(self._url, self._password, self.clock, self._claimer.forget)
        except BaseException:
            lock.release()
            raise
        self._claimer.forget()
        lines = self._claimer.lines
        try:  # what an earlier life left is seen to before anything is claimed
            await upkeep.one_round(database, self.clock, lines, from_start=True)
        except BaseException:
            await database.close()
            lock.release()
            raise
        task = asyncio.create_task(upkeep.look_after(database, self.clock, lines))
        self._opened = _Opened(database, lock, task)

    def _lock(self) -> FolderLock:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return FolderLock(self._folder)
        except OSError as error:
            raise LedgerUnavailableError(
                f"{self._folder}: {error.strerror}",
                remedy="name a data folder that this user can write",
            ) from error

    async def close(self) -> None:
        if self._opened is not None:
            await self._claimer.close()
            opened, self._opened = self._opened, None
            await upkeep.stop(opened.upkeep)
            await opened.database.close()
            opened.lock.release()

    async def check(self) -> None:
        await self._do(load("life")["probe"].rows)

    def crossing(self, controller_id: str) -> Crossing:
        self._controller_id = controller_id
        return PostgresqlCrossing(
            controller_id,
            database=lambda: self._database,
            doorbell=Doorbell(Hosts(self._url, self._password).connect, clock=self.clock),
            clock=self.clock,
        )

    async def _do(self, work: Callable[[Link], Awaitable[T]]) -> T:
        return await self._database.do(work)

    async def _transact(self, work: Callable[[Link], Awaitable[T]]) -> T:
        return await self._database.transact(work)

    @property
    def _database(self) -> Database:
        if self._opened is None:
            raise LedgerUnavailableError("the ledger is not open")
        return self._opened.database

    # slots and leases

    async def sync_slots(
        self, planned: Sequence[PlannedSlot], now: float, *, term: int | None = None
    ) -> SyncSummary:
        async def apply(link: Link) -> SyncSummary:
            await controllers.must_be_term(link, term)
            return await sync.sync(link, planned, now=now, new_id=self._new_id)

        summary = await self._database.transact(apply, seconds=SYNC_SECONDS)
        self._claimer.lines.forget()
        return summary

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
        return await self._claimer.claim(
            Claim(tags, limit, horizon, now, lease_seconds, worker_id, limits)
        )

    async def renew(
        self, keys: Sequence[LeaseKey], *, worker_id: str | None, now: float, until: float
    ) -> list[bool]:
        return await self._do(
            lambda c: claims.renew(c, keys, worker_id=worker_id, now=now, until=until)
        )

    async def standings(self, results: Sequence[ResultKey]) -> list[Standing]:
        return await self._do(lambda c: claims.standings(c, results))

    async def finish(self, finishes: Sequence[Finish], now: float) -> list[FinishAnswer]:
        return await finish_all(self._database, finishes, now=now, new_id=self._new_id)

    async def record_stale(self, run: Run) -> None:
        await self._do(lambda c: runs.add_stale(c, run))

    async def result_of(self, device: str, job: str) -> KeptResult | None:
        return await self._do(lambda c: results.of(c, device, job))

    async def accept(
        self, run_id: str, *, version: str, changed: bool, by: str, now: float
    ) -> bool:
        return await self._transact(
            lambda c: results.accept(c, run_id, version=version, changed=changed, by=by, now=now)
        )

    async def run_now(self, device: str, job: str, now: int, *, beside: bool = False) -> RunNow:
        done = await self._transact(lambda c: claims.run_now(c, device, job, now, beside=beside))
        if done is None:
            raise NotFoundError(f"job {job} on device {device} is not configured")
        return done

    # pauses

    async def pause(self, pause: Pause) -> bool:
        return await self._transact(lambda c: pauses.add(c, pause))

    async def to_resume(self, kind: PauseKind, name: str) -> list[ResumedSlot] | None:
        return await self._do(lambda c: pauses.to_resume(c, kind, name))

    async def resume(
        self, kind: PauseKind, name: str, resumptions: Sequence[Resumption], now: float
    ) -> bool:
        return await self._transact(
            lambda c: pauses.resume(c, kind, name, resumptions, now=now, new_id=self._new_id)
        )

    async def pauses(self) -> list[Pause]:
        return await self._do(pauses.in_force)

    # devices held back

    async def breaker(self, device: str) -> Breaker | None:
        return await self._do(lambda c: holds.by_device(c, device))

    async def open_breakers(self) -> list[Breaker]:
        return await self._do(holds.open_ones)

    async def close_breaker(self, device: str, now: float) -> bool:
        async def close(link: Link) -> bool:
            await alone(link, Lock.CONFIGURATION)
            await queue.lock_devices(link, [device])
            return await holds.close(link, device, now)

        return await self._transact(close)

    # lists

    async def slots(self, query: SlotQuery, now: float) -> Page[Slot]:
        return await self._do(lambda c: lists.slots(c, query, now))

    async def runs(self, query: RunQuery) -> Page[Run]:
        return await self._do(lambda c: lists.runs(c, query))

    async def run(self, run_id: str) -> Run | None:
        return await self._do(lambda c: runs.by_id(c, run_id))

    async def ends_of(self, run_ids: Sequence[str]) -> list[RunEnd | None]:
        return await self._do(lambda c: runs.ends_of(c, run_ids))

    # what is kept no longer

    async def recorded_beyond(self, most: int) -> float | None:
        return await self._database.transact(
            lambda c: retention.beyond(c, most), seconds=COUNT_SECONDS
        )

    async def prune(self, *, before: float, limit: int, term: int | None = None) -> int:
        async def take_away(link: Link) -> int:
            await controllers.must_be_term(link, term)
            return await retention.prune(link, before=before, limit=limit)

        return await self._transact(take_away)

    async def accounted_since(self) -> int:
        return await self._do(retention.kept_since)

    async def daily(self, since: int, until: int, job: str | None) -> list[DaySum]:
        return await self._do(lambda c: retention.daily(c, since, until, job))

    # accounts

    async def accounts(self, query: AccountQuery, now: float) -> Page[SlotAccount]:
        return await self._transact(lambda c: accounts.accounts(c, query, now))

    async def note_presences(self, presences: Sequence[Presence]) -> None:
        await self._do(lambda c: accounts.note_presences(c, presences))

    async def presences(self, since: float, until: float) -> list[Presence]:
        return await self._do(lambda c: accounts.presences(c, since, until))

    # workers

    async def add_worker(self, worker: Worker, token_digest: str) -> None:
        await self._do(lambda c: workers.add(c, worker, token_digest))

    async def worker_tokens(self) -> dict[str, str]:
        return await self._do(workers.tokens)

    async def touch_worker(
        self,
        worker_id: str,
        *,
        now: float,
        address: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> bool:
        return await self._do(
            lambda c: workers.touch(
                c, worker_id, now=now, address=address, version=version, tags=tags
            )
        )

    async def workers(self) -> list[Worker]:
        return await self._do(workers.every)

    async def worker(self, worker_id: str) -> Worker | None:
        return await self._do(lambda c: workers.by_id(c, worker_id))

    async def remove_worker(self, worker_id: str) -> bool:
        return await self._do(lambda c: workers.remove(c, worker_id))

    # controllers

    async def note_controller(self, controller: RegisteredController) -> None:
        await self._do(lambda c: controllers.note(c, controller))

    async def controllers(self) -> list[RegisteredController]:
        return await self._do(controllers.every)

    async def remove_controller(self, controller_id: str) -> None:
        await self._transact(lambda c: controllers.remove(c, controller_id))

    async def lead(
        self, controller_id: str, *, term: int | None, now: float, until: float
    ) -> Leadership:
        return await self._transact(
            lambda c: controllers.lead(c, controller_id, term=term, now=now, until=until)
        )

    async def call_to_reload(self) -> int:
        return await self._do(controllers.call_to_reload)

    # processes

    async def add_process(self, process: Process, audit: Sequence[AuditEntry] = ()) -> None:
        await self._transact(lambda c: processes.add(c, process, audit))

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        return await self._transact(
            lambda c: processes.change_many(c, changes, audit, controller_id=self._controller_id)
        )

    async def process(self, process_id: str) -> Process | None:
        return await self._do(lambda c: processes.by_id(c, process_id))

    async def processes(self, query: ProcessQuery) -> Page[Process]:
        return await self._do(lambda c: lists.processes(c, query))

    async def begin_process(
        self, process_id: str, *, not_after: float, audit: Sequence[AuditEntry] = ()
    ) -> bool:
        return await self._transact(
            lambda c: processes.begin(c, process_id, not_after, audit, carrier=self._controller_id)
        )

    async def keep_stop(self, process_id: str, worker_id: str, proof: StopProof) -> None:
        await self._do(lambda c: processes.keep_stop(c, process_id, worker_id, proof))

    async def touch_processes(self, worker_id: str, now: float) -> None:
        await self._do(lambda c: processes.touch(c, worker_id, now))

    # batches

    async def add_batch(
        self,
        batch: Batch,
        work: BatchWork,
        processes: Sequence[Process],
        *,
        key: IdempotencyKey | None,
    ) -> KeptBatch:
        return await self._transact(
            lambda c: batches.add(c, batch, work, processes, key, carrier=self._controller_id)
        )

    async def kept_batch(self, requested_by: str, key: IdempotencyKey) -> KeptBatch | None:
        return await self._do(lambda c: batches.of_key(c, requested_by, key))

    async def batch(self, batch_id: str) -> Batch | None:
        return await self._do(lambda c: batches.by_id(c, batch_id))

    async def batch_work(self, batch_id: str) -> BatchWork | None:
        return await self._do(lambda c: batches.work(c, batch_id))

    async def batch_processes(self, batch_id: str) -> list[Process]:
        return await self._do(lambda c: batches.members(c, batch_id))

    async def change_batch(
        self, batch_id: str, state: BatchState, *, now: float, reason: str | None = None
    ) -> Batch | None:
        return await self._transact(
            lambda c: batches.change(c, batch_id, state, now=now, reason=reason)
        )

    async def skip_processes(self, batch_id: str, error: str) -> None:
        await self._do(lambda c: processes.skip(c, batch_id, error))

    async def batches(self, query: BatchQuery) -> Page[Batch]:
        return await self._do(lambda c: batches.page(c, query))

    # the audit

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        await self._do(lambda c: audit_lines.add(c, entries))

    async def audit(self, query: AuditQuery) -> Page[AuditEntry]:
        return await self._do(lambda c: audit_lines.page(c, query))

"""Commands for one or many workers: begun, followed, stopped, and told of afterwards."""

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller import targets
from roundsman.controller.access import Principal
from roundsman.controller.audit import Audit
from roundsman.controller.fleet import Fleet
from roundsman.controller.fleet_exchange import FleetExchange
from roundsman.controller.process_batch import ProcessBatch, before_its_turn, has_failed
from roundsman.errors import ConflictError, InvalidError, NotFoundError
from roundsman.ledger.interface import (
    BatchQuery,
    IdempotencyKey,
    KeptBatch,
    Ledger,
    LedgerUnavailableError,
)
from roundsman.secret import Secret
from roundsman.wire.batch import (
    KEY_SECONDS,
    WORKERS,
    Batch,
    BatchAnswer,
    BatchMember,
    BatchReport,
    BatchRequest,
    BatchState,
    BatchWork,
)
from roundsman.wire.page import Page
from roundsman.wire.process import OPEN_STATES, Process, ProcessState
from roundsman.wire.worker import Worker

log = logs.get(__name__)

_PAGE: Final = 500
_CARRY_SECONDS: Final = 2.0
_ROUNDS_TO_LOOK: Final = 10  # at all rows, also where notifications arrive
_FOLLOW_SECONDS: Final = 0.5


class BatchNotFoundError(NotFoundError):
    """No batch has this id."""

    code = "batch.not_found"


class TargetNotFoundError(NotFoundError):
    """A worker that was named is not known, or an expression chooses none."""

    code = "target.not_found"


class TargetError(InvalidError):
    """The workers are named in no way, in two, or one of them twice."""

    code = "target.invalid"


class KeyUsedError(ConflictError):
    """The idempotency key stands for another request."""

    code = "batch.key_used"


class ProcessBatches:
    """Takes batches, and carries those that have not ended."""

    def __init__(self, *, ledger: Ledger, fleet: Fleet, audit: Audit, clock: Clock) -> None:
        """Nothing is carried before `open`."""
        self._ledger = ledger
        self._fleet = fleet
        self._audit = audit
        self._clock = clock
        self._carried: dict[str, ProcessBatch] = {}
        self._by_process: dict[str, ProcessBatch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._taking: set[str] = set()
        self._carrying: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take up every batch that has not ended, and that no other controller carries."""
        self._fleet.listen(on_change=self._heard, on_connect=self._connected)
        if self._fleet.exchange is not None:
            self._fleet.exchange.on["batch"] = self._heard_of
            self._carrying = asyncio.create_task(self._carry_on(self._fleet.exchange))
            return
        for state in (BatchState.RUNNING, BatchState.DRAINING, BatchState.STOPPING):
            after: str | None = None
            while True:
                query = BatchQuery(state=state, after=after, limit=_PAGE)
                page = await self._ledger.batches(query)
                for batch in page.items:
                    await self._carry(batch.batch_id)
                after = page.next
                if after is None:
                    break

    async def close(self) -> None:
        """Leave every batch to its rows."""
        tasks = list(self._tasks.values())
        if self._carrying is not None:
            tasks.append(self._carrying)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def add(self, request: BatchRequest, *, by: Principal) -> BatchAnswer:
        """Keep a batch, and begin it; or, by its key, answer with the one that it made before.

        Raises `TargetError`, `TargetSyntaxError`, `TargetNotFoundError`, `KeyUsedError`.
        """
        now = self._clock.now()
        key = _key(request, now)
        if key is not None and (kept := await self._ledger.kept_batch(by.name, key)) is not None:
            return await self._again(kept, key)  # also when its workers are no more
        chosen = await self._choose(request)
        batch = _batch(request, chosen, by=by, now=now)
        processes = [_process(batch, worker) for worker in chosen]
        kept = await self._ledger.add_batch(batch, _work(request, by), processes, key=key)
        if key is not None and kept.batch_id != batch.batch_id:
            return await self._again(kept, key)
        log.info(
            "batch.requested",
            batch_id=batch.batch_id,
            command=batch.command,
            workers=batch.workers,
            by=by.name,
        )
        await self._carry(batch.batch_id)
        return _answer(kept.batch_id, processes)

    async def _again(self, kept: KeptBatch, key: IdempotencyKey) -> BatchAnswer:
        """The first answer to a request that is made again. Raises `KeyUsedError`."""
        if kept.digest != key.digest:
            raise KeyUsedError(
                f"the idempotency key {key.key!r} stands for another request",
                remedy="give each request a key of its own",
            )
        return _answer(kept.batch_id, await self._ledger.batch_processes(kept.batch_id))

    async def stop(
        self, batch_id: str, *, grace_seconds: float | None, by: Principal
    ) -> BatchReport:
        """End a batch on all its workers; returns when each that is there has answered.

        On those that are away it is ended when they are back. Raises `BatchNotFoundError`.
        """
        reason = f"stopped by {by.name}"
        carried = self._carried.get(batch_id)
        processes: Iterable[Process] = ()
        if carried is not None:
            await carried.stop(reason)
            processes = list(carried.processes.values())
        elif self._fleet.exchange is not None:
            processes = await self._stop_elsewhere(self._fleet.exchange, batch_id, reason)
        await asyncio.gather(
            *(
                self._fleet.stop_one(process, by=by, grace_seconds=grace_seconds)
                for process in processes
                if process.state in OPEN_STATES and process.state is not ProcessState.WAITING
            ),
            return_exceptions=True,  # what each came to is in its row
        )
        log.info("batch.stopped", batch_id=batch_id, by=by.name)
        return await self.report(batch_id)

    async def _stop_elsewhere(
        self, exchange: FleetExchange, batch_id: str, reason: str
    ) -> list[Process]:
        """Have a batch given to nobody any more that another controller carries; its processes."""
        batch = await self._ledger.change_batch(
            batch_id, BatchState.STOPPING, now=self._clock.now(), reason=reason
        )
        if batch is None or batch.state is BatchState.ENDED:
            return []
        await self._ledger.skip_processes(batch_id, before_its_turn(reason))
        await exchange.crossing.ring_all(f"batch {batch_id}")
        return await self._ledger.batch_processes(batch_id)

    async def report(self, batch_id: str) -> BatchReport:
        """How a batch stands, with a result for each worker. Raises `BatchNotFoundError`."""
        batch = await self._ledger.batch(batch_id)
        if batch is None:
            raise BatchNotFoundError(f"no batch has the id {batch_id!r}")
        processes = await self._ledger.batch_processes(batch_id)
        failed = sum(map(has_failed, processes))
        open_ = batch.state is not BatchState.ENDED
        return BatchReport(
            batch=batch,
            succeeded=False if failed else None if open_ else True,
            failed=failed,
            counts=dict(Counter(process.state.value for process in processes)),
            processes=tuple(await self._fleet.as_known(processes)),
        )

    async def page(self, *, state: BatchState | None, after: str | None, limit: int) -> Page[Batch]:
        """Batches, newest first."""
        return await self._ledger.batches(BatchQuery(state=state, after=after, limit=limit))

    async def follow(self, batch_id: str) -> AsyncIterator[Process | BatchReport]:
        """Each process as it is and whenever it changes; at the end of the batch, its report.

        Raises `BatchNotFoundError`.
        """
        told: dict[str, Process] = {}
        if (carried := self._carried.get(batch_id)) is not None:
            async for process in carried.follow():
                told[process.process_id] = process
                [known] = await self._fleet.as_known([process])
                yield known
        while True:
            report = await self.report(batch_id)
            for process in report.processes:
                before = told.get(process.process_id)
                if before is None or before.state is not process.state:
                    told[process.process_id] = process
                    yield process
            if report.batch.state is BatchState.ENDED:
                yield report
                return
            await self._clock.sleep(_FOLLOW_SECONDS)  # another controller carries it

    # choosing

    async def _choose(self, request: BatchRequest) -> list[Worker]:
        if (request.on is None) == (not request.workers):
            raise TargetError("expected either `workers` or `on`, and not both")
        known = await self._ledger.workers()
        if request.on is not None:
            chooses = targets.parse(request.on)
            chosen = [worker for worker in known if chooses(worker)]
            if not chosen:
                raise TargetNotFoundError(
                    f"on: no worker is {request.on!r}", remedy="GET /api/v1/workers lists them"
                )
            if len(chosen) > WORKERS:
                raise TargetError(f"on: expected at most {WORKERS} workers, got {len(chosen)}")
            return chosen
        by_id = {worker.worker_id: worker for worker in known}
        for worker_id, times in Counter(request.workers).items():
            if worker_id not in by_id:
                raise TargetNotFoundError(f"workers: no worker has the id {worker_id[:100]!r}")
            if times > 1:
                raise TargetError(f"workers: {worker_id} is named {times} times")
        return [by_id[worker_id] for worker_id in request.workers]

    # carrying

    async def _carry_on(self, exchange: FleetExchange) -> None:
        """Carry on what is carried here, and take up what nobody does; until cancelled."""
        rounds = 0
        while True:
            before = set(self._carried)
            try:
                mine = await exchange.crossing.carry()
                for batch_id in mine - set(self._carried):
                    log.info("batch.taken_up", batch_id=batch_id)
                    await self._carry(batch_id)
            except LedgerUnavailableError as error:
                log.warning("batch.not_carried", reason=error.text)
            except Exception as error:  # a fault of ours: the others are carried on
                log.error("batch.fault", exc_info=error)
            else:
                for batch_id in before - mine:
                    self._leave(batch_id)
            if exchange.crossing.deaf is not None or rounds % _ROUNDS_TO_LOOK == 0:
                for carried in self._carried.values():
                    carried.heard_of_all()
            rounds += 1
            await self._clock.sleep(_CARRY_SECONDS)

    def _leave(self, batch_id: str) -> None:
        """Another controller carries it by now."""
        carried, task = self._carried.get(batch_id), self._tasks.get(batch_id)
        if carried is not None and task is not None:
            log.warning("batch.left", batch_id=batch_id)
            carried.leave()
            task.cancel()

    def _heard_of(self, batch_id: str) -> None:
        if (carried := self._carried.get(batch_id)) is not None:
            carried.heard_of_all()

    async def _carry(self, batch_id: str) -> None:
        if batch_id in self._taking or batch_id in self._carried:
            return
        self._taking.add(batch_id)
        try:
            await self._take(batch_id)
        finally:
            self._taking.discard(batch_id)

    async def _take(self, batch_id: str) -> None:
        batch = await self._ledger.batch(batch_id)
        work = await self._ledger.batch_work(batch_id)
        if batch is None or work is None:
            return
        carried = ProcessBatch(
            batch,
            work,
            await self._ledger.batch_processes(batch_id),
            ledger=self._ledger,
            fleet=self._fleet,
            audit=self._audit,
            clock=self._clock,
        )
        self._carried[batch_id] = carried
        self._by_process.update(dict.fromkeys(carried.processes, carried))
        self._tasks[batch_id] = asyncio.create_task(self._run(carried), name=f"batch {batch_id}")

    async def _run(self, carried: ProcessBatch) -> None:
        batch_id = carried.batch.batch_id
        try:
            await carried.run()
        except Exception as error:  # a fault of ours: its rows stay, and are taken up again
            log.error("batch.fault", batch_id=batch_id, exc_info=error)
        finally:
            for process_id in carried.processes:
                self._by_process.pop(process_id, None)
            self._carried.pop(batch_id, None)
            self._tasks.pop(batch_id, None)

    def _heard(self, process_id: str) -> None:
        if (carried := self._by_process.get(process_id)) is not None:
            carried.heard(process_id)

    def _connected(self, worker_id: str) -> None:
        for carried in self._carried.values():
            carried.connected(worker_id)


def _answer(batch_id: str, processes: Iterable[Process]) -> BatchAnswer:
    return BatchAnswer(
        batch_id=batch_id,
        processes=tuple(
            BatchMember(worker_id=each.worker_id, process_id=each.process_id) for each in processes
        ),
    )


def _batch(request: BatchRequest, chosen: Sequence[Worker], *, by: Principal, now: float) -> Batch:
    return Batch(
        batch_id=str(uuid.uuid4()),
        command=request.command,
        path=request.path,
        arguments=request.arguments,
        environment=tuple(sorted({*request.environment, *request.secret_environment})),
        standard_input_bytes=len(request.standard_input),
        limits=request.limits,
        time_to_live=request.time_to_live,
        target=request.on or f"{len(chosen)} named",
        workers=len(chosen),
        width=request.width,
        stop_above=request.stop_above,
        requested_at=now,
        requested_by=by.name,
    )


def _work(request: BatchRequest, by: Principal) -> BatchWork:
    secrets = {name: Secret(value) for name, value in request.secret_environment.items()}
    return BatchWork(
        environment=request.environment,
        secret_environment=secrets,
        standard_input=request.standard_input,
        role=by.role.value,
        address=by.address,
    )


def _process(batch: Batch, worker: Worker) -> Process:
    return Process(
        process_id=str(uuid.uuid4()),
        worker_id=worker.worker_id,
        command=batch.command,
        path=batch.path or "",
        arguments=batch.arguments,
        state=ProcessState.WAITING,
        requested_at=batch.requested_at,
        requested_by=batch.requested_by,
        batch_id=batch.batch_id,
    )


def _key(request: BatchRequest, now: float) -> IdempotencyKey | None:
    if request.idempotency_key is None:
        return None
    # In one order, whatever the order of the body's fields was.
    body = msgspec.json.encode(request, order="sorted")
    return IdempotencyKey(
        key=request.idempotency_key,
        digest=hashlib.sha256(body).hexdigest(),
        since=now - KEY_SECONDS,
    )

"""Commands on demand: start, stop, query, and read what they write."""

import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.access import Principal
from roundsman.controller.audit import Audit, asked
from roundsman.controller.fleet_exchange import FleetExchange, NobodyHasItError
from roundsman.controller.fleet_hub import FleetHub, Socket
from roundsman.controller.fleet_link import WorkerNotConnectedError, WorkerSilentError
from roundsman.controller.query_answers import QueryAnswers
from roundsman.errors import NotFoundError, RoundsmanError
from roundsman.ledger.crossing import OrderAnswer
from roundsman.ledger.interface import Ledger, LedgerUnavailableError, ProcessChange
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome
from roundsman.wire.batch import StopReport
from roundsman.wire.control import Bound, StartProcess, StopFinished, StopProcess
from roundsman.wire.process import (
    OutputChunk,
    Process,
    ProcessRequest,
    ProcessState,
    QueryAnswer,
    StartRequest,
)

log = logs.get(__name__)

ANSWER_SECONDS: Final = 10.0
"""How long a connected worker may take to answer; it answers within milliseconds."""


class WorkerUnknownError(NotFoundError):
    """No worker has this id; in the words of the published contract."""

    code = "fleet.worker_not_found"

    def __init__(self) -> None:
        """Nothing to add."""
        super().__init__("worker not found")


class JobUnknownError(NotFoundError):
    """This worker has no such process; in the words of the published contract."""

    code = "fleet.job_not_found"

    def __init__(self) -> None:
        """Nothing to add."""
        super().__init__("job not found")


class ProcessNotFoundError(NotFoundError):
    """No process has this id."""

    code = "process.not_found"


class StartRefusedError(RoundsmanError):
    """The worker did not start it; the text is its reason."""

    code = "fleet.start_refused"


class GroupLeftError(RoundsmanError):
    """The process group was killed, and somebody of it is still there."""

    code = "fleet.group_left"


FLEET_ERRORS: Final = (
    WorkerUnknownError,
    JobUnknownError,
    WorkerNotConnectedError,
    WorkerSilentError,
    StartRefusedError,
    GroupLeftError,
)
"""What the published contract answers with 500, each with its text."""


class Started(NamedTuple):
    """What became of a start that was begun."""

    process_id: str
    error: RoundsmanError | None = None
    """Why it does not run, and will not later either."""

    def result(self) -> str:
        """The id of what runs. Raises `StartRefusedError`, `WorkerSilentError`, and the like."""
        if self.error is not None:
            raise self.error
        return self.process_id


class Fleet:
    """Starts, stops and queries processes on workers."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        audit: Audit,
        clock: Clock,
        controller_id: str,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Keep processes in `ledger`; give a worker `answer_seconds` for each answer.

        Where controllers share the ledger, this one is `controller_id` to the others.
        """
        self._ledger = ledger
        self._audit = audit
        self._clock = clock
        self._answer_seconds = answer_seconds
        crossing = ledger.crossing(controller_id)
        self._hub = FleetHub(ledger=ledger, audit=audit, clock=clock, crossing=crossing)
        self.exchange: FleetExchange | None = None
        """The way to workers at other controllers; none where one controller has all."""
        self._answers = QueryAnswers(alone=crossing is None)
        self._hub.on_change = self._answers.changed
        if crossing is not None:
            self.exchange = FleetExchange(
                crossing, controller_id, hub=self._hub, audit=audit, clock=clock
            )

    def is_connected(self, worker_id: str) -> bool:
        """Whether a worker's control channel to this very controller is open now."""
        return self._hub.link(worker_id) is not None

    async def connected(
        self, worker_ids: Collection[str] | None = None
    ) -> dict[str, tuple[Bound, ...]]:
        """The workers that are connected, to whichever controller; of these, or of all.

        With what the machine of each gives processes, and what it lacks.
        """
        if self.exchange is not None:
            places = await self.exchange.connections(worker_ids)
            return {worker_id: place.bounds for worker_id, place in places.items()}
        return {
            link.worker_id: link.bounds
            for link in self._hub.ready()
            if worker_ids is None or link.worker_id in worker_ids
        }

    def disconnect(self, worker_id: str) -> None:
        """Close the control channel of a worker that was removed."""
        self._hub.disconnect(worker_id)

    async def close(self) -> None:
        """Close every control channel; whoever waits for a worker is told so."""
        self._hub.close()
        if self.exchange is not None:
            with suppress(LedgerUnavailableError):  # it does not live: nobody counts on it
                await self.exchange.crossing.leave()

    async def serve_worker(self, worker_id: str, socket: Socket, *, address: str | None) -> None:
        """Serve a worker's control connection until it ends."""
        await self._hub.serve(worker_id, socket, address=address)

    async def start(self, request: StartRequest, *, by: Principal) -> Started:
        """Start a command on a worker, and wait until it runs or is known not to.

        What was begun is in the audit, with its outcome, when this returns.
        Raises `WorkerUnknownError`, and `WorkerNotConnectedError` where nothing was begun.
        """
        process = Process(
            process_id=str(uuid.uuid4()),
            worker_id=request.worker_id,
            command=request.command,
            path=request.path,
            state=ProcessState.REQUESTED,
            requested_at=self._clock.now(),
            requested_by=by.name,
        )
        requested = self._audit.entry(
            AuditAction.START_PROCESS,
            AuditOutcome.REQUESTED,
            by=by,
            worker_id=process.worker_id,
            process_id=process.process_id,
            asked=asked(request.command, (request.path,)),
        )
        message = StartProcess(
            process_id=process.process_id,
            command=request.command,
            path=request.path,
            requested_by=by.name,
            roles=(by.role.value,),
        )
        try:
            refusal = await self._start(process, requested, message)
        except NobodyHasItError:
            await self._check_known(request.worker_id)
            raise
        except RoundsmanError as error:
            log.warning("fleet.not_started", process_id=process.process_id, reason=error.text)
            await self.forgo(process.worker_id, process.process_id)
            await self._audit.write(self._audit.after(requested, AuditOutcome.FAILED, error))
            return Started(process.process_id, error)
        if refusal is not None:
            return Started(process.process_id, StartRefusedError(refusal))
        log.info(
            "fleet.started",
            process_id=process.process_id,
            worker_id=process.worker_id,
            command=process.command,
            by=by.name,
        )
        return Started(process.process_id)

    async def _start(
        self, process: Process, requested: AuditEntry, message: StartProcess
    ) -> str | None:
        """Keep it and have it started, wherever its worker is; why it was refused."""

        def outcome(refusal: str | None) -> AuditEntry:
            if refusal is None:
                return self._audit.after(requested, AuditOutcome.DONE)
            return self._audit.after(requested, AuditOutcome.REFUSED, StartRefusedError(refusal))

        seconds = self._answer_seconds
        if self.exchange is not None:
            return await self.exchange.start(
                process, [requested], message, seconds=seconds, outcome=outcome
            )
        link = self._hub.link(process.worker_id)
        if link is None:
            raise NobodyHasItError
        await self._ledger.add_process(process, [requested])
        return await link.start(message, seconds=seconds, outcome=outcome)

    async def stop(self, request: ProcessRequest, *, by: Principal) -> None:
        """End a process with its whole group; returns when it is proven gone, and written so.

        One that has ended is stopped all the same, if its worker is there: somebody of its group
        may be left. If it is away, that is a success where nobody was seen left. Raises
        `WorkerUnknownError`, `JobUnknownError`, `WorkerNotConnectedError`, `WorkerSilentError`,
        `GroupLeftError`.
        """
        await self.stop_one(await self._find(request), by=by)

    async def stop_one(
        self, process: Process, *, by: Principal, grace_seconds: float | None = None
    ) -> None:
        """The same of a process that is known, with `grace_seconds` from SIGTERM to SIGKILL."""
        if process.state in (ProcessState.REFUSED, ProcessState.SKIPPED):
            return
        here = self._hub.link(process.worker_id) is not None
        if not here and not await self.connected([process.worker_id]):
            if process.gone:
                return
            raise WorkerNotConnectedError  # nobody can prove it
        await self._audit.write(
            self._audit.entry(
                AuditAction.STOP_PROCESS,
                AuditOutcome.REQUESTED,
                by=by,
                worker_id=process.worker_id,
                process_id=process.process_id,
            )
        )
        answer = await self._stop(
            process.worker_id,
            StopProcess(process_id=process.process_id, grace_seconds=grace_seconds),
            seconds=self._answer_seconds + (grace_seconds or 0.0),
        )
        if answer.error is not None and not process.done:
            raise JobUnknownError
        if answer.left:
            left = ", ".join(map(str, answer.left))
            raise GroupLeftError(f"process group not gone: still there: {left}")
        log.info("fleet.stopped", process_id=process.process_id, by=by.name)

    async def _stop(
        self, worker_id: str, message: StopProcess, *, seconds: float
    ) -> StopFinished | OrderAnswer:
        link = self._hub.link(worker_id)
        if link is not None:
            return await link.stop(message, seconds=seconds)
        if self.exchange is None:
            raise WorkerNotConnectedError
        return await self.exchange.stop(worker_id, message, seconds=seconds)

    async def query(self, request: ProcessRequest) -> QueryAnswer:
        """Whether a process has ended, and how, by the ledger.

        Raises `WorkerUnknownError`, `JobUnknownError`.
        """
        known = self._answers.get((request.worker_id, request.job_id))
        if known is not None:
            await self._check_known(request.worker_id)  # it may have been removed
            return known
        writes = self._answers.writes
        return self._answers.of(await self._find(request), as_of=writes)

    def listen(
        self, *, on_change: Callable[[str], None], on_connect: Callable[[str], None]
    ) -> None:
        """Tell the id of each process that something was written of, and of who has connected."""

        def on_change_here(process_id: str) -> None:
            self._answers.changed(process_id)
            on_change(process_id)

        self._hub.on_change = on_change_here
        if self.exchange is None:
            self._hub.on_connect = on_connect
            return
        exchange = self.exchange

        def on_connect_here(worker_id: str) -> None:
            exchange.look()
            on_connect(worker_id)

        self._hub.on_connect = on_connect_here
        exchange.on["process"] = on_change
        exchange.on["connected"] = on_connect

    async def give(self, message: StartProcess, worker_id: str) -> None:
        """Have a worker start a process whose row says so; what it answers is in the row then.

        Raises `WorkerNotConnectedError`, `WorkerSilentError`: it may run all the same.
        """
        link = self._hub.link(worker_id)
        if link is not None:
            await link.start(message, seconds=self._answer_seconds)
        elif self.exchange is not None:
            await self.exchange.give(worker_id, message, seconds=self._answer_seconds)
        else:
            raise WorkerNotConnectedError

    async def forgo(self, worker_id: str, process_id: str) -> None:
        """Nobody wants this process any more: have it stopped, now or when its worker is back."""
        if self.exchange is None or self._hub.link(worker_id) is not None:
            self._hub.forgo(worker_id, process_id)
        else:
            with suppress(LedgerUnavailableError):  # who is not answered is stopped when it is back
                await self.exchange.forgo(worker_id, process_id)

    async def as_known(self, processes: Iterable[Process]) -> list[Process]:
        """The same, each with how old the knowledge of it is."""
        processes = list(processes)
        open_ones = {each.worker_id for each in processes if _may_change(each)}
        connected = await self.connected(open_ones) if open_ones else {}
        now = self._clock.now()
        return [
            _as_known(each, now, connected=each.worker_id in connected)
            if _may_change(each)
            else each
            for each in processes
        ]

    async def find(self, process_id: str) -> Process:
        """One process, with how old the knowledge of it is. Raises `ProcessNotFoundError`."""
        process = await self._ledger.process(process_id)
        if process is None:
            raise ProcessNotFoundError(f"no process has the id {process_id!r}")
        [known] = await self.as_known([process])
        return known

    async def stop_process(
        self, process_id: str, *, grace_seconds: float | None, by: Principal
    ) -> StopReport:
        """End a process with all that it started, and say what was proven.

        One that waits for its turn in a batch is skipped. Raises `ProcessNotFoundError`,
        `WorkerNotConnectedError`, `WorkerSilentError`.
        """
        process = await self.find(process_id)
        if process.state is ProcessState.WAITING:
            skip = ProcessChange(
                process_id=process_id,
                worker_id=process.worker_id,
                state=ProcessState.SKIPPED,
                at=self._clock.now(),
                error=f"stopped by {by.name} before its turn",
            )
            await self._ledger.change_process(skip)
            self._hub.on_change(process_id)
            process = await self.find(process_id)  # its turn may have come meanwhile
        with suppress(GroupLeftError):
            await self.stop_one(process, by=by, grace_seconds=grace_seconds)
        process = await self.find(process_id)
        return StopReport(gone=process.gone, process=process)

    async def output(
        self, process_id: str, *, after: int, follow: bool
    ) -> AsyncIterator[tuple[OutputChunk, ...]]:
        """What a process wrote after that chunk; with `follow`, as it comes until it has ended.

        Raises `JobUnknownError`, `WorkerNotConnectedError`; reading on raises the latter too, and
        `OutputNotFoundError`.
        """
        process = await self._ledger.process(process_id)
        if process is None:
            raise JobUnknownError
        link = self._hub.link(process.worker_id)
        if link is None:
            raise WorkerNotConnectedError
        return link.read(process_id, after=after, follow=follow)

    async def elsewhere(self, process_id: str) -> str | None:
        """The other controller that has a process' worker; none: no other one has it."""
        process = await self._ledger.process(process_id)
        if process is None or self.exchange is None:
            return None
        place = (await self.exchange.connections([process.worker_id])).get(process.worker_id)
        if place is None or place.controller_id == self.exchange.controller_id:
            return None
        return place.controller_id

    async def _find(self, request: ProcessRequest) -> Process:
        process = await self._ledger.process(request.job_id)
        await self._check_known(request.worker_id)
        if process is None or process.worker_id != request.worker_id:
            raise JobUnknownError
        return process

    async def _check_known(self, worker_id: str) -> None:
        """Raises `WorkerUnknownError`."""
        if self._hub.link(worker_id) is None and await self._ledger.worker(worker_id) is None:
            raise WorkerUnknownError


def _may_change(process: Process) -> bool:
    return not process.done and process.state is not ProcessState.WAITING


def _as_known(process: Process, now: float, *, connected: bool) -> Process:
    if connected:
        return msgspec.structs.replace(process, last_seen_at=now, age_seconds=0.0)
    since = process.last_seen_at or process.requested_at
    return msgspec.structs.replace(process, age_seconds=max(0.0, now - since))

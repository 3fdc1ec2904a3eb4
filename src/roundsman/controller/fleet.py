"""Commands on demand: start, stop, query, and read what they write."""

import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.access import Principal
from roundsman.controller.audit import Audit, asked
from roundsman.controller.fleet_hub import FleetHub, Socket
from roundsman.controller.fleet_link import (
    WorkerLink,
    WorkerNotConnectedError,
    WorkerSilentError,
)
from roundsman.errors import NotFoundError, RoundsmanError
from roundsman.ledger.interface import Ledger, ProcessChange
from roundsman.wire.audit import AuditAction, AuditOutcome
from roundsman.wire.batch import StopReport
from roundsman.wire.control import Bound, StartProcess, StopProcess
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


_FINAL_ANSWERS: Final = 10_000  # kept so that asking again costs no look at the ledger


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
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Keep processes in `ledger`; give a worker `answer_seconds` for each answer."""
        self._ledger = ledger
        self._audit = audit
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._final: OrderedDict[tuple[str, str], QueryAnswer] = OrderedDict()  # old first
        self._hub = FleetHub(ledger=ledger, audit=audit, clock=clock)

    def is_connected(self, worker_id: str) -> bool:
        """Whether a worker's control channel is open now."""
        return self._hub.link(worker_id) is not None

    def bounds(self, worker_id: str) -> tuple[Bound, ...]:
        """What a connected worker's machine gives processes, and what it lacks."""
        link = self._hub.link(worker_id)
        return () if link is None else link.bounds

    def disconnect(self, worker_id: str) -> None:
        """Close the control channel of a worker that was removed."""
        self._hub.disconnect(worker_id)

    def close(self) -> None:
        """Close every control channel; whoever waits for a worker is told so."""
        self._hub.close()

    async def serve_worker(self, worker_id: str, socket: Socket, *, address: str | None) -> None:
        """Serve a worker's control connection until it ends."""
        await self._hub.serve(worker_id, socket, address=address)

    async def start(self, request: StartRequest, *, by: Principal) -> Started:
        """Start a command on a worker, and wait until it runs or is known not to.

        Raises `WorkerUnknownError`, and `WorkerNotConnectedError` where nothing was begun.
        """
        link = await self._link(request.worker_id)
        if link is None:
            raise WorkerNotConnectedError
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
        await self._ledger.add_process(process, [requested])
        try:
            refusal = await link.start(
                StartProcess(
                    process_id=process.process_id,
                    command=request.command,
                    path=request.path,
                    requested_by=by.name,
                    roles=(by.role.value,),
                ),
                seconds=self._answer_seconds,
            )
        except RoundsmanError as error:
            log.warning("fleet.not_started", process_id=process.process_id, reason=error.text)
            self._hub.forgo(process.worker_id, process.process_id)
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

    async def stop(self, request: ProcessRequest, *, by: Principal) -> None:
        """End a process with its whole group; returns when it is proven gone, and written so.

        One that has ended is stopped all the same, if its worker is there: somebody of its group
        may be left. Raises `WorkerUnknownError`, `JobUnknownError`, `WorkerNotConnectedError`,
        `WorkerSilentError`, `GroupLeftError`.
        """
        await self.stop_one(await self._find(request), by=by)

    async def stop_one(
        self, process: Process, *, by: Principal, grace_seconds: float | None = None
    ) -> None:
        """The same of a process that is known, with `grace_seconds` from SIGTERM to SIGKILL."""
        if process.state in (ProcessState.REFUSED, ProcessState.SKIPPED):
            return
        link = self._hub.link(process.worker_id)
        if link is None:
            if process.done:
                return
            raise WorkerNotConnectedError
        await self._audit.write(
            self._audit.entry(
                AuditAction.STOP_PROCESS,
                AuditOutcome.REQUESTED,
                by=by,
                worker_id=process.worker_id,
                process_id=process.process_id,
            )
        )
        answer = await link.stop(
            StopProcess(process_id=process.process_id, grace_seconds=grace_seconds),
            seconds=self._answer_seconds + (grace_seconds or 0.0),
        )
        if answer.error is not None and not process.done:
            raise JobUnknownError
        if answer.left:
            left = ", ".join(map(str, answer.left))
            raise GroupLeftError(f"process group not gone: still there: {left}")
        log.info("fleet.stopped", process_id=process.process_id, by=by.name)

    async def query(self, request: ProcessRequest) -> QueryAnswer:
        """Whether a process has ended, and how, by the ledger.

        Raises `WorkerUnknownError`, `JobUnknownError`.
        """
        key = (request.worker_id, request.job_id)
        if (final := self._final.get(key)) is not None:
            await self._link(request.worker_id)  # it may have been removed
            return final
        process = await self._find(request)
        error_text = process.error_text
        answer = QueryAnswer(done=process.done, error=bool(error_text), error_text=error_text)
        if process.done:  # for good
            self._final[key] = answer
            if len(self._final) > _FINAL_ANSWERS:
                self._final.popitem(last=False)
        return answer

    def listen(
        self, *, on_change: Callable[[str], None], on_connect: Callable[[str], None]
    ) -> None:
        """Tell the id of each process that something was written of, and of who has connected."""
        self._hub.on_change = on_change
        self._hub.on_connect = on_connect

    async def give(self, message: StartProcess, worker_id: str) -> None:
        """Have a worker start a process whose row says so; what it answers is in the row then.

        Raises `WorkerNotConnectedError`, `WorkerSilentError`: it may run all the same.
        """
        link = self._hub.link(worker_id)
        if link is None:
            raise WorkerNotConnectedError
        await link.start(message, seconds=self._answer_seconds)

    def forgo(self, worker_id: str, process_id: str) -> None:
        """Nobody wants this process any more: have it stopped, now or when its worker is back."""
        self._hub.forgo(worker_id, process_id)

    def as_known(self, process: Process) -> Process:
        """With how old the knowledge of it is."""
        if process.done or process.state is ProcessState.WAITING:
            return process
        now = self._clock.now()
        if self._hub.link(process.worker_id) is not None:
            return msgspec.structs.replace(process, last_seen_at=now, age_seconds=0.0)
        since = process.last_seen_at or process.requested_at
        return msgspec.structs.replace(process, age_seconds=max(0.0, now - since))

    async def find(self, process_id: str) -> Process:
        """One process, with how old the knowledge of it is. Raises `ProcessNotFoundError`."""
        process = await self._ledger.process(process_id)
        if process is None:
            raise ProcessNotFoundError(f"no process has the id {process_id!r}")
        return self.as_known(process)

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
        left = process.stop.left if process.stop is not None else ()
        return StopReport(gone=process.done and not left, process=process)

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

    async def _find(self, request: ProcessRequest) -> Process:
        process = await self._ledger.process(request.job_id)
        if process is not None and process.worker_id == request.worker_id:
            await self._link(request.worker_id)
            return process
        await self._link(request.worker_id)
        raise JobUnknownError

    async def _link(self, worker_id: str) -> WorkerLink | None:
        """The way to a worker, none when it is not connected. Raises `WorkerUnknownError`."""
        link = self._hub.link(worker_id)
        if link is None and await self._ledger.worker(worker_id) is None:
            raise WorkerUnknownError
        return link

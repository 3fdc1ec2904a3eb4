"""Commands on demand: start, stop, query, and read what they write."""

import uuid
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

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
from roundsman.ledger.interface import Ledger
from roundsman.wire.audit import AuditAction, AuditOutcome
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
        self._hub = FleetHub(ledger=ledger, audit=audit, clock=clock)

    def is_connected(self, worker_id: str) -> bool:
        """Whether a worker's control channel is open now."""
        return self._hub.link(worker_id) is not None

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
                process.process_id, request.command, request.path, seconds=self._answer_seconds
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
        process = await self._find(request)
        if process.state is ProcessState.REFUSED:
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
        answer = await link.stop(process.process_id, seconds=self._answer_seconds)
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
        process = await self._find(request)
        error_text = process.error_text
        return QueryAnswer(done=process.done, error=bool(error_text), error_text=error_text)

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

"""The connections of all workers, and what they report, brought into the ledger.

The ledger is the truth. What a worker says is written there first; only then is it acknowledged to
the worker, and only then does whoever waits for it get an answer. A worker's reports are written
in the order in which they came: what comes while some are being written waits, and is written
together.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeAlias

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.config.records import Role
from roundsman.controller.access import Principal
from roundsman.controller.audit import Audit
from roundsman.controller.fleet_link import WorkerLink
from roundsman.ledger.crossing import Crossing
from roundsman.ledger.interface import (
    Ledger,
    LedgerUnavailableError,
    ProcessChange,
    ProcessQuery,
)
from roundsman.wire import codec, framing
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome
from roundsman.wire.control import (
    Acknowledge,
    Hello,
    Output,
    ProcessChanged,
    StopFinished,
    StopProcess,
    ToController,
)
from roundsman.wire.process import Process, ProcessState

log = logs.get(__name__)

MESSAGE_BYTES: Final = 1 << 20
"""The largest message either side takes."""

NEVER_STARTED: Final = "it never reached the worker"
GIVEN_UP: Final = "it was given up before it ran"
NOT_KNOWN: Final = "the worker no longer knows it; how it ended is not known"

_HELLO_SECONDS: Final = 10.0
_MAX_PENDING: Final = 64  # reports of one worker that wait; beyond, it is not read
_GATHERING_SECONDS: Final = 0.01  # how long an end that nobody waits for may wait for company
_LEDGER_PAUSE_SECONDS: Final = 1.0
_PAGE: Final = 500
_GIVEN_UP: Final = (ProcessState.REFUSED, ProcessState.SKIPPED, ProcessState.UNKNOWN)

_Report: TypeAlias = ProcessChanged | StopFinished | Output

_decoder: msgspec.json.Decoder[ToController] = msgspec.json.Decoder(ToController)


class Socket(Protocol):
    """The socket of a control connection, whatever framework holds it."""

    async def accept(self) -> None:
        """Let the worker in, whose first message comes after this."""
        ...

    async def receive(self) -> str | None:
        """The next text message; none when the connection has ended."""
        ...

    async def send(self, text: str) -> None:
        """Send a text message; waits while the other side takes none."""
        ...


class FleetHub:
    """Holds a link for each connected worker."""

    def __init__(
        self, *, ledger: Ledger, audit: Audit, clock: Clock, crossing: Crossing | None
    ) -> None:
        """No worker is connected yet."""
        self._ledger = ledger
        self._crossing = crossing
        self._audit = audit
        self._clock = clock
        self._closing = False
        self._forgone: dict[str, set[str]] = {}  # by worker: starts that must not take effect
        self._newest: dict[str, WorkerLink] = {}
        self._ready: dict[str, WorkerLink] = {}  # those whose first message is dealt with
        self.on_change: Callable[[str], None] = lambda _: None
        """Told the id of each process of which something new was written."""
        self.on_connect: Callable[[str], None] = lambda _: None
        """Told the id of each worker that has connected."""

    def link(self, worker_id: str) -> WorkerLink | None:
        """The way to a worker; none when it is not connected."""
        return self._ready.get(worker_id)

    def settled(self, worker_id: str) -> WorkerLink | None:
        """The way to a worker of which the ledger says that it is here.

        There it stands a moment earlier than it is known to `link`.
        """
        link = self._newest.get(worker_id)
        return link if link is not None and link.settled else None

    def ready(self) -> list[WorkerLink]:
        """The ways to all workers that are connected."""
        return list(self._ready.values())

    def links(self) -> list[WorkerLink]:
        """All connections, also those whose worker has not said anything yet."""
        return list(self._newest.values())

    def forgo(self, worker_id: str, process_id: str) -> None:
        """Nobody waits for this start any more: have it stopped, now or when the worker is back.

        What a controller forgets of this by a restart, the ledger knows: a process that is asked
        for and not answered is stopped when its worker reports it.
        """
        self._forgone.setdefault(worker_id, set()).add(process_id)
        if (link := self.link(worker_id)) is not None:
            link.send(StopProcess(process_id=process_id))

    def disconnect(self, worker_id: str) -> None:
        """Close a worker's connection, if it has one."""
        if (link := self._newest.get(worker_id)) is not None:
            link.close()

    def close(self) -> None:
        """Close every connection, and take no more."""
        self._closing = True
        for link in self._newest.values():
            link.close()

    async def serve(self, worker_id: str, socket: Socket, *, address: str | None) -> None:
        """Serve a worker's connection until it ends, or is replaced by a newer one.

        Its term is taken before the worker is let in: so what the worker says first is newer than
        all that was said under earlier terms, also by a controller that stood still meanwhile.
        """
        try:
            term = None if self._crossing is None else await self._crossing.connect(worker_id)
        except LedgerUnavailableError as error:
            log.warning("control.not_taken", worker_id=worker_id, reason=error.text)
            await socket.accept()  # a worker that is not let in takes its token for refused
            return
        await socket.accept()
        if self._closing:
            return
        link = WorkerLink(worker_id, term)
        if (older := self._newest.get(worker_id)) is not None:
            log.warning("control.replaced", worker_id=worker_id, address=address)
            older.close()
        self._newest[worker_id] = link
        forgone = self._forgone.setdefault(worker_id, set())
        session = _Session(
            self._ledger,
            self._audit,
            self._clock,
            link,
            crossing=self._crossing,
            forgone=forgone,
            address=address,
            on_change=self.on_change,
        )
        tasks = [
            asyncio.create_task(self._receive(session, socket, address)),
            asyncio.create_task(_send(link, socket)),
            asyncio.create_task(session.write()),
            asyncio.create_task(link.closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.close()
            for links in (self._newest, self._ready):
                if links.get(worker_id) is link:
                    del links[worker_id]
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    _tell(worker_id, outcome)
            await session.note_seen()
            if self._crossing is not None and term is not None:
                with suppress(LedgerUnavailableError):  # looked after, since it does not live
                    await self._crossing.disconnect(worker_id, term)
            log.info("control.disconnected", worker_id=worker_id)

    async def _receive(self, session: "_Session", socket: Socket, address: str | None) -> None:
        link = session.link
        async with asyncio.timeout(_HELLO_SECONDS):
            hello = _decode(link, await socket.receive())
        if not isinstance(hello, Hello):
            log.warning("control.no_hello", worker_id=link.worker_id)
            return
        await self._ledger.touch_worker(
            link.worker_id,
            now=self._clock.now(),
            address=address,
            version=hello.version,
            tags=hello.tags,
        )
        link.bounds = hello.bounds
        if hello.arrays:
            link.arrays = True
            await socket.send(framing.NOTHING)
        await session.settle(hello)
        link.settled = True
        if link.closed.is_set() or not await session.make_ready():
            return
        self._ready[link.worker_id] = link
        for process_id in session.forgone:
            link.send(StopProcess(process_id=process_id))
        self.on_connect(link.worker_id)
        log.info("control.connected", worker_id=link.worker_id, address=address)
        while (frame := await socket.receive()) is not None:
            for text in _messages(link, frame):
                if (message := _decode(link, text)) is not None:
                    await session.take(message)


def _tell(worker_id: str, error: Exception) -> None:
    """Why a connection ended; with a trace where nobody had foreseen it."""
    if isinstance(error, LedgerUnavailableError):
        log.warning("control.failed", worker_id=worker_id, reason=str(error))
    elif isinstance(error, TimeoutError):
        log.warning("control.no_hello", worker_id=worker_id)
    else:
        log.warning("control.failed", worker_id=worker_id, exc_info=error)


class _Session:
    """What one connection reports, on its way into the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        audit: Audit,
        clock: Clock,
        link: WorkerLink,
        *,
        crossing: Crossing | None,
        forgone: set[str],
        address: str | None,
        on_change: Callable[[str], None],
    ) -> None:
        self.link = link
        self._crossing = crossing
        self._on_change = on_change
        self.forgone = forgone
        self._ledger = ledger
        self._audit = audit
        self._worker = Principal(
            name=link.worker_id, role=Role.WORKER, address=address, worker_id=link.worker_id
        )
        self._clock = clock
        self._reports: asyncio.Queue[_Report] = asyncio.Queue(_MAX_PENDING)
        self._pending: Counter[str] = Counter()  # reports by process, waiting or being written

    async def take(self, message: ToController) -> None:
        """Deal with a message; waits only while too many reports wait to be written."""
        match message:
            case Output(request_id=request_id, end=end):
                process_id = self.link.read_by(request_id)
                if end and process_id is not None and self._pending[process_id]:
                    # Who has read to the end is to find it ended.
                    await self._reports.put(message)
                else:
                    self.link.output(message)
            case ProcessChanged() | StopFinished():
                await self._report(message)
            case Hello():
                log.warning("control.second_hello", worker_id=self.link.worker_id)

    async def write(self) -> None:
        """Write reports as they come; what is not written when this ends is said again."""
        while True:
            reports = await self._gathered()
            # The order in which a worker tells of one process.
            if changes := [each for each in reports if isinstance(each, ProcessChanged)]:
                await self._write_changes(changes)
            if stops := [each for each in reports if isinstance(each, StopFinished)]:
                await asyncio.gather(*map(self._write_stop, stops))
            for report in reports:
                if isinstance(report, Output):
                    self.link.output(report)
                else:
                    self._pending[report.process_id] -= 1
            self._pending = +self._pending

    async def _gathered(self) -> list[_Report]:
        """What has come. An end that nobody waits for is given a moment for others to join it.

        Most ends are then written together with the answer to another start.
        """
        reports = [await self._reports.get()]
        if not self._is_awaited(reports[0]):
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHERING_SECONDS):
                    while not self._is_awaited(reports[-1]) and len(reports) < _MAX_PENDING:
                        reports.append(await self._reports.get())
        while not self._reports.empty():
            reports.append(self._reports.get_nowait())
        return reports

    def _is_awaited(self, report: _Report) -> bool:
        """Whether somebody waits until it is written."""
        return not isinstance(report, ProcessChanged) or self.link.is_asked(report.process_id)

    async def _report(self, report: ProcessChanged | StopFinished) -> None:
        self._pending[report.process_id] += 1
        await self._reports.put(report)

    async def settle(self, hello: Hello) -> None:
        """Bring ledger and worker together after a time apart."""
        reported = {change.process_id for change in hello.processes}
        awaited = await self._awaited_elsewhere()
        unanswered = set()
        async for process in self._open_processes():
            if process.process_id in awaited:
                continue  # it is given, and answered, as soon as this worker is ready
            if process.process_id in reported:
                # Whoever asked for it by itself was told that it did not start; a batch goes on.
                if process.state is ProcessState.REQUESTED and process.batch_id is None:
                    unanswered.add(process.process_id)
                continue
            if process.state is ProcessState.REQUESTED:
                if process.batch_id is not None:
                    continue  # its batch asks again
                await self._end(process.process_id, ProcessState.REFUSED, NEVER_STARTED)
            else:
                await self._end(process.process_id, ProcessState.UNKNOWN, NOT_KNOWN)
        for change in hello.processes:
            await self._report(change)
            if change.process_id in unanswered and change.state is ProcessState.RUNNING:
                self.link.send(StopProcess(process_id=change.process_id))

        await self.note_seen()

    async def make_ready(self) -> bool:
        """Say that the worker is here; false when a newer connection has taken its place."""
        if self._crossing is None or self.link.term is None:
            return True
        return await self._crossing.make_ready(
            self.link.worker_id, self.link.term, self.link.bounds
        )

    async def _awaited_elsewhere(self) -> set[str]:
        """Processes of this worker whose start another controller waits for."""
        if self._crossing is None:
            return set()
        return await self._crossing.ordered_starts(self.link.worker_id)

    async def note_seen(self) -> None:
        """Note that until now it was known how its processes stand."""
        with suppress(LedgerUnavailableError):
            await self._ledger.touch_processes(self.link.worker_id, self._clock.now())

    async def _open_processes(self) -> AsyncIterator[Process]:
        for state in (ProcessState.REQUESTED, ProcessState.RUNNING):
            after = None
            while True:
                page = await self._ledger.processes(
                    ProcessQuery(
                        worker_id=self.link.worker_id, state=state, after=after, limit=_PAGE
                    )
                )
                for process in page.items:
                    yield process
                after = page.next
                if after is None:
                    break

    async def _write_changes(self, changes: Sequence[ProcessChanged]) -> None:
        """Write how processes stand, then acknowledge and answer."""
        states = await self._keep(changes, seen_at=self._clock.now())
        for change, state in zip(changes, states, strict=True):
            if state is None:
                await self._note_unclaimed(change)
            if change.state is not ProcessState.RUNNING:
                self.forgone.discard(change.process_id)
                self.link.send(Acknowledge(process_id=change.process_id))
            elif state in _GIVEN_UP:
                # It was given up meanwhile: nobody would look after it.
                self.link.send(StopProcess(process_id=change.process_id))
                if (line := self.link.outcome(change.process_id, GIVEN_UP)) is not None:
                    await self._audit.write(line)  # after the one that took it for running
            self.link.started(change.process_id, _refusal(change, state))

    async def _note_unclaimed(self, change: ProcessChanged) -> None:
        log.warning(
            "process.unclaimed",
            worker_id=self.link.worker_id,
            process_id=change.process_id,
            state=change.state.value,
        )
        await self._audit.count(
            self._audit.entry(
                AuditAction.REPORT_PROCESS,
                AuditOutcome.REFUSED,
                by=self._worker,
                reason="this worker has no such process",
                worker_id=self.link.worker_id,
                process_id=change.process_id,
            )
        )

    async def _write_stop(self, answer: StopFinished) -> None:
        try:
            await self._stopped(answer)
        except LedgerUnavailableError as error:  # whoever waits for it hears that nothing came
            log.warning("process.stop_not_kept", process_id=answer.process_id, reason=error.text)

    async def _stopped(self, answer: StopFinished) -> None:
        if answer.error is not None:
            # The worker never had it, or has forgotten it: whichever the ledger says it was.
            process = await self._ledger.process(answer.process_id)
            if process is not None and process.state is ProcessState.REQUESTED:
                await self._end(answer.process_id, ProcessState.REFUSED, NEVER_STARTED)
            elif process is not None and not process.done:
                await self._end(answer.process_id, ProcessState.UNKNOWN, NOT_KNOWN)
        if answer.proof is not None:
            await self._ledger.keep_stop(answer.process_id, self.link.worker_id, answer.proof)
        self.forgone.discard(answer.process_id)
        self.link.stopped(answer)

    async def _end(self, process_id: str, state: ProcessState, error: str) -> None:
        """Conclude how a process ended; the worker did not say it."""
        change = ProcessChanged(
            process_id=process_id, state=state, at=self._clock.now(), error=error
        )
        await self._keep([change], term=self.link.term)

    def _outcomes(self, changes: Sequence[ProcessChanged]) -> tuple[AuditEntry, ...]:
        """What the audit says of starts that are answered by these; of each the first answers."""
        lines: dict[str, AuditEntry] = {}
        for change in changes:
            line = self.link.outcome(change.process_id, _refusal(change, change.state))
            if line is not None:
                lines.setdefault(change.process_id, line)
        return tuple(lines.values())

    async def _keep(
        self,
        changes: Sequence[ProcessChanged],
        *,
        seen_at: float | None = None,
        term: int | None = None,
    ) -> list[ProcessState | None]:
        """Write reports down, as often as it takes; how each process stands then.

        None when it is none of this worker's.
        """
        rows = [
            ProcessChange(
                process_id=change.process_id,
                worker_id=self.link.worker_id,
                state=change.state,
                at=change.at,
                exit_status=change.exit_status,
                signal=change.signal,
                error=change.error,
                cause=change.cause,
                seen_at=seen_at,
                term=term,
            )
            for change in changes
        ]
        while True:
            lines = self._outcomes(changes) if term is None else ()
            try:
                states = await self._ledger.change_processes(rows, lines)
                for change in changes:
                    if (seen := change.left_behind) is not None:
                        await self._ledger.keep_stop(change.process_id, self.link.worker_id, seen)
            except LedgerUnavailableError as error:
                for change in changes:
                    log.warning("process.not_kept", process_id=change.process_id, reason=str(error))
                    self.link.start_failed(change.process_id, error)
                await self._clock.sleep(_LEDGER_PAUSE_SECONDS)
                continue
            for change in changes:
                self._on_change(change.process_id)
            return states


def _refusal(change: ProcessChanged, kept: ProcessState | None) -> str | None:
    """Why a start comes to nothing; none: it does not."""
    if change.state is ProcessState.REFUSED:
        return change.error or ""
    if change.state is ProcessState.RUNNING and kept in _GIVEN_UP:
        return GIVEN_UP
    return None


def _messages(link: WorkerLink, frame: str) -> Sequence[str | msgspec.Raw]:
    try:
        return framing.messages(frame)
    except (msgspec.DecodeError, RecursionError) as error:
        log.warning("control.not_understood", worker_id=link.worker_id, reason=str(error))
        return ()


def _decode(link: WorkerLink, text: str | msgspec.Raw | None) -> ToController | None:
    if text is None:
        return None
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        log.warning("control.not_understood", worker_id=link.worker_id, reason=str(error))
        return None


async def _send(link: WorkerLink, socket: Socket) -> None:
    while True:
        messages = [await link.outgoing.get()]
        while not link.outgoing.empty():
            messages.append(link.outgoing.get_nowait())
        for frame in framing.frames(map(codec.encode, messages), together=link.arrays):
            await socket.send(frame)

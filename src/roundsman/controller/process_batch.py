"""One batch on its way: whose turn it is, what became of it, and when enough is enough.

The rows in the ledger are the truth. This loop looks at them, does what they ask for, and waits
until something changes; a controller that starts anew goes on from the rows.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any, Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.config.records import Role
from roundsman.controller.access import Principal
from roundsman.controller.audit import Audit, asked
from roundsman.controller.fleet import ANSWER_SECONDS, Fleet
from roundsman.errors import RoundsmanError
from roundsman.ledger.interface import Ledger, LedgerUnavailableError, ProcessChange
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.control import StartProcess
from roundsman.wire.process import Process, ProcessState

log = logs.get(__name__)

AWAY: Final = "its worker was not connected"
NO_ANSWER: Final = "its worker did not answer; should it start it after all, it is stopped"
_LEDGER_PAUSE_SECONDS: Final = 1.0
_UNDER_WAY: Final = (ProcessState.REQUESTED, ProcessState.RUNNING)
_OUTCOMES: Final = {
    ProcessState.RUNNING: AuditOutcome.DONE,
    ProcessState.ENDED: AuditOutcome.DONE,
    ProcessState.REFUSED: AuditOutcome.REFUSED,
    ProcessState.SKIPPED: AuditOutcome.REFUSED,
    ProcessState.UNKNOWN: AuditOutcome.FAILED,
}


def has_failed(process: Process) -> bool:
    """Whether it came to an end, and not to a good one."""
    return process.done and not (process.state is ProcessState.ENDED and process.exit_status == 0)


def before_its_turn(reason: str) -> str:
    """Why a worker was never given it, when the batch was stopped for this reason."""
    return f"the batch ended before its turn: {reason}"


class ProcessBatch:
    """Gives the workers of a batch their turns."""

    def __init__(
        self,
        batch: Batch,
        work: BatchWork,
        processes: Iterable[Process],
        *,
        ledger: Ledger,
        fleet: Fleet,
        audit: Audit,
        clock: Clock,
    ) -> None:
        """Take it up as its rows are now."""
        self.batch = batch
        self.processes = {process.process_id: process for process in processes}
        self._work = work
        self._ledger = ledger
        self._fleet = fleet
        self._audit = audit
        self._clock = clock
        self._by = Principal(name=batch.requested_by, role=Role(work.role), address=work.address)
        self._changed: set[str] = set()
        self._deadlines: dict[str, float] = {}  # of those whose turn has come
        self._asked: set[str] = set()  # through the present connection of their worker
        self._giving: set[asyncio.Task[None]] = set()
        self._stirred = asyncio.Event()
        self._look_at_all = False
        self._history: list[str] = []  # what changed, in order, for those who follow
        self._grown = asyncio.Event()
        self._ended = False
        self._left = False

    # what others tell

    def heard(self, process_id: str) -> None:
        """Something was written of one of its processes."""
        self._changed.add(process_id)
        self._stirred.set()

    def heard_of_all(self) -> None:
        """Something may have been written of any of them, or of the batch itself."""
        self._look_at_all = True
        self._stirred.set()

    def leave(self) -> None:
        """Another controller carries it by now: whoever follows it here is to look elsewhere."""
        self._left = True
        self._tell()

    def connected(self, worker_id: str) -> None:
        """A worker is there, perhaps one of this batch."""
        for process in self.processes.values():
            if process.worker_id == worker_id:
                self._asked.discard(process.process_id)
                self._stirred.set()

    async def stop(self, reason: str) -> None:
        """Give no further worker its turn, and have it ended where it runs."""
        await self._take_to(BatchState.STOPPING, reason)

    async def follow(self) -> AsyncIterator[Process]:
        """Each process as it is, and again whenever it changed.

        Until the batch has ended, or another controller carries it.
        """
        seen = len(self._history)  # before the first is told: much may happen until it is taken
        for process in list(self.processes.values()):
            yield process
        while True:
            grown = self._grown
            while seen < len(self._history):
                process_id = self._history[seen]
                seen += 1
                yield self.processes[process_id]
            if self._ended or self._left:
                return
            await grown.wait()

    # the loop

    async def run(self) -> None:
        """Carry it to its end."""
        try:
            while not self._ended:
                self._stirred.clear()
                try:
                    await self.run_once()
                except LedgerUnavailableError as error:
                    log.warning("batch.held_up", batch_id=self.batch.batch_id, reason=str(error))
                    await self._clock.sleep(_LEDGER_PAUSE_SECONDS)
                else:
                    await self._until_stirred()
        finally:
            for task in self._giving:
                task.cancel()
            await asyncio.gather(*self._giving, return_exceptions=True)

    async def run_once(self) -> None:
        """Look at what changed, and do what follows from it."""
        await self._look()
        if all(process.done for process in self.processes.values()):
            await self._take_to(BatchState.ENDED, None)
            self._ended = True
            self._tell()
            log.info("batch.ended", batch_id=self.batch.batch_id, reason=self.batch.reason)
            return
        failed = sum(map(has_failed, self.processes.values()))
        if self.batch.state is BatchState.RUNNING and failed > (
            self.batch.stop_above * len(self.processes)
        ):
            reason = f"failed on {failed} of {len(self.processes)} workers"
            await self._take_to(BatchState.DRAINING, reason)
        if self.batch.state is BatchState.RUNNING:
            await self._give_turns(await self._connected(ProcessState.WAITING))
        await self._see_to_requested(await self._connected(ProcessState.REQUESTED))

    async def _look(self) -> None:
        """Read anew what changed."""
        lines: list[AuditEntry] = []
        if self._look_at_all:
            self.batch = await self._ledger.batch(self.batch.batch_id) or self.batch
            for now in await self._ledger.batch_processes(self.batch.batch_id):
                lines += self._take(now)
            self._look_at_all = False
        while self._changed:
            process_id = self._changed.pop()
            try:
                process = await self._ledger.process(process_id)
            except LedgerUnavailableError:
                self._changed.add(process_id)
                raise
            if process is not None:
                lines += self._take(process)
        if lines:
            await self._audit.write(*lines)
        self._tell()

    def _take(self, now: Process) -> list[AuditEntry]:
        """How a process stands; the lines of the audit that follow from what changed."""
        before = self.processes[now.process_id]
        if now == before:
            return []
        self.processes[now.process_id] = now
        self._history.append(now.process_id)
        if before.state in (ProcessState.WAITING, ProcessState.REQUESTED):
            return self._outcome(now)
        return []

    def _tell(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _outcome(self, process: Process) -> list[AuditEntry]:
        outcome = _OUTCOMES.get(process.state)
        if outcome is None:
            return []
        reason = process.error if outcome is not AuditOutcome.DONE else None
        return [self._line(process, outcome, reason)]

    def _line(
        self, process: Process, outcome: AuditOutcome, reason: str | None = None
    ) -> AuditEntry:
        batch = self.batch
        path = () if batch.path is None else (batch.path,)
        return self._audit.entry(
            AuditAction.START_PROCESS,
            outcome,
            by=self._by,
            reason=reason,
            worker_id=process.worker_id,
            process_id=process.process_id,
            batch_id=batch.batch_id,
            asked=asked(
                batch.command,
                (*path, *batch.arguments),
                batch.environment,
                self._work.standard_input,
            ),
        )

    async def _take_to(self, state: BatchState, reason: str | None) -> None:
        changed = await self._ledger.change_batch(
            self.batch.batch_id, state, now=self._clock.now(), reason=reason
        )
        self.batch = changed or self.batch
        if state in (BatchState.DRAINING, BatchState.STOPPING):
            await self._ledger.skip_processes(self.batch.batch_id, before_its_turn(reason or ""))
            for process in self.processes.values():
                if process.state is ProcessState.WAITING:
                    self.heard(process.process_id)

    # turns

    async def _connected(self, state: ProcessState) -> Collection[str]:
        """The workers that are there, of those on which it stands so."""
        worker_ids = {
            process.worker_id for process in self.processes.values() if process.state is state
        }
        return await self._fleet.connected(worker_ids) if worker_ids else ()

    async def _give_turns(self, connected: Collection[str]) -> None:
        """To those who are there, in order, as many as there is room for."""
        room = self.batch.width - sum(
            process.state in _UNDER_WAY for process in self.processes.values()
        )
        now = self._clock.now()
        begun: list[Process] = []
        for process in self.processes.values():
            if room <= 0:
                break
            if process.state is not ProcessState.WAITING:
                continue
            deadline = self._deadlines.setdefault(process.process_id, now + self.batch.time_to_live)
            if process.worker_id in connected:
                room -= 1
                begun.append(process)
            elif now >= deadline:
                await self._give_up(process, ProcessState.SKIPPED, AWAY)
        # Together, so that the ledger keeps them together.
        not_after = now + self.batch.time_to_live
        await asyncio.gather(*(self._begin(process, not_after) for process in begun))
        self._tell()

    async def _begin(self, process: Process, not_after: float) -> None:
        if await self._ledger.begin_process(
            process.process_id,
            not_after=not_after,
            audit=[self._line(process, AuditOutcome.REQUESTED)],
        ):
            self.processes[process.process_id] = msgspec.structs.replace(
                process, state=ProcessState.REQUESTED, not_after=not_after
            )
            self._history.append(process.process_id)
        else:
            self.heard(process.process_id)

    async def _see_to_requested(self, connected: Collection[str]) -> None:
        """Ask those who were not asked since they connected; give up who does not answer."""
        now = self._clock.now()
        for process in self.processes.values():
            stopping = self.batch.state is BatchState.STOPPING
            if stopping and process.state in _UNDER_WAY:
                if process.process_id not in self._asked:
                    self._asked.add(process.process_id)
                    await self._fleet.forgo(process.worker_id, process.process_id)
            elif process.state is ProcessState.REQUESTED:
                deadline = (process.not_after or now) + ANSWER_SECONDS
                self._deadlines[process.process_id] = deadline
                if now >= deadline:
                    await self._fleet.forgo(process.worker_id, process.process_id)
                    await self._give_up(process, ProcessState.UNKNOWN, NO_ANSWER)
                elif process.process_id not in self._asked and process.worker_id in connected:
                    self._asked.add(process.process_id)
                    task = asyncio.create_task(self._give(process))
                    self._giving.add(task)
                    task.add_done_callback(self._giving.discard)

    async def _give(self, process: Process) -> None:
        batch, work = self.batch, self._work
        message = StartProcess(
            process_id=process.process_id,
            command=batch.command,
            path=batch.path,
            arguments=batch.arguments,
            environment=work.environment,
            secret_environment=work.secret_environment,
            standard_input=work.standard_input,
            limits=batch.limits,
            not_after=process.not_after,
            requested_by=batch.requested_by,
            roles=(work.role,),
        )
        try:
            await self._fleet.give(message, process.worker_id)
        except RoundsmanError as error:
            self._asked.discard(process.process_id)
            log.warning(
                "batch.not_answered",
                batch_id=batch.batch_id,
                process_id=process.process_id,
                reason=error.text,
            )

    async def _give_up(self, process: Process, state: ProcessState, error: str) -> None:
        change = ProcessChange(
            process_id=process.process_id,
            worker_id=process.worker_id,
            state=state,
            at=self._clock.now(),
            error=error,
        )
        await self._ledger.change_process(change)
        self.heard(process.process_id)

    async def _until_stirred(self) -> None:
        """Wait until something changed, or somebody's time is up."""
        if self._ended or self._stirred.is_set():
            return
        now = self._clock.now()
        waiting = [
            self._deadlines[process_id] - now
            for process_id, process in self.processes.items()
            if process_id in self._deadlines
            and process.state in (ProcessState.WAITING, ProcessState.REQUESTED)
        ]
        stirred = asyncio.ensure_future(self._stirred.wait())
        awaited: set[asyncio.Future[Any]] = {stirred}
        if waiting:
            awaited.add(asyncio.ensure_future(self._clock.sleep(max(0.0, min(waiting)))))
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in awaited:
                future.cancel()

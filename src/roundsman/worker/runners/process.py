"""Starts, watches and stops commands on this worker.

A process has ended when its leader has: its state is then told, and kept on disk until the
controller acknowledges it. Whoever of its group lives on (a script's background children) keeps
being read, and a stop still ends them.
"""

import asyncio
import contextlib
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.errors import NotFoundError
from roundsman.wire.control import ProcessChanged, StartProcess, StopFinished
from roundsman.wire.process import OutputChunk, ProcessLimits, ProcessState
from roundsman.worker.policy import Policy
from roundsman.worker.runners import process_group, process_leftovers
from roundsman.worker.runners.process_group import Exit, GroupReaper
from roundsman.worker.runners.process_output import OutputFile
from roundsman.worker.runners.process_policy import ProcessRefusedError, allowed
from roundsman.worker.runners.process_records import ProcessRecord, ProcessRecords
from roundsman.worker.runners.process_running import Process

log = logs.get(__name__)

JOB_NOT_FOUND: Final = "job not found"
RESTARTED: Final = "worker restarted; how it ended is not known"
STOPPED_EARLY: Final = "stopped before it was started"

_MAX_RUNNING: Final = 1000  # each takes four descriptors here, and a line in the first message
_KEEP_ENDED: Final = 1000  # ended processes whose output can still be read
_KEEP_ENDED_SECONDS: Final = 7 * 86400.0
_TIDY_SECONDS: Final = 3600.0
_REMEMBER_STOPS: Final = 1000


class ProcessRunner:
    """Every process of this worker, running or remembered.

    `on_change` hears of each end, in order; the control channel sets it.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        folder: Path,
        clock: Clock,
        tags: tuple[str, ...] = (),
        keep_ended: int = _KEEP_ENDED,
        keep_ended_seconds: float = _KEEP_ENDED_SECONDS,
    ) -> None:
        """Keep records and outputs in `folder`, this worker's alone.

        `tags` are those that this worker serves.

        Of ended processes the newest `keep_ended` stay readable, for `keep_ended_seconds`; those
        whose end the controller has not acknowledged are kept until it has.
        """
        self._policy = policy
        self._tags = tags
        self._records = ProcessRecords(folder)
        self._clock = clock
        self._keep_ended = keep_ended
        self._keep_ended_seconds = keep_ended_seconds
        self._boot_id = process_leftovers.boot_id()
        self._processes: dict[str, Process] = {}
        self._running: set[str] = set()
        self._unacknowledged: dict[str, None] = {}  # running ones too; old first
        self._forgettable: OrderedDict[str, None] = OrderedDict()  # ended, acknowledged; old first
        self._stopped_early: OrderedDict[str, None] = OrderedDict()
        self._reaper = GroupReaper()
        self._tidying: asyncio.TimerHandle | None = None
        self._closing = False
        self.on_change: Callable[[ProcessChanged], None] = lambda _: None
        self.settled = asyncio.Event()
        """Set while nothing runs and every end is acknowledged."""
        self.settled.set()

    async def open(self) -> None:
        """Take up what an earlier life of this worker left; kill its groups where proven so."""
        everybody = process_group.members()
        for record in sorted(self._records.load(), key=lambda record: record.change.at):
            left: tuple[int, ...] = ()
            if process_leftovers.has_leftovers(record, everybody):
                left = await process_leftovers.kill_leftovers(record)
            settled = record
            if record.change.state is ProcessState.RUNNING:
                settled = self._give_up(record, left)
            process_id = record.change.process_id
            output = OutputFile.reopen(self._records.output_path(process_id))
            process = self._processes[process_id] = Process(settled, output)
            process.ended.set()
            if settled.acknowledged:
                self._forgettable[process_id] = None
            else:
                self._expect(process_id)
        self._tidy()

    def kill(self) -> None:
        """Kill every group and refuse new ones; waits for nothing."""
        self._closing = True
        for process in self._processes.values():
            if process.group is not None:
                process.group.kill()

    async def close(self) -> None:
        """Kill every group, wait until they are gone, and refuse new ones."""
        self._closing = True
        alive = [key for key, process in self._processes.items() if process.alive]
        for answer in await asyncio.gather(*(self.stop(process_id) for process_id in alive)):
            if not answer.gone:
                log.error("process.left", process_id=answer.process_id, left=answer.left)
        if self._tidying is not None:
            self._tidying.cancel()
        self._reaper.close()
        for process in self._processes.values():
            process.close()

    def start(self, asked: StartProcess) -> ProcessChanged:
        """Start a command, or refuse it; answers its state. Known already: as it stands."""
        process_id = asked.process_id
        known = self._processes.get(process_id)
        if known is not None:
            return known.change
        try:
            self._check_time(asked)
            return self._start(process_id, asked)
        except ProcessRefusedError as refusal:
            return self._refuse(process_id, refusal.text)
        except OSError as error:
            return self._refuse(process_id, f"this worker cannot start it: {error.strerror}")

    def stop_early(self, process_id: str) -> None:
        """A stop is on its way: if the start is not done by now, it never will be."""
        if process_id not in self._processes:
            self._stopped_early[process_id] = None
            while len(self._stopped_early) > _REMEMBER_STOPS:
                self._stopped_early.popitem(last=False)

    async def stop(self, process_id: str) -> StopFinished:
        """Kill the whole group at once; answers when it is gone, or who is left after a while.

        Its end is told before this answers. An ended process is stopped again: somebody of its
        group may be left.
        """
        process = self._processes.get(process_id)
        if process is None:
            self.stop_early(process_id)
            return StopFinished(process_id=process_id, gone=False, error=JOB_NOT_FOUND)
        left: tuple[int, ...] = ()
        if process.group is not None:
            left = await process.kill(process.group, self._reaper.hurry)
        elif process.change.state is not ProcessState.REFUSED:
            left = await process_leftovers.kill_leftovers(process.record)
        return StopFinished(process_id=process_id, gone=not left, left=left)

    def acknowledge(self, process_id: str) -> None:
        """The controller keeps how it ended."""
        process = self._processes.get(process_id)
        if process is None or not process.ended.is_set() or process.record.acknowledged:
            return
        del self._unacknowledged[process_id]
        if not self._unacknowledged:
            self.settled.set()
        if process.change.state is ProcessState.REFUSED:
            del self._processes[process_id]
            return
        process.record = msgspec.structs.replace(process.record, acknowledged=True)
        self._note(process.record)
        self._forgettable[process_id] = None
        self._forget_old()

    def to_report(self) -> tuple[ProcessChanged, ...]:
        """The states of all that run, and every end that is not acknowledged."""
        return tuple(self._processes[process_id].change for process_id in self._unacknowledged)

    def read(
        self, process_id: str, *, after: int = 0, follow: bool = False
    ) -> AsyncIterator[tuple[OutputChunk, ...]]:
        """The output from the chunk after `after` on; with `follow`, until the process has ended.

        Raises `NotFoundError` for a process that is not, or no longer, known.
        """
        process = self._processes.get(process_id)
        if process is None:
            raise NotFoundError(JOB_NOT_FOUND)
        return process.read(after=after, follow=follow)

    def _check_time(self, asked: StartProcess) -> None:
        late = 0.0 if asked.not_after is None else self._clock.now() - asked.not_after
        if late > 0:
            raise ProcessRefusedError(f"it came {late:.1f} seconds after its time to live")

    def _start(self, process_id: str, asked: StartProcess) -> ProcessChanged:
        if process_id in self._stopped_early:
            raise ProcessRefusedError(STOPPED_EARLY)
        if self._closing:
            raise ProcessRefusedError("this worker is stopping")
        if len(self._running) >= _MAX_RUNNING:
            raise ProcessRefusedError(f"this worker runs {_MAX_RUNNING} processes already")
        _check_id(process_id)
        _check_taken(asked)
        running = ProcessChanged(
            process_id=process_id, state=ProcessState.RUNNING, at=self._clock.now()
        )
        record = ProcessRecord(change=running, boot_id=self._boot_id)
        # Written before the start, so that there is no moment in which it runs and is not known.
        self._records.create(process_id)
        try:
            self._records.write(record)
            with allowed(self._policy, asked, tags=self._tags) as command:
                group, pipes = process_group.start(process_id, command, asked.standard_input)
        except (ProcessRefusedError, OSError):
            self._records.remove(process_id)
            raise
        record = msgspec.structs.replace(
            record, pid=group.pid, start_ticks=process_group.start_ticks(group.pid)
        )
        self._note(record)
        output = OutputFile(
            self._records.output_path(process_id), limit_bytes=self._policy.output_limit_bytes
        )
        process = self._processes[process_id] = Process(record, output)
        self._expect(process_id)
        self._running.add(process_id)
        process.watch(group, pipes, self._clock, self._leader_ended)
        log.info("process.started", process_id=process_id, pid=group.pid)
        return running

    def _refuse(self, process_id: str, reason: str) -> ProcessChanged:
        log.info("process.refused", process_id=process_id, reason=reason)
        change = ProcessChanged(
            process_id=process_id, state=ProcessState.REFUSED, at=self._clock.now(), error=reason
        )
        # Held in memory only, until the controller has heard it: there is nothing to look after.
        process = Process(ProcessRecord(change=change), OutputFile(Path(), limit_bytes=0))
        process.ended.set()
        self._processes[process_id] = process
        self._expect(process_id)
        return change

    def _expect(self, process_id: str) -> None:
        """Its end is to be acknowledged."""
        self._unacknowledged[process_id] = None
        self.settled.clear()

    def _leader_ended(self, process: Process, exit_: Exit) -> None:
        change = ProcessChanged(
            process_id=process.change.process_id,
            state=ProcessState.ENDED,
            at=self._clock.now(),
            exit_status=exit_.status,
            signal=exit_.signal,
        )
        self._running.discard(change.process_id)
        process.end(change=change)
        self._note(process.record)
        if process.group is not None:
            self._reaper.add(process.group)
        log.info(
            "process.ended",
            process_id=change.process_id,
            exit_status=exit_.status,
            signal=exit_.signal,
        )
        self.on_change(change)

    def _give_up(self, record: ProcessRecord, left: tuple[int, ...]) -> ProcessRecord:
        """Settle a process that ran when the worker ended without a word."""
        error = RESTARTED
        if left:
            error += f"; still there: {', '.join(map(str, left))}"
        log.warning("process.unknown", process_id=record.change.process_id, left=left)
        change = ProcessChanged(
            process_id=record.change.process_id,
            state=ProcessState.UNKNOWN,
            at=self._clock.now(),
            error=error,
        )
        given_up = msgspec.structs.replace(record, change=change)
        self._note(given_up)
        return given_up

    def _note(self, record: ProcessRecord) -> None:
        """Write a record down; a disk that cannot take it must not keep the process from going on.

        After a restart such a process would be reported by the record before: as unknown.
        """
        try:
            self._records.write(record)
        except OSError as error:
            log.error(
                "process.record_lost",
                process_id=record.change.process_id,
                reason=error.strerror,
            )

    def _tidy(self) -> None:
        self._forget_old()
        self._tidying = asyncio.get_running_loop().call_later(_TIDY_SECONDS, self._tidy)

    def _forget_old(self) -> None:
        too_old = self._clock.now() - self._keep_ended_seconds
        for process_id in list(self._forgettable):
            process = self._processes[process_id]
            surplus = len(self._forgettable) > self._keep_ended
            if not surplus and process.change.at >= too_old:
                return
            if not process.alive:  # else somebody of it lives on: a stop must still find them
                del self._forgettable[process_id]
                del self._processes[process_id]
                self._records.remove(process_id)


def _check_taken(asked: StartProcess) -> None:
    if asked.secret_environment:
        raise ProcessRefusedError("this worker does not take secret variables")
    if asked.limits != ProcessLimits():
        raise ProcessRefusedError("this worker does not take limits")


def _check_id(process_id: str) -> None:
    """The id names a folder: only a UUID in its usual form may."""
    with contextlib.suppress(ValueError):
        if str(uuid.UUID(process_id)) == process_id:
            return
    raise ProcessRefusedError(f"not a process id: {process_id}")

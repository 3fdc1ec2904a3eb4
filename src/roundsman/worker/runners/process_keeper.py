"""Starts, watches and stops commands on this machine, in a process that outlives the worker.

A process has ended when its leader has: its state is then told, and kept on disk until the
controller acknowledges it. Whoever of its tree lives on (a script's background children) keeps
being read, and a stop still ends them.
"""

import asyncio
import contextlib
import signal
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.wire.control import ProcessChanged, StartProcess, StopFinished
from roundsman.wire.process import ProcessState, StopProof
from roundsman.worker.policy import Policy
from roundsman.worker.runners import process_leftovers, process_temporary, process_tree
from roundsman.worker.runners.process_claims import Claims
from roundsman.worker.runners.process_launch import launch
from roundsman.worker.runners.process_limits import LimitWatch
from roundsman.worker.runners.process_machine import Machine
from roundsman.worker.runners.process_masking import Secrets
from roundsman.worker.runners.process_output import OutputFile
from roundsman.worker.runners.process_policy import ProcessRefusedError, allowed
from roundsman.worker.runners.process_readers import Readers
from roundsman.worker.runners.process_records import ProcessRecord, ProcessRecords
from roundsman.worker.runners.process_running import Process
from roundsman.worker.runners.process_scripts import ScriptsCopies
from roundsman.worker.runners.process_temporary import TemporaryFolders
from roundsman.worker.runners.process_tree import Exit, ProcessTree, TreeReaper

log = logs.get(__name__)

JOB_NOT_FOUND: Final = "job not found"
RESTARTED: Final = "worker restarted; how it ended is not known"
DEFAULT_OUTPUT_BYTES: Final = 16 << 20
STOPPED_EARLY: Final = "stopped before it was started"

_MAX_RUNNING: Final = 1000  # each takes four descriptors here, and a line in the first message
_KEEP_ENDED: Final = 1000  # ended processes whose output can still be read
_KEEP_ENDED_SECONDS: Final = 7 * 86400.0
_KEEP_BYTES: Final = 2 << 30  # of their outputs together
_ORPHANS_SECONDS: Final = 0.25  # how long ends are gathered before dead orphans are looked for
_TIDY_SECONDS: Final = 3600.0


class ProcessKeeper:
    """Every process of this worker, running or remembered.

    `on_change` hears of each end, in order; `on_idle` when nobody of any tree is left.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        folder: Path,
        clock: Clock,
        machine: Machine,
        keep_ended: int = _KEEP_ENDED,
        keep_ended_seconds: float = _KEEP_ENDED_SECONDS,
        keep_bytes: int = _KEEP_BYTES,
    ) -> None:
        """Keep records and outputs in `folder`, this worker's alone, and processes by `machine`.

        Of ended processes the newest `keep_ended` stay readable, for `keep_ended_seconds` and up
        to `keep_bytes` together; those whose end the controller has not acknowledged are kept until
        it has.
        """
        self.policy = policy
        """What may be started; a worker that comes back may bring another."""
        self.tags: tuple[str, ...] = ()
        """Those that this worker serves."""
        self.secrets = Secrets()
        """Texts that are masked in every output."""
        self._machine = machine
        self._temporary = TemporaryFolders()
        self._scripts = ScriptsCopies(folder.absolute().parent, clock)
        self._records = ProcessRecords(folder)
        self._clock = clock
        self._keep_ended = keep_ended
        self._keep_ended_seconds = keep_ended_seconds
        self._keep_bytes = keep_bytes
        self._kept = 0  # bytes of the outputs of those that may be forgotten
        self._boot_id = process_leftovers.boot_id()
        self._processes: dict[str, Process] = {}
        self._running: set[str] = set()
        self._unacknowledged: dict[str, None] = {}  # running ones too; old first
        # Ended and acknowledged, with what of each is counted in `_kept`; old first.
        self._forgettable: OrderedDict[str, int] = OrderedDict()
        self._alive: dict[str, ProcessTree] = {}
        self._watches: dict[str, LimitWatch] = {}
        self._claims = Claims(self._records, self.take_up_soon)
        self._taking_up = asyncio.Lock()
        self._reaper = TreeReaper(self._tree_gone, self._left_behind)
        self._readers: Readers
        self._tidying: asyncio.TimerHandle | None = None
        self._reaping: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False
        self.on_change: Callable[[ProcessChanged], None] = lambda _: None
        self.on_idle: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Take up what an earlier keeper left; kill its trees where proven so."""
        self._readers = Readers()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_soon)
        self._records.sweep()
        await self._take_up()
        self._scripts.sweep()
        process_leftovers.sweep_cgroups(self._machine.cgroup)
        self._tidy()

    @property
    def idle(self) -> bool:
        """Whether nobody of any tree is left, nor anything being taken up."""
        return not self._alive and not self._taking_up.locked()

    @property
    def settled(self) -> bool:
        """Whether the controller keeps all that there is to tell."""
        return not self._unacknowledged

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Stop every process, wait until they are gone, and refuse new ones."""
        self._closing = True
        for answer in await asyncio.gather(
            *(self.stop(process_id, grace_seconds) for process_id in list(self._alive))
        ):
            if not answer.gone:
                log.error("process.left", process_id=answer.process_id, left=answer.left)
        for timer in (self._tidying, self._reaping):
            if timer is not None:
                timer.cancel()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        self._claims.close()
        self._reaper.close()
        self._temporary.close()
        self._scripts.close()
        for process in self._processes.values():
            process.close()
        self._readers.close()

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

    async def stop(self, process_id: str, grace_seconds: float | None = None) -> StopFinished:
        """End the whole tree; answers when it is gone, or who is left after a while.

        Its end is told before this answers. An ended process is stopped again: somebody of its
        tree may be left. Without `grace_seconds` the policy's hold.
        """
        if process_id not in self._processes and self._records.has(process_id):
            await self._take_up()  # the keeper that had it may have gone just now
        process = self._processes.get(process_id)
        if process is None:
            return StopFinished(process_id=process_id, gone=False, error=JOB_NOT_FOUND)
        if process.tree is not None:
            if grace_seconds is None:
                grace_seconds = process.grace_seconds
            proof = await process.stop(process.tree, grace_seconds, self._reaper)
        else:
            left: tuple[int, ...] = ()
            if process.change.state is not ProcessState.REFUSED:
                left = await process_leftovers.kill_leftovers(process.record)
            proof = StopProof(method="group", group_empty=not left, left=left)
        gone = not proof.left
        return StopFinished(process_id=process_id, gone=gone, left=proof.left, proof=proof)

    def take_up_soon(self) -> None:
        """Look for what other keepers left; what is found is told as an end."""
        self._work(self._take_up())

    def watch_output(self, process_id: str, size: int, on_growth: Callable[[], None]) -> None:
        """Call back once there is more output than `size` bytes of its file, or it has ended."""
        process = self._processes.get(process_id)
        if process is None or process.ended.is_set() or process.output.size > size:
            on_growth()
        else:
            process.on_growth = on_growth

    def acknowledge(self, process_id: str) -> None:
        """The controller keeps how it ended."""
        process = self._processes.get(process_id)
        if process is None or not process.ended.is_set() or process.record.acknowledged:
            return
        del self._unacknowledged[process_id]
        if process.change.state is ProcessState.REFUSED:
            del self._processes[process_id]
            return
        process.record = msgspec.structs.replace(process.record, acknowledged=True)
        self._note(process.record)
        self._may_be_forgotten(process)
        self._forget_old()

    def to_report(self) -> tuple[ProcessChanged, ...]:
        """The states of all that run, and every end that is not acknowledged."""
        return tuple(self._processes[process_id].change for process_id in self._unacknowledged)

    def _check_time(self, asked: StartProcess) -> None:
        late = 0.0 if asked.not_after is None else self._clock.now() - asked.not_after
        if late > 0:
            raise ProcessRefusedError(f"it came {late:.1f} seconds after its time to live")

    def _start(self, process_id: str, asked: StartProcess) -> ProcessChanged:
        if self._closing:
            raise ProcessRefusedError("this worker is stopping")
        if len(self._running) >= _MAX_RUNNING:
            raise ProcessRefusedError(f"this worker runs {_MAX_RUNNING} processes already")
        _check_id(process_id)
        running = ProcessChanged(
            process_id=process_id, state=ProcessState.RUNNING, at=self._clock.now()
        )
        command = allowed(self.policy, asked, self._scripts, tags=self.tags, now=self._clock.now())
        temporary = self._temporary.choose()
        # Written before the start, so that there is no moment in which it runs and is unknown.
        self._records.create(process_id)
        record = ProcessRecord(
            change=running,
            boot_id=self._boot_id,
            keeper=self._claims.identity,
            cgroup=str(self._machine.cgroup / process_id) if self._machine.cgroup else "",
            temporary=str(temporary),
        )
        try:
            self._records.write(record)
            self._temporary.make(temporary)
            tree, pipes = launch(
                process_id, command, asked.standard_input, self._machine, temporary
            )
        except (ProcessRefusedError, OSError):
            self._records.remove(process_id)
            self._temporary.give_back(temporary)
            raise
        if tree.cgroup is None:  # else whoever is in it is known to be of this process
            ticks = process_tree.start_ticks(tree.pid)
            record = msgspec.structs.replace(record, pid=tree.pid, start_ticks=ticks)
            self._note(record)
        limits = command.limits
        kept = DEFAULT_OUTPUT_BYTES if limits.output_bytes is None else limits.output_bytes
        output = OutputFile(self._records.output_path(process_id), limit_bytes=kept)
        process = self._processes[process_id] = Process(record, output)
        process.grace_seconds = self.policy.commands[asked.command].grace_seconds
        process.limits = limits
        if command.scripts is not None:
            process.scripts = command.scripts
            command.scripts.hold()
        self._expect(process_id)
        self._running.add(process_id)
        self._alive[process_id] = tree
        own = Secrets(command.secrets)
        process.watch(
            tree,
            pipes,
            readers=self._readers,
            clock=self._clock,
            secrets=(self.secrets, own),
            on_end=self._leader_ended,
        )
        self._watches[process_id] = LimitWatch(
            process,
            limits,
            count_tasks="pids" not in self._machine.controllers,
            on_limit=self._limit_reached,
        )
        return running

    def _limit_reached(self, process: Process, cause: str, urgent: bool) -> None:
        process.cause = cause
        log.warning("process.limit", process_id=process.change.process_id, cause=cause)
        tree = self._alive[process.change.process_id]
        grace_seconds = 0.0 if urgent else process.grace_seconds
        self._work(process.stop(tree, grace_seconds, self._reaper))

    def _work(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tree_gone(self, tree: ProcessTree) -> None:
        del self._alive[tree.process_id]
        self._watches.pop(tree.process_id).cancel()
        if (process := self._processes.get(tree.process_id)) is not None:
            self._temporary.give_back(Path(process.record.temporary))
            if process.scripts is not None:
                process.scripts.let_go()
            if process.change.left_behind is not None and tree.proof is not None:
                self._tell_left(process, tree.proof)
        if self.idle:
            self.on_idle()

    def _left_behind(self, tree: ProcessTree, proof: StopProof) -> None:
        """Tell once who was left: a stop has to find them, also when this worker is away."""
        process = self._processes.get(tree.process_id)
        if process is not None and process.change.left_behind is None:
            log.warning("process.left_behind", process_id=tree.process_id, left=proof.left)
            self._tell_left(process, proof)

    def _tell_left(self, process: Process, proof: StopProof) -> None:
        """Tell of an end again, with who is left of it now; until that is acknowledged too."""
        process_id = process.change.process_id
        self._kept -= self._forgettable.pop(process_id, 0)
        change = msgspec.structs.replace(process.change, left_behind=proof)
        process.record = msgspec.structs.replace(process.record, change=change, acknowledged=False)
        self._note(process.record)
        self._expect(process_id)
        self.on_change(change)

    def _reap_soon(self) -> None:
        """Look for dead orphans in a while; who dies until then need not be told of."""
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGCHLD)
        self._reaping = loop.call_later(_ORPHANS_SECONDS, self._reap)

    def _reap(self) -> None:
        self._reaping = None
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_soon)
        process_tree.reap_orphans(tree.pid for tree in self._alive.values())

    def _refuse(self, process_id: str, reason: str) -> ProcessChanged:
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

    def _may_be_forgotten(self, process: Process) -> None:
        """Its end is acknowledged."""
        size = self._forgettable[process.change.process_id] = process.output.size
        self._kept += size

    def _leader_ended(self, process: Process, exit_: Exit) -> None:
        change = ProcessChanged(
            process_id=process.change.process_id,
            state=ProcessState.ENDED,
            at=self._clock.now(),
            exit_status=exit_.status,
            signal=exit_.signal,
            cause=process.cause or process.cause_of(exit_),
        )
        self._running.discard(change.process_id)
        process.end(change=change)
        self._note(process.record)
        if process.tree is not None:
            self._reaper.add(process.tree)
        self.on_change(change)

    async def _take_up(self) -> None:
        """Make this one's what no keeper has any more, kill what is left of it, and tell of it."""
        async with self._taking_up:
            if self._closing:
                return
            everybody = process_tree.members()
            for record in self._claims.take(self._processes):
                left: tuple[int, ...] = ()
                if process_leftovers.has_leftovers(record, everybody):
                    left = await process_leftovers.kill_leftovers(record)
                self._remember(self._claims.own(record), left)
        if self.idle:
            self.on_idle()

    def _remember(self, record: ProcessRecord, left: tuple[int, ...]) -> None:
        """Have what another keeper left as a process of this one, which has ended."""
        change = record.change
        if change.state is ProcessState.RUNNING:
            change = self._given_up(change.process_id, left)
        if change is not record.change or change.left_behind is not None or left:
            seen = StopProof(method="group", group_empty=not left, left=left)
            change = msgspec.structs.replace(change, left_behind=seen)
            record = msgspec.structs.replace(record, change=change, acknowledged=False)
            self._note(record)
        if record.temporary:
            process_temporary.remove(Path(record.temporary))
        process_id = record.change.process_id
        output = OutputFile.reopen(self._records.output_path(process_id))
        process = self._processes[process_id] = Process(record, output)
        process.ended.set()
        if record.acknowledged:
            self._may_be_forgotten(process)
        else:
            self._expect(process_id)
            self.on_change(record.change)

    def _given_up(self, process_id: str, left: tuple[int, ...]) -> ProcessChanged:
        """The end of a process that ran when its keeper ended without a word."""
        error = RESTARTED
        if left:
            error += f"; still there: {', '.join(map(str, left))}"
        log.warning("process.unknown", process_id=process_id, left=left)
        return ProcessChanged(
            process_id=process_id, state=ProcessState.UNKNOWN, at=self._clock.now(), error=error
        )

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
        forgotten: list[str] = []
        surplus = len(self._forgettable) - self._keep_ended
        for process_id in self._forgettable:
            process = self._processes[process_id]
            too_many = len(forgotten) < surplus or self._kept > self._keep_bytes
            if not too_many and process.change.at >= too_old:
                break
            if not process.alive:  # else somebody of it lives on: a stop must still find them
                forgotten.append(process_id)
                self._kept -= self._forgettable[process_id]
        for process_id in forgotten:
            del self._forgettable[process_id]
            del self._processes[process_id]
            self._records.remove(process_id)


def _check_id(process_id: str) -> None:
    """The id names a folder: only a UUID in its usual form may."""
    with contextlib.suppress(ValueError):
        if str(uuid.UUID(process_id)) == process_id:
            return
    raise ProcessRefusedError(f"not a process id: {process_id}")

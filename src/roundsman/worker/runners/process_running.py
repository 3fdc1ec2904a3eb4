"""One process in its keeper's memory.

Its tree and pipes while it runs, its state and output for as long as it is remembered.
"""

import asyncio
import contextlib
import fcntl
import functools
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from roundsman.clock import Clock
from roundsman.wire.control import ProcessChanged
from roundsman.wire.process import ProcessLimits, StopProof
from roundsman.worker.runners.process_masking import Masker, Secrets
from roundsman.worker.runners.process_output import STDERR, STDOUT, OutputFile
from roundsman.worker.runners.process_readers import Readers
from roundsman.worker.runners.process_records import ProcessRecord
from roundsman.worker.runners.process_scripts import ScriptsCopy
from roundsman.worker.runners.process_tree import Exit, ProcessTree, TreeReaper, members

_KILL_SECONDS: Final = 5.0  # SIGKILL takes milliseconds, but for what hangs in the kernel
_READ_BYTES: Final = 65536  # what a pipe holds
_DROP_BYTES: Final = 1 << 20  # at once, of what is not kept
_DRAIN_READS: Final = 16  # a pipe's whole content, in whatever pieces, once the leader has ended


class Process:
    """A process of this worker: running, ended, refused, or of an earlier life."""

    def __init__(self, record: ProcessRecord, output: OutputFile) -> None:
        """Remember it; `watch` makes it a running one."""
        self.record = record
        self.ended = asyncio.Event()
        self.tree: ProcessTree | None = None
        self.on_growth: Callable[[], None] | None = None
        """Called once when there is more output, or none will come."""
        self.output = output
        self.written_at = 0.0
        """When it last wrote something, by the event loop's clock."""
        self.grace_seconds = 0.0
        self.limits = ProcessLimits()
        self.scripts: ScriptsCopy | None = None
        """What it runs in."""
        self.cause: str | None = None
        """Which limit ended it."""
        self._pipes: dict[int, tuple[int, Masker]] = {}  # descriptor to stream
        self._readers: Readers | None = None

    @property
    def change(self) -> ProcessChanged:
        """Its state."""
        return self.record.change

    @property
    def alive(self) -> bool:
        """Whether anybody of its tree may still be there."""
        return self.tree is not None and not self.tree.gone.is_set()

    def cause_of(self, exit_: Exit) -> str | None:
        """Which of the limits that the kernel holds ended it so; none: none of them."""
        if exit_.number == signal.SIGXCPU and self.limits.cpu_seconds is not None:
            return f"took more than {self.limits.cpu_seconds} seconds of processor time"
        cgroup = self.tree.cgroup if self.tree is not None else None
        if cgroup is None:
            return None
        if self.limits.memory_bytes is not None and cgroup.was_too_large():
            return f"used more than {self.limits.memory_bytes} bytes of memory"
        # The kernel ends nobody for it: whoever is refused does so himself, or lives with it.
        failed = exit_.status is not None and exit_.status != 0
        if failed and self.limits.tasks is not None and cgroup.was_too_many():
            return f"was kept from becoming more than {self.limits.tasks} tasks"
        return None

    def end(self, **changes: object) -> None:
        """Take its last state."""
        self.record = msgspec.structs.replace(self.record, **changes)
        self.ended.set()
        self._notify()

    # watching

    def watch(
        self,
        tree: ProcessTree,
        pipes: tuple[int, int],
        *,
        readers: Readers,
        clock: Clock,
        secrets: tuple[Secrets, ...],
        on_end: Callable[["Process", Exit], None],
    ) -> None:
        """Read both pipes from now on; call `on_end` once the leader ended and they are drained."""
        self.tree = tree
        self.written_at = asyncio.get_running_loop().time()
        self._readers = readers
        for descriptor, stream in zip(pipes, (STDOUT, STDERR), strict=True):
            self._pipes[descriptor] = (stream, Masker(*secrets))
            readers.add(descriptor, partial(self._read_pipe, clock, descriptor))
        pidfd = os.pidfd_open(tree.pid)  # readable once the leader has ended

        def leader_ended() -> None:
            if (exit_ := tree.exit()) is None:
                return
            readers.remove(pidfd)
            os.close(pidfd)
            self._drain(clock)
            on_end(self, exit_)

        readers.add(pidfd, leader_ended)

    def close(self) -> None:
        """Read no more; whoever still writes gets a broken pipe."""
        for descriptor in list(self._pipes):
            self._close_pipe(descriptor, 0.0)

    def _read_pipe(self, clock: Clock, descriptor: int) -> bool:
        """Keep what is there to read; answers whether there may be more."""
        data = b""
        try:
            if self.output.cut:
                there = _drop(descriptor)
            else:
                data = os.read(descriptor, _READ_BYTES)
                there = len(data)
        except BlockingIOError:
            return False
        if not there:
            self._close_pipe(descriptor, clock.now())
            return False
        self.written_at = asyncio.get_running_loop().time()
        if data:
            stream, masker = self._pipes[descriptor]
            self._keep(stream, clock.now(), masker.feed(data))
        return True

    def _widen(self) -> None:
        """Nothing more is kept: whoever floods is to be held up as little as can be."""
        for descriptor in self._pipes:
            with contextlib.suppress(OSError):  # this user has as much of it as one may
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _DROP_BYTES)

    def _keep(self, stream: int, at: float, data: bytes) -> None:
        if data:
            self.output.append(stream, at, data)
            if self.output.cut:
                self._widen()
            self._notify()

    def _drain(self, clock: Clock) -> None:
        """Take what the leader left in the pipes; bounded, since others may go on writing."""
        for descriptor in list(self._pipes):
            for _ in range(_DRAIN_READS):
                if not self._read_pipe(clock, descriptor):
                    break

    def _close_pipe(self, descriptor: int, at: float) -> None:
        if self._readers is not None:
            self._readers.remove(descriptor)
        os.close(descriptor)
        stream, masker = self._pipes.pop(descriptor)
        self._keep(stream, at, masker.end())
        if not self._pipes:
            self.output.close()

    def _notify(self) -> None:
        if self.on_growth is not None:
            on_growth, self.on_growth = self.on_growth, None
            on_growth()

    # stopping

    async def stop(self, tree: ProcessTree, grace_seconds: float, reaper: TreeReaper) -> StopProof:
        """End its whole tree: SIGTERM, after a while SIGKILL; answers what is seen then."""
        if grace_seconds > 0 and not tree.killed and not tree.gone.is_set():
            tree.terminate(members())
            reaper.hurry(tree)
            await self._gone_within(tree, grace_seconds)
        if not tree.gone.is_set():
            tree.kill()
            reaper.hurry(tree)
            await self._gone_within(tree, _KILL_SECONDS)
        return tree.proof or tree.proven(members())

    async def _gone_within(self, tree: ProcessTree, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
                await tree.gone.wait()


def _drop(descriptor: int) -> int:
    """Have the kernel let go of what is in a pipe, without a copy; answers how many bytes."""
    return os.splice(descriptor, _nowhere(), _DROP_BYTES, flags=os.SPLICE_F_NONBLOCK)


@functools.cache
def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY)

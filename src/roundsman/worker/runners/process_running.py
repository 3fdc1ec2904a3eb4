"""One process in memory.

Its group and pipes while it runs, its state and output for as long as it is remembered.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from roundsman.clock import Clock
from roundsman.wire.control import ProcessChanged
from roundsman.wire.process import OutputChunk
from roundsman.worker.runners import process_group
from roundsman.worker.runners.process_group import Exit, ProcessGroup
from roundsman.worker.runners.process_output import STDERR, STDOUT, OutputFile
from roundsman.worker.runners.process_records import ProcessRecord

_STOP_SECONDS: Final = 5.0  # SIGKILL takes milliseconds, but for what hangs in the kernel
_READ_BYTES: Final = 65536  # what a pipe holds
_DRAIN_READS: Final = 16  # a pipe's whole content, in whatever pieces, once the leader has ended
_MESSAGE_BYTES: Final = 512 * 1024  # half of what the channel's messages may have


class Process:
    """A process of this worker: running, ended, refused, or of an earlier life."""

    def __init__(self, record: ProcessRecord, output: OutputFile) -> None:
        """Remember it; `watch` makes it a running one."""
        self.record = record
        self.ended = asyncio.Event()
        self.group: ProcessGroup | None = None
        self._output = output
        self._pipes: dict[int, int] = {}  # descriptor to stream
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def change(self) -> ProcessChanged:
        """Its state."""
        return self.record.change

    @property
    def alive(self) -> bool:
        """Whether anybody of its group may still be there."""
        return self.group is not None and not self.group.gone.is_set()

    def end(self, **changes: object) -> None:
        """Take its last state."""
        self.record = msgspec.structs.replace(self.record, **changes)
        self.ended.set()
        self._notify()

    # watching

    def watch(
        self,
        group: ProcessGroup,
        pipes: tuple[int, int],
        clock: Clock,
        on_end: Callable[["Process", Exit], None],
    ) -> None:
        """Read both pipes from now on; call `on_end` once the leader ended and they are drained."""
        loop = asyncio.get_running_loop()
        self.group = group
        self._pipes = {pipes[0]: STDOUT, pipes[1]: STDERR}
        for descriptor in self._pipes:
            loop.add_reader(descriptor, self._read_pipe, clock, descriptor)
        pidfd = os.pidfd_open(group.pid)  # readable once the leader has ended

        def leader_ended() -> None:
            if (exit_ := group.exit()) is None:
                return
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self._drain(clock)
            on_end(self, exit_)

        loop.add_reader(pidfd, leader_ended)

    def close(self) -> None:
        """Read no more; whoever still writes gets a broken pipe."""
        for descriptor in list(self._pipes):
            self._close_pipe(descriptor)

    def _read_pipe(self, clock: Clock, descriptor: int) -> bool:
        """Keep what is there to read; answers whether there may be more."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_pipe(descriptor)
            return False
        self._output.append(self._pipes[descriptor], clock.now(), data)
        self._notify()
        return True

    def _drain(self, clock: Clock) -> None:
        """Take what the leader left in the pipes; bounded, since others may go on writing."""
        for descriptor in list(self._pipes):
            for _ in range(_DRAIN_READS):
                if not self._read_pipe(clock, descriptor):
                    break

    def _close_pipe(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        del self._pipes[descriptor]
        if not self._pipes:
            self._output.close()

    # stopping

    async def kill(self, group: ProcessGroup, hurry: Callable[[], None]) -> tuple[int, ...]:
        """Kill the group and wait until it is gone; answers who is left of it after a while.

        `hurry` is called when its leader has ended already, so that nobody else would look soon.
        """
        group.kill()
        if self.ended.is_set():
            hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self.ended.wait()
                await group.gone.wait()
            return ()
        return group.left(process_group.members())

    # reading

    async def read(self, *, after: int, follow: bool) -> AsyncIterator[tuple[OutputChunk, ...]]:
        """The output from the chunk after `after` on; with `follow`, until it has ended."""
        while True:
            ended = self.ended.is_set()
            while chunks := self._output.read(after, max_message_bytes=_MESSAGE_BYTES):
                after = chunks[-1].number
                yield chunks
            if ended or not follow:
                return
            # Nothing is missed in between: appending and ending happen on this event loop.
            if not self.ended.is_set() and self._output.last_number <= after:
                await self._more()

    async def _more(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

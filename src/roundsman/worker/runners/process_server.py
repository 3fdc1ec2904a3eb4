"""The keeper: a process of its own that starts, reads and stops what its worker asks for.

It outlives the worker. A worker that comes back finds it by its socket; a keeper that nobody is
connected to ends when nobody of its processes is left. It has one thread, so that copies of it
may be made; and it imports all that it needs at its start, so that an upgrade changes nothing under
its feet.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final

from roundsman import __version__, logs
from roundsman.clock import SystemClock
from roundsman.worker.policy import Policy
from roundsman.worker.runners import process_machine, process_signatures
from roundsman.worker.runners.process_keeper import ProcessKeeper
from roundsman.worker.runners.process_machine import Machine
from roundsman.worker.runners.process_messages import (
    Acknowledge,
    Changed,
    Configure,
    Grew,
    Incoming,
    Mask,
    Start,
    State,
    Stop,
    Stopped,
    ToKeeper,
    ToRunner,
    Watch,
    send,
    to_keeper,
)

log = logs.get(__name__)

_MAX_UNSENT: Final = 16 << 20  # bytes that a worker which does not read may leave


class KeeperServer:
    """Serves one worker after the other, through a listening socket."""

    def __init__(self, keeper: ProcessKeeper, machine: Machine) -> None:
        """Serve from `run` on."""
        self._keeper = keeper
        self._machine = machine
        self._writer: asyncio.StreamWriter | None = None
        self._stops: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()
        self._told = False
        self._left_alone = False  # its worker has gone; before the first one there is one to come
        self._replaced = False

    async def run(self, listening: socket.socket) -> None:
        """Until it is told to end, or nobody of any process is left and nobody needs it any more.

        Its worker does while it is connected; one that uses another keeper until it was told all.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        await self._keeper.open()
        self._keeper.on_change = lambda change: self._say(Changed(change=change))
        self._keeper.on_idle = self._leave_if_idle
        server = await asyncio.start_unix_server(self._serve, sock=listening)
        await self._done.wait()
        server.close()
        if self._writer is not None:
            self._writer.close()
        await self._keeper.close(grace_seconds=1.0 if self._told else 0.0)

    def _end(self) -> None:
        self._told = True
        self._done.set()

    def _leave_if_idle(self) -> None:
        told_all = self._replaced and self._keeper.settled and not self._stops
        if self._keeper.idle and (self._left_alone or told_all):
            self._done.set()

    def _say(self, message: ToRunner) -> None:
        writer = self._writer
        if writer is None:
            return
        send(writer, message)
        if writer.transport.get_write_buffer_size() > _MAX_UNSENT:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._done.is_set():
            writer.close()  # it comes too late, and is told so by hearing nothing
            return
        if self._writer is not None:
            self._writer.transport.abort()  # of a worker that has gone without a word
        self._writer, self._left_alone = writer, False
        try:
            incoming = Incoming(reader, to_keeper)
            while (message := await incoming.next()) is not None:
                self._handle(message)
        finally:
            writer.close()
            if self._writer is writer:
                self._writer, self._left_alone = None, True
                self._leave_if_idle()

    def _handle(self, message: ToKeeper) -> None:
        """Do what a message says, without waiting for it."""
        keeper = self._keeper
        match message:
            case Configure(policy=policy, tags=tags, replaced=replaced):
                if policy.signers:
                    process_signatures.load()
                keeper.policy, keeper.tags = policy, tags
                self._replaced = replaced
                bounds, known = self._machine.bounds(), keeper.to_report()
                self._say(State(version=__version__, bounds=bounds, open=known))
                keeper.take_up_soon()  # another may have started things for it meanwhile
                self._leave_if_idle()
            case Mask(secrets=secrets):
                keeper.secrets.add(secret.reveal() for secret in secrets)
            case Start(asked=asked):
                self._say(Changed(change=keeper.start(asked)))
            case Stop(process_id=process_id, grace_seconds=grace_seconds):
                stop = asyncio.create_task(self._stop(process_id, grace_seconds))
                self._stops.add(stop)
                stop.add_done_callback(self._stop_done)
            case Acknowledge(process_id=process_id):
                keeper.acknowledge(process_id)
                self._leave_if_idle()
            case Watch(process_id=process_id, size=size):
                grew = partial(self._say, Grew(process_id=process_id))
                keeper.watch_output(process_id, size, grew)

    def _stop_done(self, stop: asyncio.Task[None]) -> None:
        self._stops.discard(stop)
        self._leave_if_idle()

    async def _stop(self, process_id: str, grace_seconds: float | None) -> None:
        self._say(Stopped(answer=await self._keeper.stop(process_id, grace_seconds)))


def main() -> None:
    """`python -m roundsman.worker.runners.process_server FOLDER SOCKET LISTENING`."""
    folder, name, descriptor = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    logs.configure(level="warning", json=False)  # what runs is told by the worker
    machine = process_machine.prepare()
    keeper = ProcessKeeper(Policy(), folder=folder, clock=SystemClock(), machine=machine)
    listening = socket.socket(fileno=descriptor)
    listening.set_inheritable(False)
    gc.freeze()  # what is there now stays: it need not be looked through again and again
    try:
        asyncio.run(KeeperServer(keeper, machine).run(listening))
    finally:
        with contextlib.suppress(FileNotFoundError):
            name.unlink()
        if machine.cgroup is not None:
            with contextlib.suppress(OSError):  # somebody could not be killed
                machine.cgroup.rmdir()


if __name__ == "__main__":
    main()

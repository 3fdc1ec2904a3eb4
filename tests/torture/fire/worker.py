"""A worker whose wall clock can be set, as a process: python -m tests.torture.fire.worker.

It is the real one but for two things: what it logs in to are the `devices` beside this, and its
wall clock is wrong by what a file says.
"""

import asyncio
import sys
from pathlib import Path

from roundsman import logs
from roundsman.clock import SystemClock
from roundsman.wire.device import Protocol
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.service import WorkerService, run_until_signalled
from roundsman.worker.sessions import tcp
from roundsman.worker.sessions.errors import SessionError
from roundsman.worker.settings import WorkerSettings
from tests.torture.fire.devices import HOST, LINES

CONNECT_SECONDS = 15
SESSIONS = 10


def content(device: str, due: int, epoch: int) -> bytes:
    """What a run brings back: different each time."""
    return f"hostname {device}\n! due {due}, epoch {epoch}\nend\n".encode()


class WrongClock(SystemClock):
    """Its wall clock is ahead by what a file says, in seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> float:
        return super().now() + float(self._file.read_text())


class Runner:
    """Says to a device what it has to say, in lines."""

    def __init__(self, port: int, name: str) -> None:
        self._port = port
        self._name = name

    async def run(
        self, execution: Execution, result: ResultFile, deadline: LeaseDeadline = NO_DEADLINE
    ) -> None:
        assert execution.lease is not None
        device, due, epoch = execution.device.name, execution.timestamp, execution.lease.epoch
        try:
            connected = await tcp.connect(
                HOST, self._port, Protocol(), deadline, seconds=CONNECT_SECONDS
            )
        except SessionError as error:
            raise RunFailedError(error.text, error.failure_class) from None
        reader, writer = await asyncio.open_connection(sock=connected)
        try:
            for line in LINES:
                writer.write(f"{device} {due} {epoch} {self._name} {line}\n".encode())
                if not await reader.readline():
                    raise RunFailedError("the device hung up", FailureClass.CLOSED_EARLY)
        except OSError:
            raise RunFailedError("the connection was lost", FailureClass.CLOSED_EARLY) from None
        finally:
            writer.transport.abort()
        result.write(content(device, due, epoch))


async def _serve(service: WorkerService) -> None:
    serving = asyncio.create_task(run_until_signalled(service))
    await asyncio.sleep(0)  # it has begun: from here on it hears signals
    print("ready", flush=True)
    await serving


def main() -> None:
    url, state, name, devices, clock = sys.argv[1:]
    logs.configure(level="info", json=True)
    settings = WorkerSettings(controller=url, name=name, state=Path(state), sessions=SESSIONS)
    service = WorkerService(settings, Runner(int(devices), name), WrongClock(Path(clock)))
    asyncio.run(_serve(service))


if __name__ == "__main__":
    main()

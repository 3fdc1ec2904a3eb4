"""Executions against simulated devices, and what a runner brings back."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.wire.device import Credentials, Device, Prompt, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import Command, CommandSet, File, FileSet, Job, JobType, Schedule
from roundsman.wire.run import FailureClass, SecretFinding
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.runners.device import SessionRunner, TimeLimits
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.sessions.events import Event
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.shell import Patience
from roundsman.worker.settings import HostKeyPolicy


class Bench:
    """A runner with a host key store of its own, and the result of its last run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known_hosts = folder / "known_hosts"
        self.limits = TimeLimits(patience=Patience(first=0.05, repeated=0.5, waking=1.0))
        self.policy = HostKeyPolicy.TRUST_ON_FIRST_USE
        self.evidence = b""
        self.detected_secrets: tuple[SecretFinding, ...] = ()
        self.recording: str | None = None
        self.whole_tapes = False
        self.events: list[Event] = []
        self.received: list[int] = []

    @contextlib.contextmanager
    def runner(self, **more: Any) -> Iterator[SessionRunner]:
        """A runner for several runs."""
        keys = HostKeyStore(self.known_hosts, self.policy)
        more = {"hear": self.events.append, "whole_tapes": self.whole_tapes, **more}
        with contextlib.closing(SessionRunner(keys, limits=self.limits, **more)) as runner:
            yield runner

    async def run(
        self,
        device: SimulatedDevice | Device,
        job: Job,
        *,
        max_bytes: int = 1 << 30,
        runner: SessionRunner | None = None,
        deadline: LeaseDeadline = NO_DEADLINE,
    ) -> bytes:
        """The result; what a failed run leaves is in `evidence`."""
        if isinstance(device, SimulatedDevice):
            device = entry(device)
        with contextlib.ExitStack() as stack:
            runner = runner or stack.enter_context(self.runner())
            # Runs may go on side by side.
            file = stack.enter_context(tempfile.TemporaryFile(dir=self.folder))
            result = ResultFile(file, max_bytes=max_bytes, scratch_folder=self.folder)
            result.on_received = self.received.append
            try:
                execution = Execution(device=device, job=job, timestamp=0)
                await runner.run(execution, result, deadline)
            except RunFailedError:
                file.seek(0)
                self.evidence = file.read()
                raise
            finally:
                self.detected_secrets = result.detected_secrets
                self.recording = result.recording
            file.seek(0)
            return file.read()

    async def fail(
        self, device: SimulatedDevice | Device, job: Job, **how: Any
    ) -> tuple[FailureClass, str]:
        """Class and text of the failure that there must be."""
        with pytest.raises(RunFailedError) as caught:
            await self.run(device, job, **how)
        return caught.value.failure_class, caught.value.text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def entry(
    device: SimulatedDevice, *, ssh: dict[str, Any] | None = None, **credentials: Any
) -> Device:
    """The device as a configuration has it."""
    login: dict[str, Any] = {"user": device.user, "password": Secret(device.password)}
    return Device(
        name=device.name,
        host=HOST,
        protocol=Protocol(ssh=Ssh(port=device.port, **(ssh or {}))),
        credentials=Credentials(**{**login, **credentials}),
    )


def commands(*lines: str | Command, ends_with: str | None = "#", **more: Any) -> Job:
    """A job that runs commands."""
    all_commands = tuple(Command(command=line) if isinstance(line, str) else line for line in lines)
    return Job(
        name="show_run",
        schedule=Schedule(fixed=0),
        command_set=CommandSet(commands=all_commands),
        prompt=Prompt(ends_with=ends_with) if ends_with else None,
        **more,
    )


def fetch(*files: File, **more: Any) -> Job:
    """A job that fetches files."""
    return Job(
        name="fetch",
        type=JobType.FILE,
        schedule=Schedule(fixed=0),
        file_set=FileSet(files=files),
        **more,
    )


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, host: str = HOST) -> AsyncIterator[int]:
    """A TCP server on a port that it yields; nothing of it is left afterwards."""
    writers: list[asyncio.StreamWriter] = []
    tasks: set[asyncio.Task[None]] = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.add(asyncio.current_task())  # type: ignore[arg-type] # there is one
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(begin, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

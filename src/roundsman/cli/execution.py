"""One command on many workers, as a terminal follows it."""

import asyncio
import signal
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import click

from roundsman.cli.compose import signals
from roundsman.client import ControllerClient
from roundsman.client.errors import ControllerError, UnreachableError
from roundsman.client.processes import ProcessApi
from roundsman.client.transport import CONNECTIONS
from roundsman.secret import Secret
from roundsman.wire.batch import BatchReport, BatchRequest
from roundsman.wire.control import MAX_INPUT_BYTES
from roundsman.wire.process import OutputChunk, Process, ProcessLimits, ProcessState

READERS: Final = CONNECTIONS - 10
"""Outputs that are followed at once; the rest of the connections is for everything else."""
RECONNECT_SECONDS: Final = 1.0
RECONNECTS: Final = 60
"""So often in a row a broken connection is tried again: a controller restarts in less."""
INTERRUPTED: Final = 130
_HAVE_RUN: Final = (ProcessState.RUNNING, ProcessState.ENDED)


class Shown(Protocol):
    """Where it is shown."""

    def begin(self, batch_id: str, names: Sequence[str]) -> None:
        """It begins on these workers."""

    def chunk(self, name: str, process: Process, chunk: OutputChunk) -> None:
        """A worker's process wrote something."""

    def remark(self, text: str) -> None:
        """Something that is to be known."""

    def end(self, report: BatchReport, names: dict[str, str]) -> None:
        """It has ended; `names` are the workers', by id."""


def request_of(
    command_line: Sequence[str],
    *,
    on: str,
    width: int,
    stop_above: float,
    time_to_live: float,
    wall_seconds: float | None,
    environment: Sequence[str],
    standard_input: bytes,
) -> BatchRequest:
    """The request for a command line."""
    name, *arguments = command_line
    # A script is what a policy takes for its first argument; an option is none.
    has_path = bool(arguments) and not arguments[0].startswith("-")
    variables = dict(_variable(text) for text in environment)
    if len(standard_input) > MAX_INPUT_BYTES:
        raise click.UsageError(f"standard input: at most {MAX_INPUT_BYTES} bytes are taken")
    return BatchRequest(
        command=name,
        path=arguments[0] if has_path else None,
        arguments=tuple(arguments[1:] if has_path else arguments),
        environment=variables,
        standard_input=standard_input,
        limits=ProcessLimits(wall_seconds=wall_seconds),
        time_to_live=time_to_live,
        on=on,
        width=width,
        stop_above=stop_above,
        # So that an answer that was lost can be asked for again.
        idempotency_key=str(uuid.uuid4()),
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--env")
    return name, value


class Execution:
    """Begins a batch and follows it to its end."""

    def __init__(
        self,
        request: BatchRequest,
        *,
        controller: str,
        token: Secret | None,
        ca_file: Path | None,
        shown: Shown,
    ) -> None:
        """Nothing is sent yet."""
        self._request = request
        self._client = ControllerClient(controller, token=token, ca_file=ca_file)
        self._processes = ProcessApi(self._client)
        self._shown = shown
        self._names: dict[str, str] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(READERS)
        self._interrupts = 0
        self._interrupted = asyncio.Event()

    async def run(self) -> int:
        """The exit status."""
        async with self._client:
            begun = await self._processes.start(self._request)
            self._names = await self._worker_names()
            members = [self._name(each.worker_id) for each in begun.processes]
            self._shown.begin(begun.batch_id, members)
            handlers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._interrupt}
            with signals(handlers):
                return await self._watch(begun.batch_id)

    async def _watch(self, batch_id: str) -> int:
        following = asyncio.create_task(self._follow(batch_id))
        stopping: asyncio.Task[None] | None = None
        try:
            while True:
                interrupted = asyncio.create_task(self._interrupted.wait())
                await asyncio.wait({following, interrupted}, return_when=asyncio.FIRST_COMPLETED)
                interrupted.cancel()
                if following.done():
                    report = following.result()
                    self._shown.end(report, self._names)
                    if self._interrupts:
                        return INTERRUPTED
                    return 0 if report.succeeded else 1
                self._interrupted.clear()
                if stopping is None:
                    self._shown.remark("stopping it on all workers; Ctrl-C again leaves at once")
                    stopping = asyncio.create_task(self._stop(batch_id))
                else:
                    self._shown.remark(f"left: batch {batch_id} is being stopped")
                    return INTERRUPTED
        finally:
            tasks = [following, *self._readers.values(), *([stopping] if stopping else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._interrupted.set()

    async def _stop(self, batch_id: str) -> None:
        try:
            await self._processes.stop(batch_id)
        except ControllerError as error:
            self._shown.remark(f"could not be stopped: {error.text}")

    async def _worker_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        after: str | None = None
        while True:
            page = await self._client.manage.workers(after=after, limit=1000)
            names.update((worker.worker_id, worker.name) for worker in page.items)
            after = page.next
            if after is None:
                return names

    def _name(self, worker_id: str) -> str:
        return self._names.get(worker_id, worker_id)

    async def _follow(self, batch_id: str) -> BatchReport:
        """Follow the batch, whatever happens to the connection; its report once all is shown."""
        failures = 0
        while True:
            try:
                async for said in self._processes.follow(batch_id):
                    failures = 0
                    if isinstance(said, BatchReport):
                        await asyncio.gather(*self._readers.values())
                        return said
                    self._read(said)
            except UnreachableError:
                failures += 1
                if failures > RECONNECTS:
                    raise
                await asyncio.sleep(RECONNECT_SECONDS)

    def _read(self, process: Process) -> None:
        # That it has ended may be told before that it was begun.
        has_run = process.started_at is not None or process.state in _HAVE_RUN
        if has_run and process.process_id not in self._readers:
            reading = asyncio.create_task(self._show_output(process))
            self._readers[process.process_id] = reading

    async def _show_output(self, process: Process) -> None:
        after, failures = 0, 0
        name = self._name(process.worker_id)
        async with self._room:
            while True:
                try:
                    async for chunk in self._processes.output(process.process_id, after=after):
                        self._shown.chunk(name, process, chunk)
                        after, failures = chunk.number, 0
                except UnreachableError as error:
                    failures += 1
                    if failures > RECONNECTS:
                        self._shown.remark(f"{name}: the rest of its output: {error.text}")
                        return
                    await asyncio.sleep(RECONNECT_SECONDS)
                except ControllerError as error:
                    self._shown.remark(f"{name}: the rest of its output: {error.text}")
                    return
                else:
                    return

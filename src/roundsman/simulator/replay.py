"""A recorded dialogue read by the session engine, without a network: for testing platforms."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import msgspec

from roundsman.simulator.faults import NO_FAULTS
from roundsman.simulator.recorded import Recording
from roundsman.simulator.terminal import HungUp, Terminal
from roundsman.wire.job import Command
from roundsman.wire.platform import Platform
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.shell import Shell
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.sessions.transcript import Transcript

_SECONDS: Final = 10
"""How long a command may take: everything that it waits for is there already."""

_MAX_BYTES: Final = 1 << 30


class Replayed(NamedTuple):
    """What came of one command."""

    command: Command
    text: bytes | None
    """Its output; none where the command was not recorded."""
    complaint: str | None
    """The platform's pattern by which it was rejected."""


async def replay(
    recording: Recording, platform: Platform, commands: Sequence[Command]
) -> list[Replayed]:
    """Log in, enable and run commands, as far as they were recorded.

    Raises the errors of `worker.sessions`, and `TimeoutError`.
    """
    if platform.exec:
        return [_executed(recording, platform, command) for command in commands]
    setup = tuple(line for line in platform.setup if recording.place_of(line) is not None)
    enable = platform.enable
    if enable is not None and not _comes_first(recording, enable.command, setup, commands):
        enable = None  # its prompts would not be those of the mode
    manners = Manners(msgspec.structs.replace(platform, setup=setup, enable=enable))
    with tempfile.TemporaryFile() as file:
        transcript = Transcript(file, max_bytes=_MAX_BYTES)
        async with _played(recording) as channel:
            shell = Shell(channel, transcript, manners=manners)
            async with asyncio.timeout(_SECONDS):
                await shell.learn_prompt(None)
                await shell.enable(b"secret")
            for line in setup:
                async with asyncio.timeout(_SECONDS):
                    await shell.run(line)
            return [
                await _run(shell, transcript, manners, command)
                if recording.place_of(command.command) is not None
                else Replayed(command, None, None)
                for command in commands
            ]


def _comes_first(
    recording: Recording, line: str, setup: Sequence[str], commands: Sequence[Command]
) -> bool:
    """Whether a line was sent, and before all these."""
    place = recording.place_of(line)
    others = [recording.place_of(other) for other in (*setup, *(c.command for c in commands))]
    return place is not None and all(other is None or place < other for other in others)


async def _run(
    shell: Shell, transcript: Transcript, manners: Manners, command: Command
) -> Replayed:
    async with asyncio.timeout(_SECONDS):
        output = await shell.run(command.command)
    text = b"".join(transcript.read(output))
    return Replayed(command, text, manners.complaint(text))


def _executed(recording: Recording, platform: Platform, command: Command) -> Replayed:
    place = recording.place_of(command.command)
    if place is None:
        return Replayed(command, None, None)
    screen = LineRenderer()
    # Recordings have lost the line end at the end.
    text = screen.feed(recording.exchanges[place].came.rstrip(b"\r\n") + b"\n")
    return Replayed(command, text, Manners(platform).complaint(text))


@asynccontextmanager
async def _played(recording: Recording) -> AsyncIterator["_Side"]:
    """A recorded device, and the line to it."""
    typed, coming = asyncio.Queue[bytes](), asyncio.Queue[bytes]()
    terminal = Terminal(_Side(typed, coming), recording.dialogue(), NO_FAULTS)
    playing = asyncio.create_task(terminal.run())
    try:
        yield _Side(coming, typed)
    finally:
        playing.cancel()
        with suppress(asyncio.CancelledError, HungUp):
            await playing


class _Side:
    """One end of a line without a network: a `Channel` or a `Connection`, as one looks at it."""

    def __init__(self, inward: asyncio.Queue[bytes], outward: asyncio.Queue[bytes]) -> None:
        self._inward = inward
        self._outward = outward

    async def read(self) -> bytes:
        return await self._inward.get()

    def write(self, data: bytes) -> None:
        if data:
            self._outward.put_nowait(data)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def abort(self) -> None:
        self._outward.put_nowait(b"")

"""A recorded dialogue read by the session engine, without a network: for testing platforms."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import yaml

from roundsman.errors import InvalidError
from roundsman.simulator.recorded import unescape
from roundsman.wire.job import Command
from roundsman.wire.platform import Platform
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.shell import Shell
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.sessions.transcript import Transcript

_SECONDS: Final = 10
"""How long a command may take: everything that it waits for is there already."""

_MAX_BYTES: Final = 1 << 30


class DialogueError(InvalidError):
    """A file holds no recorded dialogue."""

    code = "dialogue.unreadable"


class Exchange(NamedTuple):
    """What was sent, exactly, and what came back."""

    sent: str
    came: bytes


class Dialogue(NamedTuple):
    """A recording, in the order in which it was made."""

    greeting: bytes
    """Banner and first prompt; empty where commands were run one by one, without a shell."""
    exchanges: tuple[Exchange, ...]

    def place_of(self, line: str, start: int = 0) -> int | None:
        """Where a line was sent, after `start` if it was, else anywhere."""
        places = [i for i, (sent, _) in enumerate(self.exchanges) if sent == f"{line}\n"]
        return next((i for i in places if i >= start), places[0] if places else None)


class Replayed(NamedTuple):
    """What came of one command."""

    command: Command
    text: bytes | None
    """Its output; none where the command was not recorded."""
    complaint: str | None
    """The platform's pattern by which it was rejected."""


def read_dialogue(path: Path) -> Dialogue:
    """Read a file in the format of `recorded`. Raises `DialogueError`."""
    try:
        return _read(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error)
    except (AttributeError, KeyError, TypeError, ValueError):
        reason = "expected init_prompt, and commands with what followed each"
    raise DialogueError(f"{path} is no recorded dialogue: {reason}")


def _read(text: str) -> Dialogue:
    document = yaml.safe_load(text)
    said = document["commands"]
    pairs = said.items() if isinstance(said, dict) else (p for entry in said for p in entry.items())
    return Dialogue(
        greeting=unescape(document["init_prompt"] or ""),
        exchanges=tuple(Exchange(unescape(k).decode(), unescape(v or "")) for k, v in pairs),
    )


async def replay(
    dialogue: Dialogue, platform: Platform, commands: Sequence[Command]
) -> list[Replayed]:
    """Log in, enable and run commands, as far as they were recorded.

    Raises the errors of `worker.sessions`, and `TimeoutError`.
    """
    if platform.exec:
        return [_executed(dialogue, platform, command) for command in commands]
    setup = tuple(line for line in platform.setup if dialogue.place_of(line) is not None)
    enable = platform.enable
    if enable is not None and not _comes_first(dialogue, enable.command, setup, commands):
        enable = None  # its prompts would not be those of the mode
    manners = Manners(msgspec.structs.replace(platform, setup=setup, enable=enable))
    with tempfile.TemporaryFile() as file:
        transcript = Transcript(file, max_bytes=_MAX_BYTES)
        shell = Shell(_Recording(dialogue), transcript, manners=manners)
        async with asyncio.timeout(_SECONDS):
            await shell.learn_prompt(None)
            await shell.enable(b"secret")
        for line in setup:
            async with asyncio.timeout(_SECONDS):
                await shell.run(line)
        return [
            await _run(shell, transcript, manners, command)
            if dialogue.place_of(command.command) is not None
            else Replayed(command, None, None)
            for command in commands
        ]


def _comes_first(
    dialogue: Dialogue, line: str, setup: Sequence[str], commands: Sequence[Command]
) -> bool:
    """Whether a line was sent, and before all these."""
    place = dialogue.place_of(line)
    others = [dialogue.place_of(other) for other in (*setup, *(c.command for c in commands))]
    return place is not None and all(other is None or place < other for other in others)


async def _run(
    shell: Shell, transcript: Transcript, manners: Manners, command: Command
) -> Replayed:
    async with asyncio.timeout(_SECONDS):
        output = await shell.run(command.command)
    text = b"".join(transcript.read(output))
    return Replayed(command, text, manners.complaint(text))


def _executed(dialogue: Dialogue, platform: Platform, command: Command) -> Replayed:
    place = dialogue.place_of(command.command)
    if place is None:
        return Replayed(command, None, None)
    screen = LineRenderer()
    # Recordings have lost the line end at the end.
    text = screen.feed(dialogue.exchanges[place].came.rstrip(b"\r\n") + b"\n")
    return Replayed(command, text, Manners(platform).complaint(text))


class _Recording:
    """The channel to a recorded device."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._coming: asyncio.Queue[bytes] = asyncio.Queue()
        self._line = ""
        self._next = 0  # the exchange after the last
        self._prompt = b""
        self._send(dialogue.greeting)

    async def read(self) -> bytes:
        """See `Channel`."""
        return await self._coming.get()

    def write(self, data: bytes) -> None:
        """See `Channel`."""
        for character in data.decode():
            self._line += character
            if self._line == self._key() or character == "\n":
                self._answer(self._line)
                self._line = ""

    def _key(self) -> str | None:
        """The key for which the device waits."""
        later = self._dialogue.exchanges[self._next : self._next + 1]
        return next((sent for sent, _ in later if not sent.endswith("\n")), None)

    def _answer(self, sent: str) -> None:
        line = sent.removesuffix("\n")
        if sent == self._key():
            self._play(self._next)
        elif not line.strip():
            self._send(b"\n" + self._prompt)
        elif (place := self._dialogue.place_of(line, self._next)) is not None:
            self._play(place)
        elif self._next < len(self._dialogue.exchanges):
            # A password: whatever is sent stands for the one that was. It is not echoed, but what
            # follows begins a line.
            self._play(self._next, before=b"\n")

    def _play(self, place: int, before: bytes = b"") -> None:
        self._next = place + 1
        self._send(before + self._dialogue.exchanges[place].came)

    def _send(self, came: bytes) -> None:
        self._prompt = came.rpartition(b"\n")[2]
        self._coming.put_nowait(b"\r\n".join(_lines(came)))


def _lines(text: bytes) -> Iterator[bytes]:
    *lines, last = text.split(b"\n")
    for line in lines:
        yield line.removesuffix(b"\r")
    yield last

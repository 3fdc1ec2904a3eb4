"""A device's terminal: a line editor, its echo, and output with its faults."""

import asyncio
import re
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

from roundsman.simulator.faults import Faults

_ENTER = b"\r\n"
_ERASE = b"\b\x7f"
_QUESTION_ENDS = (b":", b"?", b"]")
_BLOCK = 1 << 16


_REPORTS = re.compile(rb"\x1b\[[\d;?]*[cnRt]")
"""What terminals say of themselves when asked: nobody typed it."""


class HungUp(Exception):
    """The session is over."""


class Connection(Protocol):
    """The bytes of one session, whatever carries them."""

    async def read(self) -> bytes:
        """Whatever has come; empty once the other side has gone."""
        ...

    def write(self, data: bytes) -> None:
        """Send soon."""
        ...

    async def drain(self) -> None:
        """Wait until the other side has taken most of it. Raises `OSError` or an error of SSH."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...


class Echo(Enum):
    """What is shown of what is typed."""

    TYPED = auto()
    LINE_ENDS = auto()
    """As where a password is asked for."""
    NOTHING = auto()
    """The answers hold their own echo."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What follows a line or a key that was typed."""

    output: bytes
    """Without the next prompt, and without echo unless it is recorded; line ends are CR LF."""
    pauses: tuple[tuple[int, float], ...] = ()
    """Where in the output, in bytes and ascending, the device pauses, and for how many seconds."""
    ends_session: bool = False
    """Whether the device hangs up afterwards."""
    status: int = 0
    """With which status a command ends that was run without a shell."""


class Dialogue(Protocol):
    """What a device answers in one session. To be inherited from."""

    def begin(self) -> Answer:
        """What is written after login, before the first prompt."""
        ...

    def prompt(self) -> bytes:
        """The prompt as it is now."""
        ...

    def answer(self, line: str) -> Answer:
        """What follows a line that was typed."""
        ...

    def key(self, typed: str) -> Answer | None:
        """What follows keys that need no Enter, `typed` being all since the last line end."""
        return None

    def execute(self, command: str) -> Answer:
        """What a command prints that is run without a shell."""
        return self.answer(command)

    @property
    def echo(self) -> Echo:
        """What is shown of what is typed now."""
        return Echo.TYPED


class Outlet:
    """What a device writes, with its faults."""

    def __init__(self, connection: Connection, faults: Faults) -> None:
        """Write to `connection`."""
        self._connection = connection
        self._faults = faults
        self._left = faults.resets_after_bytes

    def echo(self, typed: bytes | bytearray) -> None:
        """Show what was typed at once, as line editors do with what came at once."""
        if typed:
            self._send(bytes(typed))

    async def write_whole(self, answer: Answer) -> None:
        """An output, with its pauses."""
        start = 0
        for end, seconds in answer.pauses:
            await self.write(answer.output[start:end])
            await asyncio.sleep(seconds)
            start = end
        await self.write(answer.output[start:])

    async def write_answer(self, answer: Answer) -> None:
        """The output of a command, to where a fault ends it."""
        faults, output = self._faults, answer.output
        for limit in (faults.closes_after_bytes, faults.stalls_after_bytes):
            output = output if limit is None else output[:limit]
        await self.write_whole(replace(answer, output=output))
        if len(output) < len(answer.output):
            if faults.closes_after_bytes is None:
                await asyncio.Event().wait()
            self._reset()

    async def write(self, data: bytes) -> None:
        """Write as the faults want it, no faster than it is read."""
        faults = self._faults
        if faults.latency:
            await asyncio.sleep(faults.latency)
        size = faults.piece_bytes or _BLOCK
        for start in range(0, len(data), size):
            self._send(data[start : start + size])
            await self._connection.drain()
            if faults.piece_bytes:
                await asyncio.sleep(faults.piece_seconds)

    def _send(self, data: bytes) -> None:
        if self._left is None:
            self._connection.write(data)
            return
        self._connection.write(data[: self._left])
        self._left -= len(data)
        if self._left <= 0:
            self._reset()

    def _reset(self) -> None:
        self._connection.abort()
        raise HungUp


class Terminal:
    """One session's terminal."""

    def __init__(self, connection: Connection, dialogue: Dialogue, faults: Faults) -> None:
        """Hold the dialogue over one session's bytes."""
        self._connection = connection
        self._dialogue = dialogue
        self._faults = faults
        self._outlet = Outlet(connection, faults)
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self._busy = True

    async def run(self) -> None:
        """From the greeting until either side hangs up; raises `HungUp`, or why it broke."""
        reader = asyncio.create_task(self._read())
        try:
            greeting = self._dialogue.begin()
            await self._outlet.write_whole(greeting)
            answer = greeting
            while not answer.ends_session:
                await self._write_prompt()
                answer = await self._next()
                await self._outlet.write_answer(answer)
        finally:
            reader.cancel()

    async def _read(self) -> None:
        """Take what is typed, also while output runs."""
        try:
            while data := await self._connection.read():
                if self._busy and self._faults.echoes_while_busy:
                    self._outlet.echo(data.replace(b"\r", b"\n").replace(b"\n", _ENTER))
                if typed := _REPORTS.sub(b"", data):
                    self._typed.put_nowait(typed)
        finally:
            self._typed.put_nowait(b"")

    async def _next(self) -> Answer:
        """The answer to the next line or key, edited and echoed."""
        line = bytearray()
        self._busy = False
        while True:
            data = await self._typed.get()
            if not data:
                raise HungUp
            shown = bytearray()
            for position, byte in enumerate(data):
                answer = self._typed_one(line, byte, shown)
                if answer is not None:
                    self._busy = True
                    self._typed_ahead(data[position + 1 :])
                    self._outlet.echo(shown)
                    return answer
            self._outlet.echo(shown)

    def _typed_one(self, line: bytearray, byte: int, shown: bytearray) -> Answer | None:
        """Edit the line; the answer, if that was the end of it. `shown` is the echo so far."""
        hidden = self._dialogue.echo is not Echo.TYPED or self._faults.without_echo
        if byte in _ENTER:
            if self._dialogue.echo is not Echo.NOTHING:
                shown += _ENTER
            return self._dialogue.answer(line.decode("utf-8", "replace"))
        if byte in _ERASE:
            del line[-1:]
            shown += b"" if hidden else b"\b \b"
            return None
        line.append(byte)
        answer = self._dialogue.key(line.decode("utf-8", "replace"))
        if answer is None and not hidden:
            shown.append(byte)
        return answer

    def _typed_ahead(self, rest: bytes) -> None:
        """Put back what was typed after the line, before anything that was typed later."""
        later = [self._typed.get_nowait() for _ in range(self._typed.qsize())]
        for data in (rest, *later) if rest else later:
            self._typed.put_nowait(data)

    async def _write_prompt(self) -> None:
        prompt = self._dialogue.prompt()
        if not prompt:
            return
        double = self._faults.doubles_prompt and not prompt.rstrip().endswith(_QUESTION_ENDS)
        await self._outlet.write(prompt + _ENTER + prompt if double else prompt)


def drawn(text: bytes) -> bytes:
    """Text as a terminal wants it: each line ended by CR LF, where it is not already."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

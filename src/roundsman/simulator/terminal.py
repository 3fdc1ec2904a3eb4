"""A device's shell: a line editor, its echo, and output with its faults."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import asyncssh

from roundsman.simulator.faults import Faults

_ENTER = b"\r\n"
_ERASE = b"\b\x7f"


class HungUp(Exception):
    """The session is over."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What follows a line that was typed."""

    output: bytes
    """Without echo or prompt; line ends are CR LF."""
    ends_session: bool = False
    """Whether the device hangs up afterwards."""


class Dialogue(Protocol):
    """What a device answers."""

    def begin(self) -> bytes:
        """What is written after login, before the first prompt."""
        ...

    def prompt(self) -> bytes:
        """The prompt as it is now."""
        ...

    def answer(self, line: str) -> Answer:
        """What follows a line that was typed."""
        ...


class Terminal:
    """One session's shell."""

    def __init__(
        self,
        stdin: asyncssh.SSHReader[bytes],
        stdout: asyncssh.SSHWriter[bytes],
        dialogue: Dialogue,
        faults: Faults,
    ) -> None:
        """Hold the dialogue over one session's streams."""
        self._stdin = stdin
        self._stdout = stdout
        self._dialogue = dialogue
        self._faults = faults
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self._busy = True

    async def run(self) -> None:
        """From the greeting until either side hangs up."""
        reader = asyncio.create_task(self._read())
        try:
            await self._write(self._dialogue.begin())
            await self._write_prompt()
            while True:
                await self._answer(await self._line())
                await self._write_prompt()
        except (HungUp, OSError, asyncssh.Error):
            pass
        finally:
            reader.cancel()

    async def _read(self) -> None:
        """Take what is typed, also while output runs."""
        while data := await self._stdin.read(4096):
            if self._busy and self._faults.echoes_while_busy:
                self._stdout.write(data.replace(b"\r", b"\n").replace(b"\n", _ENTER))
            self._typed.put_nowait(data)
        self._typed.put_nowait(b"")

    async def _line(self) -> str:
        """One line, edited and echoed."""
        line = bytearray()
        self._busy = False
        while True:
            data = await self._typed.get()
            if not data:
                raise HungUp
            echo = bytearray()
            for position, byte in enumerate(data):
                if byte in _ENTER:
                    self._busy = True
                    self._typed_ahead(data[position + 1 :])
                    self._echo(echo)
                    self._stdout.write(_ENTER)
                    return line.decode("utf-8", "replace")
                if byte in _ERASE:
                    del line[-1:]
                    echo += b"\b \b"
                else:
                    line.append(byte)
                    echo.append(byte)
            self._echo(echo)

    def _typed_ahead(self, rest: bytes) -> None:
        """Put back what was typed after the line, before anything that was typed later."""
        later = [self._typed.get_nowait() for _ in range(self._typed.qsize())]
        for data in (rest, *later) if rest else later:
            self._typed.put_nowait(data)

    def _echo(self, data: bytearray) -> None:
        """Show what was typed at once, as line editors do with what came at once."""
        if data and not self._faults.without_echo:
            self._stdout.write(bytes(data))

    async def _answer(self, line: str) -> None:
        answer = self._dialogue.answer(line)
        output = answer.output
        for limit in (self._faults.closes_after_bytes, self._faults.stalls_after_bytes):
            output = output if limit is None else output[:limit]
        await self._write(output)
        if self._faults.closes_after_bytes is not None and len(output) < len(answer.output):
            self._stdout.get_extra_info("connection").abort()
            raise HungUp
        if self._faults.stalls_after_bytes is not None and len(output) < len(answer.output):
            await asyncio.Event().wait()
        if answer.ends_session:
            raise HungUp

    async def _write_prompt(self) -> None:
        prompt = self._dialogue.prompt()
        await self._write(prompt + _ENTER + prompt if self._faults.doubles_prompt else prompt)

    async def _write(self, data: bytes) -> None:
        """Write as the faults want it, no faster than it is read."""
        if self._faults.latency:
            await asyncio.sleep(self._faults.latency)
        size = self._faults.piece_bytes or 1 << 16
        for start in range(0, len(data), size):
            self._stdout.write(data[start : start + size])
            await self._stdout.drain()
            if self._faults.piece_bytes:
                await asyncio.sleep(self._faults.piece_seconds)

"""Recorded dialogues, sent over real SSH exactly as they were recorded: echoes, pagers and all.

The recordings are not part of the project: they are looked for in the folder that ROUNDSMAN_CORPUS
names, else beside the checkout.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncssh
import yaml

from roundsman.platforms.load import by_name
from roundsman.simulator.device import HOST
from roundsman.simulator.recorded import unescape
from roundsman.wire.device import Device, Protocol, Ssh
from roundsman.wire.platform import Platform, Question
from roundsman.worker.sessions.terminal import LineRenderer

CORPUS = Path(os.environ.get("ROUNDSMAN_CORPUS", Path(__file__).parents[4] / "shared" / "corpus"))
OXIDIZED = CORPUS / "oxidized"

PAGER = re.compile(rb"(?:\x1b\[7m)?(?:--More--|lines \d+-\d+(?: \(END\))?) ?\Z")
WIPE = re.compile(rb"\A(?:\x08+ +\x08+|\r +\r|\x1b\[m\x1b\[K\r\x1b\[K)")
FAREWELLS = {"exit", "quit", "logout"}
QUESTIONS = (Question(pattern=r"^\[sudo\] password for cumulus:", answer="armud\n"),)


@dataclass(frozen=True)
class Reply:
    """What followed a line, and what followed each key or answer after it."""

    parts: tuple[bytes, ...]

    @property
    def prompt(self) -> bytes:
        """The line at which the device waits in the end, raw."""
        return self.parts[-1].rpartition(b"\n")[2]


@dataclass(frozen=True)
class Dialogue:
    """A recording."""

    model: str
    greeting: bytes
    replies: dict[str, Reply]
    exec: bool
    commands: tuple[str, ...] = field(default=())
    """Those whose output is compared."""

    def expected(self, command: str) -> bytes:
        """The output of a command, as a terminal renders it, without echo, prompt and pagers."""
        first, *more = self.replies[command].parts
        if self.exec:
            return rendered(first)
        text = first
        for part in more:
            cut = PAGER.search(text)
            if _asks(text):
                text += b"\n" + part
            elif cut is None:
                text += part  # a key had been pressed too soon
            elif wiped := WIPE.match(part):
                text = text[: cut.start()] + part[wiped.end() :]
            else:
                text = text[: cut.start()] + part
        echo, _, rest = text.partition(b"\n")
        shown = echo.strip(b"\r").strip()  # of one command, only the beginning
        output = rest if shown and command.encode().startswith(shown) else text
        if not output.rpartition(b"\n")[1]:
            return b""
        return rendered(output.rpartition(b"\n")[0] + b"\n")

    def platform(self) -> Platform:
        """What is known of the device, apart from what would not fit the recording."""
        known = by_name(self.model).session
        questions = (*known.questions, *QUESTIONS)
        return replace_platform(known, setup=(), enable=None, errors=(), questions=questions)


def replace_platform(platform: Platform, **changes: Any) -> Platform:
    fields = {name: getattr(platform, name) for name in platform.__struct_fields__}
    return Platform(**{**fields, **changes})


def _asks(text: bytes) -> bool:
    return text.rstrip().endswith(b"password for cumulus:")


def rendered(raw: bytes) -> bytes:
    screen = LineRenderer()
    return screen.feed(raw) + screen.line


def recordings() -> list[Path]:
    return sorted(OXIDIZED.glob("*simulation.yaml"))


def read(path: Path) -> Dialogue:
    document = yaml.safe_load(path.read_text("utf-8"))
    said = document["commands"]
    pairs = list(said.items() if isinstance(said, dict) else (p for e in said for p in e.items()))
    model = path.name.partition("#")[0]
    is_exec = by_name(model).session.exec
    replies: dict[str, list[bytes]] = {}
    last = ""
    for key, value in pairs:
        sent, came = unescape(key).decode(), unescape(value or "")
        line = sent.removesuffix("\n")
        continues = last and (not sent.endswith("\n") or line == "armud")
        if continues:
            replies[last].append(came)
        elif line.strip() and "\n" not in line:
            last = line
            replies.setdefault(line, [came])
    commands = tuple(
        line
        for line, parts in replies.items()
        if line.strip() not in FAREWELLS and (is_exec or parts[-1].rpartition(b"\n")[2].strip())
    )
    greeting = unescape(document["init_prompt"] or "")
    made = {line: Reply(tuple(parts)) for line, parts in replies.items()}
    return Dialogue(model, greeting, made, is_exec, commands)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How the bytes come."""

    pieces: int = 1 << 16
    pause: float = 0.0
    cut_after: int | None = None
    """The connection is dropped after so many bytes."""


class Player:
    """One session of a recorded device."""

    def __init__(self, dialogue: Dialogue, process: Any, delivery: Delivery) -> None:
        self._dialogue = dialogue
        self._process = process
        self._delivery = delivery
        self._prompt = dialogue.greeting.rpartition(b"\n")[2]
        self._waiting: list[bytes] = []  # what follows the next keys
        self._left = delivery.cut_after

    async def run(self) -> None:
        """Play it."""
        try:
            if (command := self._process.command) is not None:
                reply = self._dialogue.replies.get(command)
                await self._send(reply.parts[0] if reply else b"not recorded\n", drawn=False)
            else:
                await self._send(self._dialogue.greeting)
                await self._shell()
        except (asyncssh.Error, OSError):
            return
        self._process.exit(0)

    async def _shell(self) -> None:
        line = ""
        while data := await self._process.stdin.read(4096):
            for character in data.decode():
                if self._waiting and (character != "\n" or line == "armud"):
                    line += character
                    if line in {" ", "armud\n"} or not line.strip():
                        if line.endswith("\n"):
                            await self._send(b"\n")  # the answer itself is not shown
                        line = ""
                        await self._go_on()
                elif character != "\n":
                    line += character
                elif line.strip() in FAREWELLS and line not in self._dialogue.commands:
                    return
                else:
                    await self._answer(line)
                    line = ""

    async def _answer(self, line: str) -> None:
        reply = self._dialogue.replies.get(line)
        if not line.strip():
            await self._send(b"\n" + self._prompt)
        elif reply is None:
            await self._send(line.encode() + b"\n% not recorded\n" + self._prompt)
        else:
            self._waiting = list(reply.parts)
            self._prompt = reply.prompt
            await self._go_on()

    async def _go_on(self) -> None:
        while self._waiting:
            part = self._waiting.pop(0)
            await self._send(part)
            if PAGER.search(part) or _asks(part):
                return

    async def _send(self, data: bytes, *, drawn: bool = True) -> None:
        if drawn:
            data = re.sub(rb"(?<!\r)\n", b"\r\n", data)
        size = self._delivery.pieces
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if self._left is not None:
                piece, self._left = piece[: self._left], self._left - len(piece)
            self._process.stdout.write(piece)
            await self._process.stdout.drain()
            if self._left is not None and self._left <= 0:
                self._process.get_extra_info("connection").abort()
                raise asyncssh.ConnectionLost("cut")
            await asyncio.sleep(self._delivery.pause)


class Door(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


@asynccontextmanager
async def played(dialogue: Dialogue, delivery: Delivery) -> AsyncIterator[Device]:
    """The device, on a port of the loopback interface."""

    async def serve(process: Any) -> None:
        await Player(dialogue, process, delivery).run()

    server = await asyncssh.listen(
        HOST,
        0,
        server_factory=Door,
        server_host_keys=[HOST_KEY],
        process_factory=serve,
        encoding=None,
        line_editor=False,
    )
    async with server:
        yield Device(
            name="recorded",
            host=HOST,
            protocol=Protocol(ssh=Ssh(port=server.get_port())),
            platform=dialogue.platform(),
        )


def with_prompt_like_lines(dialogue: Dialogue) -> Dialogue:
    """The same device, with lines like prompts in its banner and in every output."""
    prompt = dialogue.greeting.rpartition(b"\n")[2]
    name = rendered(prompt).strip()
    lures = b"\n".join((name + b" ", b"#", name + b" show", b"> ", b" description #", b"x>", b""))
    greeting = b"keep out #\n" + lures + dialogue.greeting
    return replace(
        dialogue,
        greeting=greeting,
        replies=dict(_lured(dialogue.replies, lures)),
    )


def _lured(replies: dict[str, Reply], lures: bytes) -> Iterator[tuple[str, Reply]]:
    for command, reply in replies.items():
        head, newline, rest = reply.parts[0].partition(b"\n")
        if not newline or len(reply.parts) > 1 or b"\x1b" in rest or b"\r" in rest[:2]:
            yield command, reply
        else:
            yield command, Reply((head + newline + lures + rest,))

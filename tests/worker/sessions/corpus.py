"""Recorded dialogues, sent over real SSH and Telnet exactly as they were recorded.

The recordings are not part of the project: they are looked for in the folder that ROUNDSMAN_CORPUS
names, else beside the checkout.
"""

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from roundsman.platforms.load import by_name
from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.recorded import Exchange, Recording, read_recording
from roundsman.simulator.server import HOST, DialogueServer
from roundsman.wire.device import Device, Protocol, ProtocolType, Ssh, Telnet
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
    recording: Recording
    replies: dict[str, Reply]
    exec: bool
    commands: tuple[str, ...] = field(default=())
    """Those whose output is compared."""

    @property
    def greeting(self) -> bytes:
        """Banner and first prompt."""
        return self.recording.greeting

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
    recording = read_recording(path)
    return described(recording, path.name.partition("#")[0])


def described(recording: Recording, model: str) -> Dialogue:
    """What is to be expected of a recording."""
    is_exec = by_name(model).session.exec
    replies: dict[str, list[bytes]] = {}
    last = ""
    for exchange in recording.exchanges:
        line = exchange.sent.removesuffix("\n")
        if last and (exchange.is_key or line == "armud"):
            replies[last].append(exchange.came)
        elif line.strip() and "\n" not in line:
            last = line
            replies.setdefault(line, [exchange.came])
    commands = tuple(
        line
        for line, parts in replies.items()
        if line.strip() not in FAREWELLS and (is_exec or parts[-1].rpartition(b"\n")[2].strip())
    )
    made = {line: Reply(tuple(parts)) for line, parts in replies.items()}
    return Dialogue(model, recording, made, is_exec, commands)


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


class Door(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


@asynccontextmanager
async def played(
    dialogue: Dialogue, faults: Faults = NO_FAULTS, protocol: ProtocolType = ProtocolType.SSH
) -> AsyncIterator[Device]:
    """The device, on a port of the loopback interface."""
    server = DialogueServer(
        dialogue.recording.dialogue, protocol=protocol, faults=faults, host_key=HOST_KEY
    )
    async with server:
        ports = Protocol(type=protocol, ssh=Ssh(port=server.port), telnet=Telnet(port=server.port))
        yield Device(name="recorded", host=HOST, protocol=ports, platform=dialogue.platform())


def with_prompt_like_lines(dialogue: Dialogue) -> Dialogue:
    """The same device, with lines like prompts in its banner and in every output."""
    prompt = dialogue.greeting.rpartition(b"\n")[2]
    name = rendered(prompt).strip()
    lures = b"\n".join((name + b" ", b"#", name + b" show", b"> ", b" description #", b"x>", b""))
    greeting = b"keep out #\n" + lures + dialogue.greeting if not dialogue.exec else b""
    exchanges = tuple(_lured(dialogue.recording.exchanges, lures))
    return described(Recording(greeting, exchanges), dialogue.model)


def _lured(exchanges: tuple[Exchange, ...], lures: bytes) -> Iterator[Exchange]:
    for number, exchange in enumerate(exchanges):
        head, newline, rest = exchange.came.partition(b"\n")
        followed = exchanges[number + 1 : number + 2]
        turned = followed and (followed[0].is_key or followed[0].sent == "armud\n")
        drawn = b"\x1b" in rest or b"\r" in rest[:2]
        if not newline or exchange.is_key or turned or drawn:
            yield exchange
        else:
            yield exchange._replace(came=head + newline + lures + rest)

"""State machines, walked by the session engine: logins, privileged modes, questions, commands.

A walk begins in a state, logs in, and runs either all commands that stay where it arrives, or one
that leads elsewhere. What the machine sent is noted while it is played: the result has to be that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from roundsman.platforms.load import by_name
from roundsman.secret import Secret
from roundsman.simulator.machine import Machine, MachineDialogue, MachineError, State, machine_of
from roundsman.simulator.server import HOST, DialogueServer
from roundsman.simulator.terminal import Answer, Echo
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.platform import Pager, Platform, Question
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import TimeLimits
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.shell import Patience
from tests.worker.sessions.conftest import Bench, commands
from tests.worker.sessions.corpus import CORPUS, HOST_KEY, rendered, replace_platform

UNICON = CORPUS / "unicon"
NAME = "R1"
LONGEST_PAUSE = 0.02
MOST_STEPS = 20
PROMPT_ENDS = ("#", ">", "$", "%")
UNKNOWN = "nothing known here"
PLATFORMS = {
    "asa": "cisco_asa",
    "comware": "hpe_comware",
    "eos": "arista_eos",
    "ios": "cisco_ios",
    "iosxe": "cisco_ios",
    "iosxr": "cisco_iosxr",
    "junos": "juniper_junos",
    "linux": "linux",
    "nxos": "cisco_nxos",
}


def files() -> list[Path]:
    return sorted(UNICON.glob("*/*.yaml"))


def platform_of(file: Path, state: str) -> Platform:
    """The platform that fits: that of the folder, or the one in the name of the file or state."""
    words = re.split(r"[_.]", file.stem)
    words += [file.parent.name] if file.parent.name != "generic" else []
    if state.startswith("ios_"):
        words.insert(0, "ios")
    found = next(PLATFORMS[word] for word in words if word in PLATFORMS)
    # The commands are whatever the machine knows, and it has a shell.
    return replace_platform(by_name(found).session, errors=(), exec=False)


class NotedDialogue(MachineDialogue):
    """A session of a machine, and what was sent in it."""

    def __init__(self, walk: "Walk") -> None:
        super().__init__(walk.machine, NAME)
        self._walk = walk
        self._walk.noted.clear()

    def begin(self) -> Answer:
        return self._quick(super().begin())

    def answer(self, line: str) -> Answer:
        before, shown = self.state, self.prompt()
        typed = line.encode() if self.echo is Echo.TYPED else b""
        answer = super().answer(line)
        self._walk.noted.append(Note(before, line, shown + typed + b"\r\n", answer.output))
        return self._quick(answer)

    def key(self, typed: str) -> Answer | None:
        before, shown = self.state, self.prompt()
        answer = super().key(typed)
        if answer is not None:
            self._walk.noted.append(Note(before, typed, shown + typed[:-1].encode(), answer.output))
        return None if answer is None else self._quick(answer)

    @staticmethod
    def _quick(answer: Answer) -> Answer:
        """Pauses are kept, but none is long."""
        pauses = tuple((at, min(seconds, LONGEST_PAUSE)) for at, seconds in answer.pauses)
        kept = pauses if len(pauses) < 100 else ()
        return Answer(output=answer.output, pauses=kept, ends_session=answer.ends_session)


@dataclass(frozen=True)
class Note:
    """Something that was typed, in which state, and what was on the screen before and after."""

    state: str
    typed: str
    shown: bytes
    output: bytes


@dataclass
class Walk:
    """From a state to commands."""

    file: Path
    first: str
    machine: Machine
    protocol: ProtocolType
    leading: str | None = None
    """A command that leads elsewhere; without it those that stay are run."""
    noted: list[Note] = field(default_factory=list)

    @property
    def title(self) -> str:
        leading = f" > {self.leading}" if self.leading is not None else ""
        return f"{self.file.parent.name}/{self.file.stem} {self.first}{leading}"

    @cached_property
    def platform(self) -> Platform:
        known = platform_of(self.file, self.first)
        enable = known.enable
        if enable and not any(enable.command in s.commands for s in self._states_of_login()):
            enable = None
        questions = (*known.questions, *self._questions())
        prompts = (*known.prompts, *self._foreign_prompts())
        more = (*self._pagers(), *known.more)
        return replace_platform(
            known, enable=enable, questions=questions, prompts=prompts, more=more
        )

    @cached_property
    def manners(self) -> Manners:
        return Manners(platform_of(self.file, self.first))

    def _states_of_login(self) -> Iterator[State]:
        for name in self.arrival[0]:
            yield self.machine.states[name]

    def _questions(self) -> Iterator[Question]:
        """What this machine asks, and the first answer that it knows."""
        for state in self.machine.states.values():
            line = last_line(state)
            asks = bool(line) and not self._is_prompt(line) and not self._asks_to_log_in(line)
            asks = asks and self.manners.pager(line.encode()) is None
            # What is known as both is taken as a key: another Enter would be one too many.
            lines = [f"{line}\n" for line in state.commands if line not in state.keys]
            answers = lines + sorted(state.keys, key=lambda key: key not in state.commands)
            if asks and answers:
                yield Question(pattern=f"^{re.escape(line)}$", answer=answers[0])

    def _pagers(self) -> Iterator[Pager]:
        """Those of which this machine wants to know that Enter was pressed, not a key."""
        for state in self.machine.states.values():
            line = last_line(state)
            if self.manners.pager(line.encode()) and "" in state.commands:
                yield Pager(pattern=re.escape(line), key="\n")

    def _asks_to_log_in(self, line: str) -> bool:
        login = self.manners.login
        return login.user.found_in(line.encode()) or login.password.found_in(line.encode())

    def is_shell(self, state: str) -> bool:
        return self._is_prompt(last_line(self.machine.states[state]))

    def _is_prompt(self, line: str) -> bool:
        """Whether it is one of the platform's prompts, or of some other shell within the device."""
        return self.manners.is_prompt(line.encode()) or line.endswith(PROMPT_ENDS)

    def _foreign_prompts(self) -> Iterator[str]:
        """Those that the platform does not know: as whoever goes there would have to tell it."""
        for state in self.machine.states.values():
            line = last_line(state)
            if self._is_prompt(line) and not self.manners.is_prompt(line.encode()):
                yield re.escape(line)

    @cached_property
    def arrival(self) -> tuple[list[str], Credentials | None]:
        """The states from the first to the shell in its highest mode, and who logs in there."""
        user, password, secret = None, None, None
        path = [self.first]
        enable = platform_of(self.file, self.first).enable
        enabled = self.manners.enabled
        for _ in range(MOST_STEPS):
            name = path[-1]
            state = self.machine.states[name]
            line = last_line(state).encode()
            typed = next(iter(state.commands), None)
            if self.is_shell(name):
                if not enable or not enabled or enabled.is_all_of(line):
                    break
                typed = enable.command if enable.command in state.commands else None
            elif self.manners.login.password.found_in(line):
                if len(path) > 1 and self._was_shell(path):
                    secret = secret or typed
                else:
                    password = password or typed
            elif self.manners.login.user.found_in(line):
                user = user or typed
            follows = None if typed is None else state.commands[typed].new_state
            if follows is None or follows not in self.machine.states:
                break
            path.append(self._settled(follows))
        credentials = None
        if user or password or secret:
            credentials = Credentials(
                user=user or "admin",
                password=Secret(password) if password else None,
                enable=Secret(secret) if secret else None,
            )
        return path, credentials

    def _was_shell(self, path: list[str]) -> bool:
        return any(self.is_shell(name) for name in path)

    def _settled(self, name: str) -> str:
        while (later := self.machine.states[name].new_state) in self.machine.states:
            assert later is not None
            name = later
        return name

    @property
    def arrived(self) -> str:
        return self.arrival[0][-1]

    def known(self) -> tuple[list[str], list[str]]:
        """What can be typed where it arrives: commands that stay, and commands that lead away."""
        state = self.machine.states[self.arrived]
        typed = [line for line in state.commands if line.strip() and line.isprintable()]
        stays = [line for line in typed if state.commands[line].new_state in {None, self.arrived}]
        return stays, [line for line in typed if line not in stays]

    async def result(self, folder: Path) -> tuple[bytes, bytes]:
        """What was read, and what was sent. Raises `RunFailedError`."""
        lines = [self.leading] if self.leading is not None else self.known()[0] or [UNKNOWN]
        server = DialogueServer(
            lambda: NotedDialogue(self), protocol=self.protocol, host_key=HOST_KEY
        )
        async with server:
            port = server.port
            device = Device(
                name="machine",
                host=HOST,
                protocol=Protocol(type=self.protocol, ssh=Ssh(port=port), telnet=Telnet(port=port)),
                platform=self.platform,
                credentials=self.arrival[1],
            )
            job = commands(*lines, ends_with=None, command_timeout=5)
            bench = Bench(folder)
            bench.limits = quick()
            try:
                read = await bench.run(device, job)
            except RunFailedError as error:
                if error.failure_class is not FailureClass.EMPTY:
                    raise
                read = b""  # as it should be, if nothing was sent
        return read, b"".join(map(self.sent_after, lines))

    def sent_after(self, line: str) -> bytes:
        """What came between the echo of a command and the next prompt."""
        places = [i for i, note in enumerate(self.noted) if note.typed == line]
        if not places:
            return b"this was never typed"
        # It may have been typed to prepare the session before, or to end it afterwards.
        place = places[0] if line in self.platform.logout else places[-1]
        raw = self.noted[place].output
        for note in self.noted[place + 1 :]:
            if self.is_shell(note.state):
                break
            pager = self.manners.pager(rendered(note.shown).strip())
            raw += note.output if pager else note.shown + note.output
        return rendered(raw)


def quick() -> TimeLimits:
    patience = Patience(first=0.1, repeated=0.4, waking=0.5, greeting=1.5)
    return TimeLimits(prompt=5, enable=3, patience=patience)


def last_line(state: State) -> str:
    raw = state.prompt.replace("%N", NAME).encode()
    return rendered(raw).rpartition(b"\n")[2].rstrip().decode()


def walks(file: Path) -> Iterator[Walk | MachineError]:
    """All that can be done with the states of a file."""
    document = yaml.safe_load(file.read_text("utf-8"))
    for number, state in enumerate(document):
        try:
            machine = machine_of(document, file, state)
        except MachineError as error:
            yield error
            continue
        protocol = list(ProtocolType)[number % 2]
        walk = Walk(file, state, machine, protocol)
        yield walk
        if walk.is_shell(walk.first):
            for line in walk.known()[1]:
                yield Walk(file, state, machine, protocol, leading=line)

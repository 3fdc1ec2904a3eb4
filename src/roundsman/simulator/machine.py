r"""Devices played from state machines, in the format of Unicon's mock devices.

A file is YAML: a mapping of states. Each has a `prompt`, in which `%N` is the host name;
`commands`, a mapping of lines to what follows; `keys`, the same for what needs no Enter, control
characters written as `ctrl-\^x`; a `preface`, written when the state is entered; and a
`new_state`, where the device goes from there by itself.

What follows is a text, or a mapping: `response`, a text or a list of which each time the next is
written (the last one again and again, or all over again where `response_type` is `circular`);
`timing`, a list of `from:to,before,between,character`: the lines of which it holds, the seconds
before the first of them, and between two lines or two characters; `new_state`.

`file|some/path` as a text stands for a file: beside this one, or under a folder above it. A state
that is not in the file is looked for in those beside it, in the order of their names.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from roundsman.errors import InvalidError
from roundsman.simulator.terminal import Answer, Dialogue, Echo, drawn

_STATE: Final = {"prompt", "commands", "keys", "preface", "new_state"}
_REACTION: Final = {"response", "response_type", "timing", "new_state"}
_FILE: Final = "file|"
_CONTROL: Final = re.compile(r"ctrl-\\?(.)", re.IGNORECASE)
_TIMING: Final = re.compile(r"(\d*):(\d*)((?:,\s*[\d.]+){0,3})")
_SECRET: Final = re.compile(r"(?i)pass\w*\b[^\n]*:\s*\Z")
_FAREWELLS: Final = {"exit", "quit", "logout"}


class MachineError(InvalidError):
    """A file holds no state machine, or one that asks for what is not known here."""

    code = "machine.unreadable"


class Timing(NamedTuple):
    """How some lines of a response are written; seconds."""

    first: int
    last: float
    before: float
    between: float
    character: float


class Reaction(NamedTuple):
    """What follows a line or a key."""

    responses: tuple[bytes, ...] = (b"",)
    """Each time the next one; lines ended by LF."""
    circular: bool = False
    timing: tuple[Timing, ...] = ()
    new_state: str | None = None

    def answer(self, count: int) -> Answer:
        """The answer for the time after `count` times."""
        place = count % len(self.responses) if self.circular else count
        text = self.responses[min(place, len(self.responses) - 1)]
        return Answer(output=drawn(text), pauses=tuple(self._pauses(text)))

    def _pauses(self, text: bytes) -> Iterator[tuple[int, float]]:
        position = 0
        for number, line in enumerate(drawn(text).splitlines(keepends=True)):
            for timing in self.timing:
                if timing.first <= number < timing.last:
                    yield position, timing.before if number == timing.first else timing.between
                    if timing.character:
                        yield from ((position + i, timing.character) for i in range(1, len(line)))
            position += len(line)


class State(NamedTuple):
    """A state."""

    prompt: str
    commands: Mapping[str, Reaction]
    keys: Mapping[str, Reaction]
    preface: Reaction
    new_state: str | None


class Machine(NamedTuple):
    """A state machine. Only what can be reached from its first state has been read."""

    first: str
    states: Mapping[str, State]
    missing: Mapping[str, str]
    """States that are led to and are nowhere, and from where: there the device hangs up."""

    def dialogue(self, host: str) -> "MachineDialogue":
        """A session of it; `host` is what `%N` stands for."""
        return MachineDialogue(self, host)


class MachineDialogue(Dialogue):
    """A session of a state machine."""

    def __init__(self, machine: Machine, host: str) -> None:
        """Begin in the first state."""
        self._machine = machine
        self._host = host
        self._times: dict[tuple[str, str], int] = {}
        self.state = machine.first

    def begin(self) -> Answer:
        """The first state's preface."""
        return self._enter(self._machine.first)

    def prompt(self) -> bytes:
        """The state's prompt."""
        return drawn(self._now.prompt.replace("%N", self._host).encode())

    @property
    def echo(self) -> Echo:
        """None where a password is asked for."""
        return Echo.LINE_ENDS if _SECRET.search(self._now.prompt) else Echo.TYPED

    @property
    def _now(self) -> State:
        return self._machine.states[self.state]

    def answer(self, line: str) -> Answer:
        """What the state knows; nothing for an empty line, a complaint for any other."""
        commands = self._now.commands
        found = line if line in commands else line.strip()
        if found in commands:
            return self._react(f"command {found}", commands[found])
        if found in _FAREWELLS:
            return Answer(output=b"", ends_session=True)
        return Answer(output=b"% unknown in this state\r\n" if found else b"")

    def key(self, typed: str) -> Answer | None:
        """What the state knows of keys."""
        found = next((key for key in self._now.keys if typed.endswith(key)), None)
        return None if found is None else self._react(f"key {found}", self._now.keys[found])

    def _react(self, what: str, reaction: Reaction) -> Answer:
        answer = self._answer(what, reaction)
        if reaction.new_state is None or reaction.new_state == self.state:
            return answer
        return _joined(answer, self._enter(reaction.new_state))

    def _enter(self, state: str) -> Answer:
        if state in self._machine.missing:
            return Answer(output=b"", ends_session=True)
        self.state = state
        answer = self._answer("preface", self._now.preface)
        if self._now.new_state is not None:
            return _joined(answer, self._enter(self._now.new_state))
        return answer

    def _answer(self, what: str, reaction: Reaction) -> Answer:
        count = self._times.get((self.state, what), 0)
        self._times[self.state, what] = count + 1
        return reaction.answer(count)


def _joined(first: Answer, second: Answer) -> Answer:
    shifted = tuple((at + len(first.output), seconds) for at, seconds in second.pauses)
    return replace(second, output=first.output + second.output, pauses=first.pauses + shifted)


def read_machine(path: Path, first: str | None = None) -> Machine:
    """Read a file from the state `first` on, or from its first one. Raises `MachineError`."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MachineError(f"{path} is no state machine: {error}") from None
    return machine_of(document, path, first)


def machine_of(document: Any, path: Path, first: str | None = None) -> Machine:
    """The machine in a document read from `path`. Raises `MachineError`."""
    if not isinstance(document, dict) or not document:
        raise MachineError(f"{path} is no state machine: expected a mapping of states")
    reader = _Reader(document, path)
    first = first or next(iter(document))
    machine = Machine(first, reader.reached(first), reader.missing)
    _check_settles(machine, path)
    return machine


def _check_settles(machine: Machine, path: Path) -> None:
    """Refuse states that lead to one another by themselves, for ever."""
    for name in machine.states:
        passed: set[str] = set()
        state: str | None = name
        while state is not None:
            if state in passed:
                raise MachineError(f"{path}, state {name}: it leads to itself for ever")
            passed.add(state)
            state = machine.states[state].new_state if state in machine.states else None


class _Reader:
    """Reads states, and says where what is wrong with them."""

    def __init__(self, document: Mapping[str, Any], path: Path) -> None:
        self._document = document
        self._path = path
        self.missing: dict[str, str] = {}
        self._beside = [file for file in sorted(path.parent.glob("*.yaml")) if file != path]

    def reached(self, first: str) -> dict[str, State]:
        """All states that can be reached."""
        states: dict[str, State] = {}
        wanted = [(first, "the first state")]
        while wanted:
            name, whence = wanted.pop()
            if name in states:
                continue
            said = self._said_of(name)
            if said is None and name == first:
                raise MachineError(f"{self._path}: there is no state {name!r}")
            if said is None:
                self.missing[name] = whence
                continue
            state = states[name] = self._state(name, said)
            reactions = [*state.commands.items(), *state.keys.items()]
            wanted += [
                (reaction.new_state, f"state {name}, {typed!r}")
                for typed, reaction in reactions
                if reaction.new_state is not None
            ]
            if state.new_state is not None:
                wanted.append((state.new_state, f"state {name}"))
        return states

    def _said_of(self, state: str) -> Any:
        """What is said of a state, in this file or in those beside it; none if nothing is."""
        documents = (self._document, *map(_document, self._beside))
        return next((said[state] for said in documents if state in said), None)

    def _state(self, name: str, said: Any) -> State:
        where = f"state {name}"
        said = self._known(said, _STATE, where)
        return State(
            prompt=self._text(said.get("prompt") or "", f"{where}, prompt"),
            commands=self._reactions(said.get("commands"), str, f"{where}, commands"),
            keys=self._reactions(said.get("keys"), _key, f"{where}, keys"),
            preface=self._reaction(said.get("preface") or "", f"{where}, preface"),
            new_state=said.get("new_state"),
        )

    def _known(self, said: Any, known: set[str], where: str) -> Mapping[str, Any]:
        if not isinstance(said, dict):
            raise self._wrong(where, f"expected a mapping, got {type(said).__name__}")
        unknown = sorted(str(key) for key in said if key not in known)
        if unknown:
            raise self._wrong(
                where, f"unknown: {', '.join(unknown[:5])}; known are {', '.join(sorted(known))}"
            )
        return said

    def _reactions(
        self, said: Any, typed: Callable[[str], str], where: str
    ) -> Mapping[str, Reaction]:
        if not said:
            return {}
        if not isinstance(said, dict):
            raise self._wrong(where, f"expected a mapping, got {type(said).__name__}")
        return {
            typed(str(line)): self._reaction(follows, f"{where}, {line!r}")
            for line, follows in said.items()
        }

    def _reaction(self, said: Any, where: str) -> Reaction:
        if said is None or isinstance(said, str | int | float):
            said = {"response": said}
        said = self._known(said, _REACTION, where)
        kind = said.get("response_type")
        if kind not in {None, "circular"}:
            raise self._wrong(where, f"response_type {kind!r}: expected circular, or none")
        response = said.get("response")
        responses = response if isinstance(response, list) else [response]
        return Reaction(
            responses=tuple(self._lines(text, where) for text in responses) or (b"",),
            circular=kind == "circular",
            timing=tuple(self._timing(text, where) for text in said.get("timing") or ()),
            new_state=said.get("new_state"),
        )

    def _lines(self, said: Any, where: str) -> bytes:
        text = self._text("" if said is None else said, where).encode()
        return text if not text or text.endswith(b"\n") else text + b"\n"

    def _text(self, said: Any, where: str) -> str:
        if not isinstance(said, str | int | float):
            raise self._wrong(where, f"expected a text, got {type(said).__name__}")
        text = str(said)
        return self._file(text.removeprefix(_FILE), where) if text.startswith(_FILE) else text

    def _file(self, name: str, where: str) -> str:
        """A file: its whole path or the end of it, under a folder above this file or beside it."""
        parts = Path(name).parts
        for folder in self._path.absolute().parents:
            for start in range(len(parts)):
                file = folder.joinpath(*parts[start:])
                if file.is_file():
                    return file.read_text("utf-8", "surrogateescape")
        raise self._wrong(where, f"there is no file {name}")

    def _timing(self, said: Any, where: str) -> Timing:
        match = _TIMING.fullmatch(str(said).strip())
        if match is None:
            raise self._wrong(where, f"timing {said!r}: expected from:to,before,between,character")
        seconds = [float(number) for number in match[3].split(",")[1:]]
        before, between, character = (*seconds, 0.0, 0.0, 0.0)[:3]
        last = int(match[2]) if match[2] else math.inf
        return Timing(int(match[1] or 0), last, before, between, character)

    def _wrong(self, where: str, what: str) -> MachineError:
        return MachineError(f"{self._path}, {where}: {what}")


@lru_cache(maxsize=64)
def _document(path: Path) -> Mapping[str, Any]:
    """What a file beside it holds; nothing if that is no mapping."""
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return said if isinstance(said, dict) else {}


def _key(text: str) -> str:
    return _CONTROL.sub(lambda found: chr(ord(found[1].upper()) & 0x1F), text)

r"""Devices played from recorded dialogues, in the format of Oxidized's simulation files.

A file is YAML: `init_prompt` holds the greeting and the first prompt; `commands`, a mapping or a
list of one-key mappings, holds for each line sent what came back: its echo, the output, the next
prompt. A key without a line end is one that needs no Enter. Without `init_prompt` commands are run
one by one, without a shell.
Texts are escaped as Ruby escapes strings: `\e`, `\r`, `\b`, `\x20`, `\"`, `\#`; a backslash before
anything else stands for itself.
"""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from roundsman.errors import InvalidError
from roundsman.simulator.terminal import Answer, Dialogue, Echo, drawn
from roundsman.worker.sessions.terminal import LineRenderer

_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|[abefnrstv\"#\\])")
_MEANING: Final = {
    b"a": b"\a", b"b": b"\b", b"e": b"\x1b", b"f": b"\f", b"n": b"\n", b"r": b"\r",
    b"s": b" ", b"t": b"\t", b"v": b"\v",
}  # fmt: skip

# The line at which a device waits for a key. Where a key was pressed before that, it goes on.
_WAITING: Final = re.compile(rb"(?i)more|lines? *\d|press|continu|quit|page|\bkey\b|\(end\)|:\s*\Z")
# The line at which it waits for what is not shown.
_SECRET: Final = re.compile(rb"(?i)pass\w*\b[^\n]*:\s*\Z")
_FAREWELLS: Final = {"exit", "quit", "logout"}
_NOT_FOUND: Final = 127


class DialogueError(InvalidError):
    """A file holds no recorded dialogue."""

    code = "dialogue.unreadable"


class Exchange(NamedTuple):
    """What was sent, exactly, and what came back."""

    sent: str
    came: bytes

    @property
    def is_key(self) -> bool:
        """Whether it needs no Enter."""
        return not self.sent.endswith("\n")

    @property
    def last_line(self) -> bytes:
        """The line at which the device waits, raw."""
        return self.came.rpartition(b"\n")[2]


class Recording(NamedTuple):
    """A recording, in the order in which it was made."""

    greeting: bytes
    """Banner and first prompt; empty where commands were run one by one, without a shell."""
    exchanges: tuple[Exchange, ...]

    def place_of(self, line: str, start: int = 0) -> int | None:
        """Where a line was sent, after `start` if it was, else anywhere."""
        places = [i for i, (sent, _) in enumerate(self.exchanges) if sent == f"{line}\n"]
        return next((i for i in places if i >= start), places[0] if places else None)

    def dialogue(self) -> "RecordedDialogue":
        """A session that plays it."""
        return RecordedDialogue(self)


class RecordedDialogue(Dialogue):
    """Plays a recording byte for byte; commands may come in any order, any number of times."""

    def __init__(self, recording: Recording) -> None:
        """Begin at the first prompt."""
        self._recording = recording
        self._next = 0
        self._prompt = b""
        self._waits_for: Exchange | None = None

    def begin(self) -> Answer:
        """The greeting."""
        return self._came(self._recording.greeting)

    def prompt(self) -> bytes:
        """The prompt that followed the last command; nothing while a key is waited for."""
        return b"" if self._waits_for else self._prompt

    @property
    def echo(self) -> Echo:
        """None beside the recorded one."""
        return Echo.NOTHING

    def answer(self, line: str) -> Answer:
        """What was recorded; a prompt for an empty line, a complaint for what was not recorded.

        An empty line counts as recorded only where it was.
        """
        if self._waits_for is not None:
            return Answer(output=b"")
        place = self._recording.place_of(line, self._next)
        if self._next < len(self._recording.exchanges) and _SECRET.search(self._prompt):
            # Whatever is typed stands for what was. It is not shown; what follows begins a line.
            return self._play(self._next, before=b"\n")
        if not line.strip() and place != self._next:
            return self._came(b"\n" + self._prompt)
        leaves = line.strip() in _FAREWELLS
        if place is not None:
            came = self._recording.exchanges[place].came
            # Made by hand, some say of an empty line nothing but that the prompt follows.
            before = b"" if line.strip() or b"\n" in came else b"\n"
            return self._play(place, before=before, leaves=leaves)
        if leaves:
            return Answer(output=drawn(line.encode() + b"\n"), ends_session=True)
        return self._came(line.encode() + b"\n% not recorded\n" + self._prompt)

    def key(self, typed: str) -> Answer | None:
        """The next page."""
        expected = self._waits_for
        if expected is None or not typed.endswith(expected.sent):
            return None
        return self._play(self._next)

    def execute(self, command: str) -> Answer:
        """What was recorded."""
        place = self._recording.place_of(command)
        if place is None:
            return Answer(output=b"not recorded\n", status=_NOT_FOUND)
        return Answer(output=self._recording.exchanges[place].came)

    def _play(self, place: int, *, before: bytes = b"", leaves: bool = False) -> Answer:
        """What came at that place, and all that came without waiting for a key."""
        came = before
        while True:
            exchange = self._recording.exchanges[place]
            came += exchange.came
            self._next = place = place + 1
            later = self._recording.exchanges[place : place + 1]
            if not later or not later[0].is_key:
                return self._came(came, leaves=leaves)
            if _WAITING.search(_shown(came)):
                self._waits_for = later[0]
                return Answer(output=drawn(came))

    def _came(self, came: bytes, *, leaves: bool = False) -> Answer:
        self._waits_for = None
        output, line_end, self._prompt = came.rpartition(b"\n")
        return Answer(output=drawn(output + line_end), ends_session=leaves and not self._prompt)


def _shown(came: bytes) -> bytes:
    """The last line, as a terminal renders it."""
    screen = LineRenderer()
    screen.feed(came)
    return screen.line


def read_recording(path: Path) -> Recording:
    """Read a file. Raises `DialogueError`."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DialogueError(f"{path} is no recorded dialogue: {error}") from None
    return recording_of(document, path)


def recording_of(document: Any, path: Path) -> Recording:
    """The recording in a document read from `path`. Raises `DialogueError`."""
    try:
        return _read(document)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DialogueError(
            f"{path} is no recorded dialogue: expected init_prompt, and commands with what "
            "followed each"
        ) from None


def _read(document: Any) -> Recording:
    said = document["commands"]
    pairs = said.items() if isinstance(said, dict) else (p for entry in said for p in entry.items())
    return Recording(
        greeting=unescape(document["init_prompt"] or ""),
        exchanges=tuple(Exchange(unescape(k).decode(), unescape(v or "")) for k, v in pairs),
    )


def unescape(text: str) -> bytes:
    """The bytes that an escaped text of a recording stands for."""

    def meaning(match: re.Match[bytes]) -> bytes:
        what = match[1]
        return bytes.fromhex(what[1:].decode()) if what[:1] == b"x" else _MEANING.get(what, what)

    return _ESCAPE.sub(meaning, text.encode())

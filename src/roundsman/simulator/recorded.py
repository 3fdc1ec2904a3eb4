r"""Devices played from recorded dialogues, in the format of Oxidized's simulation files.

A file is YAML: `init_prompt` holds the greeting and the first prompt; `commands`, a mapping or a
list of one-key mappings, holds for each line sent what came back: its echo, the output, the next
prompt.
Texts are escaped as Ruby escapes strings: `\e`, `\r`, `\b`, `\x20`, `\"`, `\#`; a backslash before
anything else stands for itself.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from roundsman.simulator.terminal import Answer

_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|[abefnrstv\"#\\])")
_MEANING: Final = {
    b"a": b"\a", b"b": b"\b", b"e": b"\x1b", b"f": b"\f", b"n": b"\n", b"r": b"\r",
    b"s": b" ", b"t": b"\t", b"v": b"\v",
}  # fmt: skip


class Exchange(NamedTuple):
    """What follows one command."""

    output: bytes
    """Between the echo and the next prompt, as recorded."""
    prompt: bytes
    """The next prompt; empty where the device hung up."""


class Recording(NamedTuple):
    """A whole dialogue."""

    greeting: bytes
    """Up to the first prompt."""
    prompt: bytes
    """The first prompt."""
    exchanges: Mapping[str, Exchange]
    """By command, without its line end."""

    def dialogue(self) -> "RecordedDialogue":
        """A session that plays it."""
        return RecordedDialogue(self)


class RecordedDialogue:
    """Plays a recording; commands may come in any order and any number of times."""

    def __init__(self, recording: Recording) -> None:
        """Begin at the first prompt."""
        self._recording = recording
        self._prompt = recording.prompt

    def begin(self) -> bytes:
        """The greeting."""
        return _drawn(self._recording.greeting)

    def prompt(self) -> bytes:
        """The prompt that followed the last command."""
        return self._prompt

    def answer(self, line: str) -> Answer:
        """What was recorded; nothing for an empty line, a complaint for what was not recorded."""
        if line in self._recording.exchanges:
            exchange = self._recording.exchanges[line]
            self._prompt = exchange.prompt
            return Answer(output=_drawn(exchange.output), ends_session=not exchange.prompt)
        if line.strip() in {"exit", "quit", "logout"}:
            return Answer(output=b"", ends_session=True)
        return Answer(output=b"% not recorded\r\n" if line.strip() else b"")


def read_recording(path: Path) -> Recording:
    """Read a file. Keys that hold no line end (a pager's) are left out."""
    document = yaml.safe_load(path.read_text("utf-8"))
    greeting, prompt = _split_prompt(unescape(document["init_prompt"] or ""))
    commands = document["commands"]
    pairs = (
        commands.items()
        if isinstance(commands, dict)
        else (pair for entry in commands for pair in entry.items())
    )
    exchanges = {}
    for key, value in pairs:
        sent, came = unescape(key).decode(), unescape(value or "")
        if sent.endswith("\n"):
            echo, _, rest = came.partition(b"\n")
            echoed = echo.rstrip(b"\r").endswith(sent.strip().encode())
            exchanges[sent.removesuffix("\n")] = Exchange(*_split_prompt(rest if echoed else came))
    return Recording(greeting, prompt, exchanges)


def _split_prompt(text: bytes) -> tuple[bytes, bytes]:
    start = text.rfind(b"\n") + 1
    return text[:start], text[start:]


def unescape(text: str) -> bytes:
    """The bytes that an escaped text of a recording stands for."""

    def meaning(match: re.Match[bytes]) -> bytes:
        what = match[1]
        return bytes.fromhex(what[1:].decode()) if what[:1] == b"x" else _MEANING.get(what, what)

    return _ESCAPE.sub(meaning, text.encode())


def _drawn(text: bytes) -> bytes:
    """Line ends as a terminal wants them, where the recording lost them."""
    return re.sub(rb"(?<!\r)\n", b"\r\n", text)

r"""A session as a recorded dialogue without its secrets, in the format of Oxidized's simulations.

Devices draw secrets in pieces: between escape sequences, over several pages, over what they wipe
out again. So what is cleaned is the text as a terminal shows it, pages put together. A line is
given as the device sent it only where its text stands in the cleaned text, and where all that was
ever written on it, wiped out or not, needs no cleaning either. Any other line is given as its
cleaned text.

What this cannot see: a secret that no filter, no detector and no credential knows; one written down
the screen, a character on each line; one with other characters written and wiped out in between.
"""

import base64
import difflib
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from roundsman.worker.detectors.scan import HIDDEN
from roundsman.worker.sessions.events import Purpose
from roundsman.worker.sessions.tape import Said
from roundsman.worker.sessions.terminal import LineRenderer

Clean: TypeAlias = Callable[[bytes], bytes]

MAX_PACKED: Final = 60 << 10
"""Characters of a packed recording; the controller takes fields of 64 KiB."""
_MAX_UNPACKED: Final = 16 << 20
_MOST_COMPARED: Final = 4000
"""Lines between the first and the last change that are compared with each other, at a cost that is
quadratic. Beyond, all of them are given as text."""

_DRAWING: Final = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
    rb"|[\x00-\x08\x0e-\x1f\x7f]"
)
_HIDDEN: Final = b"<hidden>"
"""What stands for a secret: a single word, so that filters do the same to it as to the secret."""
_SPECIAL: Final = re.compile(r"[^\n !#-\[\]-~]|#(?=[{$@])")
_TRAILING: Final = re.compile(r" (?=\n|\Z)")
_NAMED: Final = {
    "\a": r"\a", "\b": r"\b", "\x1b": r"\e", "\f": r"\f", "\r": r"\r", "\t": r"\t", "\v": r"\v",
    '"': r"\"", "\\": r"\\", "#": r"\#",
}  # fmt: skip


class Exchange(NamedTuple):
    """What was sent, and what came back."""

    sent: bytes
    came: bytes


class Dialogue(NamedTuple):
    """A whole session."""

    greeting: bytes
    """What came before anything was sent."""
    exchanges: tuple[Exchange, ...]


class _Line(NamedTuple):
    """A line that came."""

    raw: bytes
    """With its line end, if it was ended."""
    text: bytes
    """As a terminal shows it, without."""


def dialogue_of(said: Sequence[Said], *, enter: bytes, clean: Clean) -> Dialogue:
    """What was said, cleaned. `enter` is what was sent for the Enter key.

    `clean` takes text in whole lines and hides what is secret; it may take lines out, too.
    """

    def hide(text: bytes) -> bytes:
        return clean(text).replace(HIDDEN, _HIDDEN)

    turns = list(_without_probes(said))
    drawn = [_draw(turn.came) for turn in turns]
    ended = iter(_cleaned([line for lines, _ in drawn for line in lines], hide))
    came = [b"".join(next(ended) for _ in lines) + _clean_one(last, hide) for lines, last in drawn]
    sent = [_key(hide(turn.sent), enter) for turn in turns[1:] if turn.sent is not None]
    return Dialogue(came[0], tuple(map(Exchange, sent, came[1:])))


def _key(sent: bytes, enter: bytes) -> bytes:
    return sent.removesuffix(enter) + b"\n" if sent.endswith(enter) else sent


def _without_probes(said: Sequence[Said]) -> Iterator[Said]:
    """The turns, without the empty lines that only we send, and the prompts that answer them."""
    held = said[0]
    for turn in said[1:]:
        if turn.purpose is not Purpose.PROBE:
            yield held
            held = turn
        elif not _shown(held.came).rstrip().endswith(_shown(turn.came).strip()):
            held = held._replace(came=held.came + turn.came)
    yield held


def _shown(came: bytes) -> bytes:
    screen = LineRenderer()
    return screen.feed(came) + screen.line


def _draw(came: bytes) -> tuple[list[_Line], _Line]:
    """The lines that were ended, and the last, at which the device waits."""
    screen = LineRenderer()
    *ended, last = came.split(b"\n")
    raw = [line + b"\n" for line in ended]
    lines = [_Line(line, screen.feed(line).removesuffix(b"\n")) for line in raw]
    return lines, _Line(last, screen.feed(last) + screen.line)


def _cleaned(lines: list[_Line], clean: Clean) -> list[bytes]:
    """What stands for each line; nothing for one that is gone or has become part of another."""
    before = [line.text for line in lines]
    after = clean(b"".join(text + b"\n" for text in before)).split(b"\n")[:-1]
    stand_in = [b""] * len(lines)
    for same, begin, end, new_begin, new_end in _compare(before, after) if lines else ():
        if same:
            for place in range(begin, end):
                stand_in[place] += _clean_one(lines[place], clean, known=True)
        else:
            for number, text in enumerate(after[new_begin:new_end]):
                place = min(begin + number, max(begin, end - 1), len(lines) - 1)
                stand_in[place] += text + b"\r\n"
    return stand_in


def _compare(before: list[bytes], after: list[bytes]) -> Iterator[tuple[bool, int, int, int, int]]:
    """Which lines are the same, and which stand for which, as places in both."""
    if len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield old == new, place, place + 1, place, place + 1
        return
    first = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
    first = min(len(before), len(after)) if first is None else first
    last = 0
    while last < min(len(before), len(after)) - first and before[-1 - last] == after[-1 - last]:
        last += 1
    ends = len(before) - last, len(after) - last
    yield True, 0, first, 0, first
    if max(ends) - first > _MOST_COMPARED:
        yield False, first, ends[0], first, ends[1]
    else:
        matcher = difflib.SequenceMatcher(
            None, before[first : ends[0]], after[first : ends[1]], autojunk=False
        )
        for kind, *places in matcher.get_opcodes():
            a, b, c, d = (first + place for place in places)
            yield kind == "equal", a, b, c, d
    yield True, ends[0], len(before), ends[1], len(after)


def _clean_one(line: _Line, clean: Clean, *, known: bool = False) -> bytes:
    """A line as it was sent, if it needs no cleaning; `known` is that its text does not."""
    text = line.text if known else clean(line.text)
    if text == line.text:
        written = _DRAWING.sub(b"", line.raw).strip()
        if written == text.strip() or clean(written) == written:
            return line.raw
    return text + (b"\r\n" if line.raw.endswith(b"\n") else b"")


def as_yaml(dialogue: Dialogue, *, remarks: Sequence[str] = (), in_shell: bool = True) -> str:
    """The text of a file; without a shell there is no greeting, and values hold the output alone.

    A line end of the device's is LF here, for CR LF; what differs from that is written out.
    """
    parts = [f"# {remark}\n" for remark in remarks]
    parts.append("---\ninit_prompt:")
    parts.append(_block(dialogue.greeting, "  ") if in_shell else " null\n")
    parts.append("commands:\n" if dialogue.exchanges else "commands: []\n")
    for sent, came in dialogue.exchanges:
        key = _escape(sent.removesuffix(b"\n")).replace("\\", "\\\\").replace('"', '\\"')
        end = "\\n" if sent.endswith(b"\n") else ""
        parts.append(f'  - "{key}{end}":{_block(came, "      ")}')
    return "".join(parts)


def _block(data: bytes, indent: str) -> str:
    """A text of several lines, after its key."""
    text = _TRAILING.sub(r"\\x20", _escape(data.replace(b"\r\n", b"\n")))
    if not text:
        return ' ""\n'
    start = "2" if text.lstrip("\n").startswith(" ") else ""
    keep = "+" if text.endswith("\n") else "-"
    body = "".join(f"{indent}{line}\n" if line else "\n" for line in text.split("\n"))
    return f" |{start}{keep}\n" + (body[:-1] if keep == "+" else body)


def _escape(data: bytes) -> str:
    """Printable text, as Ruby escapes strings."""
    return _SPECIAL.sub(_escape_one, data.decode("utf-8", "surrogateescape"))


def _escape_one(match: re.Match[str]) -> str:
    character = match[0]
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def pack(text: str) -> str | None:
    """A file's text as it travels with a completion: compressed, and as text again.

    None where it would be too large even so, which takes a device that says nothing but noise.
    """
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return packed if len(packed) <= MAX_PACKED else None


def unpack(data: bytes) -> str:
    """The text of a compressed file. Raises `ValueError` when it is none, or is too large."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # with the header of gzip
    try:
        text = unpacker.decompress(data, _MAX_UNPACKED)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if unpacker.unconsumed_tail:
        raise ValueError(f"larger than {_MAX_UNPACKED} bytes")
    return text.decode()

"""Finds what looks like a secret in a text of any size.

First the words of all rules are looked for, which is nearly all of the work: a text holds few of
them. Only around these the rules' patterns are tried, each within a window of bounded size.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from roundsman.wire.run import SecretFinding
from roundsman.worker.detectors.plausible import is_plausible, is_random
from roundsman.worker.detectors.rules import RULES, WORDS, Rule

_LOOKED_AT: Final = 8000
"""A NUL in the first so many bytes makes a content binary."""
SECONDS: Final = 30.0
"""How long one result is searched. 1 GiB of configurations takes about as long."""
HIDDEN: Final = b"<secret hidden>"

_BLOCK: Final = 1 << 17
_BEFORE: Final = 512
_AFTER: Final = 1024
"""What is seen around a word, in bytes."""

_ASIDE: Final = re.compile(
    rb"""[ \t]*(?:no[ \t]|(?:set[ \t]+)?["']?(?:description|desc|remark|comment|alias|banner)\b"""
    rb"""|!|#|//|\*|rem[ \t])""",
    re.IGNORECASE,
)
_KEY_BODY: Final = re.compile(rb"(?:[A-Za-z0-9+/=\s]|\\n|\\r)*")


class Found(NamedTuple):
    """A secret in a text."""

    start: int
    end: int
    rule: str


_clean: Final[set[int]] = set()
"""Hashes of lines in which nothing was found: devices repeat each other, and themselves."""
_MOST_CLEAN: Final = 1 << 16


def find(text: bytes, until: int | None = None) -> list[Found]:
    """What looks like a secret, in order; only on lines that begin before `until`."""
    found: list[tuple[int, Found]] = []
    for begin, end in sorted(_lines(text, len(text) if until is None else until)):
        line = text[begin:end]
        seen = hash(line)
        if seen in _clean:
            continue
        lower = line.lower()
        rules = [
            (number, rule)
            for number, rule in enumerate(RULES)
            if any(word in lower for word in rule.words)
        ]
        here = [(number, one) for number, rule in rules for one in _try(rule, text, begin, end)]
        if not here and not any(rule.beyond_line for _, rule in rules):
            _clean.add(seen)
        found += here
    if len(_clean) > _MOST_CLEAN:
        _clean.clear()
    return _without_overlaps(found)


def _lines(text: bytes, until: int) -> set[tuple[int, int]]:
    """The lines that hold one of the words; of long ones, what is around it."""
    lines: set[tuple[int, int]] = set()
    lower = text.lower()
    for word in WORDS:
        at = lower.find(word)
        while 0 <= at < until:
            begin = max(text.rfind(b"\n", 0, at) + 1, at - _BEFORE)
            end = text.find(b"\n", at, at + _AFTER)
            end = end if end >= 0 else min(at + _AFTER, len(text))
            lines.add((begin, end))
            at = lower.find(word, end)
    return lines


def _try(rule: Rule, text: bytes, begin: int, end: int) -> Iterator[Found]:
    if rule.settings_only and _ASIDE.match(text, begin, end):
        return
    seen = min(end + _AFTER, len(text)) if rule.beyond_line else end
    for pattern in rule.patterns:
        for match in pattern.finditer(text, begin, seen):
            kind = match.lastgroup or "secret"
            value, rest = match[kind], text[match.end(kind) : seen]
            if rule.name == "random_text":
                if not is_random(value, text[begin:end]):
                    continue
            elif not rule.shaped and not is_plausible(value, rest):
                continue
            yield Found(match.start(kind), match.end(kind), rule.name)


def _without_overlaps(found: list[tuple[int, Found]]) -> list[Found]:
    """Of those that overlap, the one of the earlier rule."""
    kept: list[tuple[int, Found]] = []
    for number, one in sorted(found, key=lambda numbered: numbered[1]):
        if not kept or kept[-1][1].end <= one.start:
            kept.append((number, one))
        elif number < kept[-1][0]:
            kept[-1] = (number, one)
    return [one for _, one in kept]


def mask(text: bytes) -> bytes:
    """The text with everything that looks like a secret hidden."""
    pieces: list[bytes] = []
    position = 0
    for one in find(text):
        pieces += [text[position : one.start], HIDDEN]
        position = one.end
        if one.rule == "private_key" and (body := _KEY_BODY.match(text, position)):
            position = body.end()
            pieces.append(b"\n")
    return b"".join([*pieces, text[position:]])


def search(
    text: Iterable[bytes],
    *,
    seconds: float = SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[SecretFinding, ...]:
    """What looks like a secret in a text: for each kind, how often, and the first line.

    Holds one block of the text. A search that takes longer than `seconds` ends with a finding named
    `unfinished` at the line that it had reached. What is no text, as git has it, is not searched:
    an image of a device has no lines, and chance words everywhere.
    """
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    line = 1
    end = monotonic() + seconds
    for number, (block, until) in enumerate(_blocks(text)):
        if number == 0 and b"\0" in block[:_LOOKED_AT]:
            return ()
        if monotonic() > end:
            first["unfinished"], count["unfinished"] = line, 1
            break
        for one in find(block, until):
            first.setdefault(one.rule, line + block.count(b"\n", 0, one.start))
            count[one.rule] = count.get(one.rule, 0) + 1
        line += block.count(b"\n", 0, until)
    return tuple(SecretFinding(detector=k, line=first[k], count=count[k]) for k in first)


def _blocks(text: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """The text in overlapping blocks, each with how much of it does not come again."""
    held = b""
    for piece in text:
        held += piece
        while len(held) > _BLOCK:
            latest = _BLOCK - _AFTER
            until = held.rfind(b"\n", 0, latest) + 1 or latest
            yield held[:_BLOCK], until
            held = held[until:]
    yield held, len(held)

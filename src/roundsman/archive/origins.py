"""Since which version each line of a content is there: from the newest version back.

Two versions that follow each other differ by few lines, so what is alike at their ends is passed
over, and only what lies between is compared.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Final

import msgspec

from roundsman.archive.interface import TooLargeToCompareError
from roundsman.archive.timeline import Found
from roundsman.wire.version import LineOrigin, Origins, Version

SECONDS: Final = 3.0
"""So long is looked back."""
MOST_BYTES: Final = 4 << 20
_MOST_COMPARED: Final = 2000
"""Lines that are compared; of two longer stretches all lines count as new."""


class _Line(msgspec.Struct):
    """A line of the version asked for, and where it stands in the version that was reached."""

    position: int
    place: int


def origins(found: Found, older: Iterable[Found], read: Callable[[bytes], bytes]) -> Origins:
    """The origin of each line of a version, of which `older` are those before it, newest first.

    Raises `TooLargeToCompareError`, and what `read` raises.
    """
    if found.version.size > MOST_BYTES:
        raise TooLargeToCompareError.of(found.version.size, MOST_BYTES)
    until = time.monotonic() + SECONDS
    newest = _lines(read(found.blob))
    born: list[Version | None] = [None] * len(newest)
    open_lines = [_Line(position, position) for position in range(len(newest))]
    content, reached, complete = newest, found.version, False
    for before in older:
        if not open_lines or time.monotonic() > until or before.version.size > MOST_BYTES:
            break
        content_before = _lines(read(before.blob))
        came_from = _same(content_before, content)
        still_open = []
        for line in open_lines:
            place = came_from.get(line.place)
            if place is None:
                born[line.position] = reached
            else:
                still_open.append(_Line(line.position, place))
        open_lines, content, reached = still_open, content_before, before.version
    else:
        complete = True
    complete = complete or not open_lines
    return Origins(
        version=found.version,
        lines=tuple(
            _origin(text, version or reached) for text, version in zip(newest, born, strict=True)
        ),
        reached=reached.number,
        complete=complete,
    )


def _lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _same(old: Sequence[bytes], new: Sequence[bytes]) -> dict[int, int]:
    """The lines of `new` that are also in `old`, to where they stand there."""
    least = min(len(old), len(new))
    head = 0
    while head < least and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < least - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    same = {position: position for position in range(head)}
    shift = len(old) - len(new)
    same.update((position, position + shift) for position in range(len(new) - tail, len(new)))
    between_old, between_new = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(between_old) + len(between_new) <= _MOST_COMPARED:
        matcher = SequenceMatcher(None, between_old, between_new, autojunk=False)
        for block in matcher.get_matching_blocks():
            same.update((head + block.b + n, head + block.a + n) for n in range(block.size))
    return same


def _origin(text: bytes, version: Version) -> LineOrigin:
    return LineOrigin(
        text=text.decode(errors="replace"),
        number=version.number,
        version=version.version,
        at=version.at,
    )

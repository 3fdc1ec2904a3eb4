"""Since which version each line of a content is there: from the newest version back.

Two versions that follow each other differ by few lines, so what is alike at their ends is passed
over, and only what lies between is compared: by what both have once, where it is long.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple

import msgspec

from roundsman.archive.interface import TooLargeToCompareError
from roundsman.archive.timeline import Found
from roundsman.wire.version import LineOrigin, Origins, Version

SECONDS: Final = 3.0
"""So long is looked back."""
MOST_BYTES: Final = 4 << 20
_MOST_COMPARED: Final = 2000
"""Lines that are compared each with each; of two longer stretches that have no line in common
which both have once, all lines count as new."""


class _Line(msgspec.Struct):
    """A line of those asked for, and where it stands in the version that was reached."""

    position: int
    place: int


class _Block(NamedTuple):
    """So many lines that two contents have alike, and where."""

    old: int
    new: int
    size: int


def origins(
    found: Found,
    older: Iterable[Found],
    read: Callable[[bytes], bytes],
    *,
    first: int,
    limit: int,
) -> Origins:
    """The origin of so many lines of a version, from the `first` on, which is 0.

    `older` are the versions before it, newest first. Raises `TooLargeToCompareError`, and what
    `read` raises.
    """
    if found.version.size > MOST_BYTES:
        raise TooLargeToCompareError.of(found.version.size, MOST_BYTES)
    until = time.monotonic() + SECONDS
    content = _lines(read(found.blob))
    count = len(content)
    asked = content[first : first + limit]
    born: list[Version | None] = [None] * len(asked)
    open_lines = [_Line(position, first + position) for position in range(len(asked))]
    reached, complete = found.version, False
    for before in older:
        if not open_lines or time.monotonic() > until or before.version.size > MOST_BYTES:
            break
        content_before = _lines(read(before.blob))
        still_open = [*_moved_back(open_lines, _blocks(content_before, content))]
        for line in open_lines:
            born[line.position] = reached
        for line in still_open:
            born[line.position] = None
        open_lines, content, reached = still_open, content_before, before.version
    else:
        complete = True
    return Origins(
        version=found.version,
        count=count,
        lines=tuple(
            _origin(text, version or reached) for text, version in zip(asked, born, strict=True)
        ),
        reached=reached.number,
        complete=complete or not open_lines,
    )


def _lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _moved_back(lines: Iterable[_Line], blocks: Iterable[_Block]) -> Iterator[_Line]:
    """Those lines that the older content has, where it has them. Both are in order."""
    blocks = iter(blocks)
    block = next(blocks, None)
    for line in lines:
        while block is not None and line.place >= block.new + block.size:
            block = next(blocks, None)
        if block is not None and line.place >= block.new:
            yield _Line(line.position, line.place - block.new + block.old)


def _blocks(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[_Block]:
    """What two contents have alike, in order."""
    least = min(len(old), len(new))
    head = 0
    while head < least and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < least - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    yield _Block(0, 0, head)
    between = (old[head : len(old) - tail], new[head : len(new) - tail])
    if all(between):
        small = sum(map(len, between)) <= _MOST_COMPARED
        for block in _matches(*between) if small else _anchored(*between):
            yield _Block(head + block.old, head + block.new, block.size)
    yield _Block(len(old) - tail, len(new) - tail, tail)


def _matches(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[_Block]:
    for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
        yield _Block(*block)


def _anchored(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[_Block]:
    """The same for long ones: between the lines that each of them has once, and both in order."""
    anchors = _anchors(old, new)
    if not anchors:
        return
    old_end = new_end = 0
    for old_at, new_at in (*anchors, (len(old), len(new))):
        if old_end < old_at and new_end < new_at:
            for block in _blocks(old[old_end:old_at], new[new_end:new_at]):
                yield _Block(old_end + block.old, new_end + block.new, block.size)
        if new_at < len(new):
            yield _Block(old_at, new_at, 1)
        old_end, new_end = old_at + 1, new_at + 1


def _anchors(old: Sequence[bytes], new: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where such lines stand: as many as are in the same order in both."""
    once = {line for line, times in Counter(old).items() if times == 1}
    once.intersection_update(line for line, times in Counter(new).items() if times == 1)
    places = {line: place for place, line in enumerate(old) if line in once}
    pairs = [(places[line], place) for place, line in enumerate(new) if line in once]
    # The longest rising sequence of places in `old`, by the least end of each length.
    ends: list[int] = []
    last: list[int] = []
    before: list[int | None] = []
    for index, (place, _) in enumerate(pairs):
        length = bisect_left(ends, place)
        ends[length : length + 1] = [place]
        last[length : length + 1] = [index]
        before.append(last[length - 1] if length else None)
    rising = []
    at = last[-1] if last else None
    while at is not None:
        rising.append(pairs[at])
        at = before[at]
    return rising[::-1]


def _origin(text: bytes, version: Version) -> LineOrigin:
    return LineOrigin(
        text=text.decode(errors="replace"),
        number=version.number,
        version=version.version,
        at=version.at,
    )

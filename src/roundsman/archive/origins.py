"""Since which version each line of a content is there: from the newest version back.

Two versions that follow each other differ by few lines, so what is alike at their ends is passed
over, and only what lies between is compared, by git where it is long.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import partial
from typing import Final

import msgspec

from roundsman.archive.alike import Alike
from roundsman.archive.interface import TooLargeToCompareError
from roundsman.archive.timeline import Found
from roundsman.wire.version import LineOrigin, Origins, Version

SECONDS: Final = 3.0
"""So long is looked back."""
MOST_BYTES: Final = 4 << 20
_MOST_COMPARED: Final = 2000
"""Lines that are compared here: sooner done than to start a program."""


class _Line(msgspec.Struct):
    """A line of those asked for, and where it stands in the version that was reached."""

    position: int
    place: int


def origins(
    found: Found,
    older: Iterable[Found],
    read: Callable[[bytes], bytes],
    compare: Callable[[bytes, bytes], Iterator[Alike]],
    *,
    first: int,
    limit: int,
) -> Origins:
    """The origin of so many lines of a version, from the `first` on, which is 0.

    `older` are the versions before it, newest first; `compare` tells what two blobs have alike.
    Raises `TooLargeToCompareError`, and what `read` and `compare` raise.
    """
    if found.version.size > MOST_BYTES:
        raise TooLargeToCompareError.of(found.version.size, MOST_BYTES)
    until = time.monotonic() + SECONDS
    content = _lines(read(found.blob))
    count = len(content)
    asked = content[first : first + limit]
    born: list[Version | None] = [None] * len(asked)
    open_lines = [_Line(position, first + position) for position in range(len(asked))]
    reached, blob, complete = found.version, found.blob, False
    for before in older:
        if not open_lines or time.monotonic() > until or before.version.size > MOST_BYTES:
            break
        content_before = _lines(read(before.blob))
        alike = _blocks(content_before, content, partial(compare, before.blob, blob))
        still_open = [*_moved_back(open_lines, alike)]
        for line in open_lines:
            born[line.position] = reached
        for line in still_open:
            born[line.position] = None
        open_lines, content = still_open, content_before
        reached, blob = before.version, before.blob
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


def _moved_back(lines: Iterable[_Line], blocks: Iterable[Alike]) -> Iterator[_Line]:
    """Those lines that the older content has, where it has them. Both are in order."""
    blocks = iter(blocks)
    block = next(blocks, None)
    for line in lines:
        while block is not None and line.place >= block.new + block.size:
            block = next(blocks, None)
        if block is not None and line.place >= block.new:
            yield _Line(line.position, line.place - block.new + block.old)


def _blocks(
    old: Sequence[bytes], new: Sequence[bytes], compare: Callable[[], Iterator[Alike]]
) -> Iterator[Alike]:
    """What two contents have alike, in order."""
    least = min(len(old), len(new))
    head = 0
    while head < least and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < least - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    yield Alike(0, 0, head)
    between = (old[head : len(old) - tail], new[head : len(new) - tail])
    if sum(map(len, between)) <= _MOST_COMPARED:
        matcher = SequenceMatcher(None, *between, autojunk=False)
        for old_at, new_at, size in matcher.get_matching_blocks():
            yield Alike(head + old_at, head + new_at, size)
    else:
        for block in compare():
            start = max(block.new, head)
            end = min(block.new + block.size, len(new) - tail)
            yield Alike(block.old + start - block.new, start, end - start)
    yield Alike(len(old) - tail, len(new) - tail, tail)


def _origin(text: bytes, version: Version) -> LineOrigin:
    return LineOrigin(
        text=text.decode(errors="replace"),
        number=version.number,
        version=version.version,
        at=version.at,
    )

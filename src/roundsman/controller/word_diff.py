"""A unified difference as records, with what was changed within lines."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

import msgspec

from roundsman.archive.interface import Difference
from roundsman.wire.difference import DiffLine, Hunk, LineKind, Span, WordDifference

MOST_LINES: Final = 10_000
"""Lines that are shown."""
_MOST_PAIRS: Final = 1000
"""Pairs of lines that are compared word by word; one takes a tenth of a millisecond."""
_LONGEST: Final = 1000
"""Characters of a line that is compared so."""
_ALIKE: Final = 0.3
"""Lines that have less in common are not told to be one another's."""

_HEAD: Final = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_LINE_END: Final = b"\\ "
_WORD: Final = re.compile(r"\w+|\s+|.")
_KINDS: Final = {b" ": LineKind.CONTEXT, b"-": LineKind.REMOVED, b"+": LineKind.ADDED}

_Spans = tuple[Span, ...]


def word_difference(difference: Difference) -> WordDifference:
    """The same difference for a page; of a very long one the first `MOST_LINES` lines."""
    hunks: list[Hunk] = []
    shown = added = removed = 0
    pairs = _MOST_PAIRS
    for head, lines in _hunks(difference.unified.split(b"\n")):
        added += sum(line.kind is LineKind.ADDED for line in lines)
        removed += sum(line.kind is LineKind.REMOVED for line in lines)
        shown += len(lines)
        if shown <= MOST_LINES:
            marked, pairs = _marked(lines, pairs)
            hunks.append(
                Hunk(
                    old_start=head[0],
                    old_lines=head[1],
                    new_start=head[2],
                    new_lines=head[3],
                    lines=tuple(marked),
                )
            )
    return WordDifference(
        old=difference.old,
        new=difference.new,
        binary=difference.binary,
        added=added,
        removed=removed,
        truncated=shown > MOST_LINES,
        hunks=tuple(hunks),
    )


def _hunks(lines: Sequence[bytes]) -> Iterator[tuple[list[int], list[DiffLine]]]:
    """Start and length in both versions, and the lines, of each hunk."""
    head: list[int] = []
    found: list[DiffLine] = []
    old = new = 0
    for line in lines:
        if match := _HEAD.match(line):
            if head:
                yield head, found
            head = [int(match[n] or (1 if n in (2, 4) else 0)) for n in range(1, 5)]
            old, new, found = head[0], head[2], []
        elif (kind := _KINDS.get(line[:1])) is not None:
            found.append(
                DiffLine(
                    kind=kind,
                    old=None if kind is LineKind.ADDED else old,
                    new=None if kind is LineKind.REMOVED else new,
                    text=line[1:].decode(errors="replace"),
                )
            )
            old += kind is not LineKind.ADDED
            new += kind is not LineKind.REMOVED
        elif line.startswith(_NO_LINE_END):
            found[-1] = msgspec.structs.replace(found[-1], has_line_end=False)
    if head:
        yield head, found


def _marked(lines: Sequence[DiffLine], pairs: int) -> tuple[list[DiffLine], int]:
    """The lines with what was changed within them, of so many pairs; how many pairs are left."""
    marked = [*lines]
    position = 0
    while position < len(lines):
        removed = _run(lines, position, LineKind.REMOVED)
        added = _run(lines, position + removed, LineKind.ADDED)
        for offset in range(min(removed, added, pairs)):
            first, second = position + offset, position + removed + offset
            spans = _changed(lines[first].text, lines[second].text)
            for place, changed in zip((first, second), spans, strict=True):
                marked[place] = msgspec.structs.replace(lines[place], changed=changed)
            pairs -= 1
        position += max(1, removed + added)
    return marked, pairs


def _run(lines: Sequence[DiffLine], start: int, kind: LineKind) -> int:
    """How many lines of a kind follow each other."""
    end = start
    while end < len(lines) and lines[end].kind is kind:
        end += 1
    return end - start


def _changed(old: str, new: str) -> tuple[_Spans, _Spans]:
    """Where two lines differ, in words; nothing where they are too long, or hardly alike.

    >>> _changed("mtu 1500 on", "mtu 9000 on")[0]
    (Span(start=4, end=8),)
    """
    if max(len(old), len(new)) > _LONGEST:
        return (), ()
    words_old, words_new = _WORD.findall(old), _WORD.findall(new)
    matcher = SequenceMatcher(None, words_old, words_new, autojunk=False)
    if matcher.ratio() < _ALIKE:
        return (), ()
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    return (
        _spans(words_old, [(code[1], code[2]) for code in changes]),
        _spans(words_new, [(code[3], code[4]) for code in changes]),
    )


def _spans(words: Sequence[str], ranges: Sequence[tuple[int, int]]) -> _Spans:
    """Ranges of words as ranges of characters."""
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    return tuple(
        Span(start=starts[first], end=starts[last]) for first, last in ranges if last > first
    )

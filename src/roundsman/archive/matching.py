"""What is looked for, in one content: lines that match, with those around them."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

import regex

from roundsman.archive.interface import Search, SearchPatternError
from roundsman.needles import needles
from roundsman.wire.difference import Span
from roundsman.wire.search import FoundLine

MOST_LINES: Final = 20
"""Matching lines that are shown of one content."""
LONGEST_LINE: Final = 2000
"""Characters that are shown of a line."""
SECONDS: Final = 1.0
"""So long a pattern may take over one content, in seconds of CPU."""
_LONGEST: Final = 1000
_TRIGRAMS: Final = 32


class Matcher:
    """Looks for one text or pattern."""

    def __init__(self, search: Search) -> None:
        """Read the pattern; raises `SearchPatternError` when it is none."""
        self._search = search
        if not 0 < len(search.text) <= _LONGEST:
            raise SearchPatternError(f"expected a text of 1 to {_LONGEST} characters")
        text = search.text if search.is_pattern else regex.escape(search.text, literal_spaces=True)
        flags = regex.MULTILINE | (regex.IGNORECASE if search.ignore_case else 0)
        try:
            self._compiled = regex.compile(text, flags)
        except (regex.error, OverflowError, RecursionError) as error:
            raise SearchPatternError(
                f"{search.text[:80]!r} is not a regular expression: {error}"
            ) from None
        self.narrowed = _narrowed(search)
        """What the index is asked; none when it cannot rule anything out."""

    def lines(self, content: str) -> tuple[tuple[FoundLine, ...], bool] | None:
        """The lines to show, and whether there are more; none when nothing matches.

        Raises `SearchPatternError` when the pattern takes too long.
        """
        content = content.replace("\r\n", "\n")  # `$` is where a line ends, whatever ends it
        spans: dict[int, list[Span]] = {}
        lines: Sequence[str] = ()
        starts: Sequence[int] = ()
        more = False
        try:
            for match in self._compiled.finditer(content, timeout=SECONDS, concurrent=True):
                if not lines:
                    lines = content.split("\n")
                    starts = [0, *accumulate(len(line) + 1 for line in lines)]
                start, end = match.span()
                line = bisect_right(starts, start, hi=len(lines)) - 1
                if line not in spans and len(spans) == MOST_LINES:
                    more = True
                    break
                begin = start - starts[line]
                last = min(end - starts[line], len(lines[line]), LONGEST_LINE)
                if begin < LONGEST_LINE:
                    spans.setdefault(line, []).append(Span(start=begin, end=max(begin, last)))
                else:
                    spans.setdefault(line, [])
        except TimeoutError:
            raise SearchPatternError(
                f"the regular expression {self._search.text[:80]!r} took too long: ended after "
                f"{SECONDS:g} s on {len(content)} characters",
                remedy="avoid repetitions within repetitions, such as (a+)+",
            ) from None
        if not spans:
            return None
        count = len(lines) - (not lines[-1])  # what follows the last line end is no line
        shown = _around(spans, self._search.context, count)
        return (
            tuple(
                FoundLine(
                    number=line + 1,
                    text=lines[line][:LONGEST_LINE],
                    matches=tuple(spans.get(line, ())),
                )
                for line in shown
            ),
            more,
        )


def _around(lines: Iterable[int], context: int, count: int) -> list[int]:
    """These lines and those around them."""
    near = {
        number
        for line in lines
        for number in range(max(0, line - context), min(count, line + context + 1))
    }
    return sorted(near.union(lines))


def _narrowed(search: Search) -> str | None:
    """The trigrams that a content must hold to match, as the index is asked for them."""
    texts = (
        [needle.decode() for needle in needles(search.text).words]
        if search.is_pattern
        else [search.text]
    )
    asked = [_trigrams(text) for text in texts]
    if not asked or not all(asked):
        return None
    return " OR ".join(
        "(" + " AND ".join('"' + each.replace('"', '""') + '"' for each in trigrams) + ")"
        for trigrams in asked
    )


def _trigrams(text: str) -> list[str]:
    """Some of what follows each other in a text; of plain characters only, whose case is certain.

    >>> _trigrams("Gi0/1")
    ['Gi0', 'i0/', '0/1']
    """
    every = dict.fromkeys(text[start : start + 3] for start in range(len(text) - 2))
    return [each for each in every if each.isascii() and each.isprintable()][:_TRIGRAMS]

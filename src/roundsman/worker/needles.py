"""What a text must hold for a regular expression to match in it.

Patterns of platforms look for words that most texts do not have. To look for a few words is thirty
times cheaper than to try a pattern at each line. Read is what is certain; where anything is not, a
pattern has no needles, and is tried.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_SHORTEST: Final = 3
"""Shorter needles are in every text."""

_ATOM: Final = re.compile(
    r"(?P<set>\[\^?\]?(?:\\.|[^\\\]\[])*\])"
    r"|\\(?P<escaped>[^\w\s])"  # a character that would mean something else
    r"|(?P<kind>\\[bBdDsSwWnrt]|[.^$])"
    r"|(?P<look>\(\?<?[=!])"
    r"|(?P<group>\((?:\?:|\?P<\w+>|(?!\?)))"
    r"|(?P<end>\))"
    r"|(?P<or>\|)"
    r"|(?P<plain>[^\\\[\](){}|*+?.^$\x00-\x1f])",
)
_QUANTIFIER: Final = re.compile(
    r"(?P<none>[*?]|\{0?,\d*\}|\{0\})[+?]?|(?:\+|\{[1-9]\d*,?\d*\})[+?]?"
)

Needles = tuple[bytes, ...]
"""Of these, a text has at least one wherever the pattern matches. None: nothing is known."""


def needles(pattern: str) -> Needles:
    r"""The needles of a regular expression of the `regex` module, without flags.

    >>> needles(r"^(snmp-server community )\S+"), needles("(?:standby|vrrp) .*"), needles("a|b")
    ((b'snmp-server community ',), (b'standby', b'vrrp'), ())
    """
    try:
        reader = _Reader(pattern)
        found = reader.alternatives()
        reader.expect_end()
    except _UnsureError:
        return ()
    return found


class _UnsureError(Exception):
    """The pattern holds something that is not read here."""


class _Quantified(NamedTuple):
    optional: bool
    repeated: bool


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def expect_end(self) -> None:
        if self._at < len(self._pattern):
            raise _UnsureError

    def alternatives(self) -> Needles:
        """Those of one alternative after the other, up to the end of the group."""
        ways = [self._sequence()]
        while self._pattern.startswith("|", self._at):
            self._at += 1
            ways.append(self._sequence())
        return tuple(dict.fromkeys(needle for way in ways for needle in way)) if all(ways) else ()

    def _sequence(self) -> Needles:
        """The best needles of what follows one after the other."""
        return max(self._candidates(), key=_worth, default=())

    def _candidates(self) -> Iterator[Needles]:
        run = ""
        while (atom := _ATOM.match(self._pattern, self._at)) and not (atom["end"] or atom["or"]):
            self._at = atom.end()
            inner = self._inner(atom)
            quantified = self._quantified()
            text = atom["plain"] or atom["escaped"] or ""
            if text and not quantified.optional:
                run += text
            if text and not (quantified.optional or quantified.repeated):
                continue
            yield from _as_needles(run)
            run = ""
            if inner and not quantified.optional:
                yield inner
        yield from _as_needles(run)

    def _inner(self, atom: re.Match[str]) -> Needles:
        """Of a group, its needles; what stands before or behind a match is none of it."""
        if not (atom["group"] or atom["look"]):
            return ()
        inner = self.alternatives()
        if not self._pattern.startswith(")", self._at):
            raise _UnsureError
        self._at += 1
        return inner if atom["group"] else ()

    def _quantified(self) -> _Quantified:
        quantifier = _QUANTIFIER.match(self._pattern, self._at)
        if quantifier is None:
            return _Quantified(optional=False, repeated=False)
        self._at = quantifier.end()
        return _Quantified(optional=bool(quantifier["none"]), repeated=True)


def _as_needles(run: str) -> Iterator[Needles]:
    if len(run) >= _SHORTEST:
        yield (run.encode(),)


def _worth(found: Needles) -> tuple[int, int]:
    """Few and long ones are the best."""
    return min(map(len, found)), -len(found)

"""What a text must hold for a regular expression to match in it.

Patterns of platforms look for words that most lines do not have. To look for a few words is thirty
times cheaper than to try a pattern at each line. Read is what is certain; where anything is not, a
pattern has no needles, and is tried everywhere.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_SHORTEST: Final = 2
"""Shorter needles are in nearly every line."""

_COMMON: Final = frozenset(
    (
        "address",
        "description",
        "interface",
        "ip",
        "ip address",
        "ipv6",
        "name",
        "neighbor",
        "permit",
    )
)
"""What configurations hold hundreds of: where a pattern has other words too, these are better."""

_ATOM: Final = re.compile(
    r"(?P<set>\[\^?\]?(?:\\.|[^\\\]\[])*\])"
    r"|\\(?P<escaped>[^\w\s])"  # a character that would mean something else
    r"|(?P<kind>\\[bBdDsSwWnrt1-9]|[.^$])"
    r"|(?P<look>\(\?<?[=!])"
    r"|(?P<group>\((?:\?:|\?P<\w+>|(?!\?)))"
    r"|(?P<end>\))"
    r"|(?P<or>\|)"
    r"|(?P<plain>[^\\\[\](){}|*+?.^$\x00-\x1f])",
)
_QUANTIFIER: Final = re.compile(
    r"(?P<none>[*?]|\{0?,\d*\}|\{0\})[+?]?|(?:\+|\{[1-9]\d*,?\d*\})[+?]?"
)

_ANY_CASE: Final = "(?i)"

Words = tuple[str, ...]


class Needles(NamedTuple):
    """What a match of a pattern holds."""

    words: tuple[bytes, ...] = ()
    """Every match holds at least one of these, within a line. None: nothing is known."""
    any_case: bool = False
    """The words are in lower case, and are to be looked for in the text in lower case."""

    @classmethod
    def of_any(cls, several: Iterable["Needles"]) -> "Needles":
        """What a match of any of several patterns holds, all of which have needles."""
        return cls(_fewest(word.lower() for one in several for word in one.words), any_case=True)

    def are_in(self, text: bytes) -> bool:
        """Whether the text has one of them."""
        if self.any_case:
            text = text.lower()
        return any(map(text.__contains__, self.words))

    def lines_of(self, text: bytes) -> list[tuple[int, int]]:
        """Where the runs of lines begin and end that have one of them, in order."""
        if self.any_case:
            text = text.lower()
        ends: dict[int, int] = {}
        for word in self.words:
            at = text.find(word)
            while at >= 0:
                end = text.find(b"\n", at) + 1 or len(text)
                ends[text.rfind(b"\n", 0, at) + 1] = end
                at = text.find(word, end)
        return _joined(sorted(ends.items()))


def _joined(lines: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Lines that follow one another, as one run."""
    runs = lines[:1]
    for begin, end in lines[1:]:
        if begin == runs[-1][1]:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return runs


def needles(pattern: str) -> Needles:
    r"""The needles of a regular expression of the `regex` module, without flags but a first `(?i)`.

    >>> needles(r"^(snmp-server community )\S+").words, needles("(?:standby|vrrp) .*").words
    ((b'snmp-server community ',), (b'standby', b'vrrp'))
    >>> needles("(?i)^Uptime .*"), needles("a|b")
    (Needles(words=(b'uptime ',), any_case=True), Needles(words=(), any_case=False))
    """
    any_case = pattern.startswith(_ANY_CASE)
    try:
        reader = _Reader(pattern.removeprefix(_ANY_CASE))
        words = reader.alternatives()
        reader.expect_end()
    except _UnsureError:
        return Needles()
    # Bytes know the case of the letters of ASCII alone, in patterns as in `lower`.
    encoded = (word.encode() for word in words)
    return Needles(
        _fewest(word.lower() if any_case else word for word in encoded), any_case=any_case
    )


def _fewest(words: Iterable[bytes]) -> tuple[bytes, ...]:
    """Without those that hold another, with which they are found."""
    every = dict.fromkeys(words)
    return tuple(word for word in every if not any(o in word for o in every if o != word))


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

    def alternatives(self) -> Words:
        """Those of one alternative after the other, up to the end of the group."""
        ways = [self._sequence()]
        while self._pattern.startswith("|", self._at):
            self._at += 1
            ways.append(self._sequence())
        return tuple(dict.fromkeys(needle for way in ways for needle in way)) if all(ways) else ()

    def _sequence(self) -> Words:
        """The best needles of what follows one after the other."""
        return max(self._candidates(), key=_worth, default=())

    def _candidates(self) -> Iterator[Words]:
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

    def _inner(self, atom: re.Match[str]) -> Words:
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


def _as_needles(run: str) -> Iterator[Words]:
    if len(run) >= _SHORTEST:
        yield (run,)


def _worth(found: Words) -> tuple[bool, int, int]:
    """Rare, long and few ones are the best."""
    rare = all(word.strip().lower() not in _COMMON for word in found)
    return rare, min(map(len, found)), -len(found)

"""Removes secrets and noise from a result, on the worker, before it is uploaded.

Platforms have fifty patterns and more, and nearly all lines of a result concern none of them. Of a
small text the lines that hold a word of any pattern are put aside, and the patterns see only these.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Final

from roundsman.needles import Needles
from roundsman.wire.job import Scrubber, ScrubberType
from roundsman.worker.patterns import THOROUGH, Effort, Pattern

_BETWEEN: Final = b"\0\n"
"""A line that no pattern changes that has needles, between lines that do not follow one another."""


class Scrubbers:
    """The scrubbers of a job, applied to a whole text one after the other."""

    def __init__(self, scrubbers: Iterable[Scrubber]) -> None:
        """Read them; raises `PatternError` for an expression that is none."""
        self._steps = _steps(tuple(scrubbers))

    def __bool__(self) -> bool:
        return bool(self._steps)

    def apply(self, text: Iterable[bytes], effort: Effort = THOROUGH) -> Iterator[bytes]:
        """The scrubbed text, as a stream; raises `PatternError` when that cannot be done.

        Takes time and blocks: unless the effort is a quick one this is for a thread.
        """
        if effort.aside:
            return self._one_by_one(iter(text), effort)
        whole = b"".join(text)
        for step in self._steps:
            whole = step.at_once(whole, effort)
        return iter((whole,))

    def _one_by_one(self, text: Iterator[bytes], effort: Effort) -> Iterator[bytes]:
        for step in self._steps:
            for rule in step.rules:
                text = rule.stream(text, effort)
        return text


# Devices share jobs: to read what a job has takes as long as to apply it.
@lru_cache(maxsize=256)
def _steps(scrubbers: tuple[Scrubber, ...]) -> tuple["_Step", ...]:
    rules = [_Rule(scrubber) for scrubber in scrubbers]
    return tuple(
        step
        for by_lines, group in groupby(rules, key=lambda rule: rule.by_lines)
        for step in ([_Lines(list(group))] if by_lines else map(_Step, ([rule] for rule in group)))
    )


class _Rule:
    """One scrubber, read."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._search = scrubber.search.encode()
        self._replace = scrubber.replace
        self._groups = scrubber.type is ScrubberType.REGEX_SUBSTITUTE
        self._pattern = (
            None if scrubber.type is ScrubberType.SIMPLE else Pattern.of(scrubber.search)
        )
        if self._pattern:
            self.needles = self._pattern.needles
            within_lines = self._pattern.within_lines
        else:
            self.needles = Needles((self._search,) if self._search else ())
            within_lines = b"\n" not in self._search and b"\0" not in self._search
        self.by_lines = within_lines and bool(self.needles.words) and "\n" not in self._replace
        """Whether what it does to a line depends on that line alone."""

    def stream(self, text: Iterator[bytes], effort: Effort) -> Iterator[bytes]:
        if self._pattern is None:
            return replace_literal(text, self._search, self._replace.encode())
        return self._pattern.replace(text, self._replace, groups=self._groups, effort=effort)

    def at_once(self, text: bytes, effort: Effort) -> bytes:
        """A small text, without the machinery of streams, which would take as long as the rest."""
        if self._pattern:
            return self._pattern.replace_in(text, self._replace, groups=self._groups, effort=effort)
        return text.replace(self._search, self._replace.encode()) if self._search else text


class _Step:
    """Rules that are applied one after the other, each to the whole text."""

    def __init__(self, rules: list[_Rule]) -> None:
        self.rules = rules

    def at_once(self, text: bytes, effort: Effort) -> bytes:
        for rule in self.rules:
            text = rule.at_once(text, effort)
        return text


class _Lines(_Step):
    """The same for rules of which each looks at one line at a time, and knows its needles."""

    def __init__(self, rules: list[_Rule]) -> None:
        super().__init__(rules)
        self._needles = Needles.of_any(rule.needles for rule in rules)

    def at_once(self, text: bytes, effort: Effort) -> bytes:
        runs = self._needles.lines_of(text)
        if not runs:
            return text
        before = [text[begin:end] for begin, end in runs]
        after = super().at_once(_BETWEEN.join(before), effort).split(_BETWEEN)
        # Lines that hold a NUL, or have lost their end without vanishing, are told by this.
        kept_apart = len(after) == len(before) and all(
            not new or new.endswith(b"\n") or not old.endswith(b"\n")
            for old, new in zip(before, after, strict=True)
        )
        if not kept_apart:
            return super().at_once(text, effort)
        pieces = [text[: runs[0][0]]]
        for new, (_, end), (following, _) in zip(
            after, runs, [*runs[1:], (len(text), 0)], strict=True
        ):
            pieces += (new, text[end:following])
        return b"".join(pieces)


def replace_literal(text: Iterable[bytes], search: bytes, replacement: bytes) -> Iterator[bytes]:
    """The text with each `search` replaced, wherever the pieces of the text are cut."""
    if not search:
        yield from text
        return
    held = b""
    for piece in text:
        *before, held = (held + piece).split(search)
        # What could be the beginning of a further one waits for the next piece.
        safe = max(0, len(held) - len(search) + 1)
        before.append(held[:safe])
        held = held[safe:]
        yield replacement.join(before)
    yield held

"""Regular expressions over results of any size, with bounded memory and bounded time.

A pattern reads the whole result as one text: `^` and `$` match at each line, `.` stops at line
ends, and a pattern that asks for line ends finds them. Where it is certain that no match can reach
over the end of a line, which is so for most patterns, the text is read in blocks of whole lines
and may have any size. Other patterns need the text in memory, which is bounded.

Patterns are matched on bytes, encoded as UTF-8: devices send what they like, and it is kept as it
is. A pattern may take exponential time: it is matched outside of the interpreter's lock, and
within a time limit.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import regex

from roundsman.errors import RoundsmanError

MAX_TEXT: Final = 64 << 20
"""Bytes of the largest text that is held in memory for a pattern that may reach over lines."""

BLOCK_SECONDS: Final = 5.0
"""How long a pattern may take over one block. Harmless ones take 0.01 s for 1 MiB."""

_BLOCK: Final = 1 << 20

# What certainly matches no line end and does not look at the text as a whole: some escapes,
# groups, the flags `i` and `m`, positive sets of printable characters, counted repetitions, plain
# characters.
_WITHIN_LINE: Final = re.compile(
    r"\\[SwdbB1-9]|\\[^\w\s]"
    r"|\((?!\?)|\(\?(?:[im]+\)|[im]*:|P<\w+>|P=\w+\)|<?[=!])"
    r"|\[(?!\^)(?:\\[wd]|\\[^\w\s]|[^\\\[\]\x00-\x1f])+\]"
    r"|\{\d*,?\d*\}"
    r"|[^\\\[({\x00-\x1f]"
)

_T = TypeVar("_T")


class PatternError(RoundsmanError):
    """A pattern cannot be read, or cannot be applied to this text."""

    code = "pattern.failed"


class Pattern:
    """One regular expression."""

    def __init__(self, text: str) -> None:
        """Read it; raises `PatternError` when it is none."""
        self.text = text
        try:
            self._compiled = regex.compile(text.encode(), regex.MULTILINE)
        except (regex.error, OverflowError, RecursionError) as error:
            raise PatternError(f"{text!r} is not a regular expression: {error}") from None
        unsure = _WITHIN_LINE.sub("", text)
        # One that matches nothing at all would do so twice where two blocks meet.
        self.within_lines = not unsure and self._compiled.search(b"") is None

    def found_in(self, text: Iterable[bytes]) -> bool:
        """Whether it matches anywhere."""

        def search(block: bytes) -> bool:
            match = self._compiled.search(block, timeout=BLOCK_SECONDS, concurrent=True)
            return match is not None

        return any(self._over_blocks(text, search))

    def replace(self, text: Iterable[bytes], replacement: str, *, groups: bool) -> Iterator[bytes]:
        r"""The text with each match replaced; with `groups` the replacement may refer to them.

        References are written `\1` or `\g<name>`. Raises `PatternError` for an unknown one.
        """
        new = replacement.encode()
        if not groups:
            new = new.replace(b"\\", b"\\\\")

        def substitute(block: bytes) -> bytes:
            return self._compiled.sub(new, block, timeout=BLOCK_SECONDS, concurrent=True)

        try:
            yield from self._over_blocks(text, substitute)
        except (regex.error, IndexError) as error:
            raise PatternError(
                f"{replacement!r} does not fit the regular expression {self.text!r}: {error}"
            ) from None

    def _over_blocks(self, text: Iterable[bytes], step: Callable[[bytes], _T]) -> Iterator[_T]:
        for block in self._lines(text) if self.within_lines else self._whole(text):
            try:
                yield step(block)
            except TimeoutError:
                raise PatternError(
                    f"the regular expression {self.text!r} took too long: ended after "
                    f"{BLOCK_SECONDS:g} s on {len(block)} bytes",
                    remedy="avoid repetitions within repetitions, such as (a+)+",
                ) from None

    def _lines(self, text: Iterable[bytes]) -> Iterator[bytes]:
        """The text in blocks of whole lines."""
        held = bytearray()
        for piece in text:
            held += piece
            end = held.rfind(b"\n") + 1 if len(held) >= _BLOCK else 0
            if end:
                yield bytes(held[:end])
                del held[:end]
            if len(held) > MAX_TEXT:
                raise PatternError(f"the text has a line of more than {MAX_TEXT} bytes")
        yield bytes(held)

    def _whole(self, text: Iterable[bytes]) -> Iterator[bytes]:
        held = bytearray()
        for piece in text:
            held += piece
            if len(held) > MAX_TEXT:
                raise PatternError(
                    f"the regular expression {self.text!r} may match over line ends, for which "
                    f"the text may have at most {MAX_TEXT} bytes, and it has more",
                    remedy=r"use \S, \w, \d, . or sets such as [A-Za-z0-9] rather than \s or "
                    "[^…]: they match no line end",
                )
        yield bytes(held)

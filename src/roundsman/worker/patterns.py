r"""Regular expressions over results of any size, with bounded memory and bounded time.

A pattern reads the whole result as one text: `^` and `$` match at each line, `.` stops at line
ends, and a pattern that asks for line ends finds them. Where it is certain that no match can reach
over the end of a line, which is so for most patterns, the text is read in blocks of whole lines
and may have any size; a line end at the end of a pattern, as in `^uptime.*\n`, is the last of its
line. Other patterns need the text in memory, which is bounded.

Patterns are matched on bytes, encoded as UTF-8: devices send what they like, and it is kept as it
is. A pattern may take exponential time: it is matched within a time limit, and outside of the
interpreter's lock unless the limit is so short that this is no concern.
"""

import re
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, Self

import regex

from roundsman.errors import RoundsmanError
from roundsman.needles import needles

MAX_TEXT: Final = 64 << 20
"""Bytes of the largest text that is held in memory for a pattern that may reach over lines."""

BLOCK_SECONDS: Final = 5.0
"""How long a pattern may take over one block. Harmless ones take 0.01 s for 1 MiB."""

QUICK_SECONDS: Final = 0.02
"""How long all patterns of a quick effort may take together: for so long nothing else happens."""

_BLOCK: Final = 1 << 20

# What certainly matches no line end and does not look at the text as a whole: some escapes,
# groups, the flags `i` and `m`, sets of printable characters, sets of all but some characters with
# the line end among these, counted repetitions, plain characters.
_WITHIN_LINE: Final = re.compile(
    r"\\[SwdbBtr1-9]|\\[^\w\s]"
    r"|\((?!\?)|\(\?(?:[im]+\)|[im]*:|P<\w+>|P=\w+\)|<?[=!])"
    r"|\[(?!\^)(?:\\[wd]|\\[tr](?!-)|\\[^\w\s]|[^\\\[\]\x00-\x1f])+\]"
    r"|\[\^(?=(?:\\.|[^\\\]])*\\[sn])(?:\\[wdsntr]|\\[^\w\s]|[^\\\[\]\x00-\x1f])+\]"
    r"|\{\d*,?\d*\}"
    r"|[^\\\[({\x00-\x1f]"
)

_LAST_LINE_END: Final = re.compile(r"(?<!\\)(?:\\\\)*\\n\??\Z|\n\??\Z")


class PatternError(RoundsmanError):
    """A pattern cannot be read, or cannot be applied to this text."""

    code = "pattern.failed"


class NotQuickError(Exception):
    """A quick effort was not enough: begin anew with a thorough one."""


class Effort:
    """For how long patterns may be applied, in seconds of CPU, as the `regex` module counts."""

    aside = True
    """Whether they are matched outside of the interpreter's lock. To give it up and to get it back
    costs up to 5 ms for each pattern while another thread computes."""

    def seconds(self) -> float:
        """The limit for the next block."""
        return BLOCK_SECONDS


class QuickEffort(Effort):
    """Little enough for the event loop's own thread."""

    aside = False

    def __init__(self) -> None:
        """Begin now."""
        self._until = time.process_time() + QUICK_SECONDS

    def seconds(self) -> float:
        """What is left."""
        return max(0.001, self._until - time.process_time())


THOROUGH: Final = Effort()


class Pattern:
    """One regular expression."""

    def __init__(self, text: str) -> None:
        """Read it; raises `PatternError` when it is none."""
        self.text = text
        try:
            self._compiled = regex.compile(text.encode(), regex.MULTILINE)
        except (regex.error, OverflowError, RecursionError) as error:
            raise PatternError(f"{text!r} is not a regular expression: {error}") from None
        # Blocks are of whole lines, so that the line end at the end of a match is in the same one.
        unsure = _WITHIN_LINE.sub("", _LAST_LINE_END.sub("", text))
        # One that matches nothing at all would do so twice where two blocks meet.
        self.within_lines = not unsure and self._compiled.search(b"") is None
        self.needles = needles(text)

    # Devices share jobs: to read the patterns of one takes as long as a session.
    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, text: str) -> Self:
        """The same, read once for all that use it."""
        return cls(text)

    def found_in(self, text: Iterable[bytes], effort: Effort = THOROUGH) -> bool:
        """Whether it matches anywhere."""
        return any(self._is_in(block, effort) for block in self._blocks(text))

    def _is_in(self, block: bytes, effort: Effort) -> bool:
        if not self._may_match(block):
            return False
        try:
            match = self._compiled.search(block, timeout=effort.seconds(), concurrent=effort.aside)
        except TimeoutError:
            raise self._too_slow(block, effort) from None
        return match is not None

    def replace(
        self,
        text: Iterable[bytes],
        replacement: str,
        *,
        groups: bool,
        effort: Effort = THOROUGH,
    ) -> Iterator[bytes]:
        r"""The text with each match replaced; with `groups` the replacement may refer to them.

        References are written `\1` or `\g<name>`. Raises `PatternError` for an unknown one.
        """
        return (
            self.replace_in(block, replacement, groups=groups, effort=effort)
            for block in self._blocks(text)
        )

    def replace_in(self, block: bytes, replacement: str, *, groups: bool, effort: Effort) -> bytes:
        """The same for a text in one piece."""
        if not self._may_match(block):
            return block
        new = replacement.encode()
        if not groups:
            new = new.replace(b"\\", b"\\\\")
        if effort.aside or not (self.within_lines and self.needles.words):
            return self._substitute(new, block, effort)
        pieces: list[bytes] = []
        done = 0
        for begin, end in self.needles.lines_of(block):
            pieces += (block[done:begin], self._substitute(new, block[begin:end], effort))
            done = end
        return b"".join((*pieces, block[done:]))

    def _substitute(self, new: bytes, text: bytes, effort: Effort) -> bytes:
        try:
            return self._compiled.sub(new, text, timeout=effort.seconds(), concurrent=effort.aside)
        except TimeoutError:
            raise self._too_slow(text, effort) from None
        except (regex.error, IndexError) as error:
            raise PatternError(
                f"{new.decode()!r} does not fit the regular expression {self.text!r}: {error}"
            ) from None

    def _may_match(self, block: bytes) -> bool:
        return not self.needles.words or self.needles.are_in(block)

    def _too_slow(self, block: bytes, effort: Effort) -> Exception:
        if not effort.aside:
            return NotQuickError()
        return PatternError(
            f"the regular expression {self.text!r} took too long: ended after "
            f"{BLOCK_SECONDS:g} s on {len(block)} bytes",
            remedy="avoid repetitions within repetitions, such as (a+)+",
        )

    def _blocks(self, text: Iterable[bytes]) -> Iterator[bytes]:
        """The text in the pieces that are to be matched."""
        return self._lines(text) if self.within_lines else self._whole(text)

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

"""The prompt as it was learned, and what may be one in another mode."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

DEFAULT_PROMPT_ENDS: Final = (b"#", b">", b"$", b"%")
"""What a prompt ends with where nothing is configured."""

LONGEST_PREFACE: Final = 3
"""Lines that may come with each prompt, before it: `{master}`, `[edit]`."""

_HOST: Final = re.compile(rb"[*!~+]*([\w.@-]+)")
"""The word with which a prompt begins, marks of unsaved changes aside."""

_DIGITS: Final = re.compile(rb"\d+")
_MARKS: Final = b"*!~+"
_BRACKETS: Final = (b"[]", b"{}", b"()")


class Prompt:
    """A prompt, known to the letter, or to the digit where it holds a clock or a counter."""

    def __init__(
        self, text: bytes = b"", preface: Sequence[bytes] = (), *, varies: bool = False
    ) -> None:
        """Take its text without trailing blanks, and the lines that come with it, before it.

        When it `varies`, its numbers may be others each time.
        """
        self.text = text
        self.preface = tuple(preface)
        self.varies = varies
        pattern = rb"\d+".join(map(re.escape, _DIGITS.split(text))) if varies else re.escape(text)
        self._at_start = re.compile(pattern)
        self._at_end = re.compile(pattern + rb"\Z")

    def __str__(self) -> str:
        """For messages."""
        return repr(self.text.decode("utf-8", "replace"))

    def changed(self, text: bytes, preface: Sequence[bytes]) -> "Prompt":
        """The prompt as it is now."""
        if (text, tuple(preface)) == (self.text, self.preface):
            return self
        return Prompt(text, preface, varies=self.varies or same_but_numbers(text, self.text))

    def at_end_of(self, line: bytes) -> bytes:
        """The prompt with which a line ends; empty if it does not."""
        if not self.varies:
            return self.text if line.endswith(self.text) else b""
        found = self._at_end.search(line)
        return found[0] if found else b""

    def at_start_of(self, line: bytes) -> bytes:
        """The prompt with which a line begins; empty if it does not."""
        found = self._at_start.match(line)
        return found[0] if found else b""

    def is_all_of(self, line: bytes) -> bool:
        """Whether a line is the prompt and nothing else."""
        return line == self.text or (self.varies and self.at_end_of(line) == line)

    def is_on_same_host(self, line: bytes) -> bool:
        """Whether a line could be our device's prompt in another mode: it begins alike."""
        ours, theirs = _HOST.match(self.text), _HOST.match(line)
        return (ours and ours[1]) == (theirs and theirs[1])

    def is_preface(self, lines: Sequence[bytes]) -> bool:
        """Whether these are the lines that come with it, as they may have changed since."""
        return len(lines) == len(self.preface) and all(
            _alike(ours, theirs) or same_but_numbers(ours, theirs)
            for ours, theirs in zip(self.preface, lines, strict=True)
        )

    def is_in_preface(self, line: bytes) -> bool:
        """Whether a line may be one of those that come with it."""
        return any(_alike(ours, line) for ours in self.preface)


class Ends(NamedTuple):
    """How a prompt must end; any will do that ends as prompts do when nothing is configured."""

    configured: bytes = b""

    @classmethod
    def of(cls, text: str | None) -> "Ends":
        """What is configured, trailing blanks aside."""
        return cls((text or "").rstrip().encode())

    def allow(self, prompt: bytes) -> bool:
        """Whether a prompt that is known may be this one."""
        return not self.configured or prompt.endswith(self.configured)

    def fit(self, line: bytes) -> bool:
        """Whether a line ends like a prompt."""
        return line.endswith(self.configured or DEFAULT_PROMPT_ENDS)


def same_but_numbers(one: bytes, other: bytes) -> bool:
    """Whether two lines differ in nothing but numbers, of which they have some."""
    return _DIGITS.split(one) == _DIGITS.split(other) and len(_DIGITS.split(one)) > 1


def _alike(one: bytes, other: bytes) -> bool:
    """Whether two lines of a preface say the same, or the same of another place or state.

    As `[edit]` and `[edit system]` do, or `[/]` and `*[/configure]`.
    """
    one, other = one.lstrip(_MARKS), other.lstrip(_MARKS)
    brackets = one[:1] + one[-1:]
    return one == other or (brackets in _BRACKETS and brackets == other[:1] + other[-1:])

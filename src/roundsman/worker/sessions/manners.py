"""A platform, ready to be held against what a device draws."""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Final

import regex

from roundsman.wire.platform import Login, Pager, Platform, Question
from roundsman.worker.sessions.errors import PlatformError, PromptError

_SECONDS: Final = 0.5
"""How long a pattern may take over one line. Harmless ones take microseconds."""

_LONGEST_LINE: Final = 1024
"""Bytes. A longer line is neither a prompt nor a question."""

_LINES_OF_COMPLAINT: Final = 10
BYTES_OF_COMPLAINT: Final = 4096
"""Where an output is searched for a complaint about the command: in its first lines."""


class LinePattern:
    """A regular expression over a few lines."""

    def __init__(self, text: str) -> None:
        """Read it; raises `PlatformError` when it is none."""
        self.text = text
        self._compiled = _compile(text)

    def is_all_of(self, line: bytes) -> bool:
        """Whether it matches a line from its beginning to its end, blanks around it aside."""
        if len(line) > _LONGEST_LINE:
            return False
        return any(
            self._match(partial(self._compiled.fullmatch, text, timeout=_SECONDS))
            for text in {line, line.strip(), line.strip() + b" "}
        )

    def found_in(self, text: bytes, from_: int = 0) -> bool:
        """Whether it is found, the match reaching beyond the position `from_`."""
        if len(text) - from_ > _LONGEST_LINE:
            return False
        return self._match(
            lambda: any(
                match.end() > from_ or match.end() == len(text)
                for match in self._compiled.finditer(text, timeout=_SECONDS)
            )
        )

    def found_in_output(self, text: bytes) -> bool:
        """Whether it is found anywhere."""
        return self._match(lambda: self._compiled.search(text, timeout=_SECONDS) is not None)

    def _match(self, work: Callable[[], object]) -> bool:
        try:
            return bool(work())
        except TimeoutError:
            raise PromptError(
                f"the pattern {self.text!r} of the platform took longer than {_SECONDS:g} s",
                remedy="avoid repetitions within repetitions, such as (a+)+",
            ) from None


# Fleets share platforms: compiling is most of the price of a short session.
@lru_cache(maxsize=4096)
def _compile(text: str) -> "regex.Pattern[bytes]":
    try:
        return regex.compile(text.encode(), regex.MULTILINE)
    except (regex.error, OverflowError, RecursionError) as error:
        raise PlatformError(f"{text!r} is not a regular expression: {error}") from None


class Manners:
    """What a device's operating system does, and what is done about it."""

    def __init__(self, platform: Platform | None = None) -> None:
        """Read a platform; without one nothing is known. Raises `PlatformError`."""
        platform = platform or Platform(name="unknown")
        self.platform = platform
        self.enter = platform.line_end.encode()
        self._prompts = _patterns(platform.prompts)
        self._pagers = [(LinePattern(pager.pattern), pager) for pager in platform.more]
        self._questions = [(LinePattern(asks.pattern), asks) for asks in platform.questions]
        self._expired = _patterns(platform.expired)
        self._errors = _patterns(platform.errors)
        self._notices = _patterns(platform.notices)
        self.login = LoginManners(platform.login)
        self.enabled = LinePattern(platform.enable.prompt) if platform.enable else None
        self.enable_question = LinePattern(platform.enable.password) if platform.enable else None

    @property
    def knows_prompts(self) -> bool:
        """Whether it is known how prompts look."""
        return bool(self._prompts)

    def is_prompt(self, line: bytes) -> bool:
        """Whether a line looks like a prompt of this operating system."""
        return any(pattern.is_all_of(line) for pattern in self._prompts)

    def pager(self, line: bytes) -> Pager | None:
        """The pager whose line this is."""
        return next((pager for pattern, pager in self._pagers if pattern.is_all_of(line)), None)

    def question(self, before: bytes, line: bytes) -> Question | None:
        """The question asked by a line, with the lines before it."""
        text = before + line
        return next(
            (asks for found, asks in self._questions if found.found_in(text, len(before))), None
        )

    def expired(self, lines: bytes) -> bool:
        """Whether one of the lines says that the password must be changed."""
        return any(pattern.found_in_output(lines) for pattern in self._expired)

    def is_notice(self, line: bytes) -> bool:
        """Whether a line is one that the device writes by itself."""
        return any(pattern.found_in(line) for pattern in self._notices)

    def complaint(self, output: bytes) -> str | None:
        """The pattern of a complaint about a command, if its output begins with one."""
        lines = output.split(b"\n", _LINES_OF_COMPLAINT)[:_LINES_OF_COMPLAINT]
        text = b"\n".join(lines)
        return next((p.text for p in self._errors if p.found_in_output(text)), None)


class LoginManners:
    """The questions at a login in the terminal."""

    def __init__(self, login: Login) -> None:
        """Read the patterns."""
        self.user = LinePattern(login.user)
        self.password = LinePattern(login.password)
        self.failed = LinePattern(login.failed)


def _patterns(texts: Iterable[str]) -> list[LinePattern]:
    return [LinePattern(text) for text in texts]

"""The root of every error of the project, and the shape in which errors speak.

An error names its subject, what was expected, what was found, and what to do about it, and
carries a stable code that programs may match on. Each border (HTTP, command line, control
channel) maps codes to its own language once.
"""

from typing import ClassVar


class RoundsmanError(Exception):
    """Base of all errors that Roundsman raises on purpose.

    `code` is stable across releases and has the form `subject.what`, for example `lease.lost`.
    `text` is one sentence for people; it never contains a secret.
    """

    code: ClassVar[str] = "roundsman.error"

    def __init__(self, text: str, *, remedy: str | None = None) -> None:
        """Keep the sentence and, when there is one, what the reader can do about it."""
        super().__init__(text)
        self.text = text
        self.remedy = remedy

    def __str__(self) -> str:
        """Code, sentence and remedy on one line: `code: text; remedy`."""
        return f"{self.code}: {self.sentence}"

    @property
    def sentence(self) -> str:
        """The text and, when there is one, the remedy."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


class NotFoundError(RoundsmanError):
    """Something that was named is not known here."""

    code = "not_found"


class UnavailableError(RoundsmanError):
    """A part that is needed cannot serve just now; the same request may succeed later."""

    code = "unavailable"

    def __init__(
        self, text: str, *, remedy: str | None = None, retry_after_seconds: int = 5
    ) -> None:
        """Keep also how long the caller had better wait before it tries again, in seconds."""
        super().__init__(text, remedy=remedy)
        self.retry_after_seconds = retry_after_seconds


class InvalidError(RoundsmanError):
    """A request that cannot be understood, or that asks for what is not allowed as a value."""

    code = "invalid"


class ConflictError(RoundsmanError):
    """A request that no longer fits the state of things; nothing was changed."""

    code = "conflict"


class TooLargeError(RoundsmanError):
    """More bytes than are accepted here."""

    code = "too_large"

"""A text that must not be seen: passwords, keys, tokens."""

import hmac
from typing import Final

MASK: Final = "********"


class Secret:
    """A secret text that masks itself wherever it is printed, logged, formatted or pickled.

    Only `reveal()` gives the text back, so every use of a secret can be found by that word.
    Comparison takes the same time whatever differs.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Take the secret text; the empty text is allowed and still masked."""
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that needs it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Whether two secrets hold the same text, in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        """Hash by text, so that records holding secrets stay hashable."""
        return hash(("Secret", self._text))

    def __bool__(self) -> bool:
        """Whether there is any text at all."""
        return bool(self._text)

    def __repr__(self) -> str:
        """The mask, never the text."""
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        """The mask, never the text."""
        return MASK

    def __format__(self, spec: str) -> str:
        """The mask, formatted, never the text."""
        return format(MASK, spec)

    def __reduce__(self) -> str:
        """Refuse to be pickled: a pickle would carry the text in the clear."""
        raise TypeError("a Secret cannot be pickled")

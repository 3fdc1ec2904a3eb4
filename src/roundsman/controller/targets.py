"""Expressions that choose workers: `tag=dallas and not (tag=lab or name=old-1)`."""

import re
from collections.abc import Callable
from typing import Final

from roundsman.errors import InvalidError
from roundsman.wire.worker import Worker

Chooses = Callable[[Worker], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<sign>[()])
    |(?P<field>tag|name)=(?:"(?P<quoted>[^"]*)"|(?P<plain>[^\s()"]+))
    |(?P<word>[^\s()"=]+)(?=[\s()]|$))""",
    re.VERBOSE,
)
_DEEPEST: Final = 50


class TargetSyntaxError(InvalidError):
    """The expression cannot be read."""

    code = "target.syntax"

    def __init__(self, text: str, at: int, expected: str) -> None:
        """Name the place, from 1, and what was expected there."""
        found = repr(text[at : at + 20]) if text[at:].strip() else "the end"
        super().__init__(
            f"on: expected {expected} at character {at + 1}, got {found}",
            remedy='write it like: tag=dallas and not (tag=lab or name="old 1")',
        )


def parse(text: str) -> Chooses:
    """What an expression chooses. Raises `TargetSyntaxError`.

    `tag=…` chooses the workers that serve a tag, `name=…` those of a name, `all` every one; they
    are combined by `not`, `and`, `or`, in that order of strength, and parentheses.
    """
    parser = _Parser(text)
    chooses = parser.either(0)
    parser.expect_end()
    return chooses


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def either(self, depth: int) -> Chooses:
        left = self._both(depth)
        while self._took("or"):
            left = _or(left, self._both(depth))
        return left

    def _both(self, depth: int) -> Chooses:
        left = self._one(depth)
        while self._took("and"):
            left = _and(left, self._one(depth))
        return left

    def _one(self, depth: int) -> Chooses:
        if depth > _DEEPEST:
            raise TargetSyntaxError(self._text, self._at, f"at most {_DEEPEST} levels")
        if self._took("not"):
            return _not(self._one(depth + 1))
        if self._took("("):
            inner = self.either(depth + 1)
            if not self._took(")"):
                raise TargetSyntaxError(self._text, self._at, "`)`, `and` or `or`")
            return inner
        if self._took("all"):
            return lambda _: True
        return self._term()

    def _term(self) -> Chooses:
        token = self._next()
        if token is None or token["field"] is None:
            raise TargetSyntaxError(self._text, self._at, "`tag=…`, `name=…`, `all`, `not` or `(`")
        self._at = token.end()
        value = token["quoted"] if token["quoted"] is not None else token["plain"]
        if token["field"] == "tag":
            return lambda worker: value in worker.tags
        return lambda worker: value == worker.name

    def expect_end(self) -> None:
        if self._text[self._at :].strip():
            raise TargetSyntaxError(self._text, self._at, "`and`, `or` or the end")

    def _next(self) -> re.Match[str] | None:
        return _TOKEN.match(self._text, self._at)

    def _took(self, wanted: str) -> bool:
        token = self._next()
        if token is None or wanted not in (token["sign"], token["word"]):
            return False
        self._at = token.end()
        return True


def _or(left: Chooses, right: Chooses) -> Chooses:
    return lambda worker: left(worker) or right(worker)


def _and(left: Chooses, right: Chooses) -> Chooses:
    return lambda worker: left(worker) and right(worker)


def _not(inner: Chooses) -> Chooses:
    return lambda worker: not inner(worker)

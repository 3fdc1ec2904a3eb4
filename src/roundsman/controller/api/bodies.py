"""Bodies that are read whole: bounded in time, and parsed with words for what is wrong."""

import asyncio
import re
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request

from roundsman.errors import InvalidError, RoundsmanError

T = TypeVar("T")

BODY_SECONDS: Final = 20.0
"""So long a client may take to send what these calls need, a megabyte at most."""

_AT: Final = re.compile(r"(?P<what>.*) - at `\$\.(?P<field>.*)`")
_MISSING: Final = re.compile(r"Object missing required field `(?P<field>.*)`")


class BodyError(InvalidError):
    """The body is not what the call takes."""

    code = "body.invalid"


class SlowBodyError(RoundsmanError):
    """The body did not come in time."""

    code = "body.slow"


async def read(request: Request[Any, Any, Any], *, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body. Raises `SlowBodyError`, and what the framework says of one too large."""
    try:
        async with asyncio.timeout(seconds):
            return await request.body()
    except TimeoutError:
        raise SlowBodyError(f"the body did not come within {seconds:g} seconds") from None


def parse(body: bytes, wanted: type[T]) -> T:
    """The record in a body, unknown fields ignored; raises `BodyError` naming the field.

    >>> class Named(msgspec.Struct):
    ...     name: str
    >>> parse(b'{"name": 1}', Named)
    Traceback (most recent call last):
    roundsman.controller.api.bodies.BodyError: body.invalid: name: expected str, got int
    """
    try:
        return msgspec.json.decode(body.decode(), type=wanted)
    except msgspec.ValidationError as error:
        raise BodyError(_in_words(str(error))) from None
    except msgspec.DecodeError as error:
        raise BodyError(f"the body is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8 from byte {error.start} on") from None
    except RecursionError:
        raise BodyError("the body is nested too deeply") from None


def _in_words(text: str) -> str:
    if missing := _MISSING.fullmatch(text):
        return f"{missing['field']}: missing, expected str"
    placed = _AT.fullmatch(text)
    field, what = (placed["field"], placed["what"]) if placed else ("the body", text)
    return f"{field}: {what[0].lower()}{what[1:]}".replace("`", "")

"""Server-sent events: records as they come, kept alive, and an end that says so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import msgspec
from litestar.response import Stream

from roundsman.controller.api import errors
from roundsman.errors import RoundsmanError
from roundsman.wire.process import ErrorAnswer

T = TypeVar("T")

EVENT_STREAM: Final = "text/event-stream"
KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment this often while nothing is written, so that no proxy takes the silence for an end."""
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No proxy may keep or hold back what is streamed."""

_KEEP_ALIVE: Final = b": alive\n\n"

_json = msgspec.json.Encoder()


def event(name: str, data: Any, *, number: int | None = None) -> bytes:
    """One event: its name, a record as JSON, and the number by which a reader goes on after it."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: ".encode() + _json.encode(data) + b"\n\n"


def response(events: AsyncIterator[bytes]) -> Stream:
    """An answer of such events."""
    return Stream(kept_alive(events), media_type=EVENT_STREAM, headers=HEADERS)


async def kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, with comments in between; an error becomes the last event, `error`."""
    try:
        async for data in _with_pauses(events):
            yield data if data is not None else _KEEP_ALIVE
    except RoundsmanError as error:
        yield event("error", ErrorAnswer(error=errors.sentence(error), code=error.code))


async def _with_pauses(parts: AsyncIterator[T]) -> AsyncIterator[T | None]:
    """The same, with none wherever nothing came for a while."""
    reading: asyncio.Task[T] | None = None
    try:
        while True:
            if reading is None:
                reading = asyncio.ensure_future(anext(parts))
            done, _ = await asyncio.wait({reading}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield None
                continue
            try:
                part = reading.result()
            except StopAsyncIteration:
                return
            finally:
                reading = None
            yield part
    finally:
        if reading is not None:
            reading.cancel()

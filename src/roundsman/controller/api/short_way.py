"""Calls that are answered before the framework sees them, because they come so often.

A framework's way to a handler costs more than all that these handlers do. What goes well is
answered here; everything else (a credential or a body that is refused, an unknown id, a body in
pieces) is left to the route table, which has the guards, the errors and the audit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Receive, Send

from roundsman.controller.api.bodies import BODY_SECONDS
from roundsman.controller.service import Controller

BODY_BYTES: Final = 1 << 12
"""Ids and names, with room for what clients add; a larger one takes the longer way."""

_json = msgspec.json.Encoder()


class Call(NamedTuple):
    """What is asked, whole."""

    headers: dict[str, str]
    """By their names in small letters; the first of each name counts, as in the framework."""
    address: str | None
    """Where it came from."""
    body: bytes


class Said(NamedTuple):
    """The answer."""

    content: Any
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


Handler: TypeAlias = Callable[[Controller, Call], Awaitable[Said | None]]
"""Answers a call; none: nothing was done, and the route table is to answer."""


async def answer(
    handler: Handler,
    controller: Controller,
    scope: HTTPScope,
    receive: Receive,
    send: Send,
    *,
    otherwise: ASGIApp,
) -> None:
    """Answer a call, or have it answered `otherwise`, where it is read anew."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = cast("HTTPReceiveMessage", await receive())
    except TimeoutError:
        await otherwise(scope, receive, send)
        return
    call = _whole(scope, message)
    said = None if call is None else await handler(controller, call)
    if said is None:
        await otherwise(scope, _again(message, receive), send)
        return
    body = _json.encode(said.content)
    await send(
        {
            "type": "http.response.start",
            "status": said.status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                *((name.lower().encode(), value.encode()) for name, value in said.headers.items()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _whole(scope: HTTPScope, message: HTTPReceiveMessage) -> Call | None:
    if message["type"] != "http.request" or message.get("more_body"):
        return None
    if len(message["body"]) > BODY_BYTES:
        return None
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    client = scope["client"]
    return Call(headers, None if client is None else client[0], message["body"])


def _again(message: HTTPReceiveMessage, receive: Receive) -> Receive:
    """The same body from its beginning."""
    begun = False

    async def again() -> HTTPReceiveMessage:
        nonlocal begun
        if not begun:
            begun = True
            return message
        return cast("HTTPReceiveMessage", await receive())

    return again

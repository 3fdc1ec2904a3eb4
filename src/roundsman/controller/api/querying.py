"""`POST /query`, which clients of the published contract send again and again until it says done.

A framework's way to a handler costs more than all that this handler does, so the call is answered
here when it goes well. Everything else (a credential or a body that is refused, an unknown id, a
body in pieces) is left to the route table, which has the guard, the errors and the audit.
"""

import asyncio
from typing import Final, TypeGuard, cast

import msgspec
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPScope,
    LifeSpanScope,
    Receive,
    Scope,
    Send,
)

from roundsman.controller.api.bodies import BODY_SECONDS, parse
from roundsman.controller.api.guards import READERS
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.wire.process import ProcessRequest, QueryAnswer

PATH: Final = "/query"
BODY_BYTES: Final = 1 << 12
"""Two ids, with room for what clients add; a larger one takes the longer way."""

_json = msgspec.json.Encoder()


def is_query(scope: Scope | LifeSpanScope) -> TypeGuard[HTTPScope]:
    """Whether a call is the one that is answered here."""
    if scope["type"] != ScopeType.HTTP:
        return False
    call = cast("HTTPScope", scope)
    return call["path"] == PATH and call["method"] == "POST"


async def answer(
    controller: Controller, scope: HTTPScope, receive: Receive, send: Send, otherwise: ASGIApp
) -> None:
    """Answer a query, or have it answered `otherwise`, where it is read anew."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = await receive()
    except TimeoutError:
        await otherwise(scope, receive, send)
        return
    said = await _said(controller, scope, cast("HTTPReceiveMessage", message))
    if said is None:
        await otherwise(scope, _again(cast("HTTPReceiveMessage", message), receive), send)
        return
    body = _json.encode(said)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _said(
    controller: Controller, scope: HTTPScope, message: HTTPReceiveMessage
) -> QueryAnswer | None:
    """What the query says, if the caller may ask and all is well."""
    if message["type"] != "http.request" or message.get("more_body"):
        return None
    body = message["body"]
    if len(body) > BODY_BYTES:
        return None
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:  # the first of each name counts, as in the framework
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    try:
        await READERS.admit(controller, headers)
        return await controller.fleet.query(parse(body, ProcessRequest))
    except RoundsmanError:
        return None


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

"""`POST /worker/complete`, the one call that comes a thousand times a second.

Its route, guard, errors and documentation are those of the route table. But a framework's way to a
handler costs more than all that this handler does, so the call is answered here when its path is
the plain one; the table has it for documentation, and for what a framework lets pass as the same.
"""

from collections.abc import Mapping
from typing import Final, TypeGuard, cast

import msgspec
from litestar.enums import ScopeType
from litestar.types import HTTPScope, LifeSpanScope, Receive, Scope, Send

from roundsman import logs
from roundsman.controller.access import Principal
from roundsman.controller.api import completion, errors
from roundsman.controller.api.guards import WORKERS
from roundsman.controller.intake import Kept
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.wire.process import ErrorAnswer

log = logs.get(__name__)

PATH: Final = "/worker/complete"

_json = msgspec.json.Encoder()


async def complete(
    controller: Controller, receive: Receive, headers: Mapping[str, str], principal: Principal
) -> Kept:
    """Read a completion, and return when it is kept. Raises what reading and keeping raise."""
    length = headers.get("content-length", "")
    async with controller.spool.receive() as content:
        received, file = await completion.receive(
            receive,
            content_type=headers.get("content-type", ""),
            content_length=int(length) if length.isdecimal() else None,
            content=content,
            limit=controller.configuration.controller.limits.result_bytes,
        )
        return await controller.intake.complete(received, file, principal)


def is_completion(scope: Scope | LifeSpanScope) -> TypeGuard[HTTPScope]:
    """Whether a call is the one that is answered here."""
    if scope["type"] != ScopeType.HTTP:
        return False
    call = cast("HTTPScope", scope)
    return call["path"] == PATH and call["method"] == "POST"


async def answer(controller: Controller, scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Answer a completion as the route table would."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:  # the first of each name counts, as in the framework
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    more: dict[str, str] = {}
    said: Kept | ErrorAnswer
    try:
        principal = await WORKERS.admit(controller, headers)
        said = await complete(controller, receive, headers, principal)
        status = 200
    except RoundsmanError as error:
        status, more = errors.explain(error)
        said = ErrorAnswer(error=errors.sentence(error), code=error.code)
    except Exception as error:  # the caller is answered, whatever it is
        log.error("http.fault", method="POST", path=PATH, exc_info=error)
        status, said = 500, errors.FAULT
    body = _json.encode(said)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                *((name.lower().encode(), value.encode()) for name, value in more.items()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})

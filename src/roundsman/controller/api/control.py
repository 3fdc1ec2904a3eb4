"""`/api/v1/workers/{worker_id}/control`: the WebSocket that each worker keeps open."""

import contextlib
from typing import Any, Final

from litestar import Router, WebSocket, websocket
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers.base import BaseRouteHandler

from roundsman.controller.access import ForbiddenError, Principal
from roundsman.controller.api.auditing import Audited
from roundsman.controller.api.guards import WORKERS
from roundsman.controller.api.parameters import WorkerId
from roundsman.controller.service import Controller
from roundsman.wire.audit import AuditAction


async def own_connection(
    connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
) -> None:
    """A guard behind `WORKERS`: a worker connects as itself alone, with its own token."""
    principal: Principal = connection.scope["user"]
    if principal.worker_id != connection.path_params["worker_id"]:
        raise ForbiddenError(
            f"{principal.name}: may not connect as another worker",
            remedy="a worker connects with the token that it was given at enrolment",
        )


class _Socket:
    """The framework's WebSocket, as the fleet sees it."""

    def __init__(self, socket: WebSocket[Principal, None, State]) -> None:
        self._socket = socket

    async def accept(self) -> None:
        await self._socket.accept()

    async def receive(self) -> str | None:
        try:
            return await self._socket.receive_data("text")
        except WebSocketDisconnect:
            return None

    async def send(self, text: str) -> None:
        # Either says that nobody hears it any more, which `receive` tells.
        with contextlib.suppress(WebSocketDisconnect, OSError):
            await self._socket.send_data(text)


@websocket(
    "/{worker_id:str}/control",
    guards=[WORKERS, own_connection],
    middleware=[Audited(AuditAction.CONNECT_WORKER, refusals_only=True)],
)
async def control(
    socket: WebSocket[Principal, None, State],
    worker_id: WorkerId,
    controller: NamedDependency[Controller],
) -> None:
    """Serve a worker until its connection ends, or a newer one takes its place."""
    address = socket.client.host if socket.client is not None else None
    await controller.fleet.serve_worker(worker_id, _Socket(socket), address=address)
    if socket.connection_state != "disconnect":
        await socket.close()


ROUTES: Final = Router("/api/v1/workers", route_handlers=[control])

"""Who may call a route: the guards that the route tables name."""

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard

from roundsman.config.records import Role
from roundsman.controller.access import Principal
from roundsman.controller.service import Controller

# A request behind a guard: `request.user` is the calling principal.
CallerRequest = Request[Principal, None, State]


def allow(*roles: Role) -> Guard:
    """A guard that lets callers with one of these roles in, and keeps who they are."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        controller: Controller = connection.app.state.controller
        controller.access.check_origin(connection.headers)
        principal = controller.access.authenticate(connection.headers.get("authorization"))
        principal.require(*roles)
        connection.scope["user"] = principal

    return guard


ADMINISTRATORS: Final = allow(Role.ADMINISTRATOR)
READERS: Final = allow(Role.READER, Role.ADMINISTRATOR)
WORKERS: Final = allow(Role.WORKER, Role.ADMINISTRATOR)

"""Who may call a route: the guards that the route tables name."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers.base import BaseRouteHandler

from roundsman.config.records import Role
from roundsman.controller.access import Principal
from roundsman.controller.service import Controller

# A request behind a guard: `request.user` is the calling principal.
CallerRequest = Request[Principal, None, State]


class Allow:
    """A guard that lets callers with one of these roles in, and keeps who they are."""

    def __init__(self, *roles: Role) -> None:
        """Let these in, and nobody else."""
        self.roles = roles

    async def __call__(
        self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler
    ) -> None:
        """Raises `UnauthenticatedError`, `ForbiddenError`."""
        controller: Controller = connection.app.state.controller
        principal = await _identify(controller, connection.headers)
        address = connection.client.host if connection.client is not None else None
        # Kept before it is asked what they may do: the audit names whom it refuses.
        connection.scope["user"] = msgspec.structs.replace(principal, address=address)
        principal.require(*self.roles)

    async def admit(self, controller: Controller, headers: Mapping[str, str]) -> Principal:
        """Who calls with these headers. Raises `UnauthenticatedError`, `ForbiddenError`."""
        principal = await _identify(controller, headers)
        principal.require(*self.roles)
        return principal


async def _identify(controller: Controller, headers: Mapping[str, str]) -> Principal:
    controller.access.check_origin(headers)
    return await controller.recognition.authenticate(headers.get("authorization"))


ADMINISTRATORS: Final = Allow(Role.ADMINISTRATOR)
READERS: Final = Allow(Role.READER, Role.ADMINISTRATOR)
WORKERS: Final = Allow(Role.WORKER, Role.ADMINISTRATOR)

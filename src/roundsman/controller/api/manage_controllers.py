"""`/api/v1/controllers`: who serves beside this one, and which of them leads."""

from typing import Final

from litestar import Router, get
from litestar.di import NamedDependency

from roundsman.controller.api.guards import READERS
from roundsman.controller.service import Controller
from roundsman.wire.controller import Controller as ControllerRecord
from roundsman.wire.page import Page


@get("/", summary="Every controller on this ledger")
async def list_controllers(controller: NamedDependency[Controller]) -> Page[ControllerRecord]:
    """By when they started, all of them; one that died is listed for an hour."""
    return await controller.membership.list()


ROUTES: Final = Router(
    "/controllers", guards=[READERS], tags=["controller"], route_handlers=[list_controllers]
)

"""`/api/v1/remotes`: where the archive is pushed to."""

from typing import Final

from litestar import Router, get
from litestar.di import NamedDependency

from roundsman.controller.api.guards import READERS
from roundsman.controller.service import Controller
from roundsman.wire.page import Page
from roundsman.wire.remote import RemoteState


@get("/", summary="How every remote of the archive stands")
async def list_remotes(controller: NamedDependency[Controller]) -> Page[RemoteState]:
    """In the order of the configuration, all of them."""
    return Page(items=await controller.results.remotes())


ROUTES: Final = Router(
    "/remotes", guards=[READERS], tags=["results"], route_handlers=[list_remotes]
)

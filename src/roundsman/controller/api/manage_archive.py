"""`/api/v1/archive`: how the repository of results stands."""

from typing import Final

from litestar import Router, get
from litestar.di import NamedDependency

from roundsman.controller.api.guards import READERS
from roundsman.controller.service import Controller
from roundsman.wire.archive import ArchiveState


@get("/", summary="How the archive stands")
async def get_archive(controller: NamedDependency[Controller]) -> ArchiveState:
    """Its size, its packs, what maintenance did last, and what was set aside as damaged."""
    return await controller.history.archive()


ROUTES: Final = Router("/archive", guards=[READERS], tags=["results"], route_handlers=[get_archive])

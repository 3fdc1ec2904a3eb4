"""`/api/v1`: what is Roundsman's own, one module of routes a subject."""

from typing import Final

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, ValidationException

from roundsman.controller.api import (
    manage_accounts,
    manage_archive,
    manage_audit,
    manage_controllers,
    manage_history,
    manage_inventory,
    manage_lfs,
    manage_operations,
    manage_processes,
    manage_remotes,
    manage_results,
    manage_workers,
    parameters,
)
from roundsman.controller.api.guards import READERS
from roundsman.controller.service import Controller
from roundsman.wire.manage import Overview


@get(
    "/",
    guards=[READERS],
    tags=["controller"],
    summary="The controller itself",
)
async def get_overview(controller: NamedDependency[Controller]) -> Overview:
    """Its release, its clock, and how much it looks after."""
    return await controller.inspection.overview()


ROUTES: Final = Router(
    "/api/v1",
    route_handlers=[
        get_overview,
        manage_controllers.ROUTES,
        manage_workers.ROUTES,
        manage_inventory.ROUTES,
        manage_results.ROUTES,
        manage_lfs.ROUTES,
        manage_remotes.ROUTES,
        manage_archive.ROUTES,
        manage_operations.ROUTES,
        manage_history.ROUTES,
        manage_processes.ROUTES,
        manage_audit.ROUTES,
        manage_accounts.ROUTES,
    ],
    before_request=parameters.check,
    exception_handlers={
        ValidationException: parameters.on_validation_error,
        ClientException: parameters.on_client_error,
        RecursionError: parameters.on_too_deep,
    },
)

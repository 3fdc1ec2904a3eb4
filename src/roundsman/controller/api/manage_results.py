"""`/api/v1/devices/{device}/jobs/{job}`: the results that are kept."""

from typing import Final

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from roundsman.controller.api.guards import READERS
from roundsman.controller.api.parameters import Device, Job, Limit
from roundsman.controller.service import Controller
from roundsman.wire.page import Page
from roundsman.wire.version import Version


@get(
    "/latest",
    summary="The latest result",
    responses={
        200: ResponseSpec(
            str,
            media_type="text/plain",
            description="The content; `application/octet-stream` where it is no text.",
            generate_examples=False,
        )
    },
)
async def get_latest_result(
    device: Device, job: Job, controller: NamedDependency[Controller]
) -> Stream:
    """Its content as it is: text in UTF-8, or bytes where it is something else."""
    result = await controller.history.latest(device, job)
    kind = "text/plain" if result.is_text else "application/octet-stream"
    return Stream(result.pieces, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})


@get("/versions", summary="The latest versions, newest first")
async def list_versions(
    device: Device, job: Job, controller: NamedDependency[Controller], limit: Limit = 100
) -> Page[Version]:
    """One for each time that the result changed. There is no further page: ask for more."""
    versions = await controller.history.versions(device, job, limit=limit)
    return Page(items=versions)


ROUTES: Final = Router(
    "/devices/{device:str}/jobs/{job:str}",
    guards=[READERS],
    tags=["results"],
    route_handlers=[get_latest_result, list_versions],
)

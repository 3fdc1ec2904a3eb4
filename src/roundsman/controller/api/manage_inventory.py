"""`/api/v1/devices` and `/api/v1/jobs`: what is configured, and how it stands. Never a secret."""

from typing import Annotated, Final

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from roundsman.controller.api.guards import READERS
from roundsman.controller.api.parameters import After, Device, Job, Limit
from roundsman.controller.service import Controller
from roundsman.wire.manage import DeviceDetail, DeviceSummary, JobDetail, JobSummary
from roundsman.wire.page import Page

Name = Annotated[
    str | None, QueryParameter(description="Only those whose name contains this; case is ignored.")
]
Held = Annotated[
    bool | None,
    QueryParameter(description="Only those that their breaker holds back; or, false, does not."),
]
Tag = Annotated[str | None, QueryParameter(description="Only those that have this tag.")]


@get("/devices", summary="Devices, by name")
async def list_devices(
    *,
    controller: NamedDependency[Controller],
    name: Name = None,
    tag: Tag = None,
    held: Held = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[DeviceSummary]:
    """What is configured, everything but secrets."""
    return await controller.inspection.devices(
        name=name, tag=tag, held=held, after=after, limit=limit
    )


@get("/devices/{device:str}", summary="One device")
async def get_device(device: Device, controller: NamedDependency[Controller]) -> DeviceDetail:
    """Everything but its secrets; with each of its jobs, when it is due and how it went last."""
    return await controller.inspection.device(device)


@get("/jobs", summary="Jobs, by name")
async def list_jobs(
    controller: NamedDependency[Controller],
    name: Name = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[JobSummary]:
    """What is configured, as it reads before any device overrides it."""
    return await controller.inspection.jobs(name=name, after=after, limit=limit)


@get("/jobs/{job:str}", summary="One job")
async def get_job(job: Job, controller: NamedDependency[Controller]) -> JobDetail:
    """With the next times at which its schedule is due."""
    return await controller.inspection.job(job)


ROUTES: Final = Router(
    "/",
    guards=[READERS],
    tags=["inventory"],
    route_handlers=[list_devices, get_device, list_jobs, get_job],
)

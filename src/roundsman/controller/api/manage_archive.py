"""`/api/v1/archive`: how the repository of results stands, and the results of the whole fleet."""

from typing import Annotated, Final

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from roundsman.controller.access import Principal
from roundsman.controller.api.guards import READERS
from roundsman.controller.api.parameters import LAST_INSTANT, After, Limit
from roundsman.controller.service import Controller
from roundsman.wire.archive import ArchiveState
from roundsman.wire.page import Page
from roundsman.wire.search import SearchPage
from roundsman.wire.version import FleetVersion

Devices = Annotated[
    str | None,
    QueryParameter(description="Only devices of this name; `*`, `?` and `[…]` as in a shell."),
]
Jobs = Annotated[
    str | None,
    QueryParameter(description="Only jobs of this name; `*`, `?` and `[…]` as in a shell."),
]
Tag = Annotated[str | None, QueryParameter(description="Only devices that have this tag now.")]
At = Annotated[
    float | None,
    QueryParameter(ge=0, le=LAST_INSTANT, description="An instant, Unix seconds; absent: now."),
]


@get("/", summary="How the archive stands")
async def get_archive(controller: NamedDependency[Controller]) -> ArchiveState:
    """Its size, its packs, what maintenance did last, and what was set aside as damaged."""
    return await controller.results.archive()


@get("/versions", summary="The version that each device and job had at some instant")
async def list_fleet_versions(
    *,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    at: At = None,
    device: Devices = None,
    job: Jobs = None,
    tag: Tag = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[FleetVersion]:
    """By device and job. Say `at` to have all pages speak of the same instant."""
    return await controller.results.as_of(
        at, within=principal.tags, device=device, job=job, tag=tag, after=after, limit=limit
    )


@get(
    "/snapshot",
    summary="The fleet at some instant, as a tar archive",
    responses={
        200: ResponseSpec(
            bytes,
            media_type="application/x-tar",
            description="Files `device/job`.",
            generate_examples=False,
        )
    },
)
async def get_snapshot(
    *,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    at: At = None,
    device: Devices = None,
    job: Jobs = None,
    tag: Tag = None,
) -> Stream:
    """Streamed, with contents that are kept beside the repository in place of their pointers."""
    pieces = await controller.results.snapshot(
        at, within=principal.tags, device=device, job=job, tag=tag
    )
    return Stream(pieces, media_type="application/x-tar")


@get("/search", summary="Contents in which something is found")
async def search(
    *,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    text: Annotated[str, QueryParameter(description="What to look for; up to 1,000 characters.")],
    regex: Annotated[bool, QueryParameter(description="It is a regular expression.")] = False,
    ignore_case: Annotated[
        bool, QueryParameter(description="Capitals are as good as small letters.")
    ] = False,
    context: Annotated[
        int, QueryParameter(ge=0, le=50, description="So many lines around each that matches.")
    ] = 0,
    history: Annotated[
        bool, QueryParameter(description="All versions, not the latest alone. Slow: no index.")
    ] = False,
    device: Devices = None,
    job: Jobs = None,
    tag: Tag = None,
    after: After = None,
    limit: Limit = 100,
) -> SearchPage:
    """Searches texts up to 4 MiB. A page ends after two seconds: go on while there is a `next`."""
    return await controller.results.search(
        text,
        within=principal.tags,
        is_pattern=regex,
        ignore_case=ignore_case,
        context=context,
        history=history,
        device=device,
        job=job,
        tag=tag,
        after=after,
        limit=limit,
    )


ROUTES: Final = Router(
    "/archive",
    guards=[READERS],
    tags=["results"],
    route_handlers=[get_archive, list_fleet_versions, get_snapshot, search],
)

"""`/api/v1/devices/{device}/jobs/{job}`: the results that are kept."""

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from roundsman.controller.access import Principal
from roundsman.controller.api.guards import READERS
from roundsman.controller.api.parameters import After, Device, Job, Limit
from roundsman.controller.results import Result
from roundsman.controller.service import Controller
from roundsman.wire.difference import WordDifference
from roundsman.wire.page import Page
from roundsman.wire.version import Origins, Version

VersionId = Annotated[str, PathParameter(description="A version: the full id of its commit.")]
From = Annotated[
    str | None,
    QueryParameter(
        name="from",
        description="The old version; absent: the one before, of those that were not withdrawn.",
    ),
]
To = Annotated[
    str | None, QueryParameter(name="to", description="The new version; absent: the latest.")
]
Context = Annotated[
    int, QueryParameter(ge=0, le=100_000, description="So many lines around each change.")
]
Lines = Annotated[
    int, QueryParameter(ge=1, le=10_000, description="At most so many lines, 1 to 10000.")
]
CONTENT: Final = ResponseSpec(
    str,
    media_type="text/plain",
    description="The content; `application/octet-stream` where it is no text.",
    generate_examples=False,
)


def stream(result: Result) -> Stream:
    """A content as it is: text in UTF-8, or bytes where it is something else."""
    kind = "text/plain" if result.is_text else "application/octet-stream"
    return Stream(result.pieces, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})


@get("/latest", summary="The latest result", responses={200: CONTENT})
async def get_latest_result(
    device: Device,
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> Stream:
    """Its content as it is: text in UTF-8, or bytes where it is something else."""
    return stream(await controller.results.content(device, job, None, within=principal.tags))


@get("/versions", summary="The versions, newest first")
async def list_versions(
    *,
    device: Device,
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    after: After = None,
    limit: Limit = 100,
) -> Page[Version]:
    """One for each time that the result changed."""
    return await controller.results.versions(
        device, job, within=principal.tags, after=after, limit=limit
    )


@get("/versions/{version:str}", summary="One version")
async def get_version(
    device: Device,
    job: Job,
    version: VersionId,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> Version:
    """When it came, by which run, and how large it is."""
    return await controller.results.version(device, job, version, within=principal.tags)


@get("/versions/{version:str}/content", summary="A version's content", responses={200: CONTENT})
async def get_version_content(
    device: Device,
    job: Job,
    version: VersionId,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> Stream:
    """As it is: text in UTF-8, or bytes where it is something else."""
    return stream(await controller.results.content(device, job, version, within=principal.tags))


@get(
    "/diff",
    summary="What changed, as a unified diff",
    responses={
        200: ResponseSpec(
            str,
            media_type="text/x-diff",
            description="The difference; empty when the contents are the same.",
            generate_examples=False,
        )
    },
)
async def get_diff(
    *,
    device: Device,
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    old: From = None,
    new: To = None,
    context: Context = 3,
) -> Response[bytes]:
    """How any version became any other. Contents of 8 MiB and more are not compared: 413."""
    difference = await controller.results.unified_diff(
        device, job, within=principal.tags, old=old, new=new, context=context
    )
    headers = {"X-Content-Type-Options": "nosniff"}
    return Response(difference, media_type="text/x-diff", headers=headers)


@get("/diff/words", summary="What changed, line by line and within lines")
async def get_word_diff(
    *,
    device: Device,
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    old: From = None,
    new: To = None,
    context: Context = 3,
) -> WordDifference:
    """The same difference for a page to show: of a very long one the first 10,000 lines."""
    return await controller.results.word_diff(
        device, job, within=principal.tags, old=old, new=new, context=context
    )


@get("/blame", summary="Since which version each line is there")
async def get_origins(
    *,
    device: Device,
    job: Job,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    version: Annotated[
        str | None, QueryParameter(description="Whose lines; absent: the latest version's.")
    ] = None,
    after: After = None,
    limit: Lines = 1000,
) -> Origins:
    """Looks back for three seconds; for what is older it says how far it came.

    The next page is of the version that `after` came with.
    """
    return await controller.results.origins(
        device, job, within=principal.tags, version=version, after=after, limit=limit
    )


ROUTES: Final = Router(
    "/devices/{device:str}/jobs/{job:str}",
    guards=[READERS],
    tags=["results"],
    route_handlers=[
        get_latest_result,
        list_versions,
        get_version,
        get_version_content,
        get_diff,
        get_word_diff,
        get_origins,
    ],
)

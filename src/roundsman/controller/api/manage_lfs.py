"""`/api/v1/lfs`: what stock git-lfs asks for the contents that pointers stand for; to be read only.

Set as a clone's `lfs.url`. The messages are those of git-lfs' batch API.
"""

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter
from litestar.response import Stream
from msgspec import Meta

from roundsman.controller.access import ForbiddenError
from roundsman.controller.api.guards import READERS
from roundsman.controller.results import LargeContentNotFoundError
from roundsman.controller.service import Controller

MEDIA_TYPE: Final = "application/vnd.git-lfs+json"
AT_ONCE: Final = 1000


class LfsObject(msgspec.Struct, frozen=True, kw_only=True):
    """A content that is asked for."""

    oid: str
    """Its SHA-256, hexadecimal."""
    size: int
    """Its bytes, by the pointer."""


class LfsBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What git-lfs wants."""

    operation: str
    """Only `download` is answered."""
    objects: Annotated[list[LfsObject], Meta(max_length=AT_ONCE)]
    """Which contents."""


class LfsLink(msgspec.Struct, frozen=True, kw_only=True):
    """Where a content is."""

    href: str
    """Its address, with the same credentials."""


class LfsError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a content is not to be had."""

    code: int
    """404: it is not here."""
    message: str
    """For people."""


class LfsAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of one content."""

    oid: str
    """As asked for."""
    size: int
    """Bytes."""
    actions: dict[str, LfsLink] | None = None
    """`download`, where it is here."""
    error: LfsError | None = None
    """Where it is not."""


class LfsBatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where the contents are."""

    transfer: str = "basic"
    """They are got with plain requests."""
    objects: list[LfsAnswer]
    """One for each that was asked for."""


@post(
    "/objects/batch",
    status_code=200,
    summary="Where contents are that pointers stand for",
)
async def find_large_contents(
    request: Request[Any, Any, Any],
    data: JSONBody[LfsBatch],
    controller: NamedDependency[Controller],
) -> Response[LfsBatchAnswer]:
    """For git-lfs; nothing can be uploaded."""
    if data.operation != "download":
        raise ForbiddenError(f"operation: expected download, got {data.operation[:50]!r}")
    answers = []
    for item in data.objects:
        try:
            found = await controller.results.large(item.oid)
        except LargeContentNotFoundError as error:
            missing = LfsError(code=404, message=error.text)
            answers.append(LfsAnswer(oid=item.oid, size=item.size, error=missing))
        else:
            link = LfsLink(href=f"{request.base_url}api/v1/lfs/objects/{item.oid}")
            answers.append(LfsAnswer(oid=item.oid, size=found.size, actions={"download": link}))
    return Response(LfsBatchAnswer(objects=answers), media_type=MEDIA_TYPE)


@get(
    "/objects/{digest:str}",
    summary="A content that a pointer stands for",
    responses={
        200: ResponseSpec(
            bytes,
            media_type="application/octet-stream",
            description="The content.",
            generate_examples=False,
        )
    },
)
async def get_large_content(
    digest: Annotated[str, PathParameter(description="SHA-256 of the content, hexadecimal.")],
    controller: NamedDependency[Controller],
) -> Stream:
    """By its SHA-256, as it is."""
    found = await controller.results.large(digest)
    return Stream(
        found.pieces,
        media_type="application/octet-stream",
        headers={"Content-Length": str(found.size), "X-Content-Type-Options": "nosniff"},
    )


ROUTES: Final = Router(
    "/lfs",
    guards=[READERS],
    tags=["results"],
    route_handlers=[find_large_contents, get_large_content],
)

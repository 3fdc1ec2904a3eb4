"""`/api/v1/processes/{process_id}/output`: what a process wrote, read live from its worker."""

from collections.abc import AsyncIterator
from contextlib import suppress
from enum import StrEnum
from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.exceptions import ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from roundsman.controller.api import events, parameters
from roundsman.controller.api.auditing import Audited
from roundsman.controller.api.guards import READERS, CallerRequest
from roundsman.controller.service import Controller
from roundsman.wire.audit import AuditAction
from roundsman.wire.process import OutputChunk

Chunks = AsyncIterator[tuple[OutputChunk, ...]]


class OutputFormat(StrEnum):
    """How output is written."""

    TEXT = "text"
    """The bytes of both streams as they are."""
    EVENTS = "events"
    """Server-sent events, one a chunk."""


@get(
    "/{process_id:str}/output",
    guards=[READERS],
    middleware=[Audited(AuditAction.READ_PROCESS, refusals_only=True)],
    operation_id="read_process_output",
    summary="What a process wrote",
    # Not `media_type`: of a stream, that would go before what the stream itself says.
    responses={
        200: ResponseSpec(
            str, media_type="text/plain", description="The output.", generate_examples=False
        )
    },
)
async def read_output(
    *,
    request: CallerRequest,
    process_id: Annotated[str, PathParameter(description="Id of a process, `job_id` to `/start`.")],
    controller: NamedDependency[Controller],
    after: Annotated[
        int, QueryParameter(ge=0, description="Only the chunks numbered above this.")
    ] = 0,
    follow: Annotated[
        bool, QueryParameter(description="Go on as it is written, until the process has ended.")
    ] = False,
    output_format: Annotated[
        OutputFormat | None,
        QueryParameter(
            name="format", description="Goes before `Accept`, for programs that cannot set it."
        ),
    ] = None,
) -> Stream:
    """Plain bytes of both streams in order; or, to `Accept: text/event-stream`, an event a chunk.

    An event's `id` is the chunk's number, its name the stream (`stdout`, `stderr`, or `roundsman`
    for a remark), its data the chunk as JSON with the bytes in base64. The last event is `end`,
    with the process, or `error`. A client that comes back with `Last-Event-ID` goes on after that
    chunk.
    """
    as_events = events.EVENT_STREAM in request.headers.get("accept", "")
    if output_format is not None:
        as_events = output_format is OutputFormat.EVENTS
    if as_events and (last := request.headers.get("last-event-id", "")).isdecimal():
        after = max(after, int(last))
    chunks = await controller.fleet.output(process_id, after=after, follow=follow)
    if not follow:
        chunks = await _begun(chunks)
    if as_events:
        return events.response(_as_events(chunks, controller, process_id))
    return Stream(_as_bytes(chunks), media_type="text/plain", headers=events.HEADERS)


async def _begun(chunks: Chunks) -> Chunks:
    """The same, with its first part read: what is wrong at once can still be said by the status."""
    first: tuple[OutputChunk, ...] = ()
    with suppress(StopAsyncIteration):
        first = await anext(chunks)

    async def again() -> Chunks:
        yield first
        async for more in chunks:
            yield more

    return again()


async def _as_bytes(chunks: Chunks) -> AsyncIterator[bytes]:
    async for batch in chunks:
        yield b"".join(chunk.data for chunk in batch)


async def _as_events(
    chunks: Chunks, controller: Controller, process_id: str
) -> AsyncIterator[bytes]:
    async for batch in chunks:
        yield b"".join(events.event(chunk.stream, chunk, number=chunk.number) for chunk in batch)
    yield events.event("end", await controller.fleet.find(process_id))


ROUTES = Router(
    "/api/v1/processes",
    route_handlers=[read_output],
    tags=["processes"],
    before_request=parameters.check,
    exception_handlers={ValidationException: parameters.on_validation_error},
)

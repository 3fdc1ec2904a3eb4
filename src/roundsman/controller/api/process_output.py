"""`/api/v1/processes/{process_id}/output`: what a process wrote, read live from its worker."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.exceptions import ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from roundsman.controller.api import events, parameters
from roundsman.controller.api.auditing import Audited
from roundsman.controller.api.guards import READERS, CallerRequest
from roundsman.controller.fleet_link import WorkerNotConnectedError
from roundsman.controller.peers import PeerAnswer
from roundsman.controller.service import Controller
from roundsman.wire.audit import AuditAction
from roundsman.wire.process import OutputChunk

PEERS_PATH: Final = "/api/v1/peers/processes"
"""Where other controllers ask for the output of processes on workers that are connected here."""

Chunks = AsyncIterator[tuple[OutputChunk, ...]]


class OutputFormat(StrEnum):
    """How output is written."""

    TEXT = "text"
    """The bytes of both streams as they are."""
    EVENTS = "events"
    """Server-sent events, one a chunk."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of which output is asked for, and in which form."""

    process_id: str
    after: int
    follow: bool
    as_events: bool

    @property
    def target(self) -> str:
        """Path and query by which another controller is asked for the same."""
        query = urlencode(
            {"after": self.after, "follow": int(self.follow), "events": int(self.as_events)}
        )
        return f"{PEERS_PATH}/{quote(self.process_id, safe='')}/output?{query}"


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
) -> Stream | Response[bytes]:
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
    wanted = Wanted(process_id, after=after, follow=follow, as_events=as_events)
    try:
        return await own_output(controller, wanted)
    except WorkerNotConnectedError:
        elsewhere = await controller.fleet.elsewhere(process_id)
        if elsewhere is None:
            raise
    return await _from_peer(await controller.peers.get(elsewhere, wanted.target), wanted)


async def own_output(controller: Controller, wanted: Wanted) -> Stream:
    """The output of a process whose worker is connected here.

    Raises `JobUnknownError`, `WorkerNotConnectedError`, `OutputNotFoundError`.
    """
    chunks = await controller.fleet.output(
        wanted.process_id, after=wanted.after, follow=wanted.follow
    )
    if not wanted.follow:
        chunks = await _begun(chunks)
    if wanted.as_events:
        return events.response(_as_events(chunks, controller, wanted.process_id))
    return Stream(_as_bytes(chunks), media_type="text/plain", headers=events.HEADERS)


async def _from_peer(answer: PeerAnswer, wanted: Wanted) -> Stream | Response[bytes]:
    """What the controller answers that has the worker, passed on as it comes."""
    if answer.status != 200:
        return Response(
            await answer.whole(), status_code=answer.status, media_type=answer.media_type
        )
    if wanted.as_events:
        return events.response(answer.parts())
    return Stream(answer.parts(), media_type="text/plain", headers=events.HEADERS)


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

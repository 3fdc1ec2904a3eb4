"""`/api/v1/processes/{process_id}/output`: what a process wrote, read live from its worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Final

import msgspec
from litestar import Router, get
from litestar.di import NamedDependency
from litestar.exceptions import ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from roundsman.controller.api import errors, parameters
from roundsman.controller.api.auditing import Audited
from roundsman.controller.api.guards import READERS, CallerRequest
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.wire.audit import AuditAction
from roundsman.wire.process import ErrorAnswer, OutputChunk

Chunks = AsyncIterator[tuple[OutputChunk, ...]]

EVENT_STREAM: Final = "text/event-stream"
KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment this often while nothing is written, so that no proxy takes the silence for an end."""

_END: Final = b"event: end\ndata: {}\n\n"
_KEEP_ALIVE: Final = b": alive\n\n"


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
    request: CallerRequest,
    process_id: Annotated[str, PathParameter(description="Id of a process, `job_id` to `/start`.")],
    controller: NamedDependency[Controller],
    after: Annotated[
        int, QueryParameter(ge=0, description="Only the chunks numbered above this.")
    ] = 0,
    follow: Annotated[
        bool, QueryParameter(description="Go on as it is written, until the process has ended.")
    ] = False,
) -> Stream:
    """Plain bytes of both streams in order; or, to `Accept: text/event-stream`, an event a chunk.

    An event's `id` is the chunk's number, its name the stream (`stdout`, `stderr`, or `roundsman`
    for a remark), its data the chunk as JSON with the bytes in base64. The last event is `end`, or
    `error`. A client that comes back with `Last-Event-ID` goes on after that chunk.
    """
    events = EVENT_STREAM in request.headers.get("accept", "")
    if events and (last := request.headers.get("last-event-id", "")).isdecimal():
        after = max(after, int(last))
    chunks = await controller.fleet.output(process_id, after=after, follow=follow)
    if not follow:
        chunks = await _begun(chunks)
    return Stream(
        _as_events(chunks) if events else _as_bytes(chunks),
        media_type=EVENT_STREAM if events else "text/plain",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


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


async def _as_events(chunks: Chunks) -> AsyncIterator[bytes]:
    try:
        async for batch in _with_pauses(chunks):
            yield b"".join(map(_event, batch)) if batch is not None else _KEEP_ALIVE
    except RoundsmanError as error:
        answer = ErrorAnswer(error=errors.sentence(error), code=error.code)
        yield b"event: error\ndata: " + msgspec.json.encode(answer) + b"\n\n"
    else:
        yield _END


def _event(chunk: OutputChunk) -> bytes:
    head = f"id: {chunk.number}\nevent: {chunk.stream}\ndata: ".encode()
    return head + msgspec.json.encode(chunk) + b"\n\n"


async def _with_pauses(
    chunks: Chunks,
) -> AsyncIterator[tuple[OutputChunk, ...] | None]:
    """The same, with none wherever nothing came for a while."""
    reading: asyncio.Task[tuple[OutputChunk, ...]] | None = None
    try:
        while True:
            if reading is None:
                reading = asyncio.ensure_future(anext(chunks))
            done, _ = await asyncio.wait({reading}, timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield None
                continue
            try:
                batch = reading.result()
            except StopAsyncIteration:
                return
            finally:
                reading = None
            yield batch
    finally:
        if reading is not None:
            reading.cancel()


ROUTES: Final = Router(
    "/api/v1/processes",
    route_handlers=[read_output],
    tags=["processes"],
    before_request=parameters.check,
    exception_handlers={ValidationException: parameters.on_validation_error},
)

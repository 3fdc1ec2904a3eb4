"""The surface for commands on one worker or many: begin, follow, read, stop."""

from collections.abc import AsyncIterator
from typing import Final, NamedTuple
from urllib.parse import quote

import aiohttp

from roundsman.client.errors import ControllerError, UnexpectedAnswerError, UnreachableError
from roundsman.client.retry import CallKind
from roundsman.client.transport import Query, Transport, decode
from roundsman.wire import codec
from roundsman.wire.batch import BatchAnswer, BatchReport, BatchRequest, StopRequest
from roundsman.wire.process import ErrorAnswer, OutputChunk, Process

EVENT_BYTES: Final = 64 << 20
"""Largest event taken: the report of 10,000 workers is a few megabytes."""

_begun = codec.decoder(BatchAnswer)
_report = codec.decoder(BatchReport)
_process = codec.decoder(Process)
_chunk = codec.decoder(OutputChunk)
_error = codec.decoder(ErrorAnswer)


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: bytes


class ProcessApi:
    """What `roundsman exec` calls."""

    def __init__(self, transport: Transport) -> None:
        """Call over this transport."""
        self._transport = transport

    async def start(self, request: BatchRequest) -> BatchAnswer:
        """Start a command on workers. With an idempotency key, repeated where that is safe."""
        safe = request.idempotency_key is not None
        answer = await self._transport.call(
            "POST",
            "/api/v1/processes",
            kind=CallKind.REPEATABLE if safe else CallKind.ONCE,
            body=codec.encode(request),
        )
        return decode(_begun, answer)

    async def report(self, batch_id: str) -> BatchReport:
        """How a batch stands on each worker."""
        answer = await self._transport.call(
            "GET", f"/api/v1/batches/{quote(batch_id, safe='')}", kind=CallKind.READ
        )
        return decode(_report, answer)

    async def stop(self, batch_id: str, *, grace_seconds: float | None = None) -> BatchReport:
        """End a batch on all its workers."""
        answer = await self._transport.call(
            "POST",
            f"/api/v1/batches/{quote(batch_id, safe='')}/stop",
            kind=CallKind.REPEATABLE,
            body=codec.encode(StopRequest(grace_seconds=grace_seconds)),
            seconds=60.0 + (grace_seconds or 0.0),
        )
        return decode(_report, answer)

    async def follow(self, batch_id: str) -> AsyncIterator[Process | BatchReport]:
        """Each process as it is, and whenever it changes; at the end, the report.

        Raises `UnreachableError` when it breaks off: whoever asks again is told all anew.
        """
        path = f"/api/v1/batches/{quote(batch_id, safe='')}/events"
        async for event in self._events(path):
            if event.name == "end":
                yield decode(_report, event.data)
                return
            yield decode(_process, event.data)
        raise UnreachableError("the events of the batch broke off")

    async def output(self, process_id: str, *, after: int = 0) -> AsyncIterator[OutputChunk]:
        """What a process writes after that chunk, as it comes, until it has ended.

        Raises `UnreachableError` when it breaks off: go on after the last chunk.
        """
        path = f"/api/v1/processes/{quote(process_id, safe='')}/output"
        query = [("follow", "true"), ("format", "events"), ("after", str(after))]
        async for event in self._events(path, query):
            if event.name == "end":
                return
            yield decode(_chunk, event.data)
        raise UnreachableError("the output broke off")

    async def _events(self, path: str, query: Query = ()) -> AsyncIterator[Event]:
        async with self._transport.stream(path, query=query) as body:
            async for event in _parsed(body):
                if event.name == "error":
                    said = decode(_error, event.data)
                    raise ControllerError(said.error, answer_code=said.code, ours=True)
                yield event


async def _parsed(body: aiohttp.StreamReader) -> AsyncIterator[Event]:
    pending = bytearray()
    async for data in body.iter_any():
        pending += data
        *whole, rest = pending.split(b"\n\n")
        for block in whole:
            if (event := _event(bytes(block))) is not None:
                yield event
        pending = bytearray(rest)
        if len(pending) > EVENT_BYTES:
            raise UnexpectedAnswerError(f"an event is larger than {EVENT_BYTES} bytes")


def _event(block: bytes) -> Event | None:
    r"""The event that a block of lines is; none for a comment.

    >>> _event(b"id: 1\nevent: stdout\ndata: {}"), _event(b": alive")
    (Event(name='stdout', data=b'{}'), None)
    """
    fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
    if b"event" not in fields or b"data" not in fields:
        return None
    return Event(fields[b"event"].decode(), fields[b"data"])

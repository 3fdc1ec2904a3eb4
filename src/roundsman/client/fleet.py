"""The surface for commands on demand: start, stop, query."""

from roundsman.client.retry import CallKind
from roundsman.client.transport import Transport, decode
from roundsman.wire import codec
from roundsman.wire.process import (
    ProcessRequest,
    QueryAnswer,
    StartAnswer,
    StartRequest,
    StopAnswer,
)

_started = codec.decoder(StartAnswer)
_stopped = codec.decoder(StopAnswer)
_queried = codec.decoder(QueryAnswer)


class FleetApi:
    """What a client of the published contract calls. The documented errors are `FaultError`s."""

    def __init__(self, transport: Transport) -> None:
        """Call over this transport."""
        self._transport = transport

    async def start(self, *, worker_id: str, command: str, path: str) -> str:
        """Start `command path` on a worker; its id."""
        request = StartRequest(worker_id=worker_id, command=command, path=path)
        answer = await self._transport.call(
            "POST", "/start", kind=CallKind.ONCE, body=codec.encode(request)
        )
        return decode(_started, answer).job_id

    async def stop(self, *, worker_id: str, job_id: str) -> None:
        """End a process with its whole group; returns when it is gone."""
        request = ProcessRequest(worker_id=worker_id, job_id=job_id)
        answer = await self._transport.call(
            "POST", "/stop", kind=CallKind.REPEATABLE, body=codec.encode(request)
        )
        decode(_stopped, answer)

    async def query(self, *, worker_id: str, job_id: str) -> QueryAnswer:
        """Whether a process has ended, and how."""
        request = ProcessRequest(worker_id=worker_id, job_id=job_id)
        answer = await self._transport.call(
            "POST", "/query", kind=CallKind.READ, body=codec.encode(request)
        )
        return decode(_queried, answer)

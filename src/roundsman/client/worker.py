"""The surface for workers: leases, results, enrolment, heartbeat."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from roundsman.client.retry import CallKind
from roundsman.client.transport import Transport, decode
from roundsman.wire import codec
from roundsman.wire.run import FailureClass, SecretFinding
from roundsman.wire.worker import EnrolAnswer, EnrolRequest, HeartbeatAnswer, HeartbeatRequest

EXECUTIONS_BYTES: Final = 64 << 20
"""1,000 executions, the controller's ceiling, of 64 KiB each: keys, commands and scrubbers."""
SLOWEST_UPLOAD: Final = 64 << 10
"""Bytes a second; an upload slower than this is given up, and tried again."""
KEPT_WITHIN_SECONDS: Final = 120.0
"""The archive commits in seconds; a busy one in tens of them."""
ASK_FIRST_BYTES: Final = 1 << 20
"""From this size on the controller is asked before the body is sent: a refusal must not cost the
transfer, and one that comes in the middle of a body may be lost with the connection."""

_executions = msgspec.json.Decoder(list[msgspec.Raw])
_enrolled = codec.decoder(EnrolAnswer)
_heartbeat = codec.decoder(HeartbeatAnswer)


class Completion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an execution ended; the fields of `POST /worker/complete` beside the file."""

    device: str
    """Name of the device."""
    job: str
    """Name of the job; also the file part's filename."""
    job_timestamp: int
    """When it was due, Unix seconds."""
    start_timestamp: int
    """When the run began, Unix seconds."""
    end_timestamp: int
    """When the run ended, Unix seconds."""
    epoch: int | None = None
    """Epoch of the lease; none when a foreign controller handed it out."""
    failure: str | None = None
    """Why it failed, for people; none when it succeeded."""
    failure_class: FailureClass | None = None
    """Why it failed, for programs."""
    detected_secrets: tuple[SecretFinding, ...] = ()
    """What looks like a secret in the result."""
    recording: str | None = None
    """A failed session as a recorded dialogue: the file, compressed by gzip, in base64."""


class WorkerApi:
    """What a worker calls."""

    def __init__(self, transport: Transport) -> None:
        """Call over this transport."""
        self._transport = transport

    async def ping(self) -> None:
        """Return when the controller answers."""
        await self._transport.call("GET", "/worker/ping", kind=CallKind.READ)

    async def next(
        self, *, limit: int, seconds: int, tags: Sequence[str] = ()
    ) -> list[msgspec.Raw]:
        """Lease up to `limit` executions due within `seconds`; each still undecoded.

        Undecoded, since one that cannot be understood must not cost the others: their leases are
        held from now on.
        """
        query = [("max", str(limit)), ("seconds", str(seconds)), *(("tag", tag) for tag in tags)]
        answer = await self._transport.call(
            "GET",
            "/worker/next",
            kind=CallKind.LOOPED,
            query=query,
            answer_bytes=EXECUTIONS_BYTES,
        )
        return decode(_executions, answer) if answer else []

    async def complete(self, completion: Completion, file: Path | None, *, size: int = 0) -> None:
        """Hand over a result, streamed from `file` (none: a failure without evidence).

        Returns when the controller keeps it. Repeating is harmless; the caller does so. Raises
        also `OSError` when the file cannot be read.
        """
        with ExitStack() as opened:
            form = _form(completion)
            if file is not None:
                form.add_field(
                    "file",
                    opened.enter_context(file.open("rb")),
                    filename=completion.job,
                    content_type="application/octet-stream",
                )
            await self._transport.call(
                "POST",
                "/worker/complete",
                kind=CallKind.LOOPED,
                form=form,
                expect_continue=size >= ASK_FIRST_BYTES,
                seconds=KEPT_WITHIN_SECONDS + size / SLOWEST_UPLOAD,
            )

    async def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        """Become a worker of this controller; the bearer is the one for enrolment.

        Each call that takes effect makes a worker.
        """
        answer = await self._transport.call(
            "POST",
            "/api/v1/workers",
            kind=CallKind.ONCE,
            body=codec.encode(request),
        )
        return decode(_enrolled, answer)

    async def heartbeat(self, worker_id: str, request: HeartbeatRequest) -> HeartbeatAnswer:
        """Be alive, and renew leases."""
        answer = await self._transport.call(
            "POST",
            f"/api/v1/workers/{worker_id}/heartbeat",
            kind=CallKind.LOOPED,
            body=codec.encode(request),
        )
        return decode(_heartbeat, answer)


def _form(completion: Completion) -> aiohttp.FormData:
    """The parts beside the file, in the order in which clients of the original send them."""
    form = aiohttp.FormData(default_to_multipart=True)
    for name in (
        "job",
        "device",
        "job_timestamp",
        "start_timestamp",
        "end_timestamp",
        "epoch",
        "failure_class",
        "failure",
        "recording",
    ):
        value = getattr(completion, name)
        if value is not None:
            form.add_field(name, str(value))
    if completion.detected_secrets:
        form.add_field("detected_secrets", codec.encode(completion.detected_secrets).decode())
    return form

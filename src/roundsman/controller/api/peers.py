"""`/api/v1/peers`: what controllers ask of each other, from what is here, not passed on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, BinaryIO, Final

import msgspec
from litestar import Router, get
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers.base import BaseRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from roundsman.controller.access import ForbiddenError
from roundsman.controller.api import process_output
from roundsman.controller.api.auditing import Audited
from roundsman.controller.history import TranscriptNotFoundError
from roundsman.controller.peers import SCHEME
from roundsman.controller.service import Controller
from roundsman.controller.shared_evidence import PEERS_PATH
from roundsman.wire.audit import AuditAction

PIECE_BYTES: Final = 256 << 10


async def peers_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard that lets in other controllers of the same ledger, by their signature alone."""
    controller: Controller = connection.app.state.controller
    target = f"{connection.scope['path']}?{connection.scope['query_string'].decode('latin-1')}"
    shown = connection.headers.get("authorization")
    if shown is None or not shown.startswith(SCHEME):
        principal = controller.access.authenticate(shown)
        raise ForbiddenError(f"{principal.name}: only other controllers may ask this")
    principal = await controller.peers.identify(shown, "GET", target)
    address = connection.client.host if connection.client is not None else None
    connection.scope["user"] = msgspec.structs.replace(principal, address=address)


@get(
    "/{process_id:str}/output",
    guards=[peers_only],
    middleware=[Audited(AuditAction.READ_PROCESS, refusals_only=True)],
)
async def read_output_here(
    *,
    process_id: FromPath[str],
    controller: NamedDependency[Controller],
    after: FromQuery[int],
    follow: FromQuery[bool],
    events: FromQuery[bool],
) -> Stream:
    """The output of a process whose worker is connected to this very controller."""
    wanted = process_output.Wanted(process_id, after=after, follow=follow, as_events=events)
    return await process_output.own_output(controller, wanted)


@get("/{run_id:str}/evidence", guards=[peers_only])
async def read_evidence_here(
    *,
    run_id: FromPath[str],
    controller: NamedDependency[Controller],
    recording: FromQuery[bool],
) -> Stream:
    """What a run left behind, or the recording of its session, if this very controller has it."""
    run = await controller.history.run(run_id)
    kept = controller.evidence
    path = kept.recording_path(run.run_id) if recording else kept.path(run.run_id)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise TranscriptNotFoundError(f"what run {run_id} left behind is not here") from None
    return Stream(_pieces(file), media_type="application/octet-stream")


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


ROUTES: Final = Router(
    "/",
    route_handlers=[
        Router(process_output.PEERS_PATH, route_handlers=[read_output_here]),
        Router(PEERS_PATH, route_handlers=[read_evidence_here]),
    ],
    include_in_schema=False,
)

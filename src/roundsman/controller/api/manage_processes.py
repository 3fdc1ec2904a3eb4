"""`/api/v1/processes` and `/api/v1/batches`: commands on one worker or many, and their end."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter, RequestBody
from litestar.response import Stream

from roundsman.controller.access import Principal
from roundsman.controller.api import events
from roundsman.controller.api.auditing import Audited, about
from roundsman.controller.api.guards import ADMINISTRATORS, READERS, CallerRequest
from roundsman.controller.api.parameters import After, Limit
from roundsman.controller.audit import asked
from roundsman.controller.service import Controller
from roundsman.wire.audit import AuditAction, AuditOutcome
from roundsman.wire.batch import (
    Batch,
    BatchAnswer,
    BatchReport,
    BatchRequest,
    BatchState,
    StopReport,
    StopRequest,
)
from roundsman.wire.page import Page
from roundsman.wire.process import ErrorAnswer

ProcessId = Annotated[str, PathParameter(description="Id of a process.")]
BatchId = Annotated[str, PathParameter(description="Id of a batch.")]

_AS_THEY_ARE: Final = StopRequest()


@post(
    "/processes",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.START_BATCH)],
    summary="Start a command on a worker, several, or those of an expression",
    status_code=202,
    responses={
        409: ResponseSpec(
            ErrorAnswer,
            description="The idempotency key stands for another request.",
            generate_examples=False,
        )
    },
)
async def start_processes(
    request: CallerRequest,
    data: RequestBody[BatchRequest],
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> BatchAnswer:
    """202 once it is written down: whatever happens to the controller, it is carried out.

    One process for each worker, `width` at once, in the order of `workers`, or by name. A worker
    that is away does not hold up the others. `GET /api/v1/batches/{batch_id}` says what became of
    each, and whether it succeeded everywhere.
    """
    path = () if data.path is None else (data.path,)
    about(
        request.scope,
        asked=asked(
            data.command,
            (*path, *data.arguments),
            (*data.environment, *data.secret_environment),
            data.standard_input,
        ),
    )
    answer = await controller.batches.add(data, by=principal)
    about(request.scope, batch_id=answer.batch_id)
    return answer


@post(
    "/processes/{process_id:str}/stop",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.STOP_PROCESS)],
    summary="End a process with all that it started",
    operation_id="stop_one_process",
    status_code=200,
)
async def stop_process(
    request: CallerRequest,
    process_id: ProcessId,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    data: RequestBody[StopRequest] = _AS_THEY_ARE,
) -> StopReport:
    """Answers when it is over, with what was proven, and who is left. Repeating it is harmless."""
    report = await controller.fleet.stop_process(
        process_id, grace_seconds=data.grace_seconds, by=principal
    )
    about(request.scope, worker_id=report.process.worker_id)
    if not report.gone:
        about(request.scope, outcome=AuditOutcome.FAILED)
    return report


@get("/batches", guards=[READERS], summary="Batches, newest first")
async def list_batches(
    controller: NamedDependency[Controller],
    batch_state: Annotated[
        BatchState | None, QueryParameter(name="state", description="Only those that stand so now.")
    ] = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[Batch]:
    """Commands that were started by `POST /api/v1/processes`."""
    return await controller.batches.page(state=batch_state, after=after, limit=limit)


@get("/batches/{batch_id:str}", guards=[READERS], summary="One batch, with a result a worker")
async def get_batch(batch_id: BatchId, controller: NamedDependency[Controller]) -> BatchReport:
    """Where it stands on each worker, and whether it succeeded everywhere."""
    return await controller.batches.report(batch_id)


@get(
    "/batches/{batch_id:str}/events",
    guards=[READERS],
    summary="Follow a batch",
    responses={
        200: ResponseSpec(
            str,
            media_type=events.EVENT_STREAM,
            description="Server-sent events.",
            generate_examples=False,
        )
    },
)
async def follow_batch(batch_id: BatchId, controller: NamedDependency[Controller]) -> Stream:
    """An event `process` for each process as it is, and again whenever it changes.

    The last event is `end`, with the batch and all results, or `error`. Whoever comes back is told
    all anew.
    """
    await controller.batches.report(batch_id)  # an unknown one can still be said by the status
    return events.response(_followed(controller, batch_id))


async def _followed(controller: Controller, batch_id: str) -> AsyncIterator[bytes]:
    async for said in controller.batches.follow(batch_id):
        yield events.event("end" if isinstance(said, BatchReport) else "process", said)


@post(
    "/batches/{batch_id:str}/stop",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.STOP_BATCH)],
    summary="End a batch on all its workers",
    status_code=200,
)
async def stop_batch(
    batch_id: BatchId,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
    data: RequestBody[StopRequest] = _AS_THEY_ARE,
) -> BatchReport:
    """No further worker is given it. Answers when each worker that is there has ended it.

    On workers that are away it is ended when they are back.
    """
    return await controller.batches.stop(batch_id, grace_seconds=data.grace_seconds, by=principal)


ROUTES: Final = Router(
    "/",
    tags=["processes"],
    route_handlers=[
        start_processes,
        stop_process,
        list_batches,
        get_batch,
        follow_batch,
        stop_batch,
    ],
)

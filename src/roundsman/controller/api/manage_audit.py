"""`/api/v1/audit`: who did what, in pages or as JSON lines."""

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from roundsman.controller.api.guards import ADMINISTRATORS, CallerRequest
from roundsman.controller.api.parameters import After, Limit, Since, Until
from roundsman.controller.service import Controller
from roundsman.wire.audit import AuditAction, AuditArea, AuditEntry, AuditQuery
from roundsman.wire.page import Page

JSON_LINES: Final = "application/jsonl"

Answer = Response[Page[AuditEntry]] | Stream

Action = Annotated[AuditAction | None, QueryParameter(description="Only attempts at this.")]
By = Annotated[str | None, QueryParameter(description="Only those of the credential of this name.")]
OfWorker = Annotated[str | None, QueryParameter(description="Only those about this worker.")]
OfProcess = Annotated[str | None, QueryParameter(description="Only those about this process.")]
OfBatch = Annotated[str | None, QueryParameter(description="Only those about this batch.")]

_RESPONSES: Final = {
    200: ResponseSpec(
        Page[AuditEntry],
        description="A page; or, to `Accept: application/jsonl`, a line each.",
        generate_examples=False,
    )
}


@get(
    "/",
    guards=[ADMINISTRATORS],
    summary="Who did what, newest first",
    responses=_RESPONSES,
)
async def list_audit(
    *,
    request: CallerRequest,
    controller: NamedDependency[Controller],
    action: Action = None,
    by: By = None,
    worker_id: OfWorker = None,
    process_id: OfProcess = None,
    batch_id: OfBatch = None,
    since: Since = None,
    until: Until = None,
    after: After = None,
    limit: Limit = 100,
) -> Answer:
    """Every attempt to change something, refused ones included. No line is changed or removed.

    To `Accept: application/jsonl` everything that fits the filters is streamed, oldest first, a
    JSON object a line; `after` and `limit` do not apply. To go on later, pass the last line's `at`
    as `since`: lines of that instant come again, with the same `number`.
    """
    query = AuditQuery(
        action=action,
        by=by,
        worker_id=worker_id,
        process_id=process_id,
        batch_id=batch_id,
        since=since,
        until=until,
        after=after,
        limit=limit,
    )
    return await _answer(request, controller, query)


@get(
    "/processes",
    guards=[ADMINISTRATORS],
    summary="Who started and stopped what, newest first",
    responses=_RESPONSES,
)
async def list_process_audit(
    *,
    request: CallerRequest,
    controller: NamedDependency[Controller],
    action: Action = None,
    by: By = None,
    worker_id: OfWorker = None,
    process_id: OfProcess = None,
    batch_id: OfBatch = None,
    since: Since = None,
    until: Until = None,
    after: After = None,
    limit: Limit = 100,
) -> Answer:
    """The same, of commands on workers alone."""
    query = AuditQuery(
        area=AuditArea.PROCESSES,
        action=action,
        by=by,
        worker_id=worker_id,
        process_id=process_id,
        batch_id=batch_id,
        since=since,
        until=until,
        after=after,
        limit=limit,
    )
    return await _answer(request, controller, query)


async def _answer(request: CallerRequest, controller: Controller, query: AuditQuery) -> Answer:
    if JSON_LINES in request.headers.get("accept", ""):
        return Stream(
            controller.audit.lines(query),
            media_type=JSON_LINES,
            headers={"Cache-Control": "no-store"},
        )
    return Response(await controller.audit.page(query))


ROUTES: Final = Router("/audit", route_handlers=[list_audit, list_process_audit], tags=["audit"])

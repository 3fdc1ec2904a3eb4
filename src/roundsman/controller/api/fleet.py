"""The fleet API: `/start`, `/stop`, `/query`.

Its paths, fields, codes and texts are a published contract. Its clients send JSON with any or no
content type and may add fields; every error body is `{"error": "…"}` and nothing else.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec
from litestar import Request, Response, Router, post, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod, MediaType
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from roundsman.controller.access import Principal
from roundsman.controller.api import bodies, docstrings, errors
from roundsman.controller.api.auditing import Audited, about, is_written
from roundsman.controller.api.guards import ADMINISTRATORS, READERS, CallerRequest
from roundsman.controller.audit import asked
from roundsman.controller.fleet import FLEET_ERRORS
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError
from roundsman.wire.audit import AuditAction
from roundsman.wire.process import (
    ErrorAnswer,
    ProcessRequest,
    QueryAnswer,
    StartAnswer,
    StartRequest,
    StopAnswer,
)

BODY_BYTES: Final = 1 << 16
"""Two ids and the longest path that a system takes, with room for what clients add."""


@dataclass
class ParsedByHand(Operation):
    """Documents a body of texts, which is read to the contract's letter."""

    record: ClassVar[type[msgspec.Struct]]

    def __post_init__(self) -> None:
        """Add the body."""
        fields = docstrings.meaning(self.record).parts
        schema = Schema(
            type=OpenAPIType.OBJECT,
            required=list(fields),
            properties={
                name: Schema(type=OpenAPIType.STRING, description=text)
                for name, text in fields.items()
            },
        )
        self.request_body = RequestBody(
            content={"application/json": OpenAPIMediaType(schema=schema)}, required=True
        )


class StartOperation(ParsedByHand):
    """Documents `StartRequest`."""

    record = StartRequest


class ProcessOperation(ParsedByHand):
    """Documents `ProcessRequest`."""

    record = ProcessRequest


@post(
    "/start",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.START_PROCESS)],
    operation_class=StartOperation,
    responses={
        500: ResponseSpec(
            ErrorAnswer, description="`worker not found`, or why it could not be started."
        )
    },
    operation_id="start_process",
    summary="Start a command on a worker",
)
async def start(
    request: CallerRequest,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> StartAnswer:
    """201 once it runs. 500 with the reason when it does not; then it does not run later either."""
    wanted = bodies.parse(await bodies.read(request), StartRequest)
    about(request.scope, worker_id=wanted.worker_id, asked=asked(wanted.command, (wanted.path,)))
    started = await controller.fleet.start(wanted, by=principal)
    is_written(request.scope)
    return StartAnswer(job_id=started.result())


@post(
    "/stop",
    guards=[ADMINISTRATORS],
    middleware=[Audited(AuditAction.STOP_PROCESS)],
    operation_class=ProcessOperation,
    responses={
        500: ResponseSpec(
            ErrorAnswer,
            description="`worker not found`, `job not found`, or why it could not be done.",
        )
    },
    operation_id="stop_process",
    status_code=200,
    summary="End a process with its whole group",
)
async def stop(
    request: CallerRequest,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> StopAnswer:
    """200 once the group is gone; also for a process that has ended before."""
    wanted = bodies.parse(await bodies.read(request), ProcessRequest)
    about(request.scope, worker_id=wanted.worker_id, process_id=wanted.job_id)
    await controller.fleet.stop(wanted, by=principal)
    return StopAnswer(success=True)


@post(
    "/query",
    guards=[READERS],
    middleware=[Audited(AuditAction.READ_PROCESS, refusals_only=True)],
    operation_class=ProcessOperation,
    responses={
        500: ResponseSpec(
            ErrorAnswer,
            description="`worker not found`, `job not found`, or why it could not be done.",
        )
    },
    operation_id="query_process",
    status_code=200,
    summary="Whether a process has ended, and how",
)
async def query(request: CallerRequest, controller: NamedDependency[Controller]) -> QueryAnswer:
    """By the ledger: also while its worker is away."""
    return await controller.fleet.query(bodies.parse(await bodies.read(request), ProcessRequest))


@route(
    ["/start", "/stop", "/query"],
    # The framework answers OPTIONS itself.
    http_method=[method for method in HttpMethod if method not in ("POST", "OPTIONS")],
    include_in_schema=False,
    media_type=MediaType.JSON,
)
async def other_method(request: Request[Any, Any, Any]) -> None:
    """Refused here rather than by the framework, for the sake of the body."""
    raise MethodNotAllowedException(
        detail=f"method {request.method} not allowed, expected POST", headers={"Allow": "POST"}
    )


def explain(error: RoundsmanError) -> tuple[int, dict[str, str]]:
    """Status and headers as everywhere, but for what the contract gives the code 500."""
    return (500, {}) if isinstance(error, FLEET_ERRORS) else errors.explain(error)


def on_error(_: Request[Any, Any, Any], error: RoundsmanError) -> Response[dict[str, str]]:
    """An error that was raised on purpose."""
    status, headers = explain(error)
    return Response(
        {"error": error.sentence},
        status_code=status,
        headers=headers,
        media_type=MediaType.JSON,
    )


def on_http_error(
    request: Request[Any, Any, Any], error: HTTPException
) -> Response[dict[str, str]]:
    """What the framework refuses: the size of the body, the method."""
    return _bare(errors.on_http_error(request, error))


def on_fault(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, str]]:
    """A fault of ours."""
    return _bare(errors.on_fault(request, error))


def _bare(answer: Response[ErrorAnswer]) -> Response[dict[str, str]]:
    """The body as the contract has it, without the code."""
    return Response(
        {"error": answer.content.error},
        status_code=answer.status_code,
        headers=answer.headers,
        media_type=MediaType.JSON,
    )


ROUTES: Final = Router(
    "/",
    route_handlers=[start, stop, query, other_method],
    tags=["fleet"],
    request_max_body_size=BODY_BYTES,
    exception_handlers={
        RoundsmanError: on_error,
        HTTPException: on_http_error,
        Exception: on_fault,
    },
)

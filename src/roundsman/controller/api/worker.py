"""The worker API: `/worker/ping`, `/worker/next`, `/worker/complete`.

Its paths, fields and codes are a published contract; query parameters that it does not name are
ignored, as its clients may add some.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from roundsman.controller.access import Principal
from roundsman.controller.api import completing
from roundsman.controller.api.guards import WORKERS, CallerRequest
from roundsman.controller.dispatch import Offer, Wanted
from roundsman.controller.intake import Kept
from roundsman.controller.service import Controller
from roundsman.errors import InvalidError
from roundsman.wire.execution import Execution
from roundsman.wire.process import ErrorAnswer

DEFAULT: Final = 15
"""Of `seconds` and of `max`."""
LARGEST: Final = 2**63 - 1


class NumberError(InvalidError):
    """A query parameter that is no whole number within bounds, or is given twice."""

    code = "request.number"

    def __init__(self, name: str, found: str) -> None:
        """Name the parameter, its value and the bound."""
        super().__init__(f"{name}: expected a whole number from 0 to {LARGEST}, got {found}")


def parse_wanted(query: bytes) -> Wanted:
    """What a query string asks for. Raises `NumberError`."""
    given: dict[str, list[str]] = {"seconds": [], "max": [], "tag": []}
    for name, value in parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True):
        if name in given:
            given[name].append(value)
    return Wanted(
        tags=frozenset(filter(None, given["tag"])),
        seconds=_number(given, "seconds"),
        max=_number(given, "max"),
    )


def _number(given: Mapping[str, list[str]], name: str) -> int:
    values = given[name]
    if not values:
        return DEFAULT
    if len(values) > 1:
        raise NumberError(name, f"it {len(values)} times")
    [value] = values
    # The length first: Python would not read a number of thousands of digits.
    if not (value.isascii() and value.isdigit()) or len(value) > 19 or int(value) > LARGEST:
        raise NumberError(name, repr(value[:100]))
    return int(value)


def _whole_number(name: str, description: str) -> Parameter:
    schema = Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=LARGEST, default=DEFAULT)
    return Parameter(name=name, param_in="query", description=description, schema=schema)


@dataclass
class NextOperation(Operation):
    """Documents the query parameters, which are read by hand to the contract's letter."""

    def __post_init__(self) -> None:
        """Add the parameters."""
        texts = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING))
        self.parameters = [
            Parameter(
                name="tag",
                param_in="query",
                description="Devices with any of these tags; absent: every device.",
                schema=texts,
            ),
            _whole_number("seconds", "How far ahead, in seconds."),
            _whole_number("max", "At most so many executions."),
        ]


def _text(meaning: str) -> Schema:
    return Schema(type=OpenAPIType.STRING, description=meaning)


def _whole(meaning: str) -> Schema:
    return Schema(type=OpenAPIType.INTEGER, description=meaning)


@dataclass
class CompleteOperation(Operation):
    """Documents the form, which is read as it comes."""

    def __post_init__(self) -> None:
        """Add the fields."""
        form = Schema(
            type=OpenAPIType.OBJECT,
            required=["device", "job_timestamp", "start_timestamp", "end_timestamp"],
            properties={
                "device": _text("Name of the device, not its host."),
                "job": _text("Needed where there is no file; else the file's filename."),
                "job_timestamp": _whole("When it was due, as handed out, Unix seconds."),
                "start_timestamp": _whole("When the worker began, Unix seconds."),
                "end_timestamp": _whole("When the worker ended, Unix seconds."),
                "failure": _text("Why it failed; the file, if any, is then kept as evidence."),
                "failure_class": _text("Why it failed, for programs."),
                "recording": _text("A failed session as a recorded dialogue: gzip in base64."),
                "detected_secrets": _text("What looks like a secret: JSON, as a run has it."),
                "epoch": _whole("Epoch of the lease; clients of the contract leave it out."),
                "file": Schema(
                    type=OpenAPIType.STRING,
                    content_media_type="application/octet-stream",
                    description="The whole result; its filename is the job's name.",
                ),
            },
        )
        self.request_body = RequestBody(
            content={"multipart/form-data": OpenAPIMediaType(schema=form)}, required=True
        )


@get("/ping", summary="Whether the controller is there")
async def ping() -> dict[str, str]:
    """Clients of the contract ask this first."""
    return {"status": "ok"}


@get(
    "/next",
    summary="Lease executions that are due",
    operation_class=NextOperation,
    responses={
        200: ResponseSpec(list[Execution], description="What was leased.", generate_examples=False),
        204: ResponseSpec(None, description="Nothing is due."),
    },
)
async def next_executions(
    request: CallerRequest,
    controller: NamedDependency[Controller],
    principal: NamedDependency[Principal],
) -> Response[list[Offer] | None]:
    """200 with what was leased, oldest due first; 204 when nothing is due."""
    wanted = parse_wanted(request.scope["query_string"])
    offers = await controller.dispatch.next_executions(wanted, principal)
    return Response(offers) if offers else Response(None, status_code=204)


@post(
    "/complete",
    status_code=200,
    summary="Say what became of an execution",
    operation_class=CompleteOperation,
    request_max_body_size=None,
    responses={
        404: ResponseSpec(ErrorAnswer, description="No such device and job."),
        409: ResponseSpec(ErrorAnswer, description="The lease is no longer yours: drop it."),
        413: ResponseSpec(ErrorAnswer, description="The result is larger than is accepted."),
        503: ResponseSpec(ErrorAnswer, description="It cannot be kept now: send it again later."),
    },
)
async def complete(request: CallerRequest) -> Kept:
    """200: kept for good. 409: the lease is lost, drop the result. 503: send it again later."""
    return await completing.complete(
        request.app.state.controller, request.receive, request.headers, request.user
    )


ROUTES: Final = Router(
    "/worker", guards=[WORKERS], tags=["worker"], route_handlers=[ping, next_executions, complete]
)

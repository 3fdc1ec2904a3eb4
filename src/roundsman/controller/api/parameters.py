"""Query parameters of `/api/v1`: strict, since this surface is our own.

Handlers declare their parameters; what is declared is what is documented and what is accepted.
A parameter that is unknown, given twice or not of its kind is answered with 400 and a text that
names it, its value and what was expected.
"""

import difflib
from collections import Counter
from enum import Enum
from typing import Annotated, Any, Final

from litestar import Request, Response
from litestar.exceptions import ClientException, SerializationException, ValidationException
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from roundsman.controller.api import auditing, bodies, errors
from roundsman.errors import InvalidError
from roundsman.wire.process import ErrorAnswer

# Shown back at most so much of a wrong value.
SHOWN_CHARACTERS: Final = 100

Limit = Annotated[
    int, QueryParameter(ge=1, le=1000, description="At most so many entries, 1 to 1000.")
]
After = Annotated[
    str | None,
    QueryParameter(description="`next` of the page before; absent for the first page."),
]
# Years 1970 to 9999: what a date can be made of.
LAST_INSTANT: Final = 253_402_300_799
Since = Annotated[
    float | None,
    QueryParameter(
        ge=0,
        le=LAST_INSTANT,
        description="Only those recorded at or after this instant, Unix seconds.",
    ),
]
Until = Annotated[
    float | None,
    QueryParameter(
        ge=0,
        le=LAST_INSTANT,
        description="Only those recorded before this instant, Unix seconds.",
    ),
]
Device = Annotated[str, PathParameter(description="Name of a device.")]
Job = Annotated[str, PathParameter(description="Name of a job.")]
RunId = Annotated[str, PathParameter(description="Id of a run.")]
WorkerId = Annotated[str, PathParameter(description="Id of a worker, as given at enrolment.")]


class ParameterError(InvalidError):
    """A query parameter that is unknown, given twice, or not of its kind."""

    code = "parameter.invalid"


async def check(request: Request[Any, Any, Any]) -> None:
    """Refuse unknown and repeated query parameters, and bodies that do not come in time.

    Runs before every handler of the surface.
    """
    known = _declared(request)
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, times in given.items():
        if name not in known:
            raise ParameterError(_unknown(name, sorted(known)))
        if times > 1:
            raise ParameterError(f"{name}: expected once, got {times} times")
        value = request.query_params[name]
        # The framework would take the word null for no value at all.
        if not value or (value.lower() == "null" and str not in _types(known[name])):
            raise ParameterError(f"{name}: {_expected(known[name])}, got {value!r}")
    await bodies.read(request)  # the framework keeps it for the handler


def _declared(request: Request[Any, Any, Any]) -> dict[str, FieldDefinition]:
    """The query parameters that the handler declares, by their name in the query."""
    return {
        field.kwarg_definition.name or name: field
        for name, field in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }


def _unknown(name: str, known: list[str]) -> str:
    name = name[:SHOWN_CHARACTERS]
    if not known:
        return f"{name}: unknown parameter, this address takes none"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return f"{name}: unknown parameter, expected one of {', '.join(known)}{hint}"


def on_validation_error(
    request: Request[Any, Any, Any], error: ValidationException
) -> Response[ErrorAnswer]:
    """Answer what does not fit a declared type, in our words: subject, expected, got."""
    found = error.extra if isinstance(error.extra, list) else []
    problems = {str(problem.get("key", "")): str(problem.get("message", "")) for problem in found}
    wrong = [
        f"{name}: {_expected(field)}, got {request.query_params[name][:SHOWN_CHARACTERS]!r}"
        for name, field in _declared(request).items()
        if field.name in problems
    ]
    if wrong:
        return _refuse(request, ParameterError("; ".join(wrong)))
    in_body = [_of_body(key, text) for key, text in problems.items()]
    return _refuse(request, bodies.BodyError("; ".join(in_body) or error.detail))


def on_client_error(
    request: Request[Any, Any, Any], error: ClientException
) -> Response[ErrorAnswer]:
    """Answer a body that is not JSON; and what else the framework refuses, in its own words."""
    if isinstance(error.__cause__, SerializationException):
        return _refuse(request, bodies.BodyError(f"the body is not JSON: {error.detail}"))
    return errors.on_http_error(request, error)


def on_too_deep(request: Request[Any, Any, Any], _: RecursionError) -> Response[ErrorAnswer]:
    """Answer a body whose nesting goes beyond all bounds."""
    return _refuse(request, bodies.BodyError("the body is nested too deeply"))


def _refuse(request: Request[Any, Any, Any], error: InvalidError) -> Response[ErrorAnswer]:
    """Say the same in the answer and in the audit."""
    auditing.instead(request.scope, error)
    return errors.on_roundsman_error(request, error)


def _of_body(key: str, text: str) -> str:
    """What is wrong with a field of the body, or with all of it, whose key is `data`."""
    if key == text.strip("'") == "data":
        return "the body is missing"
    name = "the body" if key == "data" else key
    return f"{name}: {text[0].lower()}{text[1:]}".replace("`", "")


def _expected(field: FieldDefinition) -> str:
    """What a query parameter takes, in words, bounds included."""
    types = _types(field)
    kwarg = field.kwarg_definition
    if bool in types:
        return "expected true or false"
    if isinstance(kwarg, QueryParameter) and kwarg.ge is not None:
        kind = "whole number" if int in types else "number of seconds (Unix time)"
        bound = f" to {kwarg.le}" if kwarg.le is not None else " on"
        return f"expected a {kind} from {kwarg.ge}{bound}"
    choices = [member.value for kind in types if issubclass(kind, Enum) for member in kind]
    return f"expected one of {', '.join(choices)}" if choices else "expected a text"


def _types(field: FieldDefinition) -> list[type]:
    return [inner.annotation for inner in field.inner_types] or [field.annotation]

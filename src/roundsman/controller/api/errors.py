"""The one mapping of errors to HTTP: status, headers and the body `{"error": …, "code": …}`."""

from typing import Any, Final

from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from roundsman import logs
from roundsman.controller.access import ForbiddenError, UnauthenticatedError
from roundsman.controller.api.bodies import SlowBodyError
from roundsman.controller.api.completion import SilentClientError
from roundsman.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    RoundsmanError,
    TooLargeError,
    UnavailableError,
)
from roundsman.wire.process import ErrorAnswer

log = logs.get(__name__)

# An error has the status of its nearest kind; one without a kind here is a fault of ours.
STATUSES: Final[dict[type[RoundsmanError], int]] = {
    InvalidError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    SilentClientError: 408,
    SlowBodyError: 408,
    ConflictError: 409,
    TooLargeError: 413,
    UnavailableError: 503,
    RoundsmanError: 500,
}
REALM: Final = 'realm="roundsman", charset="UTF-8"'

FAULT: Final = ErrorAnswer(
    error="internal error; the controller's log has the details", code="internal"
)

_HTTP_CODES: Final = {
    400: "http.bad_request",
    404: "http.not_found",
    405: "http.method_not_allowed",
    413: "http.too_large",
}


def status_of(error: RoundsmanError) -> int:
    """The status of an error, by its nearest kind."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def sentence(error: RoundsmanError) -> str:
    """What the body says: the text and, when there is one, the remedy."""
    return error.sentence


def answer(
    status: int, error: str, code: str, headers: dict[str, str] | None = None
) -> Response[ErrorAnswer]:
    """An error as a response."""
    return Response(
        ErrorAnswer(error=error, code=code),
        status_code=status,
        headers=headers,
        media_type=MediaType.JSON,
    )


def explain(error: RoundsmanError) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to an error that was raised on purpose."""
    headers: dict[str, str] = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    elif isinstance(error, UnauthenticatedError):
        # Both in one header, as RFC 9110 allows: Litestar keeps one value a name.
        headers["WWW-Authenticate"] = f"Bearer {REALM}, Basic {REALM}"
    return status_of(error), headers


def on_roundsman_error(_: Request[Any, Any, Any], error: RoundsmanError) -> Response[ErrorAnswer]:
    """Answer an error that was raised on purpose."""
    status, headers = explain(error)
    return answer(status, sentence(error), error.code, headers)


def http_code(error: HTTPException) -> str:
    """Our code for what the framework refuses."""
    return _HTTP_CODES.get(error.status_code, "http.error")


def on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorAnswer]:
    """Answer what the framework refuses: no such path, wrong method, malformed body."""
    extra = getattr(error, "extra", None)
    detail = f"{error.detail}: {extra}" if extra else error.detail
    return answer(error.status_code, detail, http_code(error), dict(error.headers or {}))


def on_fault(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorAnswer]:
    """Answer a fault of ours, without telling its insides; they are in the log."""
    log.error("http.fault", method=request.method, path=request.url.path, exc_info=error)
    return answer(500, FAULT.error, FAULT.code)


HANDLERS: Final[ExceptionHandlersMap] = {
    RoundsmanError: on_roundsman_error,
    HTTPException: on_http_error,
    Exception: on_fault,
}

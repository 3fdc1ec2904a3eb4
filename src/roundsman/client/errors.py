"""What can go wrong between a client and the controller, by kind."""

from collections.abc import Mapping
from typing import Final

from roundsman.errors import RoundsmanError


class ControllerError(RoundsmanError):
    """A call to the controller did not succeed. The text is the controller's own where it spoke."""

    code = "controller.error"

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        answer_code: str = "",
        ours: bool = False,
        retry_after_seconds: float | None = None,
        remedy: str | None = None,
    ) -> None:
        """Keep also the HTTP status, the controller's own stable code, and its wish to wait.

        `ours` tells an error in the controller's own words from one that a proxy in between, or
        some other server, made up.
        """
        super().__init__(text, remedy=remedy)
        self.status = status
        self.answer_code = answer_code
        self.ours = ours
        self.retry_after_seconds = retry_after_seconds

    @property
    def about_subject(self) -> bool:
        """Whether the controller itself speaks of what the call was about.

        False for what a proxy says, and for a path that the controller does not serve: neither
        means that a worker is forgotten, or that a result is wrong.
        """
        return self.ours and self.answer_code != "http.not_found"


class UnreachableError(ControllerError):
    """The connection broke, or no answer came in time: whether the call took effect is unknown."""

    code = "controller.unreachable"


class NotConnectedError(UnreachableError):
    """No connection was made, so the call surely had no effect."""

    code = "controller.not_connected"


class CertificateError(NotConnectedError):
    """The controller's certificate is not one to trust."""

    code = "controller.certificate"


class BusyError(ControllerError):
    """The controller cannot serve this now (429, 503); later it may."""

    code = "controller.busy"


class FaultError(ControllerError):
    """The controller failed (any other 5xx); on the fleet API, the documented errors."""

    code = "controller.fault"


class UnauthorizedError(ControllerError):
    """The token is missing or not known (401)."""

    code = "controller.unauthorized"


class ForbiddenError(ControllerError):
    """The token does not allow this (403)."""

    code = "controller.forbidden"


class UnknownError(ControllerError):
    """What was named is not known to the controller (404)."""

    code = "controller.unknown"


class StaleError(ControllerError):
    """What the call was about has moved on (409): for a result, the lease is no longer held."""

    code = "controller.stale"


class TooLargeError(ControllerError):
    """The body is larger than the controller takes (413)."""

    code = "controller.too_large"


class RefusedError(ControllerError):
    """The call is not one the controller accepts (any other 4xx)."""

    code = "controller.refused"


class UnexpectedAnswerError(ControllerError):
    """The answer is not one of Roundsman's: a redirect, not JSON, or beyond all bounds."""

    code = "controller.unexpected_answer"


_BY_STATUS: Final[Mapping[int, type[ControllerError]]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: UnknownError,
    409: StaleError,
    413: TooLargeError,
    429: BusyError,
    503: BusyError,
}


def error_for_status(status: int) -> type[ControllerError]:
    """The kind of error that an answer with this status (not 2xx) is."""
    if known := _BY_STATUS.get(status):
        return known
    if 500 <= status <= 599:
        return FaultError
    if 400 <= status <= 499:
        return RefusedError
    return UnexpectedAnswerError

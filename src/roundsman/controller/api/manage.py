"""`/api/v1`: what is Roundsman's own, one module of routes a subject."""

from typing import Final

from litestar import Router
from litestar.exceptions import ValidationException

from roundsman.controller.api import manage_workers, parameters

ROUTES: Final = Router(
    "/api/v1",
    route_handlers=[manage_workers.ROUTES],
    before_request=parameters.check,
    exception_handlers={ValidationException: parameters.on_validation_error},
)

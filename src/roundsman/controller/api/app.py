"""The HTTP application: every surface's route table, put together once."""

from typing import Final, cast

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import (
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Receive,
    Scope,
    Send,
)

from roundsman.controller.access import Principal
from roundsman.controller.api import (
    auditing,
    completing,
    control,
    documentation,
    errors,
    fleet,
    health,
    manage,
    peers,
    process_output,
    querying,
    worker,
)
from roundsman.controller.api.guards import CallerRequest
from roundsman.controller.service import Controller

# One route table per surface. Each states who may call it; health alone asks for no credential.
SURFACES: Final[tuple[Router, ...]] = (
    health.ROUTES,
    worker.ROUTES,
    fleet.ROUTES,
    manage.ROUTES,
    process_output.ROUTES,
    peers.ROUTES,
    control.ROUTES,
)

# Bodies are read whole up to this; completions are streamed under a limit of their own.
BODY_BYTES: Final = 1 << 20


class App(Litestar):
    """The application: the framework, and a short way for completions and queries."""

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        """Answer one call."""
        if completing.is_completion(scope):
            await completing.answer(
                self.state.controller, scope, cast("Receive", receive), cast("Send", send)
            )
        elif querying.is_query(scope):
            await querying.answer(
                self.state.controller,
                scope,
                cast("Receive", receive),
                cast("Send", send),
                super().__call__,
            )
        else:
            await super().__call__(scope, receive, send)


def build_app(controller: Controller) -> Litestar:
    """The ASGI application that serves a controller.

    Handlers may ask for `controller: NamedDependency[Controller]` and, behind a guard, for
    `principal: NamedDependency[Principal]`, who calls.
    """

    async def provide_controller() -> Controller:
        return controller

    return App(
        route_handlers=[*SURFACES, documentation.ROUTES],
        dependencies={
            "controller": Provide(provide_controller),
            "principal": Provide(provide_principal),
        },
        exception_handlers=errors.HANDLERS,
        after_exception=[auditing.keep_error],
        openapi_config=documentation.config(),
        plugins=[documentation.SecretsAsText()],
        request_max_body_size=BODY_BYTES,
        state=State({"controller": controller}),
        logging_config=None,
    )


async def provide_principal(request: CallerRequest) -> Principal:
    """Who calls, as the route's guard found."""
    return request.user

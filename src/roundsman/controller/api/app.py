"""The HTTP application: every surface's route table, put together once."""

from typing import Final, cast

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.types import (
    HTTPScope,
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
    short_way,
    starting,
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

SHORT_WAYS: Final[dict[str, short_way.Handler]] = {
    "/query": querying.answer,
    "/start": starting.answer,
}

# Bodies are read whole up to this; completions are streamed under a limit of their own.
BODY_BYTES: Final = 1 << 20


class App(Litestar):
    """The application: the framework, and short ways for what comes most often."""

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
        elif (handler := _short_way(scope)) is not None:
            await short_way.answer(
                handler,
                self.state.controller,
                cast("HTTPScope", scope),
                cast("Receive", receive),
                cast("Send", send),
                otherwise=super().__call__,
            )
        else:
            await super().__call__(scope, receive, send)


def _short_way(scope: Scope | LifeSpanScope) -> short_way.Handler | None:
    """What may answer a call before the framework sees it."""
    if scope["type"] != ScopeType.HTTP:
        return None
    call = cast("HTTPScope", scope)
    return SHORT_WAYS.get(call["path"]) if call["method"] == "POST" else None


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

"""One event for each call that was answered, at level debug."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from roundsman import logs
from roundsman.clock import Clock

log = logs.get(__name__)


class AccessLog:
    """Wraps the application. Neither headers nor query strings are logged."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        """Measure by this clock."""
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call, and say what became of it."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began = self._clock.monotonic()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            log.debug(
                "http.answered",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(self._clock.monotonic() - began, 4),
            )

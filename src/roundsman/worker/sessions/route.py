"""Ways to a host: straight, or through jump hosts."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from roundsman.wire.device import Protocol as ProtocolSettings
from roundsman.worker.deadline import LeaseDeadline
from roundsman.worker.sessions import tcp
from roundsman.worker.sessions.gathering import Gathering

_P = TypeVar("_P", bound=asyncio.Protocol)


class Route(Protocol):
    """Opens streams to a host, as asyncssh asks for them."""

    async def create_connection(
        self, session_factory: Callable[[], Any], host: str, port: int
    ) -> tuple[Any, Any]:
        """A transport and the protocol that was made for it; raises the errors of this package."""
        ...


class Straight:
    """The way of which every step is the network's."""

    def __init__(
        self, settings: ProtocolSettings, deadline: LeaseDeadline, *, connect_seconds: float
    ) -> None:
        """Connect within so many seconds, as the settings say; send nothing after `deadline`."""
        self._settings = settings
        self._deadline = deadline
        self._connect_seconds = connect_seconds

    async def create_connection(
        self, session_factory: Callable[[], _P], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, _P]:
        """See `Route`."""
        connected = await tcp.connect(
            host, port, self._settings, self._deadline, seconds=self._connect_seconds
        )
        loop = asyncio.get_running_loop()
        above = session_factory()
        transport, _ = await loop.create_connection(lambda: Gathering(above), sock=connected)
        return transport, above

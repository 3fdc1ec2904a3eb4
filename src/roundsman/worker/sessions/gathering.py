"""Has an SSH library's packets sent together: what it writes in one turn of the event loop."""

import asyncio
from typing import cast

from roundsman.gathering import GatheringTransport


class Gathering(asyncio.Protocol):
    """Gives the protocol above it a transport that gathers; all else it passes on."""

    def __init__(self, above: asyncio.Protocol) -> None:
        """Stand between a transport and `above`."""
        self.above = above

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.above.connection_made(GatheringTransport(cast("asyncio.Transport", transport)))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.above.data_received(data)

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        return self.above.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self.above.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.above.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.above.resume_writing()

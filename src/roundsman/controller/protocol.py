"""HTTP as uvicorn speaks it, with each answer sent at once.

Uvicorn writes the head and the body of an answer apart. In a busy controller each write is the
worse, as it gives the interpreter away, and has to wait to get it back.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from roundsman.gathering import GatheringTransport


class Protocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(GatheringTransport(transport))

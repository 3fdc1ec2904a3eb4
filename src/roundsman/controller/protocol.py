"""HTTP as uvicorn speaks it, with each answer sent at once, and a time within which heads come.

Uvicorn writes the head and the body of an answer apart. In a busy controller each write is the
worse, as it gives the interpreter away, and has to wait to get it back.

It waits for ever for a client that connects and says nothing, or half a head: a few thousand of
those would take every file that the controller may open. Bodies have times of their own.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from roundsman import logs
from roundsman.gathering import GatheringTransport

log = logs.get(__name__)

HEAD_SECONDS: Final = 20.0
"""So long a client may take to send the head of a request, or after connecting to begin one."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _awaits_head = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(GatheringTransport(transport))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaits_head = False
        self._watch()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._awaits_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._awaits_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        """Have a timer only where part of a head is there: most come whole, and need none."""
        if self._awaits_head and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)
        elif not self._awaits_head and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        log.info("http.slow_head", address=self.client[0] if self.client else None)
        self.transport.close()

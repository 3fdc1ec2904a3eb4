"""Gathers what is written in one turn of the event loop, and sends it at once.

An SSH library writes packet by packet: two for each line that is typed, several for each step of a
login. Each write to a socket is a call to the system, a segment on the wire, and a process at the
other end that wakes up.
"""

import asyncio
from typing import Any, cast


class GatheringTransport(asyncio.Transport):
    """A transport over another one, which gets what is written once a turn."""

    def __init__(self, beneath: asyncio.Transport) -> None:
        """Write to `beneath`, within the event loop that runs."""
        super().__init__()
        self._beneath = beneath
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, with what else is written in this turn."""
        if not self._gathered:
            self._loop.call_soon(self._send)
        self._gathered.append(bytes(data))

    def _send(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._beneath.write(data)

    def get_write_buffer_size(self) -> int:
        """What is not sent yet, in bytes."""
        return sum(map(len, self._gathered)) + self._beneath.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport`."""
        self._beneath.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """See `asyncio.WriteTransport`."""
        return self._beneath.can_write_eof()

    def write_eof(self) -> None:
        """Send what is gathered, and the end."""
        self._send()
        self._beneath.write_eof()

    def close(self) -> None:
        """Send what is gathered, and close."""
        self._send()
        self._beneath.close()

    def abort(self) -> None:
        """Drop the connection. What is gathered is sent as far as the system takes it at once."""
        self._send()
        self._beneath.abort()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._beneath.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._beneath.get_extra_info(name, default)

    def is_reading(self) -> bool:
        """See `asyncio.ReadTransport`."""
        return self._beneath.is_reading()

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._beneath.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._beneath.resume_reading()


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

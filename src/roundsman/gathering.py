"""Gathers what is written in one turn of the event loop, and sends it at once.

An SSH library writes packet by packet: two for each line that is typed, several for each step of a
login. An HTTP server writes the head and the body of an answer. Each write to a socket is a call to
the system, a segment on the wire, and a process at the other end that wakes up.
"""

import asyncio
from typing import Any, Final

_MOST_BYTES: Final = 64 << 10
"""What is gathered at most: whoever writes more has to learn when the other side does not read."""


class GatheringTransport(asyncio.Transport):
    """A transport over another one, which gets what is written once a turn."""

    def __init__(self, beneath: asyncio.Transport) -> None:
        """Write to `beneath`, within the event loop that runs."""
        super().__init__()
        self._beneath = beneath
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, with what else is written in this turn."""
        if not self._gathered:
            self._loop.call_soon(self._send)
        self._gathered.append(bytes(data))
        self._size += len(data)
        if self._size > _MOST_BYTES:
            self._send()

    def _send(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._size = 0
            self._beneath.write(data)

    def get_write_buffer_size(self) -> int:
        """What is not sent yet, in bytes."""
        return self._size + self._beneath.get_write_buffer_size()

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

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See `asyncio.BaseTransport`."""
        self._beneath.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See `asyncio.BaseTransport`."""
        return self._beneath.get_protocol()

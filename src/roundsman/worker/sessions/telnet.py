"""The other transport: Telnet (RFC 854), for devices that speak no SSH.

Everything passes in the clear, the password too.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import telnetlib3

from roundsman.wire.device import Device
from roundsman.worker.sessions.channel import WINDOW_COLUMNS
from roundsman.worker.sessions.errors import ClosedEarlyError, quote
from roundsman.worker.sessions.route import Route

# Bytes that a device may send ahead of our reading, about.
_AHEAD: Final = 1 << 17

# Telnet's window sizes know no "no height" that devices agree on: this is the largest.
_WINDOW_ROWS: Final = 65535

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class TelnetChannel:
    """A `Channel` over Telnet."""

    def __init__(self, reader: telnetlib3.TelnetReader, writer: telnetlib3.TelnetWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Whatever has come; empty once the device has closed."""
        try:
            data = await self._reader.read(_AHEAD)
        except (OSError, asyncio.IncompleteReadError) as error:
            text = f"the connection to the device was lost: {quote(str(error))}"
            raise ClosedEarlyError(text) from None
        # A carriage return that stands for itself is followed by a NUL; not in binary (RFC 856).
        return data if self._writer.inbinary else data.replace(b"\r\0", b"\r")

    def write(self, data: bytes) -> None:
        """Send soon, line ends as Telnet has them.

        In binary the device's terminal gets what is sent as it is: a second character after the
        carriage return would be another line.
        """
        if not self._writer.is_closing():
            line_end = b"\r" if self._writer.outbinary else _as_telnet
            self._writer.write(_LINE_END.sub(line_end, data))


class _Client(telnetlib3.TelnetClient):
    """Our side of the protocol, over TCP or over a channel of SSH, which says more than TCP."""

    def session_started(self) -> None:
        """The channel is ready."""

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        """What came; there is one kind of it."""
        super().data_received(data)


@asynccontextmanager
async def connect(device: Device, route: Route) -> AsyncIterator[TelnetChannel]:
    """Connect; on leaving, disconnect. To log in is the shell's work."""
    _, client = await route.create_connection(_client, device.host, device.protocol.telnet.port)
    try:
        yield TelnetChannel(client.reader, client.writer)
    finally:
        client.writer.close()


def _client() -> _Client:
    return _Client(
        encoding=False,
        term="dumb",
        cols=WINDOW_COLUMNS,
        rows=_WINDOW_ROWS,
        connect_minwait=0,
        connect_maxwait=0,
        compression=False,
        limit=_AHEAD,
    )


def _as_telnet(line_end: re.Match[bytes]) -> bytes:
    return b"\r\0" if line_end[0] == b"\r" else b"\r\n"

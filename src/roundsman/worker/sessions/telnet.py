"""The other transport: Telnet (RFC 854), for devices that speak no SSH.

Everything passes in the clear, the password too.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import telnetlib3

from roundsman.wire.device import Device
from roundsman.worker.sessions.channel import WINDOW_COLUMNS
from roundsman.worker.sessions.errors import RefusedError, SessionError, UnreachableError

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
            # A carriage return that stands for itself is followed by a NUL.
            return (await self._reader.read(_AHEAD)).replace(b"\r\0", b"\r")
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Send soon, line ends as Telnet has them."""
        if not self._writer.is_closing():
            self._writer.write(_LINE_END.sub(_as_telnet, data))


@asynccontextmanager
async def connect(device: Device, *, connect_seconds: float) -> AsyncIterator[TelnetChannel]:
    """Connect; on leaving, disconnect. To log in is the shell's work."""
    host, port = device.host, device.protocol.telnet.port
    try:
        async with asyncio.timeout(connect_seconds):
            reader, writer = await telnetlib3.open_connection(
                host,
                port,
                client_factory=telnetlib3.TelnetClient,
                encoding=False,
                term="dumb",
                cols=WINDOW_COLUMNS,
                rows=_WINDOW_ROWS,
                connect_minwait=0,
                connect_maxwait=0,
                compression=False,
                limit=_AHEAD,
            )
    except (TimeoutError, OSError) as error:
        raise _explain(error, f"{host} port {port}", connect_seconds) from None
    try:
        yield TelnetChannel(reader, writer)
    finally:
        writer.close()


def _as_telnet(line_end: re.Match[bytes]) -> bytes:
    return b"\r\0" if line_end[0] == b"\r" else b"\r\n"


def _explain(error: OSError, where: str, connect_seconds: float) -> SessionError:
    match error:
        case TimeoutError():
            return UnreachableError(f"{where} did not answer within {connect_seconds:g} s")
        case ConnectionRefusedError():
            return RefusedError(f"{where} refused the connection")
        case socket.gaierror():
            return UnreachableError(f"{where} was not found: {error.strerror}")
        case _:
            return UnreachableError(f"{where} cannot be reached: {error.strerror or error}")

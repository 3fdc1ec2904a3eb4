"""Files over FTP (RFC 959), passive and binary, and over FTPS (RFC 4217).

Over FTP everything passes in the clear, the password too.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aioftp
from aioftp.common import SSLSessionBoundContext

from roundsman.wire.device import Device, Protocol
from roundsman.worker.deadline import LeaseDeadline
from roundsman.worker.sessions import tcp
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    ClosedEarlyError,
    FileError,
    RefusedError,
    SessionError,
    TimedOutError,
)
from roundsman.worker.sessions.files.connecting import explain
from roundsman.worker.sessions.files.interface import Write, check_length
from roundsman.worker.sessions.files.tls import client_context

_BLOCK: Final = 1 << 16

_IMPLICIT_PORT: Final = 990
"""Where FTPS is spoken from the first byte on (IANA's ftps); elsewhere TLS is asked for."""

_GONE: Final = (ConnectionError, EOFError, ssl.SSLError)
"""What a lost connection shows as."""


@asynccontextmanager
async def open_files(
    device: Device,
    deadline: LeaseDeadline,
    connect_seconds: float,
    login_seconds: float,
    *,
    tls: bool = False,
) -> AsyncIterator["FtpFiles"]:
    """Connect and log in; on leaving, close."""
    host, port = device.host, device.protocol.ftp.port
    where = f"{host} port {port}"
    context = client_context(device.protocol.tls) if tls else None
    implicit = tls and port == _IMPLICIT_PORT
    client = _Client(device.protocol, deadline, connect_seconds, context if implicit else None)
    try:
        try:
            async with asyncio.timeout(connect_seconds + login_seconds):
                await _begin(client, device, None if implicit else context)
        except aioftp.StatusCodeError as error:
            raise _refused(error, device, where) from None
        except TimeoutError:
            raise TimedOutError(
                f"{where} accepted the connection, but logging in did not end within "
                f"{login_seconds:g} s"
            ) from None
        except OSError as error:
            raise explain(error, where, connect_seconds) from None
        yield FtpFiles(client, context)
    finally:
        client.close()


async def _begin(client: "_Client", device: Device, context: ssl.SSLContext | None) -> None:
    await client.connect(device.host, device.protocol.ftp.port)
    if context is not None:
        await client.upgrade_to_tls(context)
    credentials = device.credentials
    if credentials is None:
        await client.login()  # anonymous
        return
    password = credentials.password.reveal() if credentials.password is not None else ""
    await client.login(credentials.user, password)


def _refused(error: aioftp.StatusCodeError, device: Device, where: str) -> SessionError:
    codes = [str(code) for code in error.received_codes]
    if "530" in codes:
        user = device.credentials.user if device.credentials else "anonymous"
        return AuthenticationError(
            f"{where} did not accept the credentials of user {user!r}",
            remedy="check user and pass of the device",
        )
    return RefusedError(f"{where} answered {' '.join(codes)} before anything was asked for")


class _Client(aioftp.Client):
    """The library's client, but that TLS of a data connection is begun after the transfer is.

    Most servers take up TLS there only when they have been told what to send.
    """

    def __init__(
        self,
        settings: Protocol,
        deadline: LeaseDeadline,
        connect_seconds: float,
        implicit: ssl.SSLContext | None,
    ) -> None:
        super().__init__(ssl=implicit)
        self._settings = settings
        self._deadline = deadline
        self._connect_seconds = connect_seconds
        self._implicit = implicit

    @property
    def is_connected(self) -> bool:
        """Whether the device answered."""
        return self._stream is not None

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connected = await tcp.connect(
            host, port, self._settings, self._deadline, seconds=self._connect_seconds
        )
        context = None if self.is_connected else self._implicit
        return await asyncio.open_connection(
            sock=connected, ssl=context, server_hostname=host if context else None
        )

    def data_context(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """For a data connection: in the session of the control connection, as many servers ask."""
        control = self.stream.writer.transport.get_extra_info("ssl_object")
        return SSLSessionBoundContext(
            ssl.PROTOCOL_TLS_CLIENT, context=context, session=control.session
        )


class FtpFiles:
    """`Files` over one FTP login."""

    def __init__(self, client: _Client, context: ssl.SSLContext | None) -> None:
        self._client = client
        self._context = context

    async def fetch(self, name: str, write: Write) -> None:
        """See `Files`. The end is proven by the reply after it, and the length where it is told."""
        try:
            announced = await self._length(name)
            came = await self._receive(name, write)
        except aioftp.StatusCodeError as error:
            raise _failed(error, name) from None
        except ssl.SSLCertVerificationError as error:
            raise explain(error, "the connection for the data", 0) from None
        except _GONE:
            raise ClosedEarlyError(f"the device closed the connection within {name!r}") from None
        except aioftp.AIOFTPException as error:
            raise FileError(f"the file {name!r} cannot be asked for: {error}") from None
        check_length(name, came, announced)

    async def _length(self, name: str) -> int | None:
        """What the device says of the file's length; many say nothing."""
        await self._client.command("TYPE I", "200")
        code, lines = await self._client.command(f"SIZE {name}", ("213", "4xx", "5xx"))
        told = lines[-1].strip()
        return int(told) if code == "213" and told.isdigit() else None

    async def _receive(self, name: str, write: Write) -> int:
        reader, writer = await self._client.get_passive_connection("I")
        try:
            await self._client.command(f"RETR {name}", "1xx")
            if self._context is not None:
                await writer.start_tls(
                    self._client.data_context(self._context),
                    server_hostname=self._client.server_host,
                )
            came = 0
            while block := await reader.read(_BLOCK):
                came += len(block)
                write(block)
        finally:
            writer.transport.abort()
        await self._client.command(None, "2xx", "1xx")
        return came


def _failed(error: aioftp.StatusCodeError, name: str) -> SessionError:
    code = str(error.received_codes[-1])
    if code in ("421", "426", "451"):
        return ClosedEarlyError(f"the device gave up within {name!r}: it answered {code}")
    if code == "550":
        return FileError(f"there is no file {name!r} on the device that this user may read")
    return FileError(f"the file {name!r} cannot be read: the device answered {code}")

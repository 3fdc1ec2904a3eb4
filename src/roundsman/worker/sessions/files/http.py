"""Files over HTTP and HTTPS: GET, with basic or digest authentication where the device asks.

Over HTTP everything passes in the clear; of digest authentication the password aside.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from roundsman.wire.device import Credentials, Device
from roundsman.worker.deadline import LeaseDeadline
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    ClosedEarlyError,
    FileError,
    RefusedError,
    UnverifiedError,
)
from roundsman.worker.sessions.files.connecting import explain
from roundsman.worker.sessions.files.interface import Write
from roundsman.worker.sessions.files.tls import client_context
from roundsman.worker.sessions.limited import LimitedSocket

_BLOCK: Final = 1 << 18
_REDIRECTS: Final = 5
_REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})


@asynccontextmanager
async def open_files(
    device: Device, deadline: LeaseDeadline, connect_seconds: float, *, tls: bool = False
) -> AsyncIterator["HttpFiles"]:
    """A client for this device alone; it connects when a file is asked for."""
    settings = device.protocol
    port = settings.https.port if tls else settings.http.port
    base = URL.build(scheme="https" if tls else "http", host=device.host, port=port)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=client_context(settings.tls),
            limit=1,
            socket_factory=lambda address: LimitedSocket.of(address, deadline),
            local_addr=(settings.local_address, 0) if settings.local_address else None,
        ),
        cookie_jar=aiohttp.CookieJar(unsafe=True),  # of this device alone, for this run
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        headers={"Accept-Encoding": "identity", "User-Agent": "roundsman"},
        auto_decompress=False,
    ) as session:
        yield HttpFiles(session, base, device.credentials, connect_seconds)


class HttpFiles:
    """`Files` over HTTP."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: URL,
        credentials: Credentials | None,
        connect_seconds: float,
    ) -> None:
        self._session = session
        self._base = base
        self._credentials = credentials
        self._connect_seconds = connect_seconds
        self._where = f"{base.host} port {base.port}"

    async def fetch(self, name: str, write: Write) -> None:
        """See `Files`. The end is proven by the length or the last chunk.

        An answer that has neither ends with the connection, as one that was cut off does: it is
        asked for once more, and both must be the same.
        """
        first = hashlib.sha256()

        def keep(block: bytes) -> None:
            first.update(block)
            write(block)

        try:
            if await self._get(name, keep):
                return
            again = hashlib.sha256()
            await self._get(name, again.update)
        except aiohttp.ClientError as error:
            raise self._explain(error, name) from None
        if again.digest() != first.digest():
            raise UnverifiedError(
                f"the device does not say how long {name!r} is, and what came the second time was "
                "not the same, so that neither is certain to be whole"
            )

    async def _get(self, name: str, write: Write) -> bool:
        """Hand over an answer; whether its end is proven."""
        async with await self._answer(name) as response:
            if response.status != 200:
                raise self._refused(response, name)
            if response.content_type == "text/html" and not name.endswith((".html", ".htm")):
                raise FileError(
                    f"instead of {name!r} came a web page: the device may want a login by its form"
                )
            async for block in response.content.iter_chunked(_BLOCK):
                write(block)
            encoding = response.headers.get("Transfer-Encoding", "").lower()
            return response.content_length is not None or encoding == "chunked"

    async def _answer(self, name: str) -> aiohttp.ClientResponse:
        """The answer to a GET, redirects followed: on the same host, and never out of TLS."""
        target = self._base.join(URL(f"/{name.lstrip('/')}"))
        for _ in range(_REDIRECTS):
            response = await self._authenticated(target)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTED or location is None:
                return response
            response.release()
            target = self._followed(target, location, name)
        raise FileError(f"the file {name!r} is not reached after {_REDIRECTS} redirects")

    @staticmethod
    def _followed(target: URL, location: str, name: str) -> URL:
        try:
            onward = target.join(URL(location))
        except ValueError:
            raise FileError(f"the file {name!r} is redirected to what is no address") from None
        if onward.host != target.host or onward.scheme not in ("https", target.scheme):
            raise FileError(
                f"the file {name!r} is redirected to {onward.scheme}://{onward.host}: expected "
                f"{target.scheme}://{target.host}",
                remedy="if that is where it should be fetched from, make it the device's host",
            )
        return onward

    async def _authenticated(self, target: URL) -> aiohttp.ClientResponse:
        """Ask; and again as the device wants it where it wants to know who asks."""
        response = await self._session.get(target, allow_redirects=False)
        if response.status != 401 or self._credentials is None:
            return response
        schemes = {
            challenge.partition(" ")[0].lower()
            for challenge in response.headers.getall("WWW-Authenticate", [])
        }
        user = self._credentials.user
        password = self._credentials.password.reveal() if self._credentials.password else ""
        response.release()
        if ":" in user:
            raise AuthenticationError(
                f"{self._where} asks who we are, and HTTP has no user names with a colon: {user!r}"
            )
        if "digest" in schemes:
            digest = aiohttp.DigestAuthMiddleware(user, password)
            return await self._session.get(target, allow_redirects=False, middlewares=(digest,))
        basic = {"Authorization": aiohttp.encode_basic_auth(user, password, "utf-8")}
        return await self._session.get(target, allow_redirects=False, headers=basic)

    def _refused(self, response: aiohttp.ClientResponse, name: str) -> Exception:
        if response.status in (401, 403):
            user = self._credentials.user if self._credentials else "nobody"
            return AuthenticationError(
                f"{self._where} did not accept the credentials of user {user!r} for {name!r}",
                remedy="check user and pass of the device",
            )
        if response.status in (404, 410):
            return FileError(f"there is no file {name!r} on the device")
        return FileError(f"the file {name!r} cannot be read: the device answered {response.status}")

    def _explain(self, error: aiohttp.ClientError, name: str) -> Exception:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return explain(error.certificate_error, self._where, self._connect_seconds)
            case aiohttp.ClientConnectorError():
                return explain(error.os_error, self._where, self._connect_seconds)
            case aiohttp.ServerTimeoutError():
                return explain(TimeoutError(), self._where, self._connect_seconds)
            case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
                return ClosedEarlyError(f"the device closed the connection within {name!r}")
            case aiohttp.ClientOSError():
                return ClosedEarlyError(f"the device closed the connection within {name!r}")
            case _:
                return RefusedError(f"{self._where} does not speak HTTP as it should")

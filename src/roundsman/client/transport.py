"""Calls over HTTP: one place for the token, TLS, bounds, retries and errors of every surface."""

import random
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from roundsman import __version__
from roundsman.client.errors import (
    BusyError,
    CertificateError,
    ControllerError,
    FaultError,
    NotConnectedError,
    UnexpectedAnswerError,
    UnreachableError,
    error_for_status,
)
from roundsman.client.retry import ATTEMPTS, RETRIED, Backoff, CallKind
from roundsman.clock import Clock, SystemClock
from roundsman.errors import InvalidError
from roundsman.secret import Secret
from roundsman.wire.process import ErrorAnswer

T = TypeVar("T")

Query = Sequence[tuple[str, str]]

ANSWER_BYTES: Final = 8 << 20
"""Largest answer read, unless a call says otherwise. A page of 1,000 runs is under 1 MiB."""
CALL_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
CONNECTIONS: Final = 100
"""A worker of 200 sessions needs about a dozen: it is its 8 uploads that are slow, not the rest."""
MESSAGE_BYTES: Final = 4 << 20
"""Largest WebSocket message taken."""
WEBSOCKET_HEARTBEAT_SECONDS: Final = 15.0
"""A ping this often; a connection without a pong for half of that is broken, which both ends
otherwise would not notice behind a firewall that forgot it."""

_NOBODY_SERVES: Final = (UnreachableError, BusyError, FaultError)

_error_answer = msgspec.json.Decoder(ErrorAnswer)


class AddressError(InvalidError):
    """The address of the controller cannot be used."""

    code = "controller.address"


def parse_address(text: str) -> URL:
    """The controller's base address; raises `AddressError`.

    >>> parse_address("https://roundsman.example.net:9400")
    URL('https://roundsman.example.net:9400/')
    """
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        shown = "what was given" if "@" in text else repr(text[:200])  # there may be a password
        raise AddressError(
            f"{shown} is not the address of a controller",
            remedy="give one such as https://roundsman.example.net:9400",
        )
    if url.user is not None or url.password is not None:
        raise AddressError(
            f"the address of the controller on {url.host} holds credentials",
            remedy="give them as the token instead",
        )
    return url


def decode(decoder: "msgspec.json.Decoder[T]", answer: bytes) -> T:
    """A record from an answer; raises `UnexpectedAnswerError` when it is something else."""
    try:
        return decoder.decode(answer)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswerError(
            f"the answer is not what a controller of Roundsman says: {error}",
            remedy="check that the address leads to the controller and that the releases agree",
        ) from error


class Transport:
    """A controller, as seen by one bearer of a token. An asynchronous context manager.

    Of several that serve the same site it is one, by chance, and another as soon as that one
    cannot be reached or cannot serve. Connections are kept and shared by everything that calls at
    once. No redirect is followed, no answer is read beyond its bound, and everything that goes
    wrong is a `ControllerError`.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        token: Secret | None = None,
        ca_file: Path | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """Speak to the controller at `address`, trusting `ca_file`, or else the system's.

        Raises `AddressError`, and `CertificateError` when the CA file cannot be used.
        """
        chance = chance if chance is not None else random.SystemRandom()
        addresses = (address,) if isinstance(address, str) else address
        self._urls = [parse_address(text) for text in addresses]
        chance.shuffle(self._urls)
        self._token = token
        secure = any(url.scheme == "https" for url in self._urls)
        self._tls = _tls_context(ca_file) if secure else None
        self._clock = clock if clock is not None else SystemClock()
        self._backoff = Backoff(first=0.2, longest=2.0, chance=chance)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Be ready to call; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS, ssl=self._tls if self._tls is not None else True
            ),
            headers={"User-Agent": f"roundsman/{__version__}", "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def url(self) -> URL:
        """Where the next call goes."""
        return self._urls[0]

    def use_token(self, token: Secret | None) -> None:
        """Speak as the bearer of another token from now on."""
        self._token = token

    async def call(
        self,
        method: str,
        path: str,
        *,
        kind: CallKind,
        query: Query = (),
        body: bytes | None = None,
        form: aiohttp.FormData | None = None,
        expect_continue: bool = False,
        seconds: float = CALL_SECONDS,
        answer_bytes: int = ANSWER_BYTES,
    ) -> bytes:
        """The body of the 2xx answer, empty for 204. Raises a `ControllerError` otherwise.

        Repeats by the table in `retry`. `path` is absolute and already escaped. With
        `expect_continue` the body is sent only once the controller has agreed to take it.
        A form is used up by being sent: only for calls that the table never repeats.
        `seconds` and `answer_bytes` bound each attempt.
        """
        failures = 0
        while True:
            try:
                with self._going_to() as url:
                    async with self._ready().request(
                        method,
                        _target(url, path, query),
                        headers=self._headers(json=body is not None),
                        data=form if form is not None else body,
                        allow_redirects=False,
                        expect100=expect_continue,
                        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                    ) as response:
                        return await _answer_of(response, answer_bytes)
            except RETRIED[kind] as error:
                failures += 1
                if failures >= ATTEMPTS or isinstance(error, CertificateError):
                    raise
                wait = self._backoff.delay(failures, at_least=error.retry_after_seconds)
                await self._clock.sleep(wait)

    @asynccontextmanager
    async def stream(self, path: str, *, query: Query = ()) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a GET as it comes, without a limit on time; never repeated."""
        with self._going_to() as url:
            async with self._ready().get(
                _target(url, path, query),
                headers=self._headers(json=False),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            ) as response:
                if response.status != 200:
                    await _answer_of(response, ANSWER_BYTES)
                    raise UnexpectedAnswerError(f"the answer has status {response.status}")
                yield response.content

    @asynccontextmanager
    async def websocket(
        self, path: str, *, message_bytes: int = MESSAGE_BYTES
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """An open WebSocket, closed on leaving. Raises a `ControllerError` if it cannot be opened.

        Pings keep it proven alive: when they go unanswered, receiving ends with a message of type
        `CLOSED` or `ERROR`, as for any other end. Not repeated: its loop has a pace of its own.
        """
        with self._going_to() as url:
            websocket = await self._ready().ws_connect(
                _target(url, path, ()),
                headers=self._headers(json=False),
                heartbeat=WEBSOCKET_HEARTBEAT_SECONDS,
                max_msg_size=message_bytes,
                timeout=aiohttp.ClientWSTimeout(ws_close=5.0),
            )
        try:
            yield websocket
        finally:
            await websocket.close()

    def _ready(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        return self._session

    def _headers(self, *, json: bool) -> dict[str, str]:
        headers = {"Content-Type": "application/json"} if json else {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return headers

    @contextmanager
    def _going_to(self) -> Iterator[URL]:
        """Where one call goes; when nobody serves there, the next goes elsewhere."""
        url = self.url
        try:
            with _errors_mapped(url):
                yield url
        except _NOBODY_SERVES:
            if url is self.url:  # of several calls that fail together, one moves on
                self._urls.append(self._urls.pop(0))
            raise


@contextmanager
def _errors_mapped(url: URL) -> Iterator[None]:
    """Turn what aiohttp and the system raise into errors of ours, without header values."""
    where = str(url.origin())
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        raise CertificateError(
            f"{where}: no trust in the controller's TLS: {error.os_error}",
            remedy="give the authority that signed its certificate as the CA file",
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotConnectedError(f"{where}: no connection: {_reason(error)}") from error
    except aiohttp.WSServerHandshakeError as error:
        raise error_for_status(error.status)(
            f"{where}: the control channel was refused with status {error.status}",
            status=error.status,
        ) from error
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        raise UnreachableError(f"{where}: {_reason(error)}") from error


def _target(url: URL, path: str, query: Query) -> URL:
    base = url.raw_path.rstrip("/")
    return url.with_path(base + path, encoded=True).with_query(list(query))


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


async def _answer_of(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body of a 2xx answer, read within its bound; for any other, the error it stands for."""
    good = 200 <= response.status <= 299
    answer = bytearray()
    async for chunk in response.content.iter_any():
        answer += chunk
        if len(answer) > limit:
            response.close()
            raise UnexpectedAnswerError(
                f"the answer to {response.method} {response.url.raw_path} is larger than "
                f"{limit} bytes",
                status=response.status,
            )
    if good:
        return bytes(answer)
    raise _error_of(response, bytes(answer))


def _error_of(response: aiohttp.ClientResponse, answer: bytes) -> ControllerError:
    try:
        said = _error_answer.decode(answer)
    except msgspec.DecodeError:
        said = ErrorAnswer(
            error=f"{response.method} {response.url.raw_path} was answered with {response.status} "
            f"{response.reason or ''}".rstrip()
        )
        ours = False
    else:
        ours = True
    return error_for_status(response.status)(
        said.error,
        status=response.status,
        answer_code=said.code,
        ours=ours,
        retry_after_seconds=_retry_after(response),
    )


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """`Retry-After` in seconds; its other form, a date, is not used by controllers."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"{ca_file}: cannot be used as CA file: {error}",
            remedy="give a PEM file with the authority's certificate",
        ) from error

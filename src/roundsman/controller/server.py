"""Serves a controller over HTTP until told to stop, inside the caller's event loop."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final

import uvicorn

from roundsman import logs
from roundsman.config.records import ControllerSettings, Listen
from roundsman.config.settings import is_loopback
from roundsman.controller.api.access_log import AccessLog
from roundsman.controller.api.app import build_app
from roundsman.controller.api.forwarded import BehindProxy
from roundsman.controller.fleet_hub import MESSAGE_BYTES
from roundsman.controller.protocol import Protocol
from roundsman.controller.service import Controller
from roundsman.errors import RoundsmanError

log = logs.get(__name__)

STOP_SECONDS: Final = 30
"""What is being answered at a stop may take so long; then it is cut off, unanswered."""
KEEP_ALIVE_SECONDS: Final = 75
"""For which a connection is kept between two calls: longer than load balancers and the clients of
the worker and fleet APIs keep theirs (60 s, 15 s), so that it is they who close. Where the server
does, a call may be on its way meanwhile, and one that is no GET is not repeated by itself."""
BACKLOG: Final = 2048
OPEN_FILES: Final = 65_536
"""Connections of workers and clients, beside the few files of ledger and archive."""


class ServerError(RoundsmanError):
    """The controller cannot serve as it is told to."""

    code = "server.refused"


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the caller says when to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        started: Callable[[], None],
        drained: "asyncio.Task[None]",
    ) -> None:
        """Call `started` once calls are answered, and serve until `drained` has ended."""
        super().__init__(config)
        self._on_started = started
        self._drained = drained

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def main_loop(self) -> None:
        # The base class polls ten times a second for the stop, and each second sets the Date.
        while not self._drained.done():
            await self.on_tick(0)
            await asyncio.wait({self._drained}, timeout=1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def check_listen(listen: Listen, *, open_access: bool) -> None:
    """Refuse to serve beyond loopback without tokens, or in the clear. Raises `ServerError`."""
    if is_loopback(listen.host):
        return
    if open_access:
        raise ServerError(
            f"listen.host {listen.host}: without tokens only loopback may be served",
            remedy="configure controller.tokens, or listen on 127.0.0.1",
        )
    if listen.tls is None and not listen.behind_proxy:
        raise ServerError(
            f"listen.host {listen.host}: tokens would travel in the clear",
            remedy="configure listen.tls, or say behind_proxy: true where a proxy provides TLS",
        )


def make_room() -> None:
    """Raise this process' limit of open files: each worker holds a connection for good."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(
    controller: Controller, *, stop: asyncio.Event, ready: Callable[[str], None]
) -> None:
    """Open the controller, serve it until `stop` is set, and close it.

    `ready` is told the URL once calls are answered. On stop it is said that the controller is not
    ready, for `listen.drain_seconds`; then nothing new is accepted, what is being answered may take
    `STOP_SECONDS`, and the controller's parts are closed.
    Raises `ServerError`, and what opening raises.
    """
    listen = controller.configuration.controller.listen
    check_listen(listen, open_access=controller.access.open)
    make_room()
    with _bind(listen) as bound:
        try:
            await controller.open(address=_address(controller.configuration.controller, bound))
            await _serve(controller, listen, bound, stop=stop, ready=ready)
        finally:
            await controller.close()
    log.info("server.stopped")


async def _serve(
    controller: Controller,
    listen: Listen,
    bound: socket.socket,
    *,
    stop: asyncio.Event,
    ready: Callable[[str], None],
) -> None:
    def started() -> None:
        url = _url(listen, bound)
        log.info("server.listening", url=url, open=controller.access.open)
        ready(url)

    async def drain() -> None:
        await stop.wait()
        if listen.drain_seconds:
            log.info("server.draining", seconds=listen.drain_seconds)
            controller.draining = True
            await controller.clock.sleep(listen.drain_seconds)

    config = _uvicorn_config(controller, listen)
    drained = asyncio.create_task(drain())
    server = _Server(config, started=started, drained=drained)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await asyncio.shield(serving)
    finally:  # cancelled, it still answers what it has begun
        drained.cancel()
        await serving


def _uvicorn_config(controller: Controller, listen: Listen) -> uvicorn.Config:
    app = AccessLog(build_app(controller), controller.clock)
    config = uvicorn.Config(
        BehindProxy(app) if listen.behind_proxy else app,
        http=Protocol,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        # A worker that is gone without a word is noticed within 25 seconds.
        ws_ping_interval=10.0,
        ws_ping_timeout=15.0,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # it would believe the first address, which the client may make up
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=listen.tls.certificate if listen.tls else None,
        ssl_keyfile=listen.tls.private_key if listen.tls else None,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one of them
        raise ServerError(
            f"listen.tls: certificate and private key cannot be used: {error.strerror or error}",
            remedy="give a PEM certificate, its chain included, and its PEM private key",
        ) from error
    return config


def _bind(listen: Listen) -> socket.socket:
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServerError(
            f"listen {listen.host}:{listen.port}: {error.strerror}",
            remedy="end what listens there, or configure another port",
        ) from error
    # Inherited by each connection. asyncio does not set it on a socket that was made for it, and
    # without it an answer of two writes waits 40 ms for the other side's delayed acknowledgement.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def _address(settings: ControllerSettings, bound: socket.socket) -> str:
    """Where other controllers reach this one: as configured, or else where it listens."""
    if settings.address is not None:
        return settings.address
    url = _url(settings.listen, bound)
    host, port = bound.getsockname()[:2]
    if not ip_address(host).is_unspecified:
        return url
    return f"{url.partition(':')[0]}://{socket.gethostname()}:{port}"


def _url(listen: Listen, bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    scheme = "https" if listen.tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

"""The transport: SSH.

Nothing of the account that the worker runs under is used: no configuration, no keys, no list of
known hosts, and no agent but the one that the worker's settings permit and the credentials ask
for. What counts is in the device's entry and in the host key store.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from roundsman.wire.device import Credentials, Host
from roundsman.worker.sessions import algorithms
from roundsman.worker.sessions.credentials import CredentialOrder
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.route import Route
from roundsman.worker.sessions.ssh_channel import SshConnection
from roundsman.worker.sessions.ssh_login import Guest, Proofs
from roundsman.worker.sessions.tcp import KEEPALIVE_COUNT

# After a farewell. Leaving is a courtesy: it may not cost more than this.
_CLOSE_SECONDS: Final = 2.0

_METHODS: Final = ("publickey", "password", "keyboard-interactive")


@dataclass(frozen=True, kw_only=True)
class SshClient:
    """Logs in over SSH. One for all sessions of a worker."""

    host_keys: HostKeyStore
    credentials: CredentialOrder
    """What to log in with first."""
    agent: Path | None = None
    """Socket of the SSH agent that may be used."""

    @asynccontextmanager
    async def connect(
        self,
        host: Host,
        route: Route,
        *,
        login_seconds: float,
        on_lost: Callable[[Exception | None], None] = lambda _: None,
    ) -> AsyncIterator[SshConnection]:
        """Connect by `route` and log in; on leaving disconnect, or abort when leaving by an error.

        `login_seconds` bounds all between the first answer and being logged in, for each
        connection that it takes. `on_lost` is called when the connection is no more. Raises the
        errors of this package.
        """
        connection, used = await self._log_in(host, route, login_seconds, on_lost)
        keepalive = _begin_to_ask(connection, host.protocol.keepalive_seconds)
        try:
            yield SshConnection(connection, used)
        except BaseException:
            connection.abort()
            raise
        finally:
            keepalive.cancel()
        await _disconnect(connection)

    async def _log_in(
        self,
        host: Host,
        route: Route,
        login_seconds: float,
        on_lost: Callable[[Exception | None], None],
    ) -> tuple[asyncssh.SSHClientConnection, Credentials | None]:
        """A connection that is logged in, and what opened it."""
        async with Proofs(self.credentials.ordered(host), self.agent) as proofs:
            while True:
                guest = Guest(host, self.host_keys, proofs)
                guest.on_lost = on_lost
                try:
                    connection = await self._attempt(host, route, guest, login_seconds)
                except (TimeoutError, OSError, asyncssh.Error) as error:
                    guest.abort()
                    if isinstance(error, asyncssh.PermissionDenied) and guest.unwanted:
                        proofs.skip(guest.user)
                    if not (proofs and guest.is_denial(error)):
                        raise guest.explain(error, login_seconds) from None
                except BaseException:
                    guest.abort()
                    raise
                else:
                    used = proofs.shown.credentials if proofs.shown else host.credentials
                    if used is not None:
                        self.credentials.worked(host, used)
                    return connection, used

    async def _attempt(
        self, host: Host, route: Route, guest: Guest, login_seconds: float
    ) -> asyncssh.SSHClientConnection:
        """One connection, in which whatever the other side allows is shown."""
        settings = host.protocol.ssh
        known = self.host_keys.known(host.host, settings.port, settings.host_keys)
        attempt = asyncssh.connect(
            host.host,
            settings.port,
            tunnel=route,
            client_factory=lambda: guest,
            username=guest.user,
            client_keys=None,  # rather than an empty list, which stands for the account's
            known_hosts=([], [], []),  # none of the account's: `guest` is asked about each key
            config=None,
            agent_path=None,
            gss_host=None,
            preferred_auth=_METHODS,
            kex_algs=algorithms.key_exchange(include_legacy=settings.legacy_algorithms),
            server_host_key_algs=algorithms.host_key_algorithms(
                tuple(key.get_algorithm() for key in known),
                include_legacy=settings.legacy_algorithms,
            ),
            encryption_algs=algorithms.ciphers(include_cbc=settings.include_cbc_ciphers),
            mac_algs=algorithms.MACS,
            compression_algs=("none",),
            tcp_keepalive=host.protocol.keepalive_seconds > 0,
            login_timeout=0,  # `login_seconds` it is
            utf8_decode_errors="replace",  # banners are in whatever encoding
        )
        async with asyncio.timeout(None) as limit:
            guest.on_connected = lambda: limit.reschedule(
                asyncio.get_running_loop().time() + login_seconds
            )
            return await attempt


def _begin_to_ask(connection: asyncssh.SSHClientConnection, seconds: int) -> asyncio.TimerHandle:
    """Have a connection that has lasted so long (0: never) ask after silences of that length.

    asyncssh sets a timer anew for all that comes, of which a short session has no need.
    """
    return asyncio.get_running_loop().call_later(
        seconds, connection.set_keepalive, seconds, KEEPALIVE_COUNT
    )


async def _disconnect(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()

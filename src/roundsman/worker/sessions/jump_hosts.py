"""Jump hosts: the connections to them, which sessions share (docs/adr/0011-jump-hosts.md).

A connection is opened for the first session that needs it. It serves a bounded number of sessions
at once, is closed after a while without any, and is replaced when it breaks. A jump host behind
another one is reached through a share in the connection to that.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncssh

from roundsman.wire.device import Device, JumpHost
from roundsman.wire.device import Protocol as ProtocolSettings
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    ClosedEarlyError,
    RefusedError,
    SessionError,
    UnreachableError,
    quote,
)
from roundsman.worker.sessions.limited import LimitedSession
from roundsman.worker.sessions.route import Route, Straight
from roundsman.worker.sessions.ssh import SshClient
from roundsman.worker.sessions.ssh_channel import PACKET, RECEIVE_WINDOW

_Chain = tuple[JumpHost, ...]

MOST_SESSIONS: Final = 50
"""Sessions that share one connection. Each costs the jump host a channel and a socket; a single
connection encrypts on one of its cores."""

IDLE_SECONDS: Final = 60.0
"""Without sessions, before a connection is closed."""

REFUSED_SECONDS: Final = 60.0
"""For how long credentials that a jump host did not accept are not shown to it again: every session
behind it would do so, and lock the account."""


class JumpHosts:
    """The ways through jump hosts. One for all sessions of a worker."""

    def __init__(
        self,
        client: SshClient,
        *,
        connect_seconds: float,
        login_seconds: float,
    ) -> None:
        """Log in by `client`, each step within these limits."""
        self._client = client
        self._connect_seconds = connect_seconds
        self._login_seconds = login_seconds
        self._shared: dict[_Chain, list[_Shared]] = {}
        self._refused: dict[_Chain, tuple[float, AuthenticationError]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def way_to(self, device: Device, deadline: LeaseDeadline) -> AsyncIterator[Route]:
        """The route to a device, for as long as the session lasts, and `deadline` at the most."""
        async with self._way(device.jump_hosts, device.protocol, deadline) as route:
            yield route

    def close(self) -> None:
        """Drop all connections, without waiting for it."""
        for task in self._tasks:
            task.cancel()

    @asynccontextmanager
    async def _way(
        self, chain: _Chain, settings: ProtocolSettings, deadline: LeaseDeadline
    ) -> AsyncIterator[Route]:
        if not chain:
            yield Straight(settings, deadline, connect_seconds=self._connect_seconds)
            return
        route = _Through(self, chain, deadline, self._connect_seconds)
        try:
            yield route
        except ClosedEarlyError as error:
            raise route.blamed(error) from None
        finally:
            route.leave()

    async def share(self, chain: _Chain) -> tuple["_Shared", bool]:
        """A share in a connection to the last of these, and whether it was open already.

        `_Shared.leave` gives it back.
        """
        self._check_not_refused(chain)
        connections = self._shared.setdefault(chain, [])
        shared = next((one for one in connections if one.has_room), None)
        if shared is None:
            shared = _Shared()
            connections.append(shared)
            task = asyncio.create_task(self._keep_open(chain, shared), name="jump host")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        shared.enter()
        open_already = shared.ready.done()
        try:
            await asyncio.shield(shared.ready)
        except SessionError as error:
            shared.leave()
            raise type(error)(error.text, remedy=error.remedy) from None
        except BaseException:
            shared.leave()
            raise
        return shared, open_already

    def _check_not_refused(self, chain: _Chain) -> None:
        until, error = self._refused.get(chain, (0.0, None))
        if error is not None and asyncio.get_running_loop().time() < until:
            raise AuthenticationError(error.text, remedy=error.remedy)
        self._refused.pop(chain, None)

    async def _keep_open(self, chain: _Chain, shared: "_Shared") -> None:
        """One connection, from its opening to its end."""
        *before, hop = chain
        try:
            async with (
                # Shared by many runs, of which each has a deadline of its own.
                self._way(tuple(before), hop.protocol, NO_DEADLINE) as route,
                self._client.connect(
                    hop, route, login_seconds=self._login_seconds, on_lost=shared.lost
                ) as connection,
            ):
                shared.ready.set_result(connection.raw)
                await shared.idle()
        except SessionError as error:
            named = _named(hop, error)
            if isinstance(named, AuthenticationError):
                now = asyncio.get_running_loop().time()
                self._refused[chain] = now + REFUSED_SECONDS, named
            shared.fail(named)
        except asyncio.CancelledError:
            shared.fail(ClosedEarlyError("the worker is about to end"))
            raise
        except Exception as error:  # noqa: BLE001 - those who wait raise it
            shared.fail(error)
        finally:
            self._forget(chain, shared)

    def _forget(self, chain: _Chain, shared: "_Shared") -> None:
        """Give it to no further session."""
        connections = self._shared[chain]
        connections.remove(shared)
        if not connections:
            del self._shared[chain]


class _Shared:
    """A connection to a jump host, and how many use it."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[asyncssh.SSHClientConnection] = (
            asyncio.get_running_loop().create_future()
        )
        self.sessions = 0
        self.broken: str | None = None
        """Why it is no more."""
        self._changed = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether a further session may use it."""
        return self.broken is None and self.sessions < MOST_SESSIONS

    def enter(self) -> None:
        """One more."""
        self.sessions += 1
        self._changed.set()

    def leave(self) -> None:
        """One less."""
        self.sessions -= 1
        self._changed.set()

    def lost(self, error: Exception | None) -> None:
        """It broke, or was closed."""
        self.broken = quote(str(error)) if error else "closed by the jump host"
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Tell those who wait for it."""
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # looked at, should nobody wait any more

    async def idle(self) -> None:
        """Until it broke, or had no session for a while."""
        while self.broken is None:
            self._changed.clear()
            try:
                async with asyncio.timeout(None if self.sessions else IDLE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                return


class _Through:
    """The way through jump hosts, for one session."""

    def __init__(
        self,
        jump_hosts: JumpHosts,
        chain: _Chain,
        deadline: LeaseDeadline,
        connect_seconds: float,
    ) -> None:
        self._jump_hosts = jump_hosts
        self._chain = chain
        self._deadline = deadline
        self._connect_seconds = connect_seconds
        self._shared: _Shared | None = None

    async def create_connection(
        self, session_factory: Callable[[], Any], host: str, port: int
    ) -> tuple[Any, Any]:
        """See `Route`."""
        self._deadline.check()
        where = f"{host} port {port}, from jump host {self._chain[-1].name!r},"
        for last in (False, True):
            shared, used_before = await self._share()
            try:
                hop: Any = shared.ready.result()  # its types know no session around another
                async with asyncio.timeout(self._connect_seconds):
                    channel, limited = await hop.create_connection(
                        lambda: LimitedSession(session_factory(), self._deadline),
                        host,
                        port,
                        window=RECEIVE_WINDOW,
                        max_pktsize=PACKET,
                    )
                    return channel, limited.above
            except TimeoutError:
                raise UnreachableError(
                    f"{where} did not answer within {self._connect_seconds:g} s"
                ) from None
            except asyncssh.ChannelOpenError as error:
                # One that broke while nobody used it may show so only now.
                if last or not (used_before and shared.broken):
                    raise self._explain(error, where) from None
        raise AssertionError("left by return or raise")

    async def _share(self) -> tuple[_Shared, bool]:
        """Our share in a connection, and whether others had used that before."""
        if self._shared is not None and self._shared.broken:
            self.leave()
        if self._shared is None:
            self._shared, used_before = await self._jump_hosts.share(self._chain)
            return self._shared, used_before
        return self._shared, True

    def leave(self) -> None:
        """The session is over."""
        if self._shared is not None:
            self._shared.leave()
            self._shared = None

    def blamed(self, error: ClosedEarlyError) -> ClosedEarlyError:
        """The same, or that the jump host was it."""
        if self._shared is None or self._shared.broken is None:
            return error
        name = self._chain[-1].name
        return ClosedEarlyError(
            f"the connection to jump host {name!r} was lost: {self._shared.broken}"
        )

    def _explain(self, error: asyncssh.ChannelOpenError, where: str) -> SessionError:
        if self._shared is not None and self._shared.broken:
            return self.blamed(ClosedEarlyError("lost"))
        reason = quote(error.reason)
        if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            return RefusedError(
                f"jump host {self._chain[-1].name!r} does not connect onwards to "
                f"{where.split(',', maxsplit=1)[0]}: {reason}"
            )
        if "refused" in reason.lower():
            return RefusedError(f"{where} refused the connection")
        return UnreachableError(f"{where} cannot be reached: {reason}")


def _named(hop: JumpHost, error: SessionError) -> SessionError:
    """The error, naming the jump host; one that names another already is left alone."""
    if error.text.startswith("jump host "):
        return error
    return type(error)(f"jump host {hop.name!r}: {error.text}", remedy=error.remedy)

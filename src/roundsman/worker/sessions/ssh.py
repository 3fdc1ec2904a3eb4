"""The transport: SSH.

Nothing of the account that the worker runs under is used: no agent, no configuration, no keys,
no list of known hosts. What counts is in the device's entry and in the host key store.
"""

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncssh

from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device
from roundsman.worker.sessions import algorithms
from roundsman.worker.sessions.channel import WINDOW_COLUMNS
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    ClosedEarlyError,
    FileError,
    RefusedError,
    SessionError,
    TimedOutError,
    UnreachableError,
)
from roundsman.worker.sessions.host_keys import HostKeyStore

# Bytes that a device may send ahead of our reading. asyncssh's own default of 2 MiB would be
# 400 MB at 200 sessions.
_RECEIVE_WINDOW: Final = 1 << 18

_PACKET: Final = 1 << 15

# After a farewell. Leaving is a courtesy: it may not cost more than this.
_CLOSE_SECONDS: Final = 2.0

# Where a device asks for no credentials SSH still wants a name.
_NOBODY: Final = "roundsman"

# Window heights of 0 mean "no height" (RFC 4254): a pager then has nothing to page by.
_WINDOW_ROWS: Final = 0


class SshConnection:
    """A connection that is logged in."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    async def open_terminal(self) -> "SshChannel":
        """A terminal with the device's shell.

        The terminal is `dumb`, so that line editors draw as little as they can.
        """
        return await self._open(
            request_pty="force", term_type="dumb", term_size=(WINDOW_COLUMNS, _WINDOW_ROWS)
        )

    async def open_command(self, command: str) -> "SshChannel":
        """One command, run without a shell and without a terminal."""
        return await self._open(command=command)

    async def _open(self, **session: Any) -> "SshChannel":
        channel = SshChannel()
        try:
            await self._connection.create_session(
                lambda: channel,
                encoding=None,
                window=_RECEIVE_WINDOW,
                max_pktsize=_PACKET,
                **session,
            )
        except asyncssh.ChannelOpenError as error:
            raise RefusedError(f"the device opened no session: {_quote(error.reason)}") from None
        except (OSError, asyncssh.DisconnectError) as error:
            raise _closed(error) from None
        return channel

    @asynccontextmanager
    async def open_files(self) -> AsyncIterator[asyncssh.SFTPClient]:
        """The device's files, over SFTP."""
        try:
            client = await self._connection.start_sftp_client()
        except (asyncssh.ChannelOpenError, asyncssh.SFTPError) as error:
            raise FileError(
                f"the device offers no SFTP: {_quote(error.reason)}",
                remedy="set the job's transfer to one that it offers, such as scp",
            ) from None
        except (OSError, asyncssh.DisconnectError) as error:
            raise _closed(error) from None
        try:
            yield client
        finally:
            client.exit()


class SshChannel(asyncssh.SSHClientSession[bytes]):
    """A `Channel` over SSH: what came and was not read yet waits here, bounded by the window."""

    def __init__(self) -> None:
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._received = bytearray()
        self._closed = False
        self._news = asyncio.Event()
        self._gone = asyncio.Event()
        self.exit_status: int | None = None
        """With which status a command ended, if the device said so."""
        self.broken = False
        """Whether the stream ended otherwise than by the device's own will."""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Remember where to write."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Keep what came; ask for no more while much is unread. Both output streams are one."""
        self._received += data
        if self._channel is not None and len(self._received) >= _RECEIVE_WINDOW:
            self._channel.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """The device will write no more."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is closed, for whichever reason."""
        self.broken |= exc is not None
        self._gone.set()
        self._end()

    def exit_status_received(self, status: int) -> None:
        """The command ended."""
        self.exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """The command was ended."""
        self.broken = True

    async def wait_closed(self) -> None:
        """Until no more can come, neither output nor a status."""
        await self._gone.wait()

    def _end(self) -> None:
        self._closed = True
        self._news.set()

    async def read(self) -> bytes:
        """Whatever has come; empty once the device has closed."""
        while not self._received:
            if self._closed:
                return b""
            self._news.clear()
            await self._news.wait()
        data = bytes(self._received)
        self._received.clear()
        if self._channel is not None and not self._closed:
            self._channel.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Send soon."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)


@asynccontextmanager
async def connect(
    device: Device, host_keys: HostKeyStore, *, connect_seconds: float, login_seconds: float
) -> AsyncIterator[SshConnection]:
    """Connect and log in; on leaving disconnect, or abort when leaving by an error.

    `connect_seconds` bounds the wait for an answer to the first packet, `login_seconds` all
    between that and being logged in. Raises the errors of this package.
    """
    settings = device.protocol.ssh
    guest = _Guest(device, host_keys)
    client_keys = _private_keys(device.credentials)
    known = host_keys.known(guest.host, guest.port, guest.given_keys)
    attempt = asyncssh.connect(
        guest.host,
        guest.port,
        client_factory=lambda: guest,
        username=guest.user,
        client_keys=client_keys,
        known_hosts=([], [], []),  # none of the account's: `guest` is asked about each key
        config=None,
        agent_path=None,
        gss_host=None,
        preferred_auth=("publickey", "password", "keyboard-interactive"),
        kex_algs=algorithms.key_exchange(include_legacy=settings.legacy_algorithms),
        server_host_key_algs=algorithms.host_key_algorithms(
            tuple(key.get_algorithm() for key in known),
            include_legacy=settings.legacy_algorithms,
        ),
        encryption_algs=algorithms.ciphers(include_cbc=settings.include_cbc_ciphers),
        mac_algs=algorithms.MACS,
        compression_algs=("none",),
        keepalive_interval=0,
    )
    try:
        async with asyncio.timeout(connect_seconds) as limit:
            guest.on_connected = lambda: limit.reschedule(
                asyncio.get_running_loop().time() + login_seconds
            )
            connection = await attempt
    except (TimeoutError, OSError, asyncssh.Error) as error:
        guest.abort()
        raise guest.explain(error, connect_seconds, login_seconds) from None
    except BaseException:
        guest.abort()
        raise
    try:
        yield SshConnection(connection)
    except BaseException:
        connection.abort()
        raise
    await _disconnect(connection)


async def _disconnect(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()


class _Guest(asyncssh.SSHClient):
    """Our side of a login: answers the device's questions, and notes how far it came."""

    def __init__(self, device: Device, host_keys: HostKeyStore) -> None:
        self.host = device.host
        self.port = device.protocol.ssh.port
        self.given_keys = device.protocol.ssh.host_keys
        self.on_connected: Callable[[], None] = lambda: None
        self.user = device.credentials.user if device.credentials else _NOBODY
        self._password = device.credentials.password if device.credentials else None
        self._host_keys = host_keys
        self._connection: asyncssh.SSHClientConnection | None = None
        self._key_problem: SessionError | None = None
        self._key_accepted = False
        self._password_sent = False
        self._answered = False

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """The TCP connection stands."""
        self._connection = conn
        self.on_connected()

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Ask the store; keep its reason for `explain`."""
        try:
            self._host_keys.check(self.host, self.port, key, self.given_keys)
        except SessionError as error:
            self._key_problem = error
            return False
        self._key_accepted = True
        return True

    def password_auth_requested(self) -> str | None:
        """The password, once."""
        if self._password is None or self._password_sent:
            return None
        self._password_sent = True
        return self._password.reveal()

    def kbdint_auth_requested(self) -> str | None:
        """Take part, once, if there is a password to give."""
        if self._password is None or self._answered:
            return None
        self._answered = True
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        """The user name where the answer may be seen, the password where it may not."""
        secret = self._password.reveal() if self._password is not None else ""
        return [self.user if echo else secret for _, echo in prompts]

    def abort(self) -> None:
        """Drop the connection, if there is one."""
        if self._connection is not None:
            self._connection.abort()

    def explain(self, error: Exception, connect_seconds: float, login_seconds: float) -> Exception:
        """What `error`, met while connecting, means."""
        where = f"{self.host} port {self.port}"
        match error:
            case _ if self._key_problem is not None:
                return self._key_problem
            case TimeoutError() if self._connection is None:
                return UnreachableError(f"{where} did not answer within {connect_seconds:g} s")
            case TimeoutError():
                step = "logging in" if self._key_accepted else "the SSH handshake"
                return TimedOutError(
                    f"{where} accepted the connection, but {step} did not end within "
                    f"{login_seconds:g} s"
                )
            case ConnectionRefusedError():
                return RefusedError(f"{where} refused the connection")
            case socket.gaierror():
                return UnreachableError(f"{self.host} was not found: {error.strerror}")
            case OSError() if self._connection is None:
                return UnreachableError(f"{where} cannot be reached: {error.strerror or error}")
            case asyncssh.PermissionDenied():
                return self._denied(where)
            case _ if "authentication fail" in str(error).lower():
                return self._denied(where)  # OpenSSH: "Too many authentication failures"
            case asyncssh.KeyExchangeFailed() | asyncssh.ProtocolNotSupported():
                return RefusedError(
                    f"{where} and the worker have no way of speaking SSH in common: "
                    f"{_quote(str(error))}"
                )
            case _:
                step = "during login" if self._key_accepted else "during the SSH handshake"
                return RefusedError(f"{where} ended the connection {step}: {_quote(str(error))}")

    def _denied(self, where: str) -> AuthenticationError:
        return AuthenticationError(
            f"{where} did not accept the credentials of user {self.user!r}",
            remedy="check user, pass and private_key of the device",
        )


def _private_keys(credentials: Credentials | None) -> list[asyncssh.SSHKey] | None:
    """The device's key; none (rather than an empty list) keeps asyncssh from the account's."""
    if credentials is None or credentials.private_key is None:
        return None
    try:
        return [_read_private_key(credentials.private_key, credentials.passphrase)]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        # Their texts may quote the key: not shown.
        raise AuthenticationError(
            f"the private key of user {credentials.user!r} cannot be read: expected OpenSSH or "
            "PEM format, with its passphrase if it has one",
            remedy="check private_key and passphrase of the device",
        ) from None


# Fleets share keys, and each unlocking of an encrypted one takes about 0.1 s by design.
@functools.lru_cache(maxsize=64)
def _read_private_key(key: Secret, passphrase: Secret | None) -> asyncssh.SSHKey:
    return asyncssh.import_private_key(key.reveal(), passphrase.reveal() if passphrase else None)


def _closed(error: Exception) -> ClosedEarlyError:
    return ClosedEarlyError(f"the device closed the connection: {_quote(str(error))}")


def _quote(text: str) -> str:
    """A reason that the device gave: bounded, printable."""
    return "".join(c if c.isprintable() else " " for c in text[:200]).strip() or "no reason given"

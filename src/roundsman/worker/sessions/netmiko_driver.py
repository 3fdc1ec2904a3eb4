"""Sessions by netmiko's drivers, for platforms that have no file of their own.

It blocks, and is called in threads. Host keys are checked by the worker's store, and nothing of
the account that the worker runs under is used, as in `ssh`. Algorithms are paramiko's, less those
that the device's entry does not ask for.

What it proves is less than what `shell` does. netmiko reads until a pattern matches; here that
pattern is the prompt that was found after login, alone on the last line of what has come, and once
it has matched, an empty line is sent, after which only that prompt may come. But output that pauses
behind such a line and goes on after the answer to the question is cut there, lines are drawn by the
driver, and characters that are not UTF-8 are replaced.

Of the extra `netmiko`: importing this module fails where it is not installed.
"""

import codecs
import io
import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import asyncssh
import paramiko
from netmiko import BaseConnection, ssh_dispatcher
from netmiko.channel import SSHChannel
from netmiko.exceptions import (
    NetmikoAuthenticationException,
    NetmikoTimeoutException,
    ReadException,
    ReadTimeout,
)
from netmiko.netmiko_globals import MAX_BUFFER

from roundsman.wire.device import Credentials, Device, ProtocolType
from roundsman.worker.deadline import LeaseDeadline
from roundsman.worker.sessions.errors import (
    AuthenticationError,
    ClosedEarlyError,
    EnableError,
    PlatformError,
    PromptError,
    RefusedError,
    SessionError,
    TimedOutError,
    TooLargeError,
    UnverifiedError,
)
from roundsman.worker.sessions.files.connecting import explain

# What goes wrong comes as an exception; beside it both would write traces of it to the log.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)
logging.getLogger("netmiko").setLevel(logging.CRITICAL)

_SILENCE_SECONDS: Final = 0.5
"""After the question for the second prompt: so long nothing else may come."""

_LEGACY: Final = {
    "kex": (
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group-exchange-sha1",
    ),
    "keys": ("ssh-rsa",),
    "pubkeys": ("ssh-rsa",),
    "macs": ("hmac-md5", "hmac-md5-96", "hmac-sha1-96"),
}
_CBC: Final = ("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc")

_HOST_KEYS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
)

CheckKey = Callable[[asyncssh.SSHKey], None]
"""Accepts the host key that was shown, or raises `HostKeyError`."""


class NetmikoSession:
    """One session. Any thread may call it, one at a time; `abort` at any time."""

    def __init__(
        self,
        device: Device,
        credentials: Credentials | None,
        connected: socket.socket | None,
        deadline: LeaseDeadline,
        *,
        known_keys: Sequence[asyncssh.SSHKey],
        check_key: CheckKey,
        connect_seconds: float,
        login_seconds: float,
        max_bytes: int,
        tail_bytes: int,
        on_received: Callable[[int], None],
    ) -> None:
        """Describe it. Over SSH, `connected` leads to the device; over Telnet it connects itself.

        Nothing is typed once `deadline` is over. `known_keys` are the host keys that the device may
        show, if known.

        More than `max_bytes` from the device is a `TooLargeError`; the last `tail_bytes` of what it
        said can be taken. `on_received` hears, in the session's thread, how many bytes came.
        """
        self._device = device
        self._type = device.netmiko or ""
        self._key_algorithms = _algorithms_of(known_keys)
        self._check_key = check_key
        self._connect_seconds = connect_seconds
        self._login_seconds = login_seconds
        self._heard = _Heard(max_bytes, tail_bytes, on_received)
        self._credentials = credentials
        self._socket = connected
        self._deadline = deadline
        self._connection: BaseConnection | None = None
        self._prompt = ""

    def take_heard(self) -> bytes:
        """The last of what the device said since it was taken before."""
        return self._heard.take()

    def open(self) -> None:
        """Connect, log in, enable, and find the prompt."""
        if self._socket is not None:
            self._socket.settimeout(None)  # it comes from the event loop; paramiko waits on it
        kind = self._driver_type()
        try:
            driver = ssh_dispatcher(kind)
        except KeyError:
            raise PlatformError(
                f"netmiko has no driver {kind!r}", remedy="correct platform of the device"
            ) from None
        with self._explained("login"):
            telnet = kind.endswith("_telnet")
            self._connection = connection = driver(
                **(self._telnet_settings() if telnet else self._ssh_settings()),
                **self._settings(kind),
            )
            self._limit(connection)
            if not telnet:
                connection.key_policy = _AskStore(self._check_key)
                connection.sock = self._socket
            # What auto_connect would do, with a channel of ours in between.
            connection._modify_connection_params()
            connection.establish_connection()
            if isinstance(connection.channel, SSHChannel):
                connection.channel = _Channel(connection.channel.remote_conn, connection.encoding)
            connection._try_session_preparation()
        self._enable(connection)
        with self._explained("login"):
            self._prompt = connection.find_prompt()

    def run(self, command: str, seconds: float) -> bytes:
        """The output of one command."""
        connection = cast("BaseConnection", self._connection)  # opened before
        # At the beginning of a line, and at the end of what has come.
        pattern = rf"(?:^|[\r\n]){re.escape(self._prompt)}\s*$"
        with self._explained(f"{command!r}", seconds):
            output = connection.send_command(command, expect_string=pattern, read_timeout=seconds)
            connection.write_channel(connection.RETURN)
            rest = connection.read_channel_timing(last_read=_SILENCE_SECONDS, read_timeout=seconds)
        lines = {line.strip() for line in rest.splitlines()} - {""}
        if lines != {self._prompt}:
            raise UnverifiedError(
                f"after the output of {command!r} came more than the prompt {self._prompt!r}, so "
                "that it is not certain to be whole"
            )
        text = cast("str", output)  # no parser was asked for
        return text.encode() if text.endswith("\n") or not text else f"{text}\n".encode()

    def close(self) -> None:
        """Say goodbye and disconnect."""
        if self._connection is not None:
            self._connection.disconnect()
        self.abort()

    def abort(self) -> None:
        """Drop the connection: what another thread is doing with it then fails."""
        self._heard.close()
        connection = self._connection
        with suppress(OSError, EOFError, AttributeError):
            if connection is not None and connection.remote_conn is not None:
                connection.remote_conn.close()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _limit(self, connection: Any) -> None:
        """Look at the deadline before a driver types; over Telnet its socket is not ours."""
        write = connection.write_channel

        def write_in_time(out_data: str) -> None:
            self._deadline.check()
            write(out_data)

        connection.write_channel = write_in_time

    def _driver_type(self) -> str:
        """Over Telnet the driver has a name of its own."""
        if self._device.protocol.type is ProtocolType.TELNET:
            return f"{self._type.removesuffix('_ssh')}_telnet"
        return self._type

    def _settings(self, kind: str) -> dict[str, Any]:
        credentials = self._credentials
        password = _revealed(credentials, "password")
        return {
            "device_type": kind,
            "host": self._device.host,
            "username": credentials.user if credentials else "",
            "password": password,
            "secret": _revealed(credentials, "enable") or password,
            "conn_timeout": self._connect_seconds,
            "session_log": self._heard,
            "auto_connect": False,
        }

    def _telnet_settings(self) -> dict[str, Any]:
        return {"port": self._device.protocol.telnet.port}

    def _ssh_settings(self) -> dict[str, Any]:
        ssh = self._device.protocol.ssh
        disabled = {} if ssh.legacy_algorithms else {k: list(v) for k, v in _LEGACY.items()}
        if not ssh.include_cbc_ciphers:
            disabled["ciphers"] = list(_CBC)
        if self._key_algorithms:  # shown another kind of key, the store would take it for a change
            disabled["keys"] = [name for name in _HOST_KEYS if name not in self._key_algorithms]
        return {
            "port": ssh.port,
            "banner_timeout": self._login_seconds,
            "auth_timeout": self._login_seconds,
            "use_keys": False,
            "allow_agent": False,
            "pkey": _private_key(self._credentials),
            "disabled_algorithms": disabled,
        }

    def _enable(self, connection: BaseConnection) -> None:
        if _revealed(self._credentials, "enable"):
            try:
                connection.enable()
            except ValueError:
                raise EnableError("the privileged mode was not reached") from None

    @contextmanager
    def _explained(self, what: str, seconds: float = 0) -> Iterator[None]:
        """Errors of netmiko, paramiko and sockets as ours."""
        try:
            yield
        except SessionError:
            raise
        except NetmikoAuthenticationException:
            user = self._credentials.user if self._credentials else "nobody"
            raise AuthenticationError(
                f"{self._device.host} did not accept the credentials of user {user!r}",
                remedy="check user, pass and private_key of the device",
            ) from None
        except ReadTimeout:
            if what == "login":
                raise PromptError("netmiko's driver did not find the prompt") from None
            raise TimedOutError(
                f"{what} did not end within {seconds:g} s: expected the prompt {self._prompt!r}"
            ) from None
        except NetmikoTimeoutException as error:
            raise RefusedError(
                f"{self._device.host} ended the connection, or its login: {_first_line(error)}"
            ) from None
        except (EOFError, ReadException, paramiko.SSHException):
            raise ClosedEarlyError(f"the device closed the connection within {what}") from None
        except OSError as error:
            telnet = self._device.protocol.type is ProtocolType.TELNET
            if telnet and (self._connection is None or self._connection.remote_conn is None):
                where = f"{self._device.host} port {self._device.protocol.telnet.port}"
                raise explain(error, where, self._connect_seconds) from None
            raise ClosedEarlyError(f"the device closed the connection within {what}") from None
        except ValueError as error:
            raise PromptError(f"netmiko's driver did not get on: {_first_line(error)}") from None


class _Channel(SSHChannel):
    """What the device sends.

    netmiko's own channel waits on when the device has closed it, and loses characters that come
    in two parts.
    """

    def __init__(self, conn: paramiko.Channel, encoding: str) -> None:
        super().__init__(conn, encoding)
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read_channel(self) -> str:
        """Whatever has come; raises `EOFError` when there is nothing and the device has closed."""
        conn = self.remote_conn
        closed = conn is None or conn.closed or conn.eof_received
        output = ""
        while conn is not None and conn.recv_ready():
            output += self._decoder.decode(conn.recv(MAX_BUFFER))
        if closed and not output:
            raise EOFError
        return output


class _Heard(io.BufferedIOBase):
    """What the device said, of which the last is kept; netmiko writes it here."""

    def __init__(self, max_bytes: int, tail_bytes: int, on_received: Callable[[int], None]) -> None:
        self._on_received = on_received
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._tail_bytes = tail_bytes
        self._tail = bytearray()

    def write(self, data: Any) -> int:
        """Keep it; raises `TooLargeError` beyond the limit."""
        if self.closed:
            raise EOFError
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError(f"the device sent more than {self._max_bytes} bytes")
        self._on_received(len(data))
        self._tail += data
        del self._tail[: -self._tail_bytes]
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._tail)
        self._tail.clear()
        return taken


class _AskStore(paramiko.MissingHostKeyPolicy):  # type: ignore[misc] # paramiko has no types
    """paramiko itself is given no known keys, so that it asks about each."""

    def __init__(self, check: CheckKey) -> None:
        self._check = check

    def missing_host_key(self, client: object, hostname: str, key: Any) -> None:
        """Accept the key by returning."""
        self._check(asyncssh.import_public_key(f"{key.get_name()} {key.get_base64()}"))


def _algorithms_of(keys: Sequence[asyncssh.SSHKey]) -> tuple[str, ...]:
    """By which algorithms a device shows that it has one of these keys."""
    found: dict[str, None] = {}
    for key in keys:
        name = key.get_algorithm()
        rsa = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
        found.update(dict.fromkeys(rsa if name == "ssh-rsa" else (name,)))
    return tuple(found)


def _revealed(credentials: Credentials | None, name: str) -> str:
    secret = getattr(credentials, name, None)
    return secret.reveal() if secret is not None else ""


def _private_key(credentials: Credentials | None) -> object | None:
    if credentials is None or credentials.private_key is None:
        return None
    passphrase = credentials.passphrase.reveal() if credentials.passphrase else None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            text = io.StringIO(credentials.private_key.reveal())
            key: object = kind.from_private_key(text, password=passphrase)
        except (paramiko.SSHException, ValueError):
            continue
        return key
    # Their texts may quote the key: not shown.
    raise AuthenticationError(
        f"the private key of user {credentials.user!r} cannot be read: expected OpenSSH or PEM "
        "format, with its passphrase if it has one",
        remedy="check private_key and passphrase of the device",
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or ["no reason given"])[0][:200]

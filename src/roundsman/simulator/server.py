"""A port of the loopback interface behind which dialogues are played, over real SSH or Telnet."""

import asyncio
import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, cast

import asyncssh
import telnetlib3

from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.files import DeviceFiles
from roundsman.simulator.terminal import Answer, Dialogue, Echo, HungUp, Outlet, Terminal
from roundsman.wire.device import ProtocolType

HOST: Final = "127.0.0.1"

_BLOCK: Final = 4096
_MOST_LOGINS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who is let in."""

    user: str
    password: str

    def is_right(self, user: str, password: str) -> bool:
        """Whether these are user and password."""
        known = hmac.compare_digest(user.encode(), self.user.encode())
        return hmac.compare_digest(password.encode(), self.password.encode()) and known


class DialogueServer:
    """Plays a new dialogue for each session. Its host key is new unless one is given."""

    def __init__(
        self,
        dialogue: Callable[[], Dialogue],
        *,
        protocol: ProtocolType = ProtocolType.SSH,
        login: Login | None = None,
        faults: Faults = NO_FAULTS,
        host_key: asyncssh.SSHKey | None = None,
        port: int = 0,
    ) -> None:
        """Describe it; `start` brings it up. Without `login` everybody is let in, unasked."""
        self.protocol = protocol
        self.login = login
        self.faults = faults
        self.sessions = 0
        """Logins so far."""
        self.host_key = host_key or asyncssh.generate_private_key("ssh-ed25519")
        self._dialogue = dialogue
        self._server: asyncssh.SSHAcceptor | asyncio.Server | telnetlib3.server.Server | None = None
        self.connections: set[asyncio.WriteTransport | asyncssh.SSHServerConnection] = set()
        self._port = port
        self._served: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The TCP port, from the first start on; it stays the same over restarts."""
        return self._port

    async def start(self) -> None:
        """Listen."""
        if self.faults.silent:
            server = await asyncio.start_server(self._say_nothing, HOST, self._port)
            self._server, self._port = server, server.sockets[0].getsockname()[1]
        elif self.protocol is ProtocolType.TELNET:
            await self._start_telnet()
        else:
            await self._start_ssh()

    async def _start_ssh(self) -> None:
        server = await asyncssh.listen(
            HOST,
            self._port,
            server_factory=partial(_Door, self),
            server_host_keys=[self.host_key],
            session_factory=self._serve_ssh,
            sftp_factory=self._serve_files if self.files() else None,
            encoding=None,
            line_editor=False,
            gss_host=None,
            config=None,
        )
        self._server, self._port = server, server.get_port()

    async def _start_telnet(self) -> None:
        server = await telnetlib3.create_server(
            HOST,
            self._port,
            shell=self._serve_telnet,
            encoding=False,
            connect_maxwait=0,
            compression=False,
            timeout=0,
        )
        sockets = server.sockets or ()
        self._server, self._port = server, sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and drop every connection."""
        if self._server is None:
            return
        for connection in [*self.connections]:
            connection.abort()
        self._server.close()
        for session in self._served:
            session.cancel()  # some stall for good
        await asyncio.gather(*self._served, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """Files to be fetched over SFTP, by absolute path."""
        return {}

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """Know of this session until either side hangs up, so that it ends with the server."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._served.add(task)
        try:
            yield
        except (HungUp, OSError, asyncssh.Error):
            pass
        finally:
            self._served.discard(task)

    async def _serve_ssh(
        self,
        stdin: "asyncssh.SSHReader[bytes]",
        stdout: "asyncssh.SSHWriter[bytes]",
        _: "asyncssh.SSHWriter[bytes]",
    ) -> None:
        self.sessions += 1
        channel = stdout.channel
        command = channel.get_command()
        connection, dialogue = _Ssh(stdin, stdout), self._dialogue()
        with self._serving():
            if command is None:
                await Terminal(connection, dialogue, self.faults).run()
            else:
                answer = dialogue.execute(command)
                await Outlet(connection, self.faults).write_answer(answer)
                cast("asyncssh.SSHServerChannel[bytes]", channel).exit(answer.status)
        stdout.close()

    def _serve_files(self, channel: "asyncssh.SSHServerChannel[bytes]") -> DeviceFiles:
        return DeviceFiles(channel, self.files())

    async def _serve_telnet(
        self,
        reader: "telnetlib3.TelnetReader",
        writer: "telnetlib3.TelnetWriter",
    ) -> None:
        connection = _Telnet(reader, writer)
        self.connections.add(connection.transport)
        with self._serving():
            writer.iac(telnetlib3.WILL, telnetlib3.ECHO)
            writer.iac(telnetlib3.WILL, telnetlib3.SGA)
            if self.login is None or await self._logged_in(connection):
                self.sessions += 1
                await Terminal(connection, self._dialogue(), self.faults).run()
        self.connections.discard(connection.transport)
        writer.close()

    async def _logged_in(self, connection: "_Telnet") -> bool:
        for _ in range(_MOST_LOGINS):
            asked = _Asked(self)
            try:
                await Terminal(connection, asked, self.faults).run()
            except HungUp:
                return False
            if asked.right:
                return True
            connection.write(b"% Login invalid\r\n\r\n")
        return False

    async def _say_nothing(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections.add(writer.transport)
        while await reader.read(_BLOCK):
            pass
        self.connections.discard(writer.transport)
        writer.close()


class _Door(asyncssh.SSHServer):
    """Lets in who knows the password."""

    def __init__(self, server: DialogueServer) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return self._server.login is not None

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        login, refuses = self._server.login, self._server.faults.refuses_password
        return login is not None and login.is_right(username, password) and not refuses


class _Asked(Dialogue):
    """User and password, asked in the terminal."""

    def __init__(self, server: DialogueServer) -> None:
        self._server = server
        self._user: str | None = None
        self.right = False

    def begin(self) -> Answer:
        return Answer(output=b"")

    def prompt(self) -> bytes:
        return b"Username: " if self._user is None else b"Password: "

    def answer(self, line: str) -> Answer:
        if self._user is None:
            self._user = line or None
            return Answer(output=b"")
        login, refuses = self._server.login, self._server.faults.refuses_password
        self.right = login is not None and login.is_right(self._user, line) and not refuses
        return Answer(output=b"", ends_session=True)

    @property
    def echo(self) -> Echo:
        return Echo.TYPED if self._user is None else Echo.LINE_ENDS


class _Ssh:
    """A `Connection` over SSH."""

    def __init__(
        self, stdin: "asyncssh.SSHReader[bytes]", stdout: "asyncssh.SSHWriter[bytes]"
    ) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def read(self) -> bytes:
        return await self._stdin.read(_BLOCK)

    def write(self, data: bytes) -> None:
        self._stdout.write(data)

    async def drain(self) -> None:
        await self._stdout.drain()

    def abort(self) -> None:
        self._stdout.get_extra_info("connection").abort()


class _Telnet:
    """A `Connection` over Telnet."""

    def __init__(self, reader: telnetlib3.TelnetReader, writer: telnetlib3.TelnetWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._after_return = False

    @property
    def transport(self) -> asyncio.WriteTransport:
        return cast("asyncio.WriteTransport", self._writer.transport)

    async def read(self) -> bytes:
        """What was typed; what follows the carriage return of Enter is no key."""
        while data := await self._reader.read(_BLOCK):
            first = data[:1] in {b"\n", b"\0"} and self._after_return
            self._after_return = data.endswith(b"\r")
            typed = data[first:].replace(b"\r\n", b"\r").replace(b"\r\0", b"\r")
            if typed:
                return typed
        return b""

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        if self._writer.is_closing():
            raise HungUp
        await self._writer.drain()

    def abort(self) -> None:
        self.transport.abort()

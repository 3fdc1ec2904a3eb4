"""One device: an SSH server on a port of the loopback interface."""

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import asyncssh

from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.files import DeviceFiles
from roundsman.simulator.kinds import Enter, Kind, Leave, State
from roundsman.simulator.terminal import Answer, Dialogue, Terminal

HOST: Final = "127.0.0.1"


class SimulatedDevice:
    """A device of some kind. Its host key is new with each object unless one is given."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        *,
        user: str = "admin",
        password: str = "letmein",
        faults: Faults = NO_FAULTS,
        config_bytes: int = 4000,
        host_key: asyncssh.SSHKey | None = None,
        dialogue: Callable[[], Dialogue] | None = None,
    ) -> None:
        """Describe the device; `start` brings it up. `dialogue` replaces that of its kind."""
        self.kind = kind
        self.name = name
        self.user = user
        self.password = password
        self.faults = faults
        self.host_key = host_key or asyncssh.generate_private_key("ssh-ed25519")
        self.state = State(host=name, config_bytes=config_bytes)
        self.sessions = 0
        """Logins so far."""
        self._dialogue = dialogue or partial(KindDialogue, self)
        self._server: asyncio.Server | asyncssh.SSHAcceptor | None = None
        self._silent: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def port(self) -> int:
        """The TCP port, from the first start on; it stays the same over restarts."""
        return self._port

    def edit(self) -> None:
        """Change the configuration."""
        self.state = replace(self.state, revision=self.state.revision + 1)

    def output(self, command: str) -> str:
        """What a command prints now, with LF line ends."""
        found = self.kind.commands.get(command)
        return found(self.state) if callable(found) else ""

    async def start(self) -> None:
        """Listen."""
        if self.faults.silent:
            self._server = await asyncio.start_server(self._say_nothing, HOST, self._port)
            self._port = self._server.sockets[0].getsockname()[1]
            return
        self._server = await asyncssh.listen(
            HOST,
            self._port,
            server_factory=partial(_Door, self),
            server_host_keys=[self.host_key],
            session_factory=self._serve,
            sftp_factory=self._serve_files if self.kind.files else None,
            encoding=None,
            line_editor=False,
            gss_host=None,
            config=None,
        )
        self._port = self._server.get_port()

    async def stop(self) -> None:
        """Listen no more, and drop every connection."""
        if self._server is None:
            return
        for writer in self._silent:
            writer.transport.abort()
        if isinstance(self._server, asyncssh.SSHAcceptor):
            self._server.close()
        else:
            self._server.close()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> "SimulatedDevice":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(
        self,
        stdin: "asyncssh.SSHReader[bytes]",
        stdout: "asyncssh.SSHWriter[bytes]",
        _: "asyncssh.SSHWriter[bytes]",
    ) -> None:
        self.sessions += 1
        await Terminal(stdin, stdout, self._dialogue(), self.faults).run()
        stdout.close()

    def _serve_files(self, channel: "asyncssh.SSHServerChannel[bytes]") -> DeviceFiles:
        files = {path: partial(make, self.state) for path, make in self.kind.files.items()}
        return DeviceFiles(channel, files)

    async def _say_nothing(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._silent.add(writer)
        while await reader.read(4096):
            pass
        self._silent.discard(writer)
        writer.close()


class KindDialogue:
    """What a device of a kind answers, in one session."""

    def __init__(self, device: SimulatedDevice) -> None:
        """Begin in the kind's first mode."""
        self._device = device
        self._first_mode = next(iter(device.kind.prompts))
        self._mode = self._first_mode

    def begin(self) -> bytes:
        """The kind's greeting."""
        return _drawn(self._device.kind.greeting.format(host=self._device.name))

    def prompt(self) -> bytes:
        """The mode's prompt."""
        return self._device.kind.prompts[self._mode].format(host=self._device.name).encode()

    def answer(self, line: str) -> Answer:
        """Carry out a command."""
        command = line.strip()
        if not command:
            return Answer(output=b"")
        match self._device.kind.commands.get(command):
            case None:
                return Answer(output=_drawn(self._device.kind.unknown.format(command=command)))
            case Enter(mode=mode):
                self._mode = mode
                return Answer(output=b"")
            case Leave() if self._mode == self._first_mode:
                return Answer(output=b"", ends_session=True)
            case Leave():
                self._mode = self._first_mode
                return Answer(output=b"")
            case prints:
                return Answer(output=_drawn(prints(self._device.state)))


class _Door(asyncssh.SSHServer):
    """Lets in who knows the password."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        right = hmac.compare_digest(password.encode(), self._device.password.encode())
        known = hmac.compare_digest(username.encode(), self._device.user.encode())
        return right and known and not self._device.faults.refuses_password


def _drawn(text: str) -> bytes:
    """Text as a terminal wants it."""
    return text.replace("\n", "\r\n").encode()

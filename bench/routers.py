"""Simulated routers in a process of their own: `python -m bench.routers COUNT`.

They speak SSH, and Telnet on a second port, and are as lean as asyncssh lets a server be, so that
the client's side is what is measured. Their configuration holds nothing that misleads: most
programs take a line that looks like a prompt for the prompt, and would be done sooner for it.

The routers are printed as one line of JSON. They live until standard input is closed. With
`--hold` they stop in the midst of each configuration until a line is read from there, and print how
many sessions they hold. With `--dead`
and `--stalled` one in ten does not answer to connections, and one in ten stops in the midst of its
configuration for good.
"""

import argparse
import asyncio
import json
import logging
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

import asyncssh

HOST: Final = "127.0.0.1"
USER: Final = "admin"
CONFIG_BYTES: Final = 20_000
SHOW: Final = "show running-config"

_NEGOTIATION: Final = b"\xff\xfb\x01\xff\xfb\x03"  # will echo, will suppress go-ahead
_COMMANDS: Final = re.compile(rb"\xff(?:\xfa.*?\xff\xf0|[\xfb-\xfe].)", re.DOTALL)
_LINE_END: Final = re.compile(rb"\r\n|\r\0|\r|\n")


@dataclass(frozen=True, kw_only=True)
class Router:
    """How one is reached."""

    name: str
    host: str
    port: int
    telnet_port: int
    user: str
    password: str
    living: bool = True
    """Whether it answers, and to the end."""


@dataclass(frozen=True, slots=True)
class Running:
    """Routers that run, and how they are spoken to."""

    routers: list[Router]
    process: "subprocess.Popen[str]"

    def wait_until_held(self, count: int) -> None:
        """Wait until so many sessions are held in the midst of their answers."""
        assert self.process.stdout is not None
        while int(self.process.stdout.readline()) < count:
            pass

    def release(self) -> None:
        """Let the answers go that are held back."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def cpu_seconds(self) -> float:
        """What they have used so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:  # noqa: PTH123  # nothing to gain
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / 100


@contextmanager
def running(count: int, *options: str) -> Iterator[Running]:
    """So many routers, until left."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.routers", str(count), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        routers = [Router(**fields) for fields in json.loads(process.stdout.readline())]
        try:
            yield Running(routers, process)
        finally:
            process.kill()


class _Held:
    """What waits to be released."""

    def __init__(self, *, hold: bool) -> None:
        self._hold = hold
        self._waiting: list[Callable[[], None]] = []

    def when_released(self, work: Callable[[], None]) -> None:
        if self._hold:
            self._waiting.append(work)
            print(len(self._waiting), flush=True)
        else:
            work()

    def release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()


class _Terminal:
    """What a router writes to what is typed."""

    def __init__(
        self,
        name: str,
        config: bytes,
        held: _Held,
        write: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        self._prompt = f"{name}#".encode()
        self._config = config
        self._held = held
        self._write = write
        self._close = close
        self._line = b""

    def begin(self) -> None:
        self._write(b"\r\n" + self._prompt)

    def typed(self, data: bytes) -> None:
        *lines, rest = _LINE_END.split(self._line + data)
        echoed = len(self._line)
        for line in lines:
            echo = line[echoed:] + b"\r\n"
            echoed = 0
            self._enter(line.strip(), echo)
        self._write(rest[echoed:])
        self._line = rest

    def _enter(self, command: bytes, echo: bytes) -> None:
        if command == b"exit":
            self._write(echo)
            self._close()
        elif command == SHOW.encode():
            half = len(self._config) // 2
            self._write(echo + self._config[:half])
            self._held.when_released(lambda: self._write(self._config[half:] + self._prompt))
        elif not command or command.startswith(b"term"):
            self._write(echo + self._prompt)
        else:
            self._write(echo + b"% Invalid input detected\r\n" + self._prompt)


class _SshShell(asyncssh.SSHServerSession[bytes]):
    def __init__(self, name: str, config: bytes, held: _Held) -> None:
        self._about = name, config, held
        self._terminal: _Terminal | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        def write(data: bytes) -> None:
            if data and not chan.is_closing():
                chan.write(data)

        self._terminal = _Terminal(*self._about, write, lambda: chan.exit(0))

    def pty_requested(self, *_: object) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True

    def session_started(self) -> None:
        assert self._terminal is not None
        self._terminal.begin()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        assert self._terminal is not None
        self._terminal.typed(data)


class _Door(asyncssh.SSHServer):
    def __init__(self, password: str, shell: Callable[[], _SshShell]) -> None:
        self._password = password
        self._shell = shell

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return username == USER and password == self._password

    def session_requested(self) -> _SshShell:
        return self._shell()


class _Telnet(asyncio.Protocol):
    def __init__(self, password: str, name: str, config: bytes, held: _Held) -> None:
        self._asked = [(b"Username: ", USER.encode()), (b"Password: ", password.encode())]
        self._about = name, config, held
        self._transport: asyncio.Transport | None = None
        self._terminal: _Terminal | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

        def write(data: bytes) -> None:
            if not transport.is_closing():
                transport.write(data)

        self._terminal = _Terminal(*self._about, write, transport.close)
        transport.write(_NEGOTIATION + self._asked[0][0])

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        assert self._terminal is not None
        data = _COMMANDS.sub(b"", data)  # on loopback none is cut in two
        if not data:
            return
        if not self._asked:
            self._terminal.typed(data)
        elif data.strip() == self._asked.pop(0)[1]:
            if self._asked:
                self._transport.write(b"\r\n" + self._asked[0][0])
            else:
                self._terminal.begin()
        else:
            self._transport.close()


def _config(name: str) -> bytes:
    lines = ["Building configuration...", "", f"hostname {name}", "enable secret 5 $1$mERr$hx5r"]
    size, number = 0, 0
    while size < CONFIG_BYTES:
        lines += [
            f"interface GigabitEthernet{number // 48}/{number % 48}",
            f" description to rack {number}",
            f" ip address 10.{number >> 8 & 255}.{number & 255}.1 255.255.255.0",
            "!",
        ]
        size += sum(len(line) + 1 for line in lines[-4:])
        number += 1
    return "\r\n".join([*lines, "end", "", ""]).encode()


def _dead() -> tuple[int, list[socket.socket]]:
    """A port that drops what comes, since its queue is full, and what keeps it so."""
    listening = socket.socket()
    listening.bind((HOST, 0))
    listening.listen(0)
    port: int = listening.getsockname()[1]
    kept = [listening]
    for _ in range(2):
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex((HOST, port))
        kept.append(waiting)
    return port, kept


async def _serve(count: int, *, hold: bool, dead: bool, stalled: bool) -> None:
    release = _Held(hold=hold)
    never = _Held(hold=True)
    kept: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    key = asyncssh.generate_private_key("ssh-ed25519")
    routers = []
    for number in range(count):
        name, password = f"router-{number}", f"letmein-{number}"
        if dead and number % 10 == 3:
            port, sockets = _dead()
            kept += sockets
            routers.append(
                Router(
                    name=name,
                    host=HOST,
                    port=port,
                    telnet_port=port,
                    user=USER,
                    password=password,
                    living=False,
                )
            )
            continue
        stalls = stalled and number % 10 == 7
        config, held = _config(name), never if stalls else release

        def shell(name: str = name, config: bytes = config, held: _Held = held) -> _SshShell:
            return _SshShell(name, config, held)

        def door(password: str = password, shell: Callable[[], _SshShell] = shell) -> _Door:
            return _Door(password, shell)

        def telnet(
            name: str = name, password: str = password, config: bytes = config, held: _Held = held
        ) -> _Telnet:
            return _Telnet(password, name, config, held)

        ssh_server = await asyncssh.listen(
            HOST,
            0,
            server_factory=door,
            server_host_keys=[key],
            encoding=None,
            line_editor=False,
            gss_host=None,
            config=None,
            backlog=1000,
        )
        telnet_server = await loop.create_server(telnet, HOST, 0, backlog=1000)
        routers.append(
            Router(
                name=name,
                host=HOST,
                port=ssh_server.get_port(),
                telnet_port=telnet_server.sockets[0].getsockname()[1],
                user=USER,
                password=password,
                living=not stalls,
            )
        )
    print(json.dumps([asdict(router) for router in routers]), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        release.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    for option in ("--hold", "--dead", "--stalled"):
        parser.add_argument(option, action="store_true")
    asked = parser.parse_args()
    # A client that is gone while it is written to is no news here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(_serve(asked.count, hold=asked.hold, dead=asked.dead, stalled=asked.stalled))

"""Several credentials in order, keys of every kind, agents and certificates."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.run import FailureClass
from tests.worker.sessions.conftest import Bench, commands, serving
from tests.worker.sessions.test_login import serve


def user(name: str, password: str | None = None, **more: Any) -> Credentials:
    return Credentials(user=name, password=Secret(password) if password else None, **more)


@dataclass
class Door:
    """A server that notes each attempt, and hangs up after some."""

    passwords: dict[str, str] = field(default_factory=dict)
    keys: Sequence[asyncssh.SSHKey] = ()
    hangs_up_after: int = 100
    attempts: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def device(self, *credentials: Credentials) -> Device:
        first, *further = credentials
        return Device(
            name="r1",
            host=HOST,
            protocol=Protocol(ssh=Ssh(port=self.port)),
            credentials=first,
            further_credentials=tuple(further),
        )

    @contextlib.asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator["Door"]:
        server = await asyncssh.listen(
            HOST,
            self.port,
            server_factory=lambda: _Attendant(self),
            session_factory=serve,
            server_host_keys=[HOST_KEY],
            **options,
        )
        async with server:
            self.port = server.get_port()
            yield self


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


class _Attendant(asyncssh.SSHServer):
    def __init__(self, door: Door) -> None:
        self._door = door
        self._here = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._door.connections += 1

    def _note(self, attempt: str) -> None:
        self._door.attempts.append(attempt)
        self._here += 1
        if self._here > self._door.hangs_up_after:
            self._connection.disconnect(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )

    def password_auth_supported(self) -> bool:
        return bool(self._door.passwords)

    def validate_password(self, username: str, password: str) -> bool:
        self._note(f"{username}:{password}")
        return self._door.passwords.get(username) == password

    def public_key_auth_supported(self) -> bool:
        return bool(self._door.keys)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._note(f"{username}:{key.get_algorithm()}")
        return key in [known.convert_to_public() for known in self._door.keys]


async def test_credentials_are_tried_in_order_and_what_worked_goes_first(bench: Bench) -> None:
    async with Door({"backup": "new"}).open() as door:
        device = door.device(user("admin", "x"), user("backup", "old"), user("backup", "new"))
        with bench.runner() as runner:
            assert await bench.run(device, commands("show"), runner=runner) == b"shown\n"
            assert door.attempts == ["admin:x", "backup:old", "backup:new"]
            assert door.connections == 2  # one for each user
            door.attempts.clear()
            assert await bench.run(device, commands("show"), runner=runner) == b"shown\n"
            assert door.attempts == ["backup:new"]
            door.passwords = {"admin": "x"}
            door.attempts.clear()
            assert await bench.run(device, commands("show"), runner=runner) == b"shown\n"
            assert door.attempts == ["backup:new", "admin:x"]


async def test_each_is_tried_once_and_the_failure_counts_them(bench: Bench) -> None:
    async with Door({"backup": "right"}).open() as door:
        device = door.device(user("backup", "w1"), user("backup", "w2"), user("other", "w3"))
        failure, text = await bench.fail(device, commands("show"))
        assert failure is FailureClass.AUTHENTICATION
        assert "accepted none of 3 credentials (user 'backup', 'other')" in text
        assert door.attempts == ["backup:w1", "backup:w2", "other:w3"]
        for secret in ("w1", "w2", "w3"):
            assert secret not in text


async def test_a_device_that_hangs_up_after_an_attempt_is_connected_to_again(bench: Bench) -> None:
    async with Door({"backup": "3"}, hangs_up_after=1).open() as door:
        device = door.device(user("backup", "1"), user("backup", "2"), user("backup", "3"))
        assert await bench.run(device, commands("show")) == b"shown\n"
        assert door.attempts == ["backup:1", "backup:2", "backup:3"]
        assert door.connections == 2


async def test_a_method_that_the_device_does_not_offer_is_left_out(bench: Bench) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    private = Secret(key.export_private_key().decode())
    async with Door(keys=[key]).open() as door:
        device = door.device(user("backup", "x"), user("backup", private_key=private))
        assert await bench.run(device, commands("show")) == b"shown\n"
    async with Door({"backup": "x"}).open() as door:
        device = door.device(user("backup", private_key=private), user("backup", "x"))
        assert await bench.run(device, commands("show")) == b"shown\n"
        assert door.attempts == ["backup:x"]


@pytest.mark.parametrize("kind", ["ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519"])
@pytest.mark.parametrize("passphrase", [None, "open sesame"])
async def test_of_several_keys_one_opens(bench: Bench, kind: str, passphrase: str | None) -> None:
    kinds = ("ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519")
    keys = {name: asyncssh.generate_private_key(name) for name in kinds}
    protect: dict[str, Any] = {}
    if passphrase:
        protect = {"passphrase": passphrase, "rounds": 1, "ignore_few_rounds": True}
    credentials = [
        user(
            "backup",
            private_key=Secret(key.export_private_key("openssh", **protect).decode()),
            passphrase=Secret(passphrase) if passphrase else None,
        )
        for key in keys.values()
    ]
    async with Door(keys=[keys[kind]]).open() as door:
        assert await bench.run(door.device(*credentials), commands("show")) == b"shown\n"
        assert len(door.attempts) <= 2 * (kinds.index(kind) + 1)  # asked about, then signed


async def test_a_key_that_cannot_be_read_leaves_the_others(bench: Bench) -> None:
    broken = user("backup", private_key=Secret("no key"))
    async with Door({"backup": "x"}).open() as door:
        device = door.device(broken, user("backup", "x"))
        assert await bench.run(device, commands("show")) == b"shown\n"
        failure, text = await bench.fail(door.device(broken, user("backup", "y")), commands("show"))
        assert failure is FailureClass.AUTHENTICATION
        assert "accepted none of 2" in text
        assert "the private key of user 'backup' cannot be read" in text


async def test_a_certificate_opens(bench: Bench) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(key, "fleet", principals=["backup"])
    credentials = user(
        "backup",
        private_key=Secret(key.export_private_key().decode()),
        certificate=certificate.export_certificate().decode(),
    )
    trusted = f"cert-authority {authority.export_public_key().decode()}"
    options = {"authorized_client_keys": asyncssh.import_authorized_keys(trusted)}
    async with Door(keys=[authority]).open(**options) as door:
        assert await bench.run(door.device(credentials), commands("show")) == b"shown\n"
    other = asyncssh.generate_private_key("ssh-ed25519")
    wrong = user(
        "backup",
        private_key=Secret(other.export_private_key().decode()),
        certificate=certificate.export_certificate().decode(),
    )
    failure, text = await bench.fail(door.device(wrong), commands("show"))
    assert failure is FailureClass.AUTHENTICATION
    assert "the certificate of user 'backup' cannot be used" in text


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    socket = tmp_path / "agent"
    try:
        process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE)
    except FileNotFoundError:
        pytest.skip("needs ssh-agent, of OpenSSH's client")
    with process:
        assert process.stdout is not None
        process.stdout.readline()  # it says where it listens once it does
        yield socket
        process.terminate()


async def test_the_worker_s_agent_is_used_by_choice_only(bench: Bench, agent: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.connect_agent(str(agent)) as client:
        await client.add_keys([key])
    bench_with = {"agent": agent}
    async with Door(keys=[key]).open() as door:
        chosen, not_chosen = door.device(user("backup", agent=True)), door.device(user("backup"))
        with bench.runner(**bench_with) as runner:
            assert await bench.run(chosen, commands("show"), runner=runner) == b"shown\n"
            failure, _ = await bench.fail(not_chosen, commands("show"), runner=runner)
            assert failure is FailureClass.AUTHENTICATION
        failure, text = await bench.fail(chosen, commands("show"))
        assert failure is FailureClass.AUTHENTICATION
        assert "this worker permits none" in text
        with bench.runner(agent=agent.parent / "none") as runner:
            failure, text = await bench.fail(chosen, commands("show"), runner=runner)
        assert failure is FailureClass.AUTHENTICATION
        assert "cannot be reached" in text


async def test_nothing_in_the_environment_brings_an_agent_in(
    bench: Bench, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.connect_agent(str(agent)) as client:
        await client.add_keys([key])
    monkeypatch.setitem(os.environ, "SSH_AUTH_SOCK", str(agent))
    async with Door(keys=[key]).open() as door:
        failure, _ = await bench.fail(door.device(user("backup", "x")), commands("show"))
        assert failure is FailureClass.AUTHENTICATION
        assert door.attempts == []


class Vty:
    """A device behind Telnet that asks for user and password, and notes what it is given."""

    def __init__(
        self, passwords: dict[str, str], *, hangs_up_after: int = 100, asks_user: bool = True
    ) -> None:
        self._passwords = passwords
        self._hangs_up_after = hangs_up_after
        self._asks_user = asks_user
        self.attempts: list[str] = []
        self.port = 0

    def device(self, *credentials: Credentials) -> Device:
        first, *further = credentials
        protocol = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=self.port))
        return Device(
            name="r1",
            host=HOST,
            protocol=protocol,
            credentials=first,
            further_credentials=tuple(further),
        )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Vty"]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await self._log_in(reader, writer):
                await self._shell(reader, writer)

        async with serving(serve) as self.port:
            yield self

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for _ in range(self._hangs_up_after):
            name = "line"
            if self._asks_user:
                name = await self._ask(reader, writer, b"\r\nUsername: ", echo=True)
            password = await self._ask(reader, writer, b"Password: ", echo=False)
            self.attempts.append(f"{name}:{password}")
            if self._passwords.get(name) == password:
                return True
            writer.write(b"\r\n% Login invalid\r\n\r\n")
        return False

    @staticmethod
    async def _ask(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes, *, echo: bool
    ) -> str:
        writer.write(question)
        line = await reader.readuntil(b"\r\n")
        writer.write(line if echo else b"\r\n")
        return line.strip().decode()

    @staticmethod
    async def _shell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\r\nr1#")
        while (line := (await reader.readuntil(b"\r\n")).strip()) != b"exit":
            writer.write(line + b"\r\n" + (b"shown\r\n" if line == b"show" else b"") + b"r1#")


async def test_credentials_are_tried_in_a_login_dialogue_over_telnet(bench: Bench) -> None:
    async with Vty({"backup": "new"}).open() as vty:
        device = vty.device(user("admin", "x"), user("backup", "old"), user("backup", "new"))
        with bench.runner() as runner:
            assert await bench.run(device, commands("show"), runner=runner) == b"shown\n"
            assert vty.attempts == ["admin:x", "backup:old", "backup:new"]
            vty.attempts.clear()
            assert await bench.run(device, commands("show"), runner=runner) == b"shown\n"
            assert vty.attempts == ["backup:new"]


async def test_a_telnet_device_that_hangs_up_is_connected_to_again(bench: Bench) -> None:
    async with Vty({"backup": "new"}, hangs_up_after=1).open() as vty:
        device = vty.device(user("admin", "x"), user("backup", "old"), user("backup", "new"))
        assert await bench.run(device, commands("show")) == b"shown\n"
        assert vty.attempts == ["admin:x", "backup:old", "backup:new"]
        vty.attempts.clear()
        device = vty.device(user("admin", "x"), user("backup", "old"))
        failure, text = await bench.fail(device, commands("show"))
        assert failure is FailureClass.AUTHENTICATION
        assert "accepted none of 2 credentials, last user 'backup'" in text
        assert vty.attempts == ["admin:x", "backup:old"]


async def test_a_telnet_device_that_asks_only_for_passwords(bench: Bench) -> None:
    async with Vty({"line": "2"}, asks_user=False).open() as vty:
        device = vty.device(user("any", "1"), user("other", "2"))
        assert await bench.run(device, commands("show")) == b"shown\n"
        assert vty.attempts == ["line:1", "line:2"]

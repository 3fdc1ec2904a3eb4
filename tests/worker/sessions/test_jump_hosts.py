"""Devices behind jump hosts: chains, what is shared, and whose fault it was."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import msgspec
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.simulator.kinds import IOS, LINUX
from roundsman.wire.device import Credentials, Device, JumpHost, Protocol, Ssh
from roundsman.wire.job import Compression, File, FileSet, Transfer
from roundsman.wire.run import FailureClass
from roundsman.worker.sessions import jump_hosts
from tests.worker.sessions.conftest import Bench, commands, entry, fetch
from tests.worker.sessions.test_credentials import Vty, user
from tests.worker.sessions.test_login import KEY, ByKey, as_user, listening

SHOW = "show running-config"


class Bastion(asyncssh.SSHServer):
    """Lets in who knows the password, and connects onwards."""

    def __init__(self, *, forwards: bool = True, password: str = "hop") -> None:
        self.forwards = forwards
        self.password = password
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.attempts = 0
        self.opened: list[tuple[str, int]] = []
        self.lost = asyncio.Event()
        self.port = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Bastion"]:
        server = await asyncssh.listen(
            HOST, self.port, server_factory=lambda: self, server_host_keys=[self.key]
        )
        async with server:
            self.port = server.get_port()
            yield self
            self.drop()

    def drop(self) -> None:
        for connection in self.connections:
            connection.abort()

    def entry(self, name: str = "bastion", password: str = "hop", **ssh: object) -> JumpHost:
        return JumpHost(
            name=name,
            host=HOST,
            protocol=Protocol(ssh=Ssh(port=self.port, **ssh)),  # type: ignore[arg-type] # any field
            credentials=Credentials(user="jump", password=Secret(password)),
        )

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connections.append(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self.attempts += 1
        return (username, password) == ("jump", self.password)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        self.opened.append((dest_host, dest_port))
        if not self.forwards:
            code = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            raise asyncssh.ChannelOpenError(code, "open failed")
        return True


def behind(device: SimulatedDevice | Device, *hops: JumpHost) -> Device:
    made = entry(device) if isinstance(device, SimulatedDevice) else device
    return Device(
        name=made.name,
        host=made.host,
        protocol=made.protocol,
        credentials=made.credentials,
        jump_hosts=hops,
    )


async def test_a_chain_of_jump_hosts_leads_to_a_device(bench: Bench) -> None:
    async with (
        Bastion().open() as outer,
        Bastion().open() as middle,
        Bastion().open() as inner,
        SimulatedDevice(IOS, "r1") as device,
    ):
        far = behind(device, outer.entry("outer"), middle.entry("middle"), inner.entry("inner"))
        assert await bench.run(far, commands(SHOW)) == device.output(SHOW).encode()
        assert outer.opened == [(HOST, middle.port)]
        assert middle.opened == [(HOST, inner.port)]
        assert inner.opened == [(HOST, device.port)]
        for bastion in (outer, middle, inner):  # pinned, as devices' keys are
            assert f"[{HOST}]:{bastion.port} ssh-ed25519" in bench.known_hosts.read_text()


async def test_telnet_goes_through_a_jump_host_too(bench: Bench) -> None:
    async with Bastion().open() as bastion, Vty({"backup": "x"}).open() as vty:
        far = behind(vty.device(user("backup", "x")), bastion.entry())
        assert await bench.run(far, commands("show")) == b"shown\n"
        assert bastion.opened == [(HOST, vty.port)]


async def test_sessions_share_connections_of_a_bounded_number_each(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jump_hosts, "MOST_SESSIONS", 4)
    async with Bastion().open() as bastion, SimulatedDevice(IOS, "r1") as device:
        far = behind(device, bastion.entry())
        with bench.runner() as runner:
            runs = [bench.run(far, commands(SHOW), runner=runner) for _ in range(8)]
            assert set(await asyncio.gather(*runs)) == {device.output(SHOW).encode()}
            assert (len(bastion.connections), device.sessions) == (2, 8)
            await bench.run(far, commands(SHOW), runner=runner)
            assert len(bastion.connections) == 2


async def test_a_connection_that_nobody_uses_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jump_hosts, "IDLE_SECONDS", 0.05)
    async with Bastion().open() as bastion, SimulatedDevice(IOS, "r1") as device:
        with bench.runner() as runner:
            await bench.run(behind(device, bastion.entry()), commands(SHOW), runner=runner)
            async with asyncio.timeout(30):
                await bastion.lost.wait()
            await bench.run(behind(device, bastion.entry()), commands(SHOW), runner=runner)
            assert len(bastion.connections) == 2


async def test_a_connection_that_broke_is_made_again(bench: Bench) -> None:
    async with Bastion().open() as bastion, SimulatedDevice(IOS, "r1") as device:
        far = behind(device, bastion.entry())
        with bench.runner() as runner:
            await bench.run(far, commands(SHOW), runner=runner)
            bastion.drop()
            assert await bench.run(far, commands(SHOW), runner=runner)
            assert len(bastion.connections) == 2


async def test_a_jump_host_that_is_lost_in_the_middle_is_named(bench: Bench) -> None:
    async with Bastion().open() as bastion:

        async def in_the_middle(stdin: Any, stdout: Any, _: Any) -> None:
            stdout.write("r1# ")
            async for line in stdin:
                if line.strip() == "show":
                    bastion.drop()
                stdout.write("r1# ")

        async with listening(ByKey, session_factory=in_the_middle) as device:
            key = Secret(KEY.export_private_key().decode())
            far = behind(as_user(device, private_key=key), bastion.entry())
            failure, text = await bench.fail(far, commands("show"))
    assert failure is FailureClass.CLOSED_EARLY
    assert "the connection to jump host 'bastion' was lost" in text


async def test_whose_credentials_were_refused_is_said_and_they_are_not_shown_again(
    bench: Bench,
) -> None:
    async with (
        Bastion().open() as outer,
        Bastion(password="other").open() as inner,
        SimulatedDevice(IOS, "r1") as device,
    ):
        far = behind(device, outer.entry("outer"), inner.entry("inner"))
        with bench.runner() as runner:
            failed = await asyncio.gather(
                *(bench.fail(far, commands(SHOW), runner=runner) for _ in range(5))
            )
            failed.append(await bench.fail(far, commands(SHOW), runner=runner))
        for failure, text in failed:
            assert failure is FailureClass.AUTHENTICATION
            assert "jump host 'inner': 127.0.0.1 port" in text
            assert "did not accept the credentials of user 'jump'" in text
        assert inner.attempts == 1
        assert outer.attempts == 1


async def test_a_jump_host_s_changed_key_is_a_failure_that_names_it(bench: Bench) -> None:
    bastion = Bastion()
    async with SimulatedDevice(IOS, "r1") as device:
        async with bastion.open():
            assert await bench.run(behind(device, bastion.entry()), commands(SHOW))
        bastion.key = asyncssh.generate_private_key("ssh-ed25519")
        async with bastion.open():
            failure, text = await bench.fail(behind(device, bastion.entry()), commands(SHOW))
    assert failure is FailureClass.HOST_KEY
    assert "jump host 'bastion': the host key of" in text


async def test_a_jump_host_that_is_not_there_is_named(bench: Bench) -> None:
    bastion = Bastion()
    async with bastion.open():
        pass
    async with SimulatedDevice(IOS, "r1") as device:
        failure, text = await bench.fail(behind(device, bastion.entry()), commands(SHOW))
    assert failure is FailureClass.REFUSED
    assert f"jump host 'bastion': {HOST} port {bastion.port} refused the connection" in text


async def test_a_jump_host_that_does_not_connect_onwards_is_named(bench: Bench) -> None:
    async with Bastion(forwards=False).open() as bastion, SimulatedDevice(IOS, "r1") as device:
        failure, text = await bench.fail(behind(device, bastion.entry()), commands(SHOW))
    assert failure is FailureClass.REFUSED
    assert "jump host 'bastion' does not connect onwards to 127.0.0.1 port" in text


async def test_a_device_that_is_not_there_behind_a_jump_host(bench: Bench) -> None:
    async with Bastion().open() as bastion, SimulatedDevice(IOS, "r1") as device:
        away = entry(device)
        await device.stop()
        failure, text = await bench.fail(behind(away, bastion.entry()), commands(SHOW))
        assert failure in {FailureClass.REFUSED, FailureClass.UNREACHABLE}
        assert f"{device.port}, from jump host 'bastion'," in text
        # The jump host itself is well, and goes on to serve.
        async with SimulatedDevice(IOS, "r2") as other:
            assert await bench.run(behind(other, bastion.entry()), commands(SHOW))


async def test_files_come_through_a_jump_host_over_ssh_and_not_otherwise(bench: Bench) -> None:
    async with Bastion().open() as bastion, SimulatedDevice(LINUX, "r1") as device:
        far = behind(device, bastion.entry())
        job = fetch(File(name="/etc/config.gz", compression=Compression.GZIP))
        assert await bench.run(far, job)
        assert bastion.opened == [(HOST, device.port)]
        tftp = fetch(File(name="/x"))
        tftp = msgspec.structs.replace(
            tftp, file_set=FileSet(files=(File(name="/x"),), transfer=Transfer.TFTP)
        )
        failure, text = await bench.fail(far, tftp)
        assert failure is FailureClass.FILE
        assert "behind jump hosts, through which tftp does not go" in text

"""From where to where: IPv6, local addresses, and peers that are silent, gone or in no hurry."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.wire.device import Device, Protocol, ProtocolType, Telnet
from roundsman.wire.job import Command
from roundsman.wire.run import FailureClass
from roundsman.worker.sessions.shell import Patience
from tests.worker.sessions.conftest import Bench, Serve, commands, serving
from tests.worker.sessions.test_credentials import Vty, user
from tests.worker.sessions.test_login import KEY, ByKey, as_user, listening

PEM = Secret(KEY.export_private_key().decode())


def at(device: Device, host: str | None = None, **protocol: Any) -> Device:
    """The device elsewhere, or spoken to otherwise."""
    return msgspec.structs.replace(
        device,
        host=host or device.host,
        protocol=msgspec.structs.replace(device.protocol, **protocol),
    )


@contextlib.asynccontextmanager
async def forwarded(
    listen: str, to: int, vanished: asyncio.Event | None = None
) -> AsyncIterator[tuple[int, list[Any]]]:
    """A port of some address that leads to a port of the loopback interface, and who came.

    Once it has `vanished`, nothing passes any more.
    """
    came: list[Any] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if vanished is None or not vanished.is_set():
                    writer.write(data)
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer.get_extra_info("peername"))
        onward = await asyncio.open_connection(HOST, to)
        try:
            await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))
        finally:
            onward[1].transport.abort()

    async with serving(serve, listen) as port:
        yield port, came


def ssh_port(device: Device, port: int) -> dict[str, Any]:
    return {"ssh": msgspec.structs.replace(device.protocol.ssh, port=port)}


async def test_a_device_at_an_ipv6_address(bench: Bench) -> None:
    async with listening(ByKey) as device, forwarded("::1", device.protocol.ssh.port) as (port, _):
        entry = at(as_user(device, private_key=PEM), "::1", **ssh_port(device, port))
        assert await bench.run(entry, commands("show")) == b"shown\n"
    async with Vty({"backup": "x"}).open() as vty, forwarded("::1", vty.port) as (port, _):
        device = at(vty.device(user("backup", "x")), "::1", telnet=Telnet(port=port))
        assert await bench.run(device, commands("show")) == b"shown\n"


def link_local() -> str | None:
    """An address of this machine with its zone, if it has one."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, *_, name = line.split()
        if digits.startswith("fe80"):
            return f"{ip_address(bytes.fromhex(digits))}%{name}"
    return None


@pytest.mark.skipif(link_local() is None, reason="needs an interface with a link-local address")
async def test_a_device_at_an_ipv6_address_with_a_zone(bench: Bench) -> None:
    host = link_local()
    async with listening(ByKey) as device, forwarded("::", device.protocol.ssh.port) as (port, _):
        entry = at(as_user(device, private_key=PEM), host, **ssh_port(device, port))
        assert await bench.run(entry, commands("show")) == b"shown\n"


async def test_of_a_name_s_addresses_the_first_to_answer_is_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An IPv4 address where nobody listens, and an IPv6 address where the device is."""

    async def addresses(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "r1.example"
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    async with listening(ByKey) as device, forwarded("::1", device.protocol.ssh.port) as (port, _):
        entry = at(as_user(device, private_key=PEM), "r1.example", **ssh_port(device, port))
        assert await bench.run(entry, commands("show")) == b"shown\n"


async def test_sessions_come_from_the_local_address(bench: Bench) -> None:
    async with (
        listening(ByKey) as device,
        forwarded(HOST, device.protocol.ssh.port) as (port, came),
    ):
        entry = at(as_user(device, private_key=PEM), local_address="127.0.0.7")
        assert await bench.run(at(entry, **ssh_port(device, port)), commands("show")) == b"shown\n"
        assert came[0][0] == "127.0.0.7"
        for address in ("192.0.2.1", "::1"):  # not of this machine; of another family
            failure, text = await bench.fail(at(entry, local_address=address), commands("show"))
            assert failure is FailureClass.UNREACHABLE
            assert f"cannot be reached from {address}: " in text
            assert "check protocol.local_address" in text
    async with Vty({"backup": "x"}).open() as vty, forwarded(HOST, vty.port) as (port, came):
        device = vty.device(user("backup", "x"))
        device = at(device, local_address="127.0.0.8", telnet=Telnet(port=port))
        assert await bench.run(device, commands("show")) == b"shown\n"
        assert came[0][0] == "127.0.0.8"


async def test_a_peer_that_vanished_in_the_middle_is_noticed(bench: Bench) -> None:
    """It answers nothing any more, not even keep-alives; its end of the connection stays open."""
    vanished = asyncio.Event()

    async def vanishing(stdin: Any, stdout: Any, _: Any) -> None:
        stdout.write("r1# ")
        await stdin.readline()
        stdout.write("r1# ")
        await stdin.readline()
        vanished.set()
        await asyncio.Event().wait()

    async with (
        listening(ByKey, session_factory=vanishing) as device,
        forwarded(HOST, device.protocol.ssh.port, vanished) as (port, _),
    ):
        entry = at(as_user(device, private_key=PEM), **ssh_port(device, port))
        entry = at(entry, keepalive_seconds=1)
        failure, text = await bench.fail(entry, commands(Command(command="show", timeout=60)))
    assert failure is FailureClass.CLOSED_EARLY
    assert "the connection to the device was lost: Server not responding to keepalive" in text


async def test_a_device_that_never_closes_holds_nobody(bench: Bench) -> None:
    bench.limits = replace(bench.limits, leave=0.1)

    async def stays(stdin: Any, stdout: Any, _: Any) -> None:
        stdout.write("r1# ")
        async for line in stdin:
            stdout.write("shown\nr1# " if line.strip() == "show" else "r1# ")

    async with listening(ByKey, session_factory=stays) as device:
        run = bench.run(as_user(device, private_key=PEM), commands("show"))
        assert await asyncio.wait_for(run, 30) == b"shown\n"


async def closes_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def never_says_anything(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@contextlib.asynccontextmanager
async def raw(serve: Serve) -> AsyncIterator[tuple[Device, Device]]:
    """What a server looks like to SSH and to Telnet."""
    async with serving(serve) as port:
        telnet = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=port))
        device = Device(name="r1", host=HOST, credentials=user("backup", "x"))
        yield at(device, **ssh_port(device, port)), msgspec.structs.replace(device, protocol=telnet)


async def test_a_device_that_closes_at_once(bench: Bench) -> None:
    async with raw(closes_at_once) as (over_ssh, over_telnet):
        failure, text = await bench.fail(over_ssh, commands("show"))
        assert failure is FailureClass.REFUSED
        assert "ended the connection during the SSH handshake" in text
        failure, _ = await bench.fail(over_telnet, commands("show"))
        assert failure is FailureClass.CLOSED_EARLY


async def test_a_device_that_never_says_anything(bench: Bench) -> None:
    bench.limits = replace(bench.limits, login=0.2, patience=Patience(greeting=0.2))
    async with raw(never_says_anything) as (over_ssh, over_telnet):
        failure, text = await bench.fail(over_ssh, commands("show"))
        assert failure is FailureClass.TIMED_OUT
        assert "the SSH handshake did not end within 0.2 s" in text
        failure, text = await bench.fail(over_telnet, commands("show"))
        assert failure is FailureClass.PROMPT
        assert "no prompt came, and nothing else for 0.2 s" in text


class Rounds(asyncssh.SSHServer):
    """Asks in several rounds: a text to acknowledge, the name, the password, a closing word."""

    def begin_auth(self, username: str) -> bool:
        self._left = [
            ("", "Enter the password", [("Password: ", False)], ["right"]),
            ("", "Authorised use only", [("Press ENTER to continue: ", True)], [""]),
            ("Welcome", "Last login: today", [], []),
        ]
        return True

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def kbdint_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return False

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "Mind the dog #", "", [("Login name: ", True)]

    def validate_kbdint_response(self, username: str, responses: Any) -> Any:
        expected = getattr(self, "_expected", ["backup"])
        if list(responses) != expected:
            return False
        if not self._left:
            return True
        name, text, prompts, self._expected = self._left.pop(0)
        return name, text, "", prompts


async def test_keyboard_interactive_in_several_rounds(bench: Bench) -> None:
    async with listening(Rounds) as device:
        entry = as_user(device, password=Secret("right"))
        assert await bench.run(entry, commands("show")) == b"shown\n"
        failure, _ = await bench.fail(as_user(device, password=Secret("x")), commands("show"))
        assert failure is FailureClass.AUTHENTICATION


class OneTimeCode(Rounds):
    """Wants more than a password."""

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [("Password: ", False), ("One-time code: ", False)]


async def test_a_second_secret_that_is_asked_for_is_named(bench: Bench) -> None:
    async with listening(OneTimeCode) as device:
        failure, text = await bench.fail(
            as_user(device, password=Secret("right")), commands("show")
        )
        assert failure is FailureClass.AUTHENTICATION
        assert "was not enough: a further secret is asked for, 'One-time code:'" in text


class Expired(asyncssh.SSHServer):
    """Wants another password."""

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        raise asyncssh.PasswordChangeRequired("Your password has expired.")


class ExpiredByQuestion(Rounds):
    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "Your password has expired.", "", [("New password: ", False)]


@pytest.mark.parametrize("door", [Expired, ExpiredByQuestion])
async def test_a_password_that_must_be_changed_is_said(
    bench: Bench, door: type[asyncssh.SSHServer]
) -> None:
    async with listening(door) as device:
        failure, text = await bench.fail(as_user(device, password=Secret("old")), commands("show"))
        assert failure is FailureClass.AUTHENTICATION
        assert "the password of user 'backup' has expired" in text


class WithBanner(ByKey):
    """Says something before anybody may log in."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        self._connection.send_auth_banner("Private property # r1#\r\nr1>\r\n" * 100)
        return True


async def test_a_banner_before_the_login_is_no_part_of_anything(bench: Bench) -> None:
    async with listening(WithBanner) as device:
        entry = as_user(device, private_key=PEM)
        assert await bench.run(entry, commands("show")) == b"shown\n"

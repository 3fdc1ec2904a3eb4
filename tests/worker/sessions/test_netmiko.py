"""Sessions by netmiko's drivers, over real SSH and Telnet."""

import asyncio
import sys
import threading
import time
from typing import Any

import asyncssh
import msgspec
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import KindDialogue, SimulatedDevice
from roundsman.simulator.faults import Faults
from roundsman.simulator.kinds import IOS, ios_config
from roundsman.simulator.terminal import Answer
from roundsman.wire.device import Device, Protocol, ProtocolType, Telnet
from roundsman.wire.job import Command, Job
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import TimeLimits
from roundsman.worker.sessions import netmiko_driver
from roundsman.worker.settings import HostKeyPolicy
from tests.worker.sessions.conftest import Bench, commands, entry

SHOW = commands("show version", "show running-config", ends_with=None)


def driven(device: SimulatedDevice, driver: str = "cisco_ios", **more: object) -> Device:
    return msgspec.structs.replace(entry(device, **more), netmiko=driver)  # type: ignore[arg-type] # given by name


@pytest.fixture(autouse=True)
def quick(bench: Bench) -> None:
    bench.limits = TimeLimits(connect=5, login=5)


async def test_commands_are_run(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", config_bytes=40_000) as ios:
        result = (await bench.run(driven(ios), SHOW)).decode()
    version, _, config = result.partition("\n")
    assert version == "IOS Software, Version 15.2(4)E1"
    expected = [line.rstrip() for line in ios_config(ios.state).splitlines()]
    assert [line.rstrip() for line in config.splitlines()] == expected[: len(config.splitlines())]
    assert "line vty 0 4\n!\nend\n" in config
    assert bench.known_hosts.read_text()


async def test_it_is_told_that_a_long_output_gets_on(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", config_bytes=200_000) as ios:
        result = await bench.run(driven(ios), SHOW)
    # Besides what is told when an output is kept.
    assert len(bench.received) > 4
    assert sum(bench.received) > 1.9 * len(result)


async def test_host_keys_are_asked_of_the_store(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as ios:
        await bench.run(driven(ios), SHOW)
        pinned = bench.known_hosts.read_text()
        await bench.run(driven(ios), SHOW)  # known by now
        assert bench.known_hosts.read_text() == pinned
        other = asyncssh.generate_private_key("ssh-ed25519")
        host, _, _ = pinned.partition(" ")
        line = other.export_public_key("openssh").decode()
        bench.known_hosts.write_text(f"{host} {line}")
        failure, text = await bench.fail(driven(ios), SHOW)
        assert failure is FailureClass.HOST_KEY
        assert "is not the one pinned" in text
        bench.known_hosts.unlink()
        bench.policy = HostKeyPolicy.KNOWN
        failure, text = await bench.fail(driven(ios), SHOW)
        assert failure is FailureClass.HOST_KEY
        given = ios.host_key.export_public_key("openssh").decode()
        known = msgspec.structs.replace(
            driven(ios), protocol=entry(ios, ssh={"host_keys": (given,)}).protocol
        )
        assert await bench.run(known, SHOW)


async def test_a_key_of_another_kind_is_not_taken_for_a_change(bench: Bench) -> None:
    """The store knows the RSA key; the device would rather show another."""
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    async with SimulatedDevice(IOS, "r1", host_key=rsa) as ios:
        await bench.run(driven(ios), SHOW)
        await bench.run(driven(ios), SHOW)
    assert "ssh-rsa" in bench.known_hosts.read_text()


async def test_a_wrong_password(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as ios:
        failure, text = await bench.fail(driven(ios, password=Secret("s3sam-wrong")), SHOW)
    assert failure is FailureClass.AUTHENTICATION
    assert "did not accept the credentials of user 'admin'" in text
    assert "s3sam" not in text


async def test_credentials_are_tried_in_order(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as ios:
        known = driven(ios)
        assert known.credentials is not None
        wrong = msgspec.structs.replace(known.credentials, password=Secret("s3sam"))
        both = msgspec.structs.replace(
            known, credentials=wrong, further_credentials=(known.credentials,)
        )
        assert await bench.run(both, commands("show version", ends_with=None))


async def test_nobody_listens(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as ios:
        pass
    failure, _ = await bench.fail(driven(ios), SHOW)
    assert failure is FailureClass.REFUSED


@pytest.mark.parametrize(
    ("faults", "classes"),
    [
        (Faults(closes_after_bytes=1000), {FailureClass.CLOSED_EARLY}),
        (Faults(stalls_after_bytes=1000), {FailureClass.TIMED_OUT}),
        (
            Faults(resets_after_bytes=3),
            {FailureClass.CLOSED_EARLY, FailureClass.REFUSED, FailureClass.PROMPT},
        ),
    ],
    ids=["closed", "stalled", "reset"],
)
async def test_what_goes_wrong(bench: Bench, faults: Faults, classes: set[FailureClass]) -> None:
    async with SimulatedDevice(IOS, "r1", faults=faults) as ios:
        job = commands(Command(command="show running-config", timeout=2), ends_with=None)
        failure, _ = await bench.fail(driven(ios), job)
    assert failure in classes
    if faults.resets_after_bytes is None:
        assert b"hostname r1" in bench.evidence


async def test_output_that_goes_on_after_its_prompt_is_no_backup(bench: Bench) -> None:
    """A banner holds the prompt, alone on a line, and the device pauses there."""

    class Lure(KindDialogue):
        def answer(self, line: str) -> Answer:
            if line != "show running-config":
                return super().answer(line)
            text = b"hostname r1\r\nbanner\r\nr1#\r\nend\r\n"
            return Answer(output=text, pauses=((text.index(b"\r\nend"), 0.3),))

    ios = SimulatedDevice(IOS, "r1", dialogue=lambda: Lure(ios))
    async with ios:
        job = commands("show running-config", ends_with=None)
        failure, text = await bench.fail(driven(ios), job)
    assert failure is FailureClass.UNVERIFIED
    assert "came more than the prompt 'r1#'" in text


async def test_over_telnet(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", protocol=ProtocolType.TELNET) as ios:
        protocol = Protocol(type=ProtocolType.TELNET, telnet=Telnet(port=ios.port))
        device = msgspec.structs.replace(driven(ios), protocol=protocol)
        assert b"line vty 0 4\n!\nend\n" in await bench.run(device, SHOW)
    failure, _ = await bench.fail(device, SHOW)
    assert failure is FailureClass.REFUSED


async def test_too_much(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", config_bytes=3_000_000) as ios:
        failure, _ = await bench.fail(driven(ios), SHOW, max_bytes=1000)
    assert failure is FailureClass.TOO_LARGE


async def test_expectations_hold(bench: Bench) -> None:
    wanted = Command(command="show version", expect=("Version 99",))
    async with SimulatedDevice(IOS, "r1") as ios:
        failure, _ = await bench.fail(driven(ios), commands(wanted, ends_with=None))
    assert failure is FailureClass.COMMAND


async def test_an_unknown_driver_and_no_netmiko(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SimulatedDevice(IOS, "r1") as ios:
        failure, text = await bench.fail(driven(ios, "cisco_iso"), SHOW)
        assert failure is FailureClass.INVALID
        assert "netmiko has no driver 'cisco_iso'" in text
        monkeypatch.delitem(sys.modules, "roundsman.worker.sessions.netmiko_driver")
        monkeypatch.setitem(sys.modules, "netmiko", None)
        failure, text = await bench.fail(driven(ios), SHOW)
    assert failure is FailureClass.INVALID
    assert 'install "roundsman[netmiko]"' in text


async def test_a_session_that_is_given_up_lets_go_of_its_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: Job = msgspec.structs.replace(SHOW, command_timeout=60)
    stalled = threading.Event()

    class Heard(netmiko_driver._Heard):
        def write(self, data: Any) -> int:
            if b"hostname r1" in bytes(data):
                stalled.set()
            return super().write(data)

    monkeypatch.setattr(netmiko_driver, "_Heard", Heard)
    async with SimulatedDevice(IOS, "r1", faults=Faults(stalls_after_bytes=1000)) as ios:
        begun = time.monotonic()
        running = asyncio.create_task(bench.fail(driven(ios), job))
        await asyncio.to_thread(stalled.wait, 10)
        running.cancel()
        failure, text = await running
        assert time.monotonic() - begun < 8
    assert failure is FailureClass.TIMED_OUT
    assert "the session did not end" in text
    for thread in threading.enumerate():
        if thread.name.startswith("netmiko"):
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()

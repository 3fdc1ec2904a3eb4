"""Dialogues played over real SSH and Telnet, with faults."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import SimulatedDevice
from roundsman.simulator.faults import Faults
from roundsman.simulator.kinds import IOS
from roundsman.simulator.recorded import Exchange, Recording
from roundsman.simulator.server import HOST, DialogueServer
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.run import FailureClass
from tests.worker.sessions.conftest import Bench, commands

SHOW = "show running-config"
BOTH = pytest.mark.parametrize("protocol", list(ProtocolType))


def entry(server: DialogueServer, password: str = "letmein") -> Device:
    ports = Protocol(
        type=server.protocol, ssh=Ssh(port=server.port), telnet=Telnet(port=server.port)
    )
    credentials = Credentials(user="admin", password=Secret(password))
    return Device(name="r1", host=HOST, protocol=ports, credentials=credentials)


@BOTH
@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(piece_bytes=1),
        Faults(piece_bytes=7, piece_seconds=0.0001),
        Faults(latency=0.02),
        Faults(doubles_prompt=True),
        Faults(without_echo=True),
    ],
    ids=str,
)
async def test_a_device_is_read_over_both(
    tmp_path: Path, protocol: ProtocolType, faults: Faults
) -> None:
    async with SimulatedDevice(IOS, "r1", protocol=protocol, faults=faults) as device:
        result = await Bench(tmp_path).run(entry(device), commands(SHOW))
        assert result == device.output(SHOW).encode()
        assert device.sessions == 1


@BOTH
@pytest.mark.parametrize(
    ("faults", "failure"),
    [
        (Faults(refuses_password=True), FailureClass.AUTHENTICATION),
        (Faults(resets_after_bytes=200), FailureClass.CLOSED_EARLY),
        (Faults(closes_after_bytes=200), FailureClass.CLOSED_EARLY),
        (Faults(stalls_after_bytes=200), FailureClass.TIMED_OUT),
    ],
    ids=str,
)
async def test_what_is_wrong_is_wrong_over_both(
    tmp_path: Path, protocol: ProtocolType, faults: Faults, failure: FailureClass
) -> None:
    async with SimulatedDevice(IOS, "r1", protocol=protocol, faults=faults) as device:
        found, _ = await Bench(tmp_path).fail(entry(device), commands(SHOW, command_timeout=1))
    assert found is failure


@BOTH
async def test_a_wrong_password_lets_nobody_in(tmp_path: Path, protocol: ProtocolType) -> None:
    async with SimulatedDevice(IOS, "r1", protocol=protocol) as device:
        found, _ = await Bench(tmp_path).fail(entry(device, "wrong"), commands(SHOW))
        assert found is FailureClass.AUTHENTICATION
        assert device.sessions == 0


@BOTH
async def test_a_session_that_stalls_ends_with_the_server(
    tmp_path: Path, protocol: ProtocolType
) -> None:
    """It was left to the garbage collector, whose complaint failed whichever test came next."""
    before = asyncio.all_tasks()
    faults = Faults(stalls_after_bytes=200)
    async with SimulatedDevice(IOS, "r1", protocol=protocol, faults=faults) as device:
        await Bench(tmp_path).fail(entry(device), commands(SHOW, command_timeout=1))
    left = [task for task in asyncio.all_tasks() - before if "_serve_" in repr(task)]
    assert not left


async def test_commands_run_without_a_shell() -> None:
    recording = Recording(b"", (Exchange("show version\n", b"one\ntwo"),))
    async with (
        DialogueServer(recording.dialogue) as server,
        asyncssh.connect(HOST, server.port, known_hosts=None, username="x") as connection,
    ):
        shown = await connection.run("show version")
        assert (shown.stdout, shown.exit_status) == ("one\ntwo", 0)
        unknown = await connection.run("show what")
        assert (unknown.stdout, unknown.exit_status) == ("not recorded\n", 127)

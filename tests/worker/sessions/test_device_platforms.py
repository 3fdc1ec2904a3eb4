"""What a platform changes in a run, over real SSH."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from roundsman.simulator.device import SimulatedDevice
from roundsman.simulator.kinds import IOS, Enter
from roundsman.wire.device import Device
from roundsman.wire.job import Command
from roundsman.wire.platform import Enable, Platform
from roundsman.wire.run import FailureClass
from tests.worker.sessions.conftest import Bench, commands, entry
from tests.worker.sessions.test_noise import device as served

PLATFORM = Platform(
    name="ios",
    prompts=(r"[\w-]+(?:\(\S+\))?[>#]",),
    enable=Enable(prompt=r"[\w-]+(?:\(\S+\))?#"),
    setup=("terminal length 0", "terminal no such thing"),
    errors=("^% Invalid input", "^% Incomplete command"),
)
KIND = replace(
    IOS,
    prompts={"user": "{host}>", "privileged": "{host}#"},
    commands={**IOS.commands, "enable": Enter(mode="privileged")},
)


def known(device: SimulatedDevice, **changes: Any) -> Device:
    return msgspec.structs.replace(
        entry(device), platform=msgspec.structs.replace(PLATFORM, **changes)
    )


async def test_setup_and_enable_come_before_the_commands(bench: Bench) -> None:
    async with SimulatedDevice(KIND, "r1") as device:
        result = await bench.run(known(device), commands("show running-config"))
        assert result == device.output("show running-config").encode()


async def test_a_rejected_command_is_a_failure(bench: Bench) -> None:
    async with SimulatedDevice(KIND, "r1") as device:
        failure, text = await bench.fail(known(device), commands("show nothing"))
    assert failure is FailureClass.REJECTED
    assert "did not accept 'show nothing'" in text
    assert b"% Invalid input" in bench.evidence


async def test_a_privileged_mode_that_is_not_reached_is_a_failure(bench: Bench) -> None:
    async with SimulatedDevice(replace(KIND, commands=IOS.commands), "r1") as device:
        failure, _ = await bench.fail(known(device), commands("show version"))
    assert failure is FailureClass.ENABLE


@pytest.mark.parametrize("end", ["^end$", "^line vty 0 4\n!\nend", "end"])
async def test_an_output_with_its_end_mark_is_verified(bench: Bench, end: str) -> None:
    async with SimulatedDevice(KIND, "r1", config_bytes=20_000) as device:
        job = commands(Command(command="show running-config", end=end))
        assert (await bench.run(known(device), job)).endswith(b"end\n\n")


@pytest.mark.parametrize("end", ["^return$", "^version", "^en"])
async def test_an_output_without_its_end_mark_is_unverified(bench: Bench, end: str) -> None:
    async with SimulatedDevice(KIND, "r1", config_bytes=20_000) as device:
        job = commands(Command(command="show running-config", end=end))
        failure, text = await bench.fail(known(device), job)
    assert failure is FailureClass.UNVERIFIED
    assert repr(end) in text


async def test_a_pattern_that_is_none_makes_the_execution_invalid(bench: Bench) -> None:
    async with SimulatedDevice(KIND, "r1") as device:
        failure, text = await bench.fail(known(device, prompts=("(",)), commands("show version"))
    assert failure is FailureClass.INVALID
    assert "platform 'ios'" in text


EXEC = Platform(name="test", exec=True, errors=("^bad command name",))


async def answer(process: Any) -> None:
    match process.command:
        case "/export":
            process.stdout.write(b"# RouterOS\r\n/ip address\n")
            process.exit(0)
        case "/quit":
            process.exit(1)
        case "/version":
            process.stdout.write(b"7.1")  # and no line end
            process.exit(0)
        case "/kill":
            process.stdout.write(b"half of it")
            process.exit_with_signal("KILL")
        case "/drop":
            process.stdout.write(b"half of it")
            process.get_extra_info("connection").abort()
        case _:
            process.stdout.write(b"bad command name\n")
            process.exit(0)


async def test_commands_may_be_run_without_a_shell(bench: Bench) -> None:
    async with served(answer) as device:
        entry = msgspec.structs.replace(device, platform=EXEC)
        result = await bench.run(entry, commands("/export", "/export"))
        assert result == b"# RouterOS\n/ip address\n" * 2
        result = await bench.run(entry, commands("/version", "/export", "/version"))
        assert result == b"7.1\n# RouterOS\n/ip address\n7.1"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/quit", FailureClass.REJECTED),
        ("/nothing", FailureClass.REJECTED),
        ("/kill", FailureClass.CLOSED_EARLY),
        ("/drop", FailureClass.CLOSED_EARLY),
    ],
)
async def test_commands_without_a_shell_that_fail(
    bench: Bench, command: str, expected: FailureClass
) -> None:
    async with served(answer) as device:
        entry = msgspec.structs.replace(device, platform=EXEC)
        failure, _ = await bench.fail(entry, commands("/export", command))
    assert failure is expected
    assert b"RouterOS" in bench.evidence

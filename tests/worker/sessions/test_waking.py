"""Devices that show no prompt of their own accord."""

from pathlib import Path
from typing import Any

import pytest

from roundsman.simulator.machine import machine_of
from roundsman.simulator.server import HOST, DialogueServer
from roundsman.wire.device import Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.platform import Platform
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import TimeLimits
from roundsman.worker.sessions.shell import Patience
from tests.worker.sessions.conftest import Bench, commands

PLATFORM = Platform(name="test", prompts=(r"\w+#",))
EXEC: dict[str, Any] = {"prompt": "%N#", "commands": {"show": "one"}}
CONSOLE: dict[str, Any] = {
    "preface": "Press RETURN to get started.",
    "commands": {"": {"new_state": "exec"}},
}
BANNER: dict[str, Any] = {
    "prompt": "R1# is no prompt #R1#",
    "commands": {"": {"new_state": "exec"}},
}
ASKING: dict[str, Any] = {
    "prompt": "Erase everything? [yes]:",
    "commands": {"": {"new_state": "exec"}},
}


def played(state: dict[str, Any], protocol: ProtocolType) -> DialogueServer:
    machine = machine_of({"first": state, "exec": EXEC}, Path("none.yaml"))
    return DialogueServer(lambda: machine.dialogue("R1"), protocol=protocol)


def entry(server: DialogueServer) -> Device:
    ports = Protocol(
        type=server.protocol, ssh=Ssh(port=server.port), telnet=Telnet(port=server.port)
    )
    return Device(name="r1", host=HOST, protocol=ports, platform=PLATFORM)


@pytest.mark.parametrize("protocol", list(ProtocolType))
async def test_a_console_is_woken(bench: Bench, protocol: ProtocolType) -> None:
    async with played(CONSOLE, protocol) as server:
        assert await bench.run(entry(server), commands("show")) == b"one\n"


async def test_a_banner_without_a_line_end_does_not_hide_the_prompt(bench: Bench) -> None:
    async with played(BANNER, ProtocolType.SSH) as server:
        assert await bench.run(entry(server), commands("show")) == b"one\n"


async def test_a_question_that_nobody_knows_is_never_answered(bench: Bench) -> None:
    bench.limits = TimeLimits(patience=Patience(first=0.05, waking=0.1, greeting=0.5))
    async with played(ASKING, ProtocolType.SSH) as server:
        failure, text = await bench.fail(entry(server), commands("show"))
    assert failure is FailureClass.PROMPT
    assert "Erase everything" in text

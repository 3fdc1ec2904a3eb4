"""`roundsman simulate`, as a process."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Ssh, Telnet
from tests.worker.sessions.conftest import Bench, commands

RECORDING = """\
init_prompt: "hi\\nr1#"
commands:
  - "show version\\n": "show version\\nAcme OS\\nr1#"
"""
MACHINE = """\
login: {prompt: "login: ", commands: {admin: {new_state: password}}}
password: {prompt: "Password: ", commands: {letmein: {new_state: exec}}}
exec: {prompt: "%N#", commands: {show version: Acme OS}}
"""


@asynccontextmanager
async def simulated(count: int, *arguments: str) -> AsyncIterator[list[int]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "simulate", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        lines = [(await process.stdout.readline()).decode() for _ in range(count)]
        yield [int(line.split()[0].rpartition(":")[2]) for line in lines]
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


@pytest.mark.parametrize("protocol", list(ProtocolType))
async def test_files_of_both_formats_are_played(tmp_path: Path, protocol: ProtocolType) -> None:
    for name, text in (("recording.yaml", RECORDING), ("machine.yaml", MACHINE)):
        (tmp_path / name).write_text(text)
    files = (str(tmp_path / "recording.yaml"), str(tmp_path / "machine.yaml"))
    pieces = ("--piece-bytes", "3", "--host", "acme-1")
    bench = Bench(tmp_path)
    async with simulated(2, *files, "--protocol", protocol, *pieces) as ports:
        for port, credentials in zip(
            ports, (None, Credentials(user="admin", password=Secret("letmein"))), strict=True
        ):
            if credentials and protocol is ProtocolType.SSH:
                continue  # it asks in the terminal, which is not done over SSH without a platform
            device = Device(
                name="r1",
                host="127.0.0.1",
                protocol=Protocol(type=protocol, ssh=Ssh(port=port), telnet=Telnet(port=port)),
                credentials=credentials,
            )
            assert await bench.run(device, commands("show version")) == b"Acme OS\n"


async def test_a_file_that_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("exec: {promt: x}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "simulate", str(tmp_path / "other.yaml")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"state exec: unknown: promt" in said

"""Device sessions per second, and what one costs the worker.

Each session logs in by password over SSH, learns the prompt, runs two commands, one of which prints
20 KB, proves both outputs, and logs out. The devices run in a process of their own. The floor is
asyncssh alone, which logs in, runs the same commands and takes whatever ends like a prompt for one.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncssh

from bench.report import Row
from roundsman.secret import Secret
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.simulator.kinds import IOS
from roundsman.wire.device import Credentials, Device, Prompt, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import InlineCommands, Job, Schedule
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.sessions import algorithms
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy

CONFIG_BYTES = 20_000
COMMANDS = ("terminal length 0", "show running-config")


def run(quick: bool) -> list[Row]:
    """100 devices at once, five times over (quick: once)."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.sessions", "100"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as fleet:
        assert fleet.stdin is not None
        assert fleet.stdout is not None
        devices = [_device(fields) for fields in json.loads(fleet.stdout.readline())]
        floor, floor_cpu = asyncio.run(_measure(_floor, devices, 1 if quick else 5))
        with TemporaryDirectory() as folder:
            keys = HostKeyStore(Path(folder) / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)
            with closing(SessionRunner(keys)) as runner:

                async def session(device: Device) -> int:
                    return await _session(runner, device, Path(folder))

                rate, cpu = asyncio.run(_measure(session, devices, 1 if quick else 5))
        fleet.stdin.close()
    against = "asyncssh alone, unproven"
    return [
        Row(name=against, value=floor, unit="sessions/s"),
        Row(name=against, value=floor_cpu, unit="ms CPU/session"),
        Row(
            name="100 devices at once, 20 KB proven",
            value=rate,
            unit="sessions/s",
            compared_to=against,
            ratio=rate / floor,
        ),
        Row(
            name="100 devices at once, 20 KB proven",
            value=cpu,
            unit="ms CPU/session",
            compared_to=against,
            ratio=cpu / floor_cpu,
        ),
    ]


async def _measure(
    session: Callable[[Device], Awaitable[int]], devices: list[Device], rounds: int
) -> tuple[float, float]:
    """Sessions per second and CPU milliseconds per session; a first round is not counted."""
    await asyncio.gather(*map(session, devices))
    began, used = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        sizes = await asyncio.gather(*map(session, devices))
        assert min(sizes) >= CONFIG_BYTES
    count = rounds * len(devices)
    spent, used = time.perf_counter() - began, time.process_time() - used
    return count / spent, 1000 * used / count


async def _session(runner: SessionRunner, device: Device, folder: Path) -> int:
    job = Job(
        name="show_run",
        schedule=Schedule(fixed=0),
        command=InlineCommands(inline=COMMANDS),
        prompt=Prompt(ends_with="#"),
    )
    with (folder / device.name).open("wb") as file:
        result = ResultFile(file, max_bytes=1 << 30, scratch_folder=folder)
        await runner.run(Execution(device=device, job=job, timestamp=0), result)
        return result.size


async def _floor(device: Device) -> int:
    assert device.credentials is not None
    assert device.credentials.password is not None
    async with asyncssh.connect(
        device.host,
        device.protocol.ssh.port,
        username=device.credentials.user,
        password=device.credentials.password.reveal(),
        known_hosts=None,
        client_keys=None,
        agent_path=None,
        config=None,
        kex_algs=algorithms.KEY_EXCHANGE,
        encryption_algs=algorithms.CIPHERS,
    ) as connection:
        stdin, stdout, _ = await connection.open_session(term_type="dumb", encoding=None)
        size = 0
        # How often the prompt's text comes: the configuration's banner holds it, too.
        for command, times in ((None, 1), (COMMANDS[0], 1), (COMMANDS[1], 2)):
            if command is not None:
                stdin.write(f"{command}\n".encode())
            for _ in range(times):
                size += len(await stdout.readuntil(f"{device.name}#".encode()))
        return size


def _device(fields: dict[str, Any]) -> Device:
    return Device(
        name=fields["name"],
        host="127.0.0.1",
        protocol=Protocol(ssh=Ssh(port=fields["port"])),
        credentials=Credentials(user="admin", password=Secret(fields["password"])),
    )


async def _serve(count: int) -> None:
    """Be the fleet, until standard input is closed."""
    fleet = SimulatedFleet(count, kinds=[IOS], with_faults=False, config_bytes=CONFIG_BYTES)
    async with fleet:
        devices = [
            {"name": device.name, "port": device.port, "password": device.password}
            for device in fleet.devices
        ]
        print(json.dumps(devices), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))

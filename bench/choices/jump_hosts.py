"""What a session behind a jump host costs, by how many share a connection to it.

`python -m bench.choices.jump_hosts`; for docs/adr/0011-jump-hosts.md. Devices and the jump host run
in one process of their own, on the other side of the loopback interface.
"""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncssh
import msgspec

from roundsman.secret import Secret
from roundsman.simulator.device import HOST
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.simulator.kinds import IOS
from roundsman.wire.device import Credentials, Device, JumpHost, Prompt, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import InlineCommands, Job, Schedule
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.sessions import jump_hosts
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy

DEVICES = 100
ROUNDS = 2
CONFIG_BYTES = 20_000
JOB = Job(
    name="show_run",
    schedule=Schedule(fixed=0),
    command=InlineCommands(inline=("terminal length 0", "show running-config")),
    prompt=Prompt(ends_with="#"),
)
SHARING = (1, 10, 50, 1000)


class Bastion(asyncssh.SSHServer):
    """Lets everybody in, and connects onwards."""

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return True

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        return True


async def serve() -> None:
    """Devices and a jump host, until standard input is closed."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(HOST, 0, server_factory=Bastion, server_host_keys=[key])
    async with (
        server,
        SimulatedFleet(DEVICES, kinds=[IOS], with_faults=False, config_bytes=CONFIG_BYTES) as fleet,
    ):
        devices = [
            {"name": d.name, "port": d.port, "user": d.user, "password": d.password}
            for d in fleet.devices
        ]
        print(json.dumps({"port": server.get_port(), "devices": devices}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def measure(devices: list[Device], most: int) -> tuple[float, float]:
    """Sessions a second and CPU milliseconds a session, with so many to a connection."""
    jump_hosts.MOST_SESSIONS = most  # type: ignore[misc] # constants, which are to be chosen here
    jump_hosts.IDLE_SECONDS = 0.0 if most == 1 else 60.0  # type: ignore[misc] # one: none is kept

    async def run(folder: Path) -> tuple[float, float]:
        keys = HostKeyStore(folder / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)
        with closing(SessionRunner(keys)) as runner:

            async def session(device: Device) -> None:
                result = ResultFile(BytesIO(), max_bytes=1 << 30, scratch_folder=folder)
                await runner.run(Execution(device=device, job=JOB, timestamp=0), result)
                assert result.size >= CONFIG_BYTES

            await asyncio.gather(*map(session, devices))  # not counted
            began, used = time.perf_counter(), time.process_time()
            for _ in range(ROUNDS):
                await asyncio.gather(*map(session, devices))
            count = ROUNDS * len(devices)
            spent, used = time.perf_counter() - began, time.process_time() - used
            return count / spent, 1000 * used / count

    with TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder)))


def main() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.choices.jump_hosts", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        told: dict[str, Any] = json.loads(other.stdout.readline())
        straight = [
            Device(
                name=fields["name"],
                host=HOST,
                protocol=Protocol(ssh=Ssh(port=fields["port"])),
                credentials=Credentials(user=fields["user"], password=Secret(fields["password"])),
            )
            for fields in told["devices"]
        ]
        hop = JumpHost(
            name="bastion",
            host=HOST,
            protocol=Protocol(ssh=Ssh(port=told["port"])),
            credentials=Credentials(user="jump", password=Secret("x")),
        )
        behind = [msgspec.structs.replace(device, jump_hosts=(hop,)) for device in straight]
        rate, cpu = measure(straight, 1)
        print(f"straight: {rate:.0f} sessions/s, {cpu:.2f} ms CPU")
        for most in SHARING:
            rate, cpu = measure(behind, most)
            print(f"{most} to a connection: {rate:.0f} sessions/s, {cpu:.2f} ms CPU")
        other.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()

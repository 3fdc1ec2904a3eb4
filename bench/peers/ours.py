"""The worker's own session runner, over SSH or (with the argument `telnet`) Telnet.

As in a worker: the platform's manners, the proof of the end, filters for noise and secrets, the
search for what looks like a secret, host keys pinned. The result stays in memory, as the others'.
"""

import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers.harness import Target, at_once
from roundsman.platforms.load import by_name
from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.execution import Execution
from roundsman.wire.job import Command, CommandSet, Job, Schedule
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy

PLATFORM = by_name("cisco_ios")
JOB = Job(
    name="backup",
    schedule=Schedule(fixed=0),
    command_set=CommandSet(commands=(Command(command="show running-config", end="^end$"),)),
    scrubbers=(*PLATFORM.noise, *PLATFORM.secrets),
)
KIND = ProtocolType.TELNET if "telnet" in sys.argv else ProtocolType.SSH


def device(target: Target) -> Device:
    return Device(
        name=target.name,
        host=target.host,
        protocol=Protocol(
            type=KIND, ssh=Ssh(port=target.port), telnet=Telnet(port=target.telnet_port)
        ),
        credentials=Credentials(user=target.user, password=Secret(target.password)),
        platform=PLATFORM.session,
    )


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        folder = Path(name)
        keys = HostKeyStore(folder / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)
        with closing(SessionRunner(keys)) as runner:

            async def session(target: Target) -> int:
                result = ResultFile(BytesIO(), max_bytes=1 << 30, scratch_folder=folder)
                await runner.run(Execution(device=device(target), job=JOB, timestamp=0), result)
                return result.size

            at_once(session)

"""Recorded dialogues, played over real SSH and read by the session engine.

The recordings are not part of the project: they are looked for in the folder that ROUNDSMAN_CORPUS
names, else beside the checkout.
"""

import contextlib
import os
from pathlib import Path

import pytest

from roundsman.secret import Secret
from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.simulator.faults import Faults
from roundsman.simulator.kinds import IOS
from roundsman.simulator.recorded import Recording, read_recording
from roundsman.wire.device import Credentials, Device, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import InlineCommands, Job, Schedule
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.sessions.terminal import LineRenderer
from roundsman.worker.settings import HostKeyPolicy

CORPUS = Path(os.environ.get("ROUNDSMAN_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
RECORDINGS = (
    "ios#asr920_16.8.1b",
    "asa#5512_9.12-4-67_single-context",
    "nxos#N5548_7.3.13",
    "eos#DCS-7050SX3-48YC8_4.29.2F",
    "aoscx#R0X25A-6410_FL.10.10.1100",
)


@pytest.mark.parametrize("pieces", [None, 7])
@pytest.mark.parametrize("name", RECORDINGS)
async def test_a_recorded_device_is_read_exactly(
    name: str, pieces: int | None, tmp_path: Path
) -> None:
    path = CORPUS / "oxidized" / f"{name}#simulation.yaml"
    if not path.exists():
        pytest.skip(f"no recordings in {CORPUS}: set ROUNDSMAN_CORPUS to where they are")
    recording = read_recording(path)
    commands = tuple(line for line, exchange in recording.exchanges.items() if exchange.prompt)
    faults = Faults(piece_bytes=pieces)
    async with SimulatedDevice(IOS, "r1", dialogue=recording.dialogue, faults=faults) as device:
        assert await read(device, commands, tmp_path) == expected(recording)


def expected(recording: Recording) -> bytes:
    """What was recorded between echo and prompt, without what only a terminal shows."""
    exchanges = recording.exchanges.values()
    output = b"".join(exchange.output for exchange in exchanges if exchange.prompt)
    return LineRenderer().feed(output)


async def read(device: SimulatedDevice, commands: tuple[str, ...], folder: Path) -> bytes:
    entry = Device(
        name=device.name,
        host=HOST,
        protocol=Protocol(ssh=Ssh(port=device.port)),
        credentials=Credentials(user=device.user, password=Secret(device.password)),
    )
    job = Job(
        name="all",
        schedule=Schedule(fixed=0),
        command=InlineCommands(inline=commands),
        command_timeout=5,
    )
    keys = HostKeyStore(folder / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)
    with (
        contextlib.closing(SessionRunner(keys)) as runner,
        (folder / "result").open("w+b") as file,
    ):
        result = ResultFile(file, max_bytes=1 << 30, scratch_folder=folder)
        await runner.run(Execution(device=entry, job=job, timestamp=0), result)
        file.seek(0)
        return file.read()


def test_escapes_are_those_of_the_format(tmp_path: Path) -> None:
    file = tmp_path / "recording.yaml"
    file.write_text(
        'init_prompt: |-\n  \\x20Hi \\"you\\"\n  \\e[1mr1\\#\n'
        'commands:\n  - "show\\n": |-\n      show\n      C:\\x5cfile \\d\n      r1\\#\n'
        "  - ' ': pager\n"
    )
    recording = read_recording(file)
    assert recording.greeting == b' Hi "you"\n'
    assert recording.prompt == b"\x1b[1mr1#"
    assert recording.exchanges == {"show": (b"C:\\file \\d\n", b"r1#")}

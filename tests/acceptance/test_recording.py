"""A failed run of a whole site, fetched as a recorded dialogue by the command line, and played."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from roundsman.client import ControllerClient
from roundsman.controller.access import new_token
from roundsman.secret import Secret
from roundsman.simulator.faults import Faults
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.simulator.kinds import IOS
from roundsman.simulator.recorded import read_recording
from tests.acceptance.test_up import up, write


async def test_a_failed_run_becomes_a_recording(tmp_path: Path) -> None:
    token = new_token()
    file, output = tmp_path / "site.json", tmp_path / "recorded.yaml"
    async with SimulatedFleet(1, kinds=[IOS], with_faults=False) as fleet:
        [device] = fleet.devices
        device.faults = Faults(closes_after_bytes=900)
        write(file, fleet, token)
        async with up(file) as site:
            await run_now(site.url, device.name, token.token)
            run_id = str((await site.event("intake.kept"))["run_id"])
            done = await asyncio.to_thread(
                subprocess.run,
                [
                    *(sys.executable, "-m", "roundsman", "record", "--run", run_id),
                    *("--controller", site.url, "--token", "env:TOKEN", "--output", str(output)),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
                env={**os.environ, "TOKEN": token.token.reveal()},
            )
    assert done.returncode == 0, done.stderr
    recording = read_recording(output)
    assert recording.exchanges[-1].sent == "show running-config\n"
    assert b"snmp-server community <hidden> RO" in recording.exchanges[-1].came
    assert device.password.encode() not in output.read_bytes()


async def run_now(url: str, device: str, token: Secret) -> None:
    async with ControllerClient(url, token=token) as client:
        await client.manage.run_now(device, "ios_configuration")

"""One job from the terminal, against simulated devices over real SSH."""

import asyncio
import json
import subprocess
from pathlib import Path

from roundsman.simulator.device import SimulatedDevice
from roundsman.simulator.faults import Faults
from roundsman.simulator.kinds import IOS
from roundsman.simulator.recorded import read_recording
from tests.cli.test_commands import roundsman

SHOW = "show running-config"


async def run(
    folder: Path,
    device: SimulatedDevice,
    *options: str,
    job: str = "backup",
    platform: str | None = None,
) -> subprocess.CompletedProcess[str]:
    file = folder / "site.json"
    file.touch(mode=0o600)
    credentials = {"user": device.user, "pass": device.password, "prompt": {"ends_with": "#"}}
    said = {
        "jobs": {"backup": {"schedule": {"fixed": 1}, "commands": [SHOW]}},
        "devices": {
            "r1": {
                "host": "127.0.0.1",
                "protocol": {"ssh": {"port": device.port}},
                "credentials": credentials,
                "jobs": ["backup"],
                "platform": platform,
            }
        },
    }
    file.write_text(json.dumps(said))
    known = str(folder / "keys" / "known_hosts")
    return await asyncio.to_thread(
        roundsman, "run", "r1", job, "--config", str(file), "--known-hosts", known, *options
    )


async def test_the_result_goes_to_standard_output_alone(tmp_path: Path) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        done = await run(tmp_path, device)
        assert done.returncode == 0, done.stderr
        assert done.stdout == device.output(SHOW)
    assert f"r1#{SHOW}" in done.stderr
    assert "looks like a secret: snmp_community, 1 in all" in done.stderr
    assert "proven whole" in done.stderr
    assert "host key ssh-ed25519 SHA256:" in done.stderr
    assert (tmp_path / "keys" / "known_hosts").exists()


async def test_what_netmiko_reads_is_not_called_proven(tmp_path: Path) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        done = await run(tmp_path, device, platform="netmiko:cisco_ios")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Building configuration")
    assert "whole as far as netmiko can tell" in done.stderr
    assert "proven" not in done.stderr


async def test_the_result_goes_to_a_file_and_the_session_to_another(tmp_path: Path) -> None:
    output, save = tmp_path / "result", tmp_path / "session.yaml"
    async with SimulatedDevice(IOS, "r1") as device:
        done = await run(tmp_path, device, "--output", str(output), "--save", str(save))
        assert (done.returncode, done.stdout) == (0, "")
        assert output.read_text() == device.output(SHOW)
    recording = read_recording(save)
    assert [exchange.sent for exchange in recording.exchanges] == [f"{SHOW}\n", "exit\n"]
    assert b"snmp-server community <hidden> RO" in recording.exchanges[0].came


async def test_a_failure_has_its_class_and_no_result(tmp_path: Path) -> None:
    save = tmp_path / "session.yaml"
    async with SimulatedDevice(IOS, "r1", faults=Faults(closes_after_bytes=500)) as device:
        done = await run(tmp_path, device, "--save", str(save))
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed: closed_early: " in done.stderr
    assert read_recording(save).exchanges[0].sent == f"{SHOW}\n"


async def test_credentials_are_masked_in_what_is_shown(tmp_path: Path) -> None:
    async with SimulatedDevice(IOS, "r1", password="Building") as device:
        done = await run(tmp_path, device)
    assert "******** configuration..." in done.stderr
    assert "Building" not in done.stderr


async def test_an_unknown_job_is_told(tmp_path: Path) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        done = await run(tmp_path, device, job="backups")
    assert done.returncode == 1
    assert done.stderr.endswith("on a device 'r1'; did you mean \"backup\"?\n")

"""A worker that is killed in the middle of a run, as real processes."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from roundsman.client import ControllerClient
from roundsman.simulator.device import KindDialogue, SimulatedDevice
from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.simulator.kinds import KINDS
from roundsman.simulator.terminal import Answer
from roundsman.wire.run import Outcome, SlotState
from tests.acceptance.controllers import controller_process

LEASE_SECONDS = 2
YEAR_2100 = 4_102_444_800  # nothing is due by itself, whatever the time of the day
COMMAND = "show running-config"
[IOS] = [kind for kind in KINDS if kind.name == "ios"]


class _NoticedDevice(SimulatedDevice):
    """Says when its configuration is asked for."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(IOS, "edge1", faults=faults, dialogue=lambda: _NoticedDialogue(self))
        self.asked = asyncio.Event()


class _NoticedDialogue(KindDialogue):
    def __init__(self, device: _NoticedDevice) -> None:
        super().__init__(device)
        self._noticed = device

    def answer(self, line: str) -> Answer:
        if line == COMMAND:
            self._noticed.asked.set()
        return super().answer(line)


def configuration(device: SimulatedDevice) -> dict[str, object]:
    return {
        "controller": {
            "data": "data",
            "listen": {"port": 0},
            "leases": {"seconds": LEASE_SECONDS},
        },
        "jobs": {
            "backup": {
                "schedule": {"fixed": YEAR_2100},
                "command": {"inline": [COMMAND]},
                "prompt": {"ends_with": "#"},
            }
        },
        "devices": {
            "edge1": {
                "host": "127.0.0.1",
                "protocol": {"type": "ssh", "ssh": {"port": device.port}},
                "credentials": {"user": device.user, "pass": device.password},
                "jobs": ["backup"],
            }
        },
    }


@asynccontextmanager
async def worker_process(url: str, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "roundsman", "worker", "--controller", url, "--state", str(state)),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            assert await process.wait() == 0


async def test_its_execution_is_offered_again_after_its_lease_once(tmp_path: Path) -> None:
    """Fault 2: a dead worker's executions were never offered again."""
    device = _NoticedDevice(Faults(stalls_after_bytes=500))
    async with (
        device,
        controller_process(tmp_path, configuration(device)) as controller,
        ControllerClient(await controller.start()) as client,
    ):
        async with worker_process(controller.url, tmp_path / "first") as first:
            await client.manage.run_now("edge1", "backup")
            await device.asked.wait()
            held = await client.manage.slot("edge1", "backup")
            first.kill()
            await first.wait()
        assert (held.state, held.epoch) == (SlotState.LEASED, 1)
        device.faults = NO_FAULTS
        async with worker_process(controller.url, tmp_path / "second"):
            while not (runs := await client.manage.runs()).items:
                pass  # each look is a call over HTTP, so it takes its time by itself
        [run] = runs.items
        assert (run.outcome, run.epoch, run.due) == (Outcome.SUCCEEDED, 2, held.due)
        assert run.worker_id != held.worker_id
        assert run.worker_id in {
            worker.worker_id for worker in (await client.manage.workers()).items
        }
        assert device.sessions == 2
        expected = device.output(COMMAND).encode()
        assert await client.manage.latest("edge1", "backup") == expected
        assert len((await client.manage.versions("edge1", "backup")).items) == 1
        async with aiohttp.request("GET", f"{controller.url}/worker/next?seconds=3600") as answer:
            assert answer.status == 204
        assert (await client.manage.slot("edge1", "backup")).state is SlotState.WAITING

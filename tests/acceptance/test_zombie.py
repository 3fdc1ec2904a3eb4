"""A worker that is stopped past its lease and woken again, as a real process.

It finds its session as it left it: logged in, with the device's answer waiting to be read. The
network between the two tells that not a byte goes to the device from then on.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from roundsman.client import ControllerClient
from roundsman.simulator.device import KindDialogue, SimulatedDevice
from roundsman.simulator.kinds import IOS
from roundsman.simulator.terminal import Answer
from roundsman.wire.run import Outcome, Run, SlotState
from tests.acceptance.controllers import controller_process
from tests.proxies import Proxy

LEASE_SECONDS = 2
YEAR_2100 = 4_102_444_800  # nothing is due by itself, whatever the time of the day
FIRST, SECOND = "show version", "show running-config"


class NoticedDevice(SimulatedDevice):
    """Says what was typed, as soon as it was."""

    def __init__(self) -> None:
        super().__init__(IOS, "edge1", dialogue=lambda: _Dialogue(self))
        self.typed: list[str] = []
        self.on_typed: Callable[[str], None] = lambda _: None


class _Dialogue(KindDialogue):
    def __init__(self, device: NoticedDevice) -> None:
        super().__init__(device)
        self._noticed = device

    def answer(self, line: str) -> Answer:
        self._noticed.typed.append(line)
        self._noticed.on_typed(line)
        return super().answer(line)


class Site:
    """A controller, a device, and a network between them and the first of two workers."""

    def __init__(self, folder: Path, device: NoticedDevice) -> None:
        self.folder = folder
        self.device = device
        self.to_device = Proxy(lambda: device.port)
        self.to_controller = Proxy(lambda: int(self.url.rsplit(":", 1)[1]))
        self.url = ""

    def configuration(self) -> dict[str, object]:
        return {
            "controller": {
                "data": "data",
                "listen": {"port": 0},
                "leases": {"seconds": LEASE_SECONDS},
            },
            "jobs": {
                "backup": {
                    "schedule": {"fixed": YEAR_2100},
                    "command": {"inline": [FIRST, SECOND]},
                    "prompt": {"ends_with": "#"},
                }
            },
            "devices": {
                "edge1": {
                    "host": "127.0.0.1",
                    "protocol": {"type": "ssh", "ssh": {"port": self.to_device.port}},
                    "credentials": {"user": self.device.user, "pass": self.device.password},
                    "jobs": ["backup"],
                }
            },
        }

    @asynccontextmanager
    async def worker(self, name: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """One, which drains and leaves at the end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "roundsman", "worker", "--name", name),
            *("--controller", url, "--state", str(self.folder / name)),
        )
        try:
            yield process
            process.terminate()
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def site_of(folder: Path) -> AsyncIterator[tuple[Site, ControllerClient]]:
    async with AsyncExitStack() as stack:
        device = await stack.enter_async_context(NoticedDevice())
        site = Site(folder, device)
        await stack.enter_async_context(site.to_device)
        controller = await stack.enter_async_context(
            controller_process(folder, site.configuration())
        )
        site.url = await controller.start()
        await stack.enter_async_context(site.to_controller)
        yield site, await stack.enter_async_context(ControllerClient(site.url))


async def runs_until(client: ControllerClient, *wanted: Outcome) -> dict[Outcome, Run]:
    """The runs by outcome, once there are these; each look is a call, so it takes its time."""
    while True:
        runs = (await client.manage.runs()).items
        if {run.outcome for run in runs} >= set(wanted):
            assert len(runs) == len(wanted), runs
            return {run.outcome: run for run in runs}


async def name_of(client: ControllerClient, run: Run) -> str:
    workers = (await client.manage.workers()).items
    return next(worker.name for worker in workers if worker.worker_id == run.worker_id)


async def test_woken_in_the_midst_of_a_session_it_sends_the_device_not_a_byte(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()
    async with site_of(tmp_path) as (site, client):
        device = site.device

        def hold_answer(line: str) -> None:
            if line == FIRST and not asked.is_set():
                site.to_device.links[0].hold()
                asked.set()

        device.on_typed = hold_answer
        async with site.worker("zombie", site.url) as zombie:
            await client.manage.run_now("edge1", "backup")
            await asked.wait()
            [link] = site.to_device.links
            zombie.send_signal(signal.SIGSTOP)
            async with site.worker("second", site.url):
                done = (await runs_until(client, Outcome.SUCCEEDED))[Outcome.SUCCEEDED]
                assert await name_of(client, done) == "second"
            said = link.sent
            link.release()
            zombie.send_signal(signal.SIGCONT)
            await link.closed.wait()
        assert link.sent == said
        assert device.sessions == 2
        assert (device.typed.count(FIRST), device.typed.count(SECOND)) == (2, 1)
        await runs_until(client, Outcome.SUCCEEDED)  # and no other
        assert len((await client.manage.versions("edge1", "backup")).items) == 1
        assert (await client.manage.slot("edge1", "backup")).state is SlotState.WAITING


async def test_woken_with_a_result_it_is_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    async with site_of(tmp_path) as (site, client):
        device = site.device

        def part(line: str) -> None:
            if line == SECOND:
                site.to_controller.refusing = True
                site.to_controller.cut()

        device.on_typed = part
        async with site.worker("zombie", site.to_controller.url) as zombie:
            await client.manage.run_now("edge1", "backup")
            while not list((tmp_path / "zombie" / "outbox").glob("*.json")):
                await client.manage.runs()  # takes its time
            zombie.send_signal(signal.SIGSTOP)
            device.edit()
            device.on_typed = lambda _: None
            async with site.worker("second", site.url):
                done = (await runs_until(client, Outcome.SUCCEEDED))[Outcome.SUCCEEDED]
            sessions = device.sessions
            site.to_controller.refusing = False
            zombie.send_signal(signal.SIGCONT)
            runs = await runs_until(client, Outcome.SUCCEEDED, Outcome.STALE)
        assert runs[Outcome.SUCCEEDED] == done
        assert await name_of(client, done) == "second"
        assert await name_of(client, runs[Outcome.STALE]) == "zombie"
        assert runs[Outcome.STALE].epoch == 1
        assert not list((tmp_path / "zombie" / "outbox").iterdir())
        assert device.sessions == sessions == 2
        expected = f"{device.output(FIRST)}{device.output(SECOND)}".encode()
        assert await client.manage.latest("edge1", "backup") == expected
        assert len((await client.manage.versions("edge1", "backup")).items) == 1

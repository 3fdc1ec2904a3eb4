"""What the tests of the worker's loops share."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from roundsman.client import ControllerClient
from roundsman.clock import Clock
from roundsman.secret import Secret
from roundsman.wire.execution import Execution
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline
from roundsman.worker.heartbeat import Heartbeat
from roundsman.worker.identity import Enrolment
from roundsman.worker.lease_loop import LeaseLoop
from roundsman.worker.leases import HeldLeases
from roundsman.worker.outbox import Outbox
from roundsman.worker.places import OPEN_PER_BUSY, Places
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.settings import OutboxSettings, WorkerSettings
from roundsman.worker.uploader import Uploader
from tests.worker.fake_controller import FakeController

Run = Callable[[Execution, ResultFile], Awaitable[None]]


class FakeRunner:
    """Runs whatever it is given to run with; by default it writes the device's name."""

    def __init__(self, run: Run | None = None) -> None:
        self.begun: list[Execution] = []
        self.running = 0
        self.most_running = 0
        self._run = run
        self._changed = asyncio.Condition()

    async def reached(self, running: int) -> None:
        """Wait until so many run at once."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.running >= running)

    async def run(
        self, execution: Execution, result: ResultFile, _: LeaseDeadline = NO_DEADLINE
    ) -> None:
        self.begun.append(execution)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        async with self._changed:
            self._changed.notify_all()
        try:
            if self._run is None:
                result.write(f"configuration of {execution.device.name}\n".encode())
            else:
                await self._run(execution, result)
        finally:
            self.running -= 1


def element(
    device: str = "edge1",
    job: str = "show_run",
    *,
    timestamp: int,
    epoch: int = 1,
    lease_seconds: float = 120.0,
    **job_fields: Any,
) -> dict[str, Any]:
    """One execution as it travels."""
    return {
        "device": {
            "name": device,
            "host": "192.0.2.1",
            "protocol": {"type": "ssh", "ssh": {"port": 22}},
            "tags": ["dmz"],
            "credentials": {"user": "u", "pass": "p"},
        },
        "job": {
            "name": job,
            "schedule": {"cron": "* * * * *"},
            "command": {"inline": ["show run"]},
            **job_fields,
        },
        "timestamp": timestamp,
        "lease": {
            "epoch": epoch,
            "expires_at": timestamp + lease_seconds,
            "seconds": lease_seconds,
        },
    }


class Bench:
    """A worker's loops, put together but not running, against a fake controller."""

    def __init__(
        self,
        *,
        controller: FakeController,
        client: ControllerClient,
        state: Path,
        runner: FakeRunner,
        clock: Clock,
        rng: random.Random,
        sessions: int = 200,
        outbox: OutboxSettings | None = None,
    ) -> None:
        self.settings = WorkerSettings(
            controller=controller.url,
            token=Secret("enrol"),
            name="ams-1",
            state=state,
            sessions=sessions,
            outbox=outbox or OutboxSettings(),
        )
        self.runner = runner
        self.leases = HeldLeases()
        self.outbox = Outbox(state, self.settings.outbox)
        self.outbox.open()
        self.enrolment = Enrolment(self.settings, client, clock=clock, chance=rng)
        self.heartbeat = Heartbeat(
            client=client, enrolment=self.enrolment, leases=self.leases, clock=clock
        )
        self.uploader = Uploader(
            client=client,
            outbox=self.outbox,
            leases=self.leases,
            heartbeat=self.heartbeat,
            clock=clock,
            chance=rng,
        )
        self.lease_loop = LeaseLoop(
            settings=self.settings,
            client=client,
            runner=runner,
            outbox=self.outbox,
            leases=self.leases,
            heartbeat=self.heartbeat,
            places=Places(busy=sessions, most_open=sessions * OPEN_PER_BUSY, clock=clock),
            clock=clock,
            chance=rng,
        )

    async def run_batch(self) -> None:
        """Ask once, and see what came to its end."""
        async with asyncio.TaskGroup() as group:
            await self.lease_loop.run_once(group)


def keepers(folder: Path) -> list[int]:
    """The keepers that serve a worker's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(folder).encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found

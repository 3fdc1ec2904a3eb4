"""A controller served over real HTTP inside the test's event loop, and what to put into it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from roundsman.archive.interface import Archive
from roundsman.clock import Clock
from roundsman.config.records import Configuration, ConfiguredSlot, ControllerSettings, Retries
from roundsman.controller.server import serve
from roundsman.controller.service import Controller
from roundsman.ledger.interface import Ledger
from roundsman.ledger.memory import MemoryLedger
from roundsman.schedules.duration import Duration
from roundsman.schedules.interface import Schedule
from roundsman.schedules.plans import plan_of
from roundsman.secret import Secret
from roundsman.testing.clock import ManualClock
from roundsman.testing.memory_archive import MemoryArchive
from roundsman.wire import job as jobs
from roundsman.wire.device import Credentials, Device, Prompt

START = 1_700_000_000  # due for every slot with the `PERIOD`
PERIOD = 100  # of the schedule that slots have unless they say otherwise


def device(name: str, *tags: str) -> Device:
    return Device(
        name=name,
        host=f"{name}.example.net",
        tags=tuple(sorted(tags)),
        credentials=Credentials(
            user="backup", password=Secret("hunter2"), prompt=Prompt(ends_with="#")
        ),
    )


def job(name: str, **changes: object) -> jobs.Job:
    plain = jobs.Job(
        name=name,
        schedule=jobs.Schedule(duration=f"{PERIOD} seconds"),
        command=jobs.InlineCommands(inline=("show running-config",)),
        command_set=jobs.CommandSet(commands=(jobs.Command(command="show running-config"),)),
        prompt=Prompt(ends_with="#"),
    )
    return msgspec.structs.replace(plain, **changes)


def slot(
    device: Device,
    job: jobs.Job,
    schedule: Schedule | None = None,
    retries: Retries = Retries(attempts=0),  # noqa: B008 - it is frozen
) -> ConfiguredSlot:
    return ConfiguredSlot(
        device=device,
        job=job,
        schedule=schedule or Duration(f"{PERIOD} seconds"),
        plan=plan_of(job.schedule),
        retries=retries,
    )


def configuration(
    slots: Iterable[ConfiguredSlot], settings: ControllerSettings | None = None
) -> Configuration:
    slots = list(slots)
    settings = settings or ControllerSettings()
    listen = msgspec.structs.replace(settings.listen, port=0)
    return Configuration(
        devices={slot.device.name: slot.device for slot in slots},
        jobs={slot.job.name: slot.job for slot in slots},
        slots={(slot.device.name, slot.job.name): slot for slot in slots},
        controller=msgspec.structs.replace(settings, listen=listen),
    )


def fleet(
    count: int,
    *,
    settings: ControllerSettings | None = None,
    retries: Retries = Retries(attempts=0),  # noqa: B008 - it is frozen
    **job_changes: object,
) -> Configuration:
    """So many devices, edge0 to edgeN, with one job `show`, all due every `PERIOD`."""
    show, schedule = job("show", **job_changes), Duration(f"{PERIOD} seconds")
    return configuration(
        (slot(device(f"edge{number}"), show, schedule, retries) for number in range(count)),
        settings,
    )


class Served(NamedTuple):
    controller: Controller
    http: aiohttp.ClientSession
    url: str
    stop: asyncio.Event
    """Set it to have the controller stop as on SIGTERM."""

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)


@contextlib.asynccontextmanager
async def served(
    configuration: Configuration,
    data: Path,
    *,
    ledger: Ledger | None = None,
    archive: Archive | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Served]:
    """A controller answering over HTTP on a free port until the block ends.

    By default in memory, with a clock that stands at `START`.
    """
    clock = clock or ManualClock(START)
    controller = Controller(
        configuration,
        ledger=ledger or MemoryLedger(),
        archive=archive or MemoryArchive(clock),
        clock=clock,
        data=data,
    )
    stop = asyncio.Event()
    urls: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(serve(controller, stop=stop, ready=urls.put_nowait))
    starting = asyncio.create_task(urls.get())
    try:
        await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            starting.cancel()
            await serving
        url = starting.result()
        async with aiohttp.ClientSession(url) as http:
            yield Served(controller, http, url, stop)
    finally:
        stop.set()
        await serving

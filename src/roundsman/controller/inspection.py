"""Devices and jobs, as they are configured and as they stand: lists and details, never a secret."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from roundsman import __version__
from roundsman.clock import Clock
from roundsman.config.records import Configuration
from roundsman.controller.paging import page_of
from roundsman.controller.planner import Planner
from roundsman.controller.workers import Workers
from roundsman.errors import NotFoundError
from roundsman.ledger.interface import Ledger, RunQuery, SlotQuery
from roundsman.schedules.build import build
from roundsman.schedules.interface import due_times
from roundsman.wire.device import Device
from roundsman.wire.job import Job
from roundsman.wire.manage import (
    DeviceDetail,
    DeviceJob,
    DeviceSummary,
    JobDetail,
    JobSummary,
    Overview,
)
from roundsman.wire.page import Page
from roundsman.wire.pause import Pause, PauseKind
from roundsman.wire.run import Outcome, Run

PREVIEWED: Final = 5
"""How many of a job's next due times are shown."""


class DeviceNotFoundError(NotFoundError):
    """No device of this name is configured."""

    code = "device.not_found"

    def __init__(self, name: str) -> None:
        """Name what was asked for."""
        super().__init__(f"no device is named {name!r}")


class JobNotFoundError(NotFoundError):
    """No job of this name is configured."""

    code = "job.not_found"

    def __init__(self, name: str) -> None:
        """Name what was asked for."""
        super().__init__(f"no job is named {name!r}")


class _Inventory:
    """One configuration, in the order of its lists."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration: Final = configuration
        self.devices = [device for _, device in sorted(configuration.devices.items())]
        self.jobs = [job for _, job in sorted(configuration.jobs.items())]
        self.devices_of = Counter(job for _, job in configuration.slots)

    def jobs_of(self, device: str) -> tuple[str, ...]:
        """The names of a device's jobs."""
        return tuple(
            job.name for job in self.jobs if (device, job.name) in self.configuration.slots
        )


class Inspection:
    """Reads what is configured, beside what the ledger knows of it."""

    def __init__(self, *, planner: Planner, ledger: Ledger, workers: Workers, clock: Clock) -> None:
        """Look at the planner's configuration; nothing is read yet."""
        self._planner = planner
        self._ledger = ledger
        self._workers = workers
        self._clock = clock
        self._inventory = _Inventory(planner.configuration)

    async def _current(self) -> _Inventory:
        """The configuration in force, put in order once after each reload."""
        configuration = self._planner.configuration
        if self._inventory.configuration is not configuration:
            # Off the event loop: with 100,000 devices it takes a good part of a second.
            self._inventory = await asyncio.to_thread(_Inventory, configuration)
        return self._inventory

    async def overview(self) -> Overview:
        """The controller itself, and how much it looks after."""
        configuration = self._planner.configuration
        workers = await self._workers.all()
        return Overview(
            name="roundsman",
            version=__version__,
            time=self._clock.now(),
            devices=len(configuration.devices),
            jobs=len(configuration.jobs),
            slots=len(configuration.slots),
            workers=len(workers),
            workers_connected=sum(worker.connected for worker in workers),
        )

    async def devices(
        self,
        *,
        name: str | None,
        tag: str | None,
        held: bool | None,
        after: str | None,
        limit: int,
    ) -> Page[DeviceSummary]:
        """Devices by name: those whose name contains `name`, which have `tag`, and are `held`."""
        inventory = await self._current()
        paused = await self._paused(PauseKind.DEVICE)
        breakers = {breaker.device: breaker for breaker in await self._ledger.open_breakers()}
        fits = _named(name, tag)
        page = page_of(
            inventory.devices,
            place=_place,
            after=after,
            limit=limit,
            matches=lambda device: held in (None, device.name in breakers) and fits(device),
        )
        return Page(
            items=tuple(
                DeviceSummary(
                    name=device.name,
                    host=device.host,
                    protocol=device.protocol.type,
                    tags=device.tags,
                    jobs=inventory.jobs_of(device.name),
                    paused=device.name in paused,
                    breaker=breakers.get(device.name),
                )
                for device in page.items
            ),
            next=page.next,
        )

    async def device(self, name: str) -> DeviceDetail:
        """One device and how its jobs stand. Raises `DeviceNotFoundError`."""
        inventory = await self._current()
        device = inventory.configuration.devices.get(name)
        if device is None:
            raise DeviceNotFoundError(name)
        return DeviceDetail(
            name=device.name,
            host=device.host,
            protocol=device.protocol,
            tags=device.tags,
            user=device.credentials.user if device.credentials is not None else None,
            pause=(await self._paused(PauseKind.DEVICE)).get(name),
            breaker=await self._ledger.breaker(name),
            jobs=await self._jobs_of(name, len(inventory.jobs)),
        )

    async def _jobs_of(self, device: str, most: int) -> tuple[DeviceJob, ...]:
        query = SlotQuery(device=device, limit=max(1, most))
        now = self._clock.now()
        slots = await self._ledger.slots(query, now)
        return tuple(
            [
                DeviceJob(
                    slot=self._planner.with_windows(slot, now),
                    last_run=await self._last_run(slot.device, slot.job),
                )
                for slot in slots.items
            ]
        )

    async def _last_run(self, device: str, job: str) -> Run | None:
        """The last run that a worker ended; spans that were coalesced or missed are passed over."""
        ended: list[Run] = []
        for outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRIED):
            query = RunQuery(device=device, job=job, outcome=outcome, limit=1)
            ended += (await self._ledger.runs(query)).items
        return max(ended, key=lambda run: run.recorded_at, default=None)

    async def jobs(self, *, name: str | None, after: str | None, limit: int) -> Page[JobSummary]:
        """Jobs by name: those whose name contains `name`."""
        inventory = await self._current()
        paused = await self._paused(PauseKind.JOB)
        page = page_of(
            inventory.jobs, place=_place, after=after, limit=limit, matches=_named(name, None)
        )
        return Page(
            items=tuple(
                JobSummary(
                    name=job.name,
                    type=job.type,
                    schedule=job.schedule,
                    devices=inventory.devices_of[job.name],
                    paused=job.name in paused,
                )
                for job in page.items
            ),
            next=page.next,
        )

    async def job(self, name: str) -> JobDetail:
        """One job, and when it is due next. Raises `JobNotFoundError`."""
        inventory = await self._current()
        job = inventory.configuration.jobs.get(name)
        if job is None:
            raise JobNotFoundError(name)
        return JobDetail(
            name=job.name,
            type=job.type,
            schedule=job.schedule,
            next_due=_preview(job, self._clock.now()),
            commands=job.command.inline if job.command is not None else (),
            files=tuple(file.name for file in job.file_set.files) if job.file_set else (),
            scrubbers=len(job.scrubbers),
            command_timeout=job.command_timeout,
            session_timeout=job.session_timeout,
            max_bytes=job.max_bytes,
            missed=job.missed,
            devices=inventory.devices_of[name],
            pause=(await self._paused(PauseKind.JOB)).get(name),
        )

    async def _paused(self, kind: PauseKind) -> dict[str, Pause]:
        return {pause.name: pause for pause in await self._ledger.pauses() if pause.kind is kind}


def _place(item: Device | Job) -> tuple[str, str]:
    return item.name, ""


def _named(name: str | None, tag: str | None) -> Callable[[Device | Job], bool]:
    part = name.lower() if name is not None else ""

    def matches(item: Device | Job) -> bool:
        tagged = tag is None or (isinstance(item, Device) and tag in item.tags)
        return tagged and part in item.name.lower()

    return matches


def _preview(job: Job, now: float) -> tuple[int, ...]:
    times = due_times(build(job.schedule), now, float("inf"), cap=PREVIEWED)
    return tuple(times)

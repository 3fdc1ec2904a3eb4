"""What a person asks for beside the schedule: run now, pause, resume, release."""

import asyncio
from collections.abc import Sequence

from roundsman import logs
from roundsman.clock import Clock
from roundsman.controller.access import Principal
from roundsman.controller.attendance import Attendance
from roundsman.controller.inspection import DeviceNotFoundError, JobNotFoundError
from roundsman.controller.intake import SlotNotFoundError
from roundsman.controller.paging import page_of
from roundsman.controller.planner import Held, Planner
from roundsman.errors import ConflictError
from roundsman.ledger.interface import Ledger, ResumedSlot
from roundsman.wire.manage import PauseAnswer, ReleaseAnswer, ResumeAnswer, RunNowAnswer
from roundsman.wire.page import Page
from roundsman.wire.pause import Pause, PauseKind
from roundsman.wire.run import RunNow

log = logs.get(__name__)


class PausedError(ConflictError):
    """The device or the job is held back."""

    code = "slot.paused"


class Operations:
    """Changes what is due, through the ledger alone."""

    def __init__(
        self, *, planner: Planner, ledger: Ledger, attendance: Attendance, clock: Clock
    ) -> None:
        """Act on the slots of the planner's configuration."""
        self._attendance = attendance
        self._planner = planner
        self._ledger = ledger
        self._clock = clock

    async def run_now(self, device: str, job: str, *, by: Principal) -> RunNowAnswer:
        """Make a slot due now. Raises `SlotNotFoundError`, `PausedError`."""
        slot = self._planner.find(device, job)
        if slot is None:
            raise SlotNotFoundError(f"no device {device!r} has a job {job!r}")
        now = int(self._clock.now())
        # What its windows keep from starting stays for when they let it.
        closed = bool(slot.windows.closed_by(now))
        result = await self._ledger.run_now(device, job, now, beside=closed)
        log.info("slot.run_now", device=device, job=job, result=result.value, by=by.name)
        if result is RunNow.PAUSED:
            raise PausedError(
                f"{job} on {device}: the device or the job is paused", remedy="resume it first"
            )
        return RunNowAnswer(result=result)

    async def pauses(self, *, after: str | None, limit: int) -> Page[Pause]:
        """Every pause in force, by kind and name."""
        pauses = sorted(await self._ledger.pauses(), key=_place)
        return page_of(pauses, place=_place, after=after, limit=limit)

    async def pause(self, kind: PauseKind, name: str, *, by: Principal) -> PauseAnswer:
        """Hold back a device or a job; what runs goes on to its end.

        Raises `DeviceNotFoundError`, `JobNotFoundError`.
        """
        self._check_known(kind, name)
        pause = Pause(kind=kind, name=name, since=self._clock.now(), by=by.name)
        changed = await self._ledger.pause(pause)
        if changed:
            log.info("pause.began", kind=kind.value, name=name, by=by.name)
        return PauseAnswer(changed=changed)

    async def resume(self, kind: PauseKind, name: str, *, by: Principal) -> ResumeAnswer:
        """Let a device or a job go on; what fell due meanwhile is recorded as missed.

        A pause of what is no longer configured can be lifted too. Raises `DeviceNotFoundError`,
        `JobNotFoundError`.
        """
        slots = await self._ledger.to_resume(kind, name)
        if slots is None:
            self._check_known(kind, name)
            return ResumeAnswer(changed=False)
        now = self._clock.now()
        # Off the event loop: a long pause of many slots takes a while to work out.
        resumptions = await asyncio.to_thread(
            self._planner.resume, slots, now, await self._held(kind, name, slots, now)
        )
        if not await self._ledger.resume(kind, name, resumptions, now):
            return ResumeAnswer(changed=False)
        log.info("pause.ended", kind=kind.value, name=name, by=by.name)
        return ResumeAnswer(
            changed=True,
            slots=len(resumptions),
            missed=sum(span.count for each in resumptions for span in each.spans),
            next_due=min(
                (each.next_due for each in resumptions if each.next_due is not None), default=None
            ),
        )

    async def _held(
        self, kind: PauseKind, name: str, slots: Sequence[ResumedSlot], now: float
    ) -> Held:
        """Since when the pause holds, and who was there before it, while slots were due."""
        since = min(
            (
                pause.since
                for pause in await self._ledger.pauses()
                if (pause.kind, pause.name) == (kind, name)
            ),
            default=now,
        )
        first = min((slot.due for slot in slots if slot.due is not None), default=since)
        before = await self._attendance.between(first, since) if first < since else []
        return Held(since, before)

    async def release(self, device: str, *, by: Principal) -> ReleaseAnswer:
        """Close the breaker of a device. Raises `DeviceNotFoundError`."""
        self._check_known(PauseKind.DEVICE, device)
        changed = await self._ledger.close_breaker(device, self._clock.now())
        log.info("breaker.released", device=device, changed=changed, by=by.name)
        return ReleaseAnswer(changed=changed)

    def _check_known(self, kind: PauseKind, name: str) -> None:
        configuration = self._planner.configuration
        if kind is PauseKind.DEVICE and name not in configuration.devices:
            raise DeviceNotFoundError(name)
        if kind is PauseKind.JOB and name not in configuration.jobs:
            raise JobNotFoundError(name)


def _place(pause: Pause) -> tuple[str, str]:
    return pause.kind.value, pause.name

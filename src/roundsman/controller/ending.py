"""Ends a lease with its run: whether another attempt follows, and whether the device is well."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.config.records import ConfiguredSlot
from roundsman.controller.attendance import Attendance
from roundsman.controller.batching import Batches
from roundsman.controller.causes import all_explained, facts_of
from roundsman.controller.judgement import Health, health_after, retry_at
from roundsman.controller.planner import LONG_OVERDUE_SECONDS, Next, Planner, after_run
from roundsman.ledger.interface import Finish, FinishAnswer, KeptResult, LeasedSlot, Ledger
from roundsman.schedules.plans import times_of
from roundsman.wire.execution import LeaseKey
from roundsman.wire.run import Outcome, Run

log = logs.get(__name__)

AT_ONCE: Final = 128
"""Ends in one call to the ledger at most."""


class Ending:
    """Writes runs, and what comes after each. Those that fall together share the ledger's call."""

    def __init__(
        self, *, planner: Planner, ledger: Ledger, attendance: Attendance, clock: Clock
    ) -> None:
        """End the leases of the planner's slots."""
        self._attendance = attendance
        self._planner = planner
        self._ledger = ledger
        self._clock = clock
        self._finishes = Batches(self._finish_all, most=AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def end(
        self, run: Run, lease: LeasedSlot, slot: ConfiguredSlot, result: KeptResult | None
    ) -> tuple[Run, FinishAnswer]:
        """Write the run, and what it comes to; the row as it is written.

        `result` is what is known of the slot's result from now on, if that is new.
        """
        # A reload meanwhile counts for policies; the due times are those that the ledger has.
        slot = self._planner.find(lease.device, lease.job) or slot
        following = await self._after(lease, slot)
        if run.outcome is not Outcome.FAILED:
            health = Health(answered=True)
            answer = await self._finish(run, lease, following, health, result)
        else:
            # One at a time for each device, so that of failures at once each is counted.
            turn = self._turns.setdefault(run.device, asyncio.Lock())
            async with turn:
                health = await self._health(run)
                run = self._judge(run, slot, following.due, health)
                answer = await self._finish(run, lease, following, health, result)
        if answer is FinishAnswer.KEPT:
            _tell(health, lease)
        return run, answer

    async def _after(self, lease: LeasedSlot, slot: ConfiguredSlot) -> Next:
        now = self._clock.now()
        times = times_of(lease.plan)
        if now - lease.due > LONG_OVERDUE_SECONDS:
            following = await asyncio.to_thread(after_run, lease, times, slot.job, now)
        else:
            following = after_run(lease, times, slot.job, now)
        if not following.spans:
            return following
        presences = await self._attendance.between(lease.due, now)
        facts = facts_of(lease, presences, slot.windows)
        return Next(following.due, all_explained(following.spans, times, facts))

    async def _finish(
        self,
        run: Run,
        lease: LeasedSlot,
        following: Next,
        health: Health,
        result: KeptResult | None,
    ) -> FinishAnswer:
        return await self._finishes.do(
            Finish(
                run=run,
                key=LeaseKey(device=lease.device, job=lease.job, epoch=lease.epoch),
                next_due=following.due,
                plan=lease.plan,
                spans=following.spans if run.retry_at is None else (),
                retry_at=run.retry_at,
                breaker=health.breaker,
                answered=health.answered,
                result=result,
            )
        )

    async def _finish_all(self, finishes: Sequence[Finish]) -> list[FinishAnswer]:
        return await self._ledger.finish(finishes, self._clock.now())

    async def _health(self, run: Run) -> Health:
        return health_after(
            run,
            await self._ledger.breaker(run.device),
            self._planner.configuration.controller.breaker,
            now=self._clock.now(),
            jitter=_jitter(run),
        )

    def _judge(self, run: Run, slot: ConfiguredSlot, next_due: int | None, health: Health) -> Run:
        """The run, as one of several attempts where another is to follow it."""
        if health.breaker is not None and health.breaker.open:
            return run  # from now on it is the device that is tried again, not the run
        at = retry_at(
            slot.retries,
            run.failure_class,
            attempt=run.attempt,
            next_due=next_due,
            # One that failed before it was due, by some clock, is not tried again before either.
            now=max(self._clock.now(), run.due),
            jitter=_jitter(run),
        )
        if at is None:
            return run
        return msgspec.structs.replace(run, outcome=Outcome.RETRIED, retry_at=at)


def _jitter(run: Run) -> float:
    """By the run's id, so that a repeat after a crash is told the same."""
    return uuid.UUID(run.run_id).node / (1 << 48)


def _tell(health: Health, lease: LeasedSlot) -> None:
    """Log when a device begins to be held back, goes on to be, or is let go."""
    breaker = health.breaker
    if health.failed and breaker is not None and breaker.open:
        log.warning("breaker.open", **msgspec.structs.asdict(breaker))
    elif health.answered and lease.device_held:
        log.info("breaker.closed", device=lease.device, by=lease.job)

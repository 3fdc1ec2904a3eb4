"""Which slots there are, and what comes after each run.

Pure functions of schedules and time, and `Planner`, which holds the configuration they apply to.
Each due time ends in one outcome: the run itself, a span that was coalesced into it, or a span
that was missed, with the reason.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from roundsman.config.records import Configuration, ConfiguredSlot
from roundsman.ledger.interface import (
    LeasedSlot,
    PlannedSlot,
    ResumedSlot,
    Resumption,
    Span,
)
from roundsman.ledger.spans import given_up
from roundsman.schedules.interface import Schedule, due_times
from roundsman.wire import codec
from roundsman.wire.device import Device
from roundsman.wire.job import Job, MissedPolicy
from roundsman.wire.run import Outcome

COUNT_CAP: Final = 10_000
"""A span of more due times says that there were at least so many: a week of each minute has
10,080, and walking through them takes about a tenth of a second."""

LONG_OVERDUE_SECONDS: Final = 3600
"""Beyond this, working out what was missed is kept off the event loop."""

BREAKER_OPEN: Final = "breaker open"
"""Begins the reason of what was passed over because the device was held back."""

_ENCODED_CAP: Final = 20_000  # entries, about a kilobyte each


class Next(NamedTuple):
    """What a slot does after a run."""

    due: int | None
    """Its next due time; none: its schedule has ended."""
    spans: tuple[Span, ...] = ()
    """Due times that were passed over on the way."""


def is_due_time(schedule: Schedule, at: int) -> bool:
    """Whether the schedule is due exactly then."""
    return schedule.next_after(at - 1) == at


@lru_cache(maxsize=1024)
def _count_before(schedule: Schedule, first: int, end: int | None) -> int:
    """How many due times there are from `first` on and before the due time `end`.

    At most `COUNT_CAP`. Cached: after an outage, slots that share a schedule ask the same.
    """
    count = 1
    at = schedule.next_after(first)
    while at is not None and at != end and count < COUNT_CAP:
        count += 1
        at = schedule.next_after(at)
    return count


def newest_due_times(schedule: Schedule, after: int, until: int, limit: int) -> list[int]:
    """The last `limit` due times later than `after` and not later than `until`, oldest first.

    Found by bisection, not by walking: the cost grows with the logarithm of the time between.
    """
    times = due_times(schedule, after, until, cap=limit + 1)
    # Invariant: later than `few` there are at most `limit` due times, later than `many` more.
    many, few = after, until
    while len(times) > limit and few - many > 1:
        middle = (many + few) // 2
        if len(due_times(schedule, middle, until, cap=limit + 1)) > limit:
            many = middle
        else:
            few = middle
    return times if len(times) <= limit else due_times(schedule, few, until, cap=limit)


def span_before(
    schedule: Schedule, outcome: Outcome, first: int, end: int | None, *, until: int, reason: str
) -> Span:
    """One span from the due time `first` up to, not including, the due time `end`.

    Every due time before `end` is at or before `until`.
    """
    count = _count_before(schedule, first, end)  # type: ignore[arg-type]  # schedules hash by identity
    last = newest_due_times(schedule, first - 1, until if end is None else end - 1, 1)[-1]
    if count == COUNT_CAP:
        reason = f"{reason}; at least {COUNT_CAP:,} due times, not counted further"
    return Span(outcome=outcome, first_due=first, last_due=last, count=count, reason=reason)


def after_run(leased: LeasedSlot, schedule: Schedule, job: Job, now: float) -> Next:
    """What a slot does once a run of it has ended, well or not."""
    if leased.on_demand:
        return _after_on_demand(leased, schedule, now)
    if not is_due_time(schedule, leased.due):
        # The schedule changed while the execution was out: the new one counts from here.
        return Next(schedule.next_after(leased.covered_until))
    if job.missed is MissedPolicy.LATEST:
        return _after_latest(leased, schedule)
    if job.missed is MissedPolicy.ALL:
        return _after_all(leased, schedule, job.missed_cap, now)
    return Next(schedule.next_after(leased.due))


def _after_on_demand(leased: LeasedSlot, schedule: Schedule, now: float) -> Next:
    due = leased.resume_due
    if due is None or is_due_time(schedule, due):
        return Next(schedule.next_after(now) if due is None else due)
    if due > now:
        return Next(schedule.next_after(now))
    missed = Span(
        outcome=Outcome.MISSED,
        first_due=due,
        last_due=due,
        count=1,
        reason="the schedule was changed",
    )
    return Next(schedule.next_after(now), (missed,))


def _after_latest(leased: LeasedSlot, schedule: Schedule) -> Next:
    first = schedule.next_after(leased.due)
    if first is None or first > leased.covered_until:
        return Next(first)
    end = schedule.next_after(leased.covered_until)
    reason = _held("overdue; one run stands for all of them", leased)
    span = span_before(
        schedule, Outcome.COALESCED, first, end, until=leased.covered_until, reason=reason
    )
    return Next(end, (span,))


def _after_all(leased: LeasedSlot, schedule: Schedule, cap: int, now: float) -> Next:
    first = schedule.next_after(leased.due)
    newest = newest_due_times(schedule, leased.due, int(now), cap)
    if first is None or not newest or newest[0] == first:
        return Next(first)
    reason = _held(f"more than {cap} due times were overdue", leased)
    span = span_before(schedule, Outcome.MISSED, first, newest[0], until=int(now), reason=reason)
    return Next(newest[0], (span,))


def is_too_late(leased: LeasedSlot, job: Job, now: float) -> bool:
    """Whether policy has this due time missed rather than run.

    One that was tried before was served in time; its next attempt is late by its own time.
    """
    awaited = leased.ready if leased.attempts and not leased.was_held else leased.due
    return (
        job.missed is MissedPolicy.NONE
        and not leased.on_demand
        and now - awaited > job.missed_grace_seconds
    )


def after_too_late(leased: LeasedSlot, schedule: Schedule, job: Job, now: float) -> Next:
    """What a slot does whose due time is missed: on to the first that is not too late."""
    reason = _held(f"overdue by more than {job.missed_grace_seconds} s", leased)
    reason = given_up(reason, leased.attempts)
    latest_missed = math.ceil(now - job.missed_grace_seconds) - 1
    return _pass_over(schedule, leased.due, latest_missed, reason)


def _held(reason: str, leased: LeasedSlot) -> str:
    """Why due times were passed over, where the device's breaker is the cause."""
    return f"{BREAKER_OPEN}; {reason}" if leased.was_held else reason


def after_pause(slot: ResumedSlot, schedule: Schedule, now: float) -> Next:
    """What a slot does when it is set free: what fell due in the meantime was missed."""
    if slot.due is None or max(slot.due, slot.ready or 0) > now:
        return Next(slot.due)
    return _pass_over(schedule, slot.due, int(now), "paused")


def _pass_over(schedule: Schedule, due: int, until: int, reason: str) -> Next:
    """Miss `due` and every due time up to `until`."""
    end = schedule.next_after(max(due, until))
    if not is_due_time(schedule, due):  # the schedule changed since
        single = Span(outcome=Outcome.MISSED, first_due=due, last_due=due, count=1, reason=reason)
        return Next(end, (single,))
    return Next(end, (span_before(schedule, Outcome.MISSED, due, end, until=until, reason=reason),))


class Planner:
    """The configuration in force, as slots."""

    def __init__(self, configuration: Configuration) -> None:
        """Start with this configuration."""
        self.configuration = configuration
        self._encoded: dict[int, msgspec.Raw] = {}

    def replace(self, configuration: Configuration) -> None:
        """Put another configuration in force, from the next call on."""
        self.configuration = configuration
        self._encoded = {}

    def find(self, device: str, job: str) -> ConfiguredSlot | None:
        """The slot of that device and job, none when it is not configured."""
        return self.configuration.slots.get((device, job))

    def encoded(self, part: Device | Job) -> msgspec.Raw:
        """A configured device or job as JSON, secrets in the clear; encoded once.

        Known by identity: the configuration in force keeps each of them alive.
        """
        raw = self._encoded.get(id(part))
        if raw is None:
            if len(self._encoded) >= _ENCODED_CAP:
                self._encoded.clear()
            raw = self._encoded[id(part)] = msgspec.Raw(codec.encode(part))
        return raw

    def resume(self, slots: Sequence[ResumedSlot], now: float) -> list[Resumption]:
        """What becomes of slots that a resume sets free."""
        resumptions: list[Resumption] = []
        for slot in slots:
            configured = self.find(slot.device, slot.job)
            if configured is None:  # removed since: the next sync takes it away
                continue
            following = after_pause(slot, configured.schedule, now)
            resumptions.append(
                Resumption(
                    device=slot.device,
                    job=slot.job,
                    epoch=slot.epoch,
                    next_due=following.due,
                    spans=following.spans,
                )
            )
        return resumptions


def planned_slots(configuration: Configuration, now: float) -> list[PlannedSlot]:
    """Every slot of a configuration, as the ledger is to have it."""
    first_due: dict[int, int | None] = {}  # by identity: many slots share one schedule
    planned: list[PlannedSlot] = []
    for (device, job), slot in configuration.slots.items():
        key = id(slot.schedule)
        if key not in first_due:
            first_due[key] = slot.schedule.next_after(now)
        planned.append(
            PlannedSlot(
                device=device,
                job=job,
                tags=slot.device.tags,
                plan=slot.plan,
                first_due=first_due[key],
            )
        )
    return planned

"""Which slots there are, and what comes after each run.

Pure functions of schedules and time, and `Planner`, which holds the configuration they apply to.
Each due time ends in one outcome: the run itself, a span that was coalesced into it, or a span
that was missed, with the reason.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from roundsman.config import records
from roundsman.config.records import Configuration, ConfiguredSlot
from roundsman.controller.causes import Facts, all_explained
from roundsman.ledger.interface import (
    LeasedSlot,
    PlannedSlot,
    Presence,
    Priority,
    ResumedSlot,
    Resumption,
    Span,
)
from roundsman.ledger.plans import kind_of, passed_over, span_from
from roundsman.ledger.spans import given_up
from roundsman.schedules.interface import Schedule, newest_due_times
from roundsman.schedules.plans import times_of
from roundsman.wire import codec
from roundsman.wire.device import Device
from roundsman.wire.job import Job, MissedPolicy
from roundsman.wire.run import Outcome, Slot

LONG_OVERDUE_SECONDS: Final = 3600
"""Beyond this, working out what was missed is kept off the event loop."""

_PRIORITIES: Final = {
    records.Priority.HIGH: Priority.HIGH,
    records.Priority.NORMAL: Priority.NORMAL,
    records.Priority.LOW: Priority.LOW,
}

_ENCODED_CAP: Final = 2_000  # entries, about a kilobyte each


class Next(NamedTuple):
    """What a slot does after a run."""

    due: int | None
    """Its next due time; none: its schedule has ended."""
    spans: tuple[Span, ...] = ()
    """Due times that were passed over on the way."""


def after_run(leased: LeasedSlot, schedule: Schedule, job: Job, now: float) -> Next:
    """What a slot does once a run of it has ended, well or not."""
    if leased.on_demand:
        return Next(leased.resume_due)
    # A due time of a plan that was replaced meanwhile: the new one counts from its beginning.
    accounted = max(leased.due, math.floor(leased.planned_since))
    if job.missed is MissedPolicy.LATEST:
        return _after_latest(leased, schedule, accounted)
    if job.missed is MissedPolicy.ALL:
        return _after_all(schedule, job.missed_cap, accounted, now)
    return Next(schedule.next_after(accounted))


def _after_latest(leased: LeasedSlot, schedule: Schedule, accounted: int) -> Next:
    first = schedule.next_after(accounted)
    if first is None or first > leased.covered_until:
        return Next(first)
    kind = kind_of(Outcome.COALESCED, "one run stands for all that were overdue")
    span = span_from(schedule, first, leased.covered_until, kind)
    return Next(schedule.next_after(leased.covered_until), (span,))


def _after_all(schedule: Schedule, cap: int, accounted: int, now: float) -> Next:
    first = schedule.next_after(accounted)
    newest = newest_due_times(schedule, accounted, int(now), cap)
    if first is None or not newest or newest[0] == first:
        return Next(first)
    kind = kind_of(Outcome.MISSED, f"more than {cap} due times were overdue")
    return Next(newest[0], (span_from(schedule, first, newest[0] - 1, kind),))


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
    reason = given_up(f"overdue by more than {job.missed_grace_seconds} s", leased.attempts)
    latest_missed = math.ceil(now - job.missed_grace_seconds) - 1
    kind = kind_of(Outcome.MISSED, reason)
    return _pass_over(schedule, leased.planned_since, leased.due, latest_missed, kind)


def after_closed(
    leased: LeasedSlot, schedule: Schedule, job: Job, now: float, closed_by: Sequence[str]
) -> Next:
    """What a slot does whose due time is missed, because nothing is started now."""
    reason = given_up(f"closed by {', '.join(closed_by)}", leased.attempts)
    latest_missed = math.ceil(now - job.missed_grace_seconds) - 1
    kind = kind_of(Outcome.MISSED, reason)
    return _pass_over(schedule, leased.planned_since, leased.due, latest_missed, kind)


def after_pause(slot: ResumedSlot, schedule: Schedule, now: float) -> Next:
    """What a slot does when it is set free: what fell due in the meantime was missed."""
    if slot.due is None or max(slot.due, slot.ready or 0) > now:
        return Next(slot.due)
    kind = kind_of(Outcome.MISSED)
    return _pass_over(schedule, slot.planned_since, slot.due, math.floor(now), kind)


def _pass_over(schedule: Schedule, since: float, due: int, until: int, kind: Span) -> Next:
    """Miss `due` and every due time up to `until`."""
    until = max(due, until)
    following = schedule.next_after(max(since, until))
    return Next(following, passed_over(schedule, since, due, until, kind))


class Held(NamedTuple):
    """A pause, for those whom it held back."""

    since: float
    before: Sequence[Presence]
    """Who was there before it."""


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

    def with_windows(self, slot: Slot, now: float) -> Slot:
        """The slot, with the windows that keep its scheduled runs from starting now."""
        configured = self.find(slot.device, slot.job)
        closed_by = () if configured is None else configured.windows.closed_by(now)
        if configured is None or not closed_by:
            return slot
        opens_at = configured.windows.opens_at(now)
        return msgspec.structs.replace(slot, closed_by=closed_by, opens_at=opens_at)

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

    def resume(self, slots: Sequence[ResumedSlot], now: float, held: Held) -> list[Resumption]:
        """What becomes of slots that a resume sets free."""
        resumptions: list[Resumption] = []
        for slot in slots:
            configured = self.find(slot.device, slot.job)
            if configured is None:  # the next sync takes it away
                continue
            times = times_of(slot.plan)
            following = after_pause(slot, times, now)
            facts = Facts(
                configured.device.tags,
                held.before,
                paused_since=held.since,
                windows=configured.windows,
            )
            resumptions.append(
                Resumption(
                    device=slot.device,
                    job=slot.job,
                    epoch=slot.epoch,
                    plan=slot.plan,
                    next_due=following.due,
                    spans=all_explained(following.spans, times, facts),
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
                priority=_PRIORITIES[slot.priority],
            )
        )
    return planned

"""Makes the slots those of the configuration.

The comparison reads every slot, and holds none; a lock keeps other controllers from doing the same,
so that what was compared still stands when it is applied.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from roundsman.ledger.differences import Differences, compare
from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import PlannedSlot, SyncSummary
from roundsman.ledger.plans import Standing, begins, end_of_plan, first_of
from roundsman.ledger.postgresql import holds, queue, runs
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.spans import NewId, asked_in_vain, span_run
from roundsman.schedules.plans import is_same
from roundsman.wire.run import Run

SQL = load("sync")


async def sync(
    link: Link, planned: Sequence[PlannedSlot], *, now: float, new_id: NewId
) -> SyncSummary:
    """Make the slots those that are planned, in the transaction of the caller."""
    await alone(link, Lock.CONFIGURATION)
    kept = await SQL["kept_slots"].rows(link)
    # In a thread: with many slots it takes seconds, and claims go on meanwhile.
    found = await asyncio.to_thread(
        compare, ((row[0], row[1], row[2], tuple(row[3]), row[4], row[5]) for row in kept), planned
    )
    if found:
        await _apply(link, found, now, new_id)
    return found.summary


class _Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A slot whose plan may end."""

    device: str
    job: str
    tags: Tags
    plan: str
    planned_since: float
    due: int | None
    on_demand: bool
    resume_due: int | None
    attempts: int
    leased: bool

    @property
    def standing(self) -> Standing:
        """As far as its plan goes, beside which stands what was asked for on demand."""
        return Standing(
            self.plan,
            self.planned_since,
            self.resume_due if self.on_demand else self.due,
            self.leased and not self.on_demand,
            0 if self.on_demand else self.attempts,
        )


class _Changed(NamedTuple):
    """How a slot that is kept goes on."""

    slot_id: int
    lane_id: int
    plan: str
    since: float
    priority: int
    resume_due: int | None
    due: int | None


class _Ends:
    """The plans that end, and what was missed with them."""

    def __init__(self, now: float, new_id: NewId) -> None:
        """None yet."""
        self._now = now
        self._new_id = new_id
        self.plans: list[dict[str, object]] = []
        self.missed: list[Run] = []

    def end_plan(self, slot: _Slot, *, removed: bool) -> float:
        """Keep a slot's plan as one that ended; when it did."""
        until, missed = end_of_plan(slot.standing, self._now, removed=removed)
        self.missed += [
            span_run(self._new_id(), slot.device, slot.job, span, into=None, now=self._now)
            for span in missed
        ]
        if until > slot.planned_since:
            ended = {"tags": slot.tags, "plan": slot.plan, "since": slot.planned_since}
            self.plans.append({"device": slot.device, "job": slot.job, "until": until, **ended})
        return until

    def remove(self, slot: _Slot) -> None:
        """Account for a slot that is taken away."""
        due = slot.due or 0
        if slot.on_demand and (due <= self._now or slot.leased):
            self.missed.append(
                asked_in_vain(
                    self._new_id(),
                    slot.device,
                    slot.job,
                    due=due,
                    attempts=slot.attempts,
                    now=self._now,
                )
            )
        self.end_plan(slot, removed=True)

    def change(self, slot_id: int, slot: _Slot, lane_id: int, plan: PlannedSlot) -> _Changed:
        """Give a slot its new lane and its new plan."""
        since, due, resume_due = slot.planned_since, slot.due, slot.resume_due
        if not is_same(slot.plan, plan.plan):
            since = self.end_plan(slot, removed=False)
            first = first_of(plan, since, self._now)
            if slot.on_demand:
                resume_due = first
            elif not slot.leased:
                due = first
        return _Changed(slot_id, lane_id, plan.plan, since, plan.priority, resume_due, due)


async def _apply(link: Link, found: Differences, now: float, new_id: NewId) -> None:
    touched_ids = [*found.removed, *(slot_id for slot_id, _ in found.changed)]
    await queue.lock(link, touched_ids)
    rows = await SQL["touched"].rows(link, slot_ids=touched_ids)
    touched = {row["slot_id"]: msgspec.convert(dict(row), _Slot) for row in rows}
    lane_ids = await _lanes(link, found)
    ends = _Ends(now, new_id)
    for slot_id in found.removed:
        ends.remove(touched[slot_id])
    changed = [
        ends.change(slot_id, touched[slot_id], lane_ids[plan.tags], plan)
        for slot_id, plan in found.changed
    ]
    await SQL["remove_slots"].rows(link, slot_ids=found.removed)
    await _change(link, changed)
    await SQL["keep_ended_plans"].rows(link, plans=msgspec.json.encode(ends.plans).decode())
    added = await _add(link, found.added, lane_ids, now)
    await runs.add(link, ends.missed)
    await queue.requeue(link, [*(slot.slot_id for slot in changed), *added], now)
    await SQL["remove_empty_lanes"].rows(link)
    await holds.SQL["forget_breakers_without_slots"].rows(link)
    devices = {slot.device for slot in touched.values()}
    devices.update(plan.device for plan in found.added)
    await queue.let_in(link, sorted(devices), now)
    await holds.hold_those_among(link, sorted(devices), now)


async def _change(link: Link, changed: Sequence[_Changed]) -> None:
    await SQL["change_slots"].rows(
        link,
        slot_ids=[slot.slot_id for slot in changed],
        lane_ids=[slot.lane_id for slot in changed],
        plans=[slot.plan for slot in changed],
        sinces=[slot.since for slot in changed],
        priorities=[slot.priority for slot in changed],
        resume_dues=[slot.resume_due for slot in changed],
        dues=[slot.due for slot in changed],
    )


async def _add(
    link: Link, plans: Sequence[PlannedSlot], lane_ids: dict[Tags, int], now: float
) -> list[int]:
    """Add slots; their numbers."""
    rows = await SQL["plans_ending_later"].rows(link, now=now)
    ends = {(row["device"], row["job"]): row["until"] for row in rows}
    sinces = [begins(plan, now, ends.get((plan.device, plan.job))) for plan in plans]
    return await SQL["add_slots"].column(
        link,
        devices=[plan.device for plan in plans],
        jobs=[plan.job for plan in plans],
        lane_ids=[lane_ids[plan.tags] for plan in plans],
        plans=[plan.plan for plan in plans],
        sinces=sinces,
        priorities=[plan.priority for plan in plans],
        dues=[first_of(plan, since, now) for plan, since in zip(plans, sinces, strict=True)],
    )


async def _lanes(link: Link, found: Differences) -> dict[Tags, int]:
    wanted = {plan.tags for plan in found.added} | {plan.tags for _, plan in found.changed}
    await SQL["add_lanes"].rows(link, lanes=msgspec.json.encode(sorted(wanted)).decode())
    await SQL["add_waters"].rows(link)
    return {tuple(row["tags"]): row["lane_id"] for row in await SQL["lanes"].rows(link)}

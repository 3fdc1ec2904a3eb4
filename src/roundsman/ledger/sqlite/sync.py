"""Makes the slots those of the configuration.

The comparison reads every slot, so it is a reader's work; the writer, whom claims wait for, is only
given the differences. Nothing but `apply` adds, moves or removes slots, and the driver lets one
sync run at a time, so that what was compared still stands when it is applied.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from roundsman.ledger import differences
from roundsman.ledger.differences import Differences
from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import PlannedSlot
from roundsman.ledger.plans import Standing, begins, end_of_plan, first_of
from roundsman.ledger.spans import NewId, asked_in_vain
from roundsman.ledger.sqlite import holds, runs
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.statements import load
from roundsman.schedules.plans import is_same

SQL = load("sync")


def compare(connection: sqlite3.Connection, planned: Sequence[PlannedSlot]) -> Differences:
    """What differs between the slots that are and those that are planned."""
    return differences.compare(_kept(connection), planned)


def _kept(connection: sqlite3.Connection) -> Iterator[differences.KeptSlot]:
    tags_as_text: dict[str, Tags] = {}
    for slot_id, device, job, text, plan, priority in connection.execute(SQL["kept_slots"]):
        tags = tags_as_text.get(text)
        if tags is None:
            tags = tags_as_text[text] = msgspec.json.decode(text, type=Tags)
        yield slot_id, device, job, tags, plan, priority


def apply(
    connection: sqlite3.Connection,
    lanes: Lanes,
    found: Differences,
    *,
    now: float,
    new_id: NewId,
) -> None:
    """Write the differences."""
    plans = chain(found.added, (plan for _, plan in found.changed))
    lane_ids = {tags: _lane_of(connection, tags) for tags in dict.fromkeys(p.tags for p in plans)}
    touched = {plan.device for plan in found.added}
    touched.update(plan.device for _, plan in found.changed)
    for slot_id in found.removed:
        touched.add(_remove(connection, slot_id, now, new_id))
    for slot_id, plan in found.changed:
        _change(connection, (slot_id, lane_ids[plan.tags]), plan, now, new_id)
    ends = {
        (device, job): until
        for device, job, until in connection.execute(SQL["plans_ending_later"], {"now": now})
    }
    connection.executemany(
        SQL["add_slot"],
        (
            {
                **_beginning(plan, now, ends.get((plan.device, plan.job))),
                "device": plan.device,
                "job": plan.job,
                "lane_id": lane_ids[plan.tags],
                "plan": plan.plan,
                "priority": int(plan.priority),
            }
            for plan in found.added
        ),
    )
    connection.execute(SQL["remove_empty_lanes"])
    lanes.forget()
    holds.hold_changed(connection, lanes, touched, now)


def _beginning(plan: PlannedSlot, now: float, ended: float | None) -> dict[str, object]:
    since = begins(plan, now, ended)
    return {"since": since, "due": first_of(plan, since, now)}


def _lane_of(connection: sqlite3.Connection, tags: Tags) -> int:
    """The lane of these tags, which is made if need be."""
    text = msgspec.json.encode(tags).decode()
    row = connection.execute(SQL["lane"], {"tags": text}).fetchone()
    if row is None:
        return connection.execute(SQL["add_lane"], {"tags": text}).lastrowid or 0
    lane_id: int = row[0]
    return lane_id


class _Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A slot whose plan ends."""

    device: str
    job: str
    tags: str
    plan: str
    planned_since: float
    due: int | None
    on_demand: bool
    resume_due: int | None
    attempts: int
    epoch: int
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


def _slot(connection: sqlite3.Connection, slot_id: int) -> _Slot:
    cursor = connection.execute(SQL["slot_to_end"], {"slot_id": slot_id})
    return msgspec.convert(runs.named(cursor, cursor.fetchone()), _Slot, strict=False)


def _change(
    connection: sqlite3.Connection,
    numbers: tuple[int, int],
    plan: PlannedSlot,
    now: float,
    new_id: NewId,
) -> None:
    """Give a slot its new lane and its new plan."""
    slot_id, lane_id = numbers
    slot = _slot(connection, slot_id)
    since, due, resume_due = slot.planned_since, slot.due, slot.resume_due
    if not is_same(slot.plan, plan.plan):
        since = _end_plan(connection, slot, now, new_id, removed=False)
        first = first_of(plan, since, now)
        if slot.on_demand:
            resume_due = first
        elif not slot.leased:
            due = first
    connection.execute(
        SQL["change_slot"],
        {
            "slot_id": slot_id,
            "lane_id": lane_id,
            "plan": plan.plan,
            "since": since,
            "priority": int(plan.priority),
            "due": due,
            "resume_due": resume_due,
        },
    )


def _remove(connection: sqlite3.Connection, slot_id: int, now: float, new_id: NewId) -> str:
    """Take a slot away; its device."""
    slot = _slot(connection, slot_id)
    connection.execute(SQL["remove_lease"], {"slot_id": slot_id})
    connection.execute(SQL["remove_slot"], {"slot_id": slot_id})
    if slot.epoch:
        retired = {"device": slot.device, "job": slot.job, "epoch": slot.epoch}
        connection.execute(SQL["retire"], retired)
    due = slot.due or 0
    if slot.on_demand and (due <= now or slot.leased):
        run = asked_in_vain(
            new_id(), slot.device, slot.job, due=due, attempts=slot.attempts, now=now
        )
        runs.add(connection, run)
    _end_plan(connection, slot, now, new_id, removed=True)
    return slot.device


def _end_plan(
    connection: sqlite3.Connection, slot: _Slot, now: float, new_id: NewId, *, removed: bool
) -> float:
    """Keep a slot's plan as one that ended, and what was missed of it; when it ended."""
    until, missed = end_of_plan(slot.standing, now, removed=removed)
    runs.add_spans(connection, slot.device, slot.job, missed, into=None, now=now, new_id=new_id)
    if until > slot.planned_since:
        ended = {
            "device": slot.device,
            "job": slot.job,
            "tags": slot.tags,
            "plan": slot.plan,
            "since": slot.planned_since,
            "until": until,
        }
        connection.execute(SQL["keep_ended_plan"], ended)
    return until

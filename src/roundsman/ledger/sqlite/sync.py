"""Makes the slots those of the configuration.

The comparison reads every slot, so it is a reader's work; the writer, whom claims wait for, is only
given the differences. Nothing but `apply` adds, moves or removes slots, and the driver lets one
sync run at a time, so that what was compared still stands when it is applied.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain

import msgspec

from roundsman.ledger.fairness import Tags, due_order
from roundsman.ledger.interface import PlannedSlot, SyncSummary
from roundsman.ledger.spans import REMOVED, REPLANNED, NewId, given_up, missed_run
from roundsman.ledger.sqlite import holds, runs
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.statements import load

SQL = load("sync")


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be done."""

    added: tuple[PlannedSlot, ...]
    """In the order in which they are numbered."""
    changed: tuple[tuple[int, PlannedSlot], ...]
    """With the number of the slot."""
    removed: tuple[int, ...]
    """Numbers of slots."""
    kept: int

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.added or self.changed or self.removed)

    @property
    def summary(self) -> SyncSummary:
        """How much it is."""
        return SyncSummary(
            added=len(self.added),
            changed=len(self.changed),
            removed=len(self.removed),
            kept=self.kept,
        )


def compare(connection: sqlite3.Connection, planned: Sequence[PlannedSlot]) -> Differences:
    """What differs between the slots that are and those that are planned."""
    wanted = {(slot.device, slot.job): slot for slot in planned}
    total = len(wanted)
    tags_as_text: dict[str, Tags] = {}
    changed: list[tuple[int, PlannedSlot]] = []
    removed: list[int] = []
    for slot_id, device, job, text, fingerprint in connection.execute(SQL["kept_slots"]):
        plan = wanted.pop((device, job), None)
        if plan is None:
            removed.append(slot_id)
            continue
        tags = tags_as_text.get(text)
        if tags is None:
            tags = tags_as_text[text] = msgspec.json.decode(text, type=Tags)
        if (tags, fingerprint) != (plan.tags, plan.plan):
            changed.append((slot_id, plan))
    return Differences(
        added=tuple(sorted(wanted.values(), key=due_order)),
        changed=tuple(changed),
        removed=tuple(removed),
        kept=total - len(wanted) - len(changed),
    )


def apply(
    connection: sqlite3.Connection,
    lanes: Lanes,
    differences: Differences,
    *,
    now: float,
    new_id: NewId,
) -> None:
    """Write the differences."""
    plans = chain(differences.added, (plan for _, plan in differences.changed))
    lane_ids = {tags: _lane_of(connection, tags) for tags in dict.fromkeys(p.tags for p in plans)}
    touched = {plan.device for plan in differences.added}
    touched.update(plan.device for _, plan in differences.changed)
    for slot_id in differences.removed:
        touched.add(_remove(connection, slot_id, now, new_id))
    for slot_id, plan in differences.changed:
        lane_id = lane_ids[plan.tags]
        due = _due_after_change(connection, slot_id, plan, now, new_id)
        connection.execute(
            SQL["change_slot"],
            {"slot_id": slot_id, "lane_id": lane_id, "plan": plan.plan, "due": due},
        )
    connection.executemany(
        SQL["add_slot"],
        (
            {
                "device": plan.device,
                "job": plan.job,
                "lane_id": lane_ids[plan.tags],
                "plan": plan.plan,
                "due": plan.first_due,
            }
            for plan in differences.added
        ),
    )
    connection.execute(SQL["remove_empty_lanes"])
    lanes.forget()
    holds.hold_changed(connection, lanes, touched, now)


def _lane_of(connection: sqlite3.Connection, tags: Tags) -> int:
    """The lane of these tags, which is made if need be."""
    text = msgspec.json.encode(tags).decode()
    row = connection.execute(SQL["lane"], {"tags": text}).fetchone()
    if row is None:
        return connection.execute(SQL["add_lane"], {"tags": text}).lastrowid or 0
    lane_id: int = row[0]
    return lane_id


def _remove(connection: sqlite3.Connection, slot_id: int, now: float, new_id: NewId) -> str:
    """Take a slot away; its device."""
    row = connection.execute(SQL["slot_to_remove"], {"slot_id": slot_id}).fetchone()
    device: str = row[0]
    job, due, epoch, leased, on_demand, resume_due, attempts = row[1:]
    connection.execute(SQL["remove_lease"], {"slot_id": slot_id})
    connection.execute(SQL["remove_slot"], {"slot_id": slot_id})
    if epoch:
        connection.execute(SQL["retire"], {"device": device, "job": job, "epoch": epoch})
    missed: list[tuple[int, str, bool]] = []
    if due is not None and (due <= now or leased):
        missed.append((due, given_up(REMOVED, attempts), bool(on_demand)))
    if resume_due is not None and resume_due <= now:
        missed.append((resume_due, REMOVED, False))
    for time, reason, asked_for in missed:
        run = missed_run(
            new_id(), device, job, due=time, reason=reason, now=now, on_demand=asked_for
        )
        runs.add(connection, run)
    return device


def _due_after_change(
    connection: sqlite3.Connection, slot_id: int, plan: PlannedSlot, now: float, new_id: NewId
) -> int | None:
    """When it is due by its new schedule, or still as before while somebody holds or wants it."""
    row = connection.execute(SQL["slot_to_replan"], {"slot_id": slot_id}).fetchone()
    device, job, due, on_demand, attempts, fingerprint, leased = row
    if fingerprint == plan.plan or leased or on_demand:
        kept: int | None = due
        return kept
    if due is not None and due <= now and due != plan.first_due:
        reason = given_up(REPLANNED, attempts)
        run = missed_run(new_id(), device, job, due=due, reason=reason, now=now, on_demand=False)
        runs.add(connection, run)
    return plan.first_due

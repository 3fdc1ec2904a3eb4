"""Pauses: which slots are held back, and what becomes of them afterwards."""

import sqlite3
from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import Pause, PauseKind, ResumedSlot, Resumption
from roundsman.ledger.spans import NewId
from roundsman.ledger.sqlite import holds, runs
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.statements import load

SQL = load("pauses")


def add(connection: sqlite3.Connection, lanes: Lanes, pause: Pause) -> bool:
    """Hold back a device or a job; false when it was held already."""
    if not connection.execute(SQL["add_pause"], msgspec.structs.asdict(pause)).rowcount:
        return False
    for (slot_id,) in connection.execute(SQL[f"hold_{pause.kind}"], {"name": pause.name}):
        lanes.withdraw(slot_id)
    holds.hold_paused(connection, lanes, pause.kind, pause.name, pause.since)
    return True


def to_resume(
    connection: sqlite3.Connection, kind: PauseKind, name: str
) -> list[ResumedSlot] | None:
    """What lifting a pause sets free; none when there is no such pause."""
    if connection.execute(SQL["is_paused"], {"kind": kind, "name": name}).fetchone() is None:
        return None
    rows = connection.execute(SQL[f"freed_by_{kind}"], {"name": name})
    return [
        ResumedSlot(
            device=device,
            job=job,
            due=due,
            ready=ready,
            epoch=epoch,
            plan=plan,
            planned_since=planned_since,
        )
        for device, job, due, ready, epoch, plan, planned_since in rows
    ]


def resume(
    connection: sqlite3.Connection,
    lanes: Lanes,
    kind: PauseKind,
    name: str,
    resumptions: Sequence[Resumption],
    *,
    now: float,
    new_id: NewId,
) -> bool:
    """Lift a pause and move its slots on; false when not held."""
    if not connection.execute(SQL["remove_pause"], {"kind": kind, "name": name}).rowcount:
        return False
    connection.execute(SQL[f"free_{kind}"], {"name": name})
    for resumption in resumptions:
        device, job = resumption.device, resumption.job
        moved = connection.execute(
            SQL["move_on"],
            {
                "kind": kind,
                "name": name,
                "device": device,
                "job": job,
                "epoch": resumption.epoch,
                "plan": resumption.plan,
                "next_due": resumption.next_due,
            },
        ).rowcount
        if moved:
            runs.add_spans(
                connection, device, job, resumption.spans, into=None, now=now, new_id=new_id
            )
    free = {"name": name, "expired_until": lanes.expired_until}
    for lane_id, due, ready, slot_id, device in connection.execute(SQL[f"offered_of_{kind}"], free):
        lanes.offer(lane_id, (ready, slot_id), due, device)
    holds.hold_paused(connection, lanes, kind, name, now)
    return True


def in_force(connection: sqlite3.Connection) -> list[Pause]:
    """Every pause."""
    return [
        Pause(kind=PauseKind(kind), name=name, since=since, by=by)
        for kind, name, since, by in connection.execute(SQL["pauses"])
    ]

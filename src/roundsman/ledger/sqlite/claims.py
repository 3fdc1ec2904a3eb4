"""Claims, renewals and finishes: what is done to slots and leases, on the writer's connection."""

import math
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from roundsman.ledger.fairness import Tags, Turns
from roundsman.ledger.interface import Finish, FinishAnswer, LeasedSlot, RunNow, TagFilter
from roundsman.ledger.spans import NewId
from roundsman.ledger.sqlite import runs
from roundsman.ledger.sqlite.lanes import LaneOffers, Lanes
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.execution import LeaseKey

SQL = load("claims")


def claim(
    connection: sqlite3.Connection,
    lanes: Lanes,
    turns: Turns,
    tags: TagFilter,
    *,
    limit: int,
    horizon: float,
    now: float,
    lease_seconds: float,
    worker_id: str | None,
) -> list[LeasedSlot]:
    """Lease what is due, by the law of fairness."""
    offer_expired(connection, lanes, now)
    open_lanes = [lane for lane in lanes.matching(connection, tags) if lane.bound[0] <= horizon]
    if not open_lanes:
        return []
    # An even share, and one more to see what comes after it.
    at_a_time = math.ceil(limit / len(open_lanes)) + 1
    chosen = turns.choose(tags, open_lanes, LaneOffers(connection, horizon, at_a_time), limit)
    if not chosen:
        return []
    rows = connection.execute(
        SQL["lease"],
        {
            "now": now,
            "lease_seconds": lease_seconds,
            "worker_id": worker_id,
            "slot_ids": msgspec.json.encode([slot_id for _, slot_id in chosen]).decode(),
        },
    ).fetchall()
    by_id = {row[0]: _leased(row, lanes.tags_of(row[3])) for row in rows}
    return [by_id[slot_id] for _, slot_id in chosen]


def offer_expired(connection: sqlite3.Connection, lanes: Lanes, now: float) -> None:
    """Offer the slots whose leases ran out."""
    for lane_id, due, slot_id in connection.execute(
        SQL["release_expired"], {"now": now}
    ).fetchall():
        lanes.offer(lane_id, (due, slot_id))


def _leased(row: tuple[Any, ...], tags: Tags) -> LeasedSlot:
    _, device, job, _, due, epoch, expires_at, claimed_at, on_demand, resume_due, worker_id = row
    return LeasedSlot(
        device=device,
        job=job,
        tags=tags,
        due=due,
        epoch=epoch,
        expires_at=expires_at,
        covered_until=max(due, math.floor(claimed_at)),
        on_demand=bool(on_demand),
        resume_due=resume_due,
        worker_id=worker_id,
        claimed_at=claimed_at,
    )


def lease_of(connection: sqlite3.Connection, device: str, job: str) -> LeasedSlot | None:
    """The open lease of a slot."""
    row = connection.execute(SQL["lease_of"], {"device": device, "job": job}).fetchone()
    return None if row is None else _leased(row, msgspec.json.decode(row[3], type=Tags))


def renew(
    connection: sqlite3.Connection,
    keys: Sequence[LeaseKey],
    *,
    worker_id: str | None,
    now: float,
    until: float,
) -> list[bool]:
    """Move expiries on; for each, whether it held."""
    same = {"worker_id": worker_id, "now": now, "until": until}
    return [connection.execute(SQL["renew"], {**same, **_key_of(key)}).rowcount > 0 for key in keys]


def finish(
    connection: sqlite3.Connection,
    lanes: Lanes,
    finishes: Sequence[Finish],
    *,
    now: float,
    new_id: NewId,
) -> list[FinishAnswer]:
    """End leases; for each, whether it took effect."""
    return [_finish(connection, lanes, ending, now, new_id) for ending in finishes]


def _finish(
    connection: sqlite3.Connection, lanes: Lanes, ending: Finish, now: float, new_id: NewId
) -> FinishAnswer:
    key, run = ending.key, ending.run
    moved = connection.execute(
        SQL["end_lease"], {"next_due": ending.next_due, **_key_of(key)}
    ).fetchone()
    if moved is None:
        return _refuse(connection, ending)
    lane_id, due, slot_id = moved
    if due is not None:
        lanes.offer(lane_id, (due, slot_id))
    if run is not None:
        runs.add(connection, run)
    into = None if run is None else run.run_id
    runs.add_spans(connection, key.device, key.job, ending.spans, into=into, now=now, new_id=new_id)
    return FinishAnswer.KEPT


def _refuse(connection: sqlite3.Connection, ending: Finish) -> FinishAnswer:
    run = ending.run
    if run is None:
        return FinishAnswer.STALE
    if run.digest is not None:
        kept = runs.repeats(connection, run.device, run.job, run.due, run.digest)
        if any(same.epoch == ending.key.epoch for same in kept):
            return FinishAnswer.REPEATED
    runs.add_stale(connection, run)
    return FinishAnswer.STALE


def _key_of(key: LeaseKey) -> dict[str, object]:
    return {"device": key.device, "job": key.job, "epoch": key.epoch}


def run_now(
    connection: sqlite3.Connection, lanes: Lanes, device: str, job: str, now: int
) -> RunNow | None:
    """Make a slot due now, beside its schedule; none when there is no such slot."""
    row = connection.execute(SQL["slot_for_run_now"], {"device": device, "job": job}).fetchone()
    if row is None:
        return None
    slot_id, lane_id, due, paused, lease_expires_at = row
    if lease_expires_at is not None and lease_expires_at > now:
        return RunNow.RUNNING
    if paused:
        return RunNow.PAUSED
    if due is not None and due <= now:
        return RunNow.ALREADY_DUE
    connection.execute(SQL["run_now"], {"now": now, "slot_id": slot_id})
    lanes.offer(lane_id, (now, slot_id))
    return RunNow.QUEUED

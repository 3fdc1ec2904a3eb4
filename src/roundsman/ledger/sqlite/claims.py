"""Claims, renewals and finishes: what is done to slots and leases, on the writer's connection."""

import math
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from roundsman.ledger.fairness import Rank, Tags, Turns
from roundsman.ledger.interface import (
    ClaimLimits,
    Finish,
    FinishAnswer,
    LeasedSlot,
    LostLease,
    ResultKey,
    RunNow,
    Standing,
    TagFilter,
)
from roundsman.ledger.limits import Bucket, Gate
from roundsman.ledger.spans import NewId, lost_with
from roundsman.ledger.sqlite import holds, results, runs
from roundsman.ledger.sqlite.lanes import DueOffers, Lanes
from roundsman.ledger.sqlite.statements import load
from roundsman.schedules.plans import times_of
from roundsman.wire.execution import LeaseKey

SQL = load("claims")

_lost_decoder: "msgspec.json.Decoder[LostLease]" = msgspec.json.Decoder(LostLease)


class _Terms(NamedTuple):
    """Under which a claim leases."""

    now: float
    lease_seconds: float
    worker_id: str | None


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
    limits: ClaimLimits,
) -> list[LeasedSlot]:
    """Lease what is due, by the law of fairness."""
    lanes.turn_to(connection, now)
    lanes.bound_devices(limits.sessions_per_device)
    matching = lanes.matching(connection, tags)
    open_lanes = [lane for lane in matching if lane.bound[0] <= horizon]
    gate = Gate(limits, lanes.running, _buckets(connection, limits), now=now)
    offers = DueOffers(lanes, gate, horizon=horizon, worker_id=worker_id)
    ranks = turns.choose(tags, open_lanes, offers, gate.room(limit, worker_id))
    leased = _chosen(connection, lanes, ranks, _Terms(now, lease_seconds, worker_id))
    connection.executemany(
        SQL["lease"],
        (
            {
                "slot_id": number,
                "epoch": slot.epoch,
                "expires_at": slot.expires_at,
                "worker_id": worker_id,
                "claimed_at": now,
                "lost": _encoded(slot.lost),
            }
            for number, slot in leased
        ),
    )
    for tag, bucket in gate.spent():
        connection.execute(SQL["spend"], {"tag": tag, **bucket._asdict()})
    return [slot for _, slot in leased]


def _buckets(connection: sqlite3.Connection, limits: ClaimLimits) -> dict[str, Bucket]:
    if all(limit.starts_per_minute is None for limit in limits.tags.values()):
        return {}
    return {tag: Bucket(tokens, at) for tag, tokens, at in connection.execute(SQL["buckets"])}


def _chosen(
    connection: sqlite3.Connection,
    lanes: Lanes,
    ranks: Sequence[Rank],
    terms: _Terms,
) -> list[tuple[int, LeasedSlot]]:
    """The slots of these ranks as they are leased, by their numbers."""
    numbers = msgspec.json.encode([number for _, number in ranks]).decode()
    rows = connection.execute(SQL["chosen"], {"slot_ids": numbers, "now": terms.now}).fetchall()
    found = {
        slot_id: _leased(
            lanes.tags_of(lane_id),
            slot,
            epoch=epoch,
            expires_at=float(max(terms.now, slot[2]) + terms.lease_seconds),
            worker_id=terms.worker_id,
            claimed_at=float(terms.now),
            lost=lost_with(_lost(lost), claimed_before, expired_at, lost_by),
        )
        for slot_id, lane_id, epoch, *slot, expired_at, claimed_before, lost_by, lost in rows
    }
    return [(number, found[number]) for _, number in ranks]


def _leased(
    tags: Tags,
    slot: Sequence[Any],
    *,
    epoch: int,
    expires_at: float,
    worker_id: str | None,
    claimed_at: float,
    device_held: bool = False,
    result: str | None = None,
    lost: LostLease | None = None,
) -> LeasedSlot:
    device, job, due, on_demand, resume_due, ready, attempts, was_held, plan, since = slot
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
        ready=ready or 0,
        attempts=attempts,
        was_held=bool(was_held),
        device_held=device_held,
        result=results.decode(result),
        plan=plan,
        planned_since=since,
        lost=lost,
    )


def _lost(column: str | None) -> LostLease | None:
    return None if column is None else _lost_decoder.decode(column)


def _encoded(lost: LostLease | None) -> str | None:
    return None if lost is None else msgspec.json.encode(lost).decode()


def standings(connection: sqlite3.Connection, results: Sequence[ResultKey]) -> list[Standing]:
    """For each result the kept run that it repeats, and the open lease of its slot."""
    kept = runs.repeats(connection, results)
    slots = msgspec.json.encode([(result.device, result.job) for result in results]).decode()
    leases = {
        place: _leased(
            msgspec.json.decode(tags, type=Tags),
            slot,
            epoch=epoch,
            expires_at=expires_at,
            worker_id=worker_id,
            claimed_at=claimed_at,
            device_held=bool(held),
            result=result,
            lost=_lost(lost),
        )
        for place, tags, epoch, expires_at, worker_id, claimed_at, lost, held, result, *slot in (
            connection.execute(SQL["leases_of"], {"slots": slots}).fetchall()
        )
    }
    return [
        Standing(
            repeated=next(
                (run for run in reversed(same) if result.epoch in (None, run.epoch)), None
            ),
            lease=leases.get(place),
        )
        for place, (result, same) in enumerate(zip(results, kept, strict=True))
    ]


def renew(
    connection: sqlite3.Connection,
    lanes: Lanes,
    keys: Sequence[LeaseKey],
    *,
    worker_id: str | None,
    until: float,
) -> list[bool]:
    """Move expiries on, never back; for each lease, whether it held."""
    return [_renew(connection, lanes, key, worker_id, until) for key in keys]


def _renew(
    connection: sqlite3.Connection,
    lanes: Lanes,
    key: LeaseKey,
    worker_id: str | None,
    until: float,
) -> bool:
    row = connection.execute(
        SQL["lease_to_renew"], {"worker_id": worker_id, **_key_of(key)}
    ).fetchone()
    if row is None:
        return False
    slot_id, expires_at = row
    if until > expires_at:
        connection.execute(SQL["renew"], {"slot_id": slot_id, "until": until})
        if until > lanes.expired_until:
            lanes.revive(slot_id)
    return True


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
    ended = connection.execute(SQL["end_lease"], _key_of(key)).fetchone()
    if ended is None:
        return _refuse(connection, ending)
    (slot_id,) = ended
    lanes.end(slot_id)
    holds.note(connection, lanes, ending, now)
    spans = ending.spans
    moved = _move(connection, slot_id, ending, ending.plan, ending.next_due)
    if moved is None:  # its plan was replaced meanwhile, when all before was accounted for
        spans = ()
        plan, since = connection.execute(SQL["plan_of"], {"slot_id": slot_id}).fetchone()
        moved = _move(connection, slot_id, ending, plan, times_of(plan).next_after(since))
    lane_id, due, ready, paused = moved
    if ready is None or paused:
        lanes.withdraw(slot_id)
    else:
        lanes.offer(lane_id, (ready, slot_id), due, key.device)
    if not ending.answered:
        holds.hold(connection, lanes, key.device, now)
    if run is not None:
        runs.add(connection, run)
    into = None if run is None else run.run_id
    runs.add_spans(connection, key.device, key.job, spans, into=into, now=now, new_id=new_id)
    return FinishAnswer.KEPT


def _move(
    connection: sqlite3.Connection, slot_id: int, ending: Finish, plan: str, next_due: int | None
) -> Any:
    """Have the slot wait for its next due time or attempt; none when that is not its plan."""
    again = ending.retry_at is not None
    return connection.execute(
        SQL["try_again" if again else "move_on"],
        {
            "slot_id": slot_id,
            "epoch": ending.key.epoch,
            "plan": plan,
            "next_due": next_due,
            "retry_at": ending.retry_at,
            "tried": ending.run is not None,
            "result": results.encode(ending.result),
        },
    ).fetchone()


def _refuse(connection: sqlite3.Connection, ending: Finish) -> FinishAnswer:
    run = ending.run
    if run is None:
        return FinishAnswer.STALE
    if run.digest is not None:
        key = ResultKey(device=run.device, job=run.job, due=run.due, digest=run.digest)
        [kept] = runs.repeats(connection, [key])
        if any(same.epoch == ending.key.epoch for same in kept):
            return FinishAnswer.REPEATED
    runs.add_stale(connection, run)
    return FinishAnswer.STALE


def _key_of(key: LeaseKey) -> dict[str, object]:
    return {"device": key.device, "job": key.job, "epoch": key.epoch}


def run_now(
    connection: sqlite3.Connection, lanes: Lanes, device: str, job: str, now: int, *, beside: bool
) -> RunNow | None:
    """Make a slot due now, beside its schedule; none when there is no such slot."""
    row = connection.execute(SQL["slot_for_run_now"], {"device": device, "job": job}).fetchone()
    if row is None:
        return None
    slot_id, urgent, lane_id, due, ready, paused, on_demand, expires_at = row
    if expires_at is not None and expires_at > now:
        return RunNow.RUNNING
    if paused:
        return RunNow.PAUSED
    if due is not None and due <= now and (on_demand or not beside):
        if ready is not None and ready <= now:
            return RunNow.ALREADY_DUE
        connection.execute(SQL["attempt_now"], {"now": now, "slot_id": slot_id})
    else:
        connection.execute(SQL["run_now"], {"now": now, "slot_id": slot_id})
        due, lane_id = now, urgent
    lanes.offer(lane_id, (now, slot_id), due, device)
    return RunNow.QUEUED

"""Leases: renewed, asked for; and what is claimed next."""

import math
from collections.abc import Sequence

import msgspec
from asyncpg import Record

from roundsman.ledger.fairness import Tags
from roundsman.ledger.interface import LeasedSlot, LostLease, ResultKey, RunNow, Standing
from roundsman.ledger.postgresql import queue, results, runs
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.execution import LeaseKey

SQL = load("claims")

_lost_decoder: "msgspec.json.Decoder[LostLease]" = msgspec.json.Decoder(LostLease)


def leased(
    row: Record,
    tags: Tags,
    *,
    worker_id: str | None,
    claimed_at: float,
    device_held: bool = False,
) -> LeasedSlot:
    """A slot under its lease."""
    return LeasedSlot(
        device=row["device"],
        job=row["job"],
        tags=tags,
        due=row["due"],
        epoch=row["epoch"],
        expires_at=row["expires_at"],
        covered_until=max(row["due"], math.floor(claimed_at)),
        on_demand=row["on_demand"],
        resume_due=row["resume_due"],
        worker_id=worker_id,
        claimed_at=float(claimed_at),
        ready=row["ready"] or 0,
        attempts=row["attempts"],
        was_held=row["was_held"],
        plan=row["plan"],
        planned_since=row["planned_since"],
        lost=None if row["lost"] is None else _lost_decoder.decode(row["lost"]),
        device_held=device_held,
    )


async def standings(link: Link, asked: Sequence[ResultKey]) -> list[Standing]:
    """For each result the kept run that it repeats, and the open lease of its slot."""
    kept = await runs.repeats(link, asked)
    rows = await SQL["standing_leases"].rows(
        link, devices=[key.device for key in asked], jobs=[key.job for key in asked]
    )
    leases = {row["place"] - 1: _standing(row) for row in rows}
    return [
        Standing(
            repeated=next((run for run in reversed(same) if key.epoch in (None, run.epoch)), None),
            lease=leases.get(place),
        )
        for place, (key, same) in enumerate(zip(asked, kept, strict=True))
    ]


def _standing(row: Record) -> LeasedSlot:
    slot = leased(
        row,
        tuple(row["tags"]),
        worker_id=row["worker_id"],
        claimed_at=row["claimed_at"],
        device_held=row["device_held"],
    )
    return msgspec.structs.replace(slot, result=results.decode(row["result"]))


async def renew(
    link: Link, keys: Sequence[LeaseKey], *, worker_id: str | None, now: float, until: float
) -> list[bool]:
    """Move expiries on, never back; for each lease, whether it held."""
    held: set[int] = set()
    for statement in ("renew", "revive"):
        rest = [place for place in range(len(keys)) if place not in held]
        if rest:
            values = {"until": until, "worker_id": worker_id, **_columns([keys[p] for p in rest])}
            if statement == "revive":
                values["now"] = now
            held.update(rest[n - 1] for n in await SQL[statement].column(link, **values))
    return [place in held for place in range(len(keys))]


def _columns(keys: Sequence[LeaseKey]) -> dict[str, object]:
    return {
        "devices": [key.device for key in keys],
        "jobs": [key.job for key in keys],
        "epochs": [key.epoch for key in keys],
    }


async def run_now(link: Link, device: str, job: str, now: int, *, beside: bool) -> RunNow | None:
    """Make a slot due now, beside its schedule; none when there is no such slot."""
    row = await SQL["slot_for_run_now"].row(link, device=device, job=job)
    if row is None:
        return None
    if row["expires_at"] is not None and row["expires_at"] > now:
        return RunNow.RUNNING
    if row["paused"]:
        return RunNow.PAUSED
    change = "run_now"
    has_come = row["due"] is not None and row["due"] <= now
    if has_come and (row["on_demand"] or not beside):
        if row["ready"] is not None and row["ready"] <= now:
            return RunNow.ALREADY_DUE
        change = "attempt_now"
    await SQL[change].rows(link, now=now, slot_id=row["slot_id"])
    await queue.requeue(link, [row["slot_id"]], now)
    return RunNow.QUEUED

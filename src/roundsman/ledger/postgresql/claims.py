"""Claims, renewals and what is asked of leases."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from asyncpg import Record

from roundsman.ledger.fairness import NEVER, Rank, Tags, Turns
from roundsman.ledger.interface import (
    ClaimLimits,
    LeasedSlot,
    LostLease,
    Priority,
    ResultKey,
    RunNow,
    Standing,
    TagFilter,
)
from roundsman.ledger.limits import Bucket, Gate, Running
from roundsman.ledger.postgresql import queue, results, runs
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.execution import LeaseKey

SQL = load("claims")

_lost_decoder: "msgspec.json.Decoder[LostLease]" = msgspec.json.Decoder(LostLease)

LEAST_SHARE = 8
"""So many slots of each line are looked at, at the least."""
FURTHER = 8
"""Where that was too few, so many times as many as there is room for."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """The slots of one priority of a lane, as far as they were looked at."""

    tags: Tags
    priority: Priority
    ranks: list[Rank]
    """Last first, so that the oldest can be popped."""

    @property
    def bound(self) -> Rank:
        return self.ranks[-1] if self.ranks else NEVER


class _Offers:
    """What the lanes have, as far as there is room for it."""

    def __init__(self, gate: Gate) -> None:
        """Ask this gate."""
        self._gate = gate

    def head(self, lane: _Lane) -> Rank:
        """The lane's oldest slot, if its tags have room."""
        return lane.bound if self._gate.lets(lane.tags) else NEVER

    def pop(self, lane: _Lane) -> Rank:
        """Take out the head, which `head` has shown to be there."""
        self._gate.take(lane.tags)
        return lane.ranks.pop()


class _Choice:
    """What one claim takes, chosen by the laws that all drivers share."""

    def __init__(
        self, turns: Turns, tags: TagFilter, gate: Gate, running: Running, worker_id: str | None
    ) -> None:
        """Nothing is chosen yet."""
        self._turns = turns
        self._tags = tags
        self._gate = gate
        self._running = running
        self._worker_id = worker_id
        self.tags: dict[Rank, Tags] = {}
        """What was chosen, and the tags of each."""

    def add(self, rows: Sequence[Record], room: int) -> bool:
        """Choose from these up to `room` in all; whether there may be more than was looked at."""
        lanes: list[_Lane] = []
        found: dict[Rank, tuple[str, Tags]] = {}
        seen: Counter[tuple[Tags, int]] = Counter()
        for row in rows:
            rank, tags = (row["ready"], row["slot_id"]), tuple(row["tags"])
            seen[tags, row["priority"]] += 1
            if rank in self.tags:
                continue
            if not lanes or (lanes[-1].tags, lanes[-1].priority) != (tags, row["priority"]):
                lanes.append(_Lane(tags, Priority(row["priority"]), []))
            lanes[-1].ranks.append(rank)
            found[rank] = row["device"], tags
            if row["device"] not in self._running.devices:
                self._running.devices[row["device"]] = row["running"]
        offers = _Offers(self._gate)
        while ranks := self._turns.choose(self._tags, lanes, offers, room - len(self.tags)):
            for rank in ranks:
                device, tags = found[rank]
                if self._gate.lets_device(device):
                    self._running.count(device, tags, self._worker_id)
                    self.tags[rank] = tags
                else:
                    self._gate.take(tags, -1)
        return any(number >= rows[0]["most"] for number in seen.values())


async def claim(
    link: Link,
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
    """Lease what is due, by the law of fairness, as far as limits leave room.

    One claim after the other, of whichever controller: what runs is counted for all together.
    """
    await alone(link, Lock.CLAIMS)
    running = await _running(link, limits, worker_id, now)
    buckets = {row["tag"]: Bucket(row["tokens"], row["at"]) for row in await _buckets(link, limits)}
    gate = Gate(limits, running, buckets, worker_id=worker_id, now=now)
    room = gate.room(limit)
    if room <= 0:
        return []
    choice = _Choice(turns, tags, gate, running, worker_id)
    for least_share in (LEAST_SHARE, FURTHER * room):
        heads = await SQL["heads"].rows(
            link,
            any_of=_listed(tags.any_of),
            within=_listed(tags.within),
            least_share=least_share,
            room=room,
            horizon=math.floor(horizon),
            due_by=math.floor(now),
            now=now,
            per_device=limits.sessions_per_device,
        )
        if not choice.add(heads, room) or len(choice.tags) == room:
            break
    taken = await SQL["take"].rows(
        link,
        slot_ids=[slot_id for _, slot_id in choice.tags],
        readies=[ready for ready, _ in choice.tags],
        now=now,
        lease_seconds=lease_seconds,
        worker_id=worker_id,
    )
    for tag, bucket in gate.spent():
        await SQL["spend"].rows(link, tag=tag, **bucket._asdict())
    return [
        _leased(
            row,
            choice.tags[row["ready"], row["slot_id"]],
            worker_id=worker_id,
            claimed_at=now,
        )
        for row in taken
    ]


async def _running(link: Link, limits: ClaimLimits, worker_id: str | None, now: float) -> Running:
    """What limits are about, but for devices, which are counted where they are looked at."""
    running = Running()
    if worker_id is not None and limits.sessions_per_worker is not None:
        own = await SQL["running_of_worker"].value(link, worker_id=worker_id, now=now)
        running.workers[worker_id] = own
    limited = [tag for tag, limit in limits.tags.items() if limit.sessions is not None]
    if limited:
        for row in await SQL["running_of_tags"].rows(link, tags=limited, now=now):
            running.tags[row["tag"]] = row["running"]
    return running


async def _buckets(link: Link, limits: ClaimLimits) -> list[Record]:
    if all(limit.starts_per_minute is None for limit in limits.tags.values()):
        return []
    return await SQL["buckets"].rows(link)


def _listed(tags: frozenset[str] | None) -> list[str] | None:
    return None if tags is None else sorted(tags)


def _leased(
    row: Record,
    tags: Tags,
    *,
    worker_id: str | None,
    claimed_at: float,
    device_held: bool = False,
) -> LeasedSlot:
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


async def sweep(link: Link, *, after: float, now: float) -> None:
    """Offer again what is under leases that ran out since then."""
    await SQL["sweep"].rows(link, after=after, now=now, old_before=queue.old_before(now))


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
    leased = _leased(
        row,
        tuple(row["tags"]),
        worker_id=row["worker_id"],
        claimed_at=row["claimed_at"],
        device_held=row["device_held"],
    )
    return msgspec.structs.replace(leased, result=results.decode(row["result"]))


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

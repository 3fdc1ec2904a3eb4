"""Claims: those of one controller that wait together are one transaction.

Claims come one after the other, of whichever controller, under a lock: limits hold for all of them
together, and two that choose at once would choose the same. So what a claim costs beside its rows
(the lock, round trips, the flush) is shared by those that wait, and they look at the queue once.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from asyncpg import Record

from roundsman.ledger.fairness import NEVER, Rank, Tags, Turns
from roundsman.ledger.interface import ClaimLimits, LeasedSlot, TagFilter
from roundsman.ledger.limits import Bucket, Gate, Running
from roundsman.ledger.postgresql import claims, queue
from roundsman.ledger.postgresql.database import Database
from roundsman.ledger.postgresql.lines import Line, Lines, Start, starts_after
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import Link, load

SQL = load("claims")

LEAST_SHARE: Final = 4
"""So many slots of each line are looked at, at the least."""
SHARES: Final = 8
"""So many times its even share of the room is looked at of each line; most lines are empty."""
LOOKS: Final = 8
"""Where that was too few, so often is looked further, four times as far each time."""
MOST_AT_ONCE: Final = 1000
"""Claims wait for the next transaction when there is room for so many slots in one."""
SWEEP_SECONDS: Final = 1.0
"""Leases that ran out are looked for at least so often, those of other controllers too."""
LATE_SECONDS: Final = 10.0
"""How much longer ago than the last look one is looked for that was passed over then."""


class Claim(NamedTuple):
    """What a caller asks for; the fields are those of `Ledger.claim`."""

    tags: TagFilter
    limit: int
    horizon: float
    now: float
    lease_seconds: float
    worker_id: str | None
    limits: ClaimLimits

    @property
    def kind(self) -> tuple[TagFilter, ClaimLimits, int, int]:
        """Claims of one kind choose from the same."""
        return self.tags, self.limits, math.floor(self.horizon), math.floor(self.now)


@dataclass(frozen=True, slots=True)
class _Call:
    claim: Claim
    answered: "asyncio.Future[list[LeasedSlot]]"


class Claimer:
    """Takes the claims of one controller, as many at once as are waiting."""

    def __init__(self, database: Callable[[], Database], turns: Turns) -> None:
        """Claim from this database."""
        self.lines = Lines()
        self._database = database
        self._turns = turns
        self._waiting: list[_Call] = []
        self._serving: asyncio.Task[None] | None = None
        self._swept_at = -math.inf
        self._per_device: int | None = -1  # another than any: what others set aside is offered

    def forget(self) -> None:
        """The database may be another, or another one's limits may have been in force."""
        self.lines.forget()
        self.lines.forget_starts()
        self._swept_at = -math.inf
        self._per_device = -1

    async def claim(self, claim: Claim) -> list[LeasedSlot]:
        """Lease what is due, by the law of fairness, as far as limits leave room."""
        call = _Call(claim, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await call.answered

    async def close(self) -> None:
        """Finish what was called."""
        if self._serving is not None:
            await self._serving

    async def _serve(self) -> None:
        while self._waiting:
            calls = self._next()
            try:
                leased = await self._claim([call.claim for call in calls])
            except Exception as error:  # noqa: BLE001  # whatever it is, the callers are told
                for call in calls:
                    if not call.answered.done():
                        call.answered.set_exception(error)
            else:
                for call, slots in zip(calls, leased, strict=True):
                    if not call.answered.done():
                        call.answered.set_result(slots)

    def _next(self) -> list[_Call]:
        """Those that go together now; who has gone meanwhile is left out."""
        room = MOST_AT_ONCE
        calls: list[_Call] = []
        while self._waiting and (not calls or self._waiting[0].claim.limit <= room):
            call = self._waiting.pop(0)
            if not call.answered.done():
                calls.append(call)
                room -= call.claim.limit
        return calls

    async def _claim(self, asked: Sequence[Claim]) -> list[list[LeasedSlot]]:
        if not asked:
            return []
        await self._sweep(asked[-1].now)
        for claim in asked:
            await self._bound_devices(claim)
        leased, starts = await self._database().transact(
            lambda link: claim_all(link, self.lines, self._turns, asked)
        )
        self.lines.keep(starts)
        return leased

    async def _bound_devices(self, claim: Claim) -> None:
        """Offer what was set aside by another bound than this one."""
        if self._per_device != claim.limits.sessions_per_device:
            await self._database().do(
                lambda link: queue.let_in_all(link, claim.now, whatever_runs=True)
            )
            self._per_device = claim.limits.sessions_per_device

    async def _sweep(self, now: float) -> None:
        """Offer again what is under leases that ran out, if there may be any."""
        if self._swept_at <= now < self._swept_at + SWEEP_SECONDS:
            return
        after = self._swept_at - LATE_SECONDS if self._swept_at <= now else -math.inf
        await self._database().do(lambda link: claims.sweep(link, after=after, now=now))
        self._swept_at = now


class _Choice:
    """What claims of one kind look at, choose and get, by the laws that all drivers share."""

    def __init__(
        self, asked: Sequence[Claim], lines: Sequence[Line], gate: Gate, running: Running
    ) -> None:
        """Nothing was looked at yet."""
        self.asked = asked
        self.limits = asked[0].limits
        self.lines = {line.number: line for line in lines}
        self.leased: list[dict[Rank, LeasedSlot]] = [{} for _ in asked]
        """For each claim what it got."""
        self.held_up: list[int] = []
        """The slots whose devices have no room."""
        self.gate = gate
        self._running = running
        self._devices: dict[Rank, str] = {}
        self._tags: dict[Rank, Tags] = {}
        self._worker_id: str | None = None

    def add(self, rows: Sequence[Record], share: int) -> list[Line]:
        """Look at these, so many of each line at most; the lines that may have more."""
        looked_at: Counter[int] = Counter()
        for number, version, ready, slot_id, device in rows:
            line, rank = self.lines[number], (ready, slot_id)
            looked_at[number] += 1
            if rank not in self._devices:
                if not line.seen:
                    line.start = Start(version, line.start.rank)
                line.seen.append(rank)
                line.free.append(rank)
                self._devices[rank] = device
        return [self.lines[number] for number, count in looked_at.items() if count >= share]

    def needed(self, lines: Sequence[Line]) -> list[Line]:
        """Those of which more may be among the oldest that there is room for."""
        oldest = sorted(rank for line in self.lines.values() for rank in line.free)
        room = self.room()
        last = oldest[room - 1] if len(oldest) >= room else NEVER
        return [line for line in lines if line.seen[-1] <= last]

    def room(self) -> int:
        """How many more all claims together may get."""
        return sum(map(self._room, self.asked, self.leased))

    def _room(self, claim: Claim, leased: Mapping[Rank, LeasedSlot]) -> int:
        return self.gate.room(claim.limit - len(leased), claim.worker_id)

    def choose(self, turns: Turns) -> list[list[Rank]]:
        """For each claim what it might get of what was looked at."""
        lines = [line for line in self.lines.values() if line.free]
        chosen = []
        for claim, leased in zip(self.asked, self.leased, strict=True):
            self._worker_id = claim.worker_id
            chosen.append(turns.choose(claim.tags, lines, self, self._room(claim, leased)))
        return chosen

    def head(self, line: Line, /) -> Rank:
        """The line's oldest slot whose tags and device have room, for all that is known."""
        if not self.gate.lets(line.tags):
            return NEVER
        while line.free and not self.gate.lets_device(self._devices[line.free[0]]):
            self.held_up.append(int(line.free.popleft()[1]))
        return line.bound

    def pop(self, line: Line, /) -> Rank:
        """Take out the head, which `head` has shown to be there."""
        rank = line.free.popleft()
        self._tags[rank] = line.tags
        self._count(rank, self._worker_id, 1)
        return rank

    def _count(self, rank: Rank, worker_id: str | None, by: int) -> None:
        self.gate.take(self._tags[rank], by)
        self._running.count(self._devices[rank], self._tags[rank], worker_id, by)

    async def take(self, link: Link, chosen: Sequence[Sequence[Rank]]) -> None:
        """Lease this, but for what somebody is just changing, or whose device has no room."""
        wanted = [
            (rank, claim) for claim, ranks in zip(self.asked, chosen, strict=True) for rank in ranks
        ]
        if not wanted:
            return
        before: Counter[str] = Counter()
        places = []
        for rank, _ in wanted:
            places.append(before[self._devices[rank]])
            before[self._devices[rank]] += 1
        rows = await SQL["take"].rows(
            link,
            slot_ids=[slot_id for (_, slot_id), _ in wanted],
            readies=[ready for (ready, _), _ in wanted],
            places=places,
            nows=[claim.now for _, claim in wanted],
            seconds=[claim.lease_seconds for _, claim in wanted],
            worker_ids=[claim.worker_id for _, claim in wanted],
            per_device=self.limits.sessions_per_device,
        )
        self._note({(row["ready"], row["slot_id"]): row for row in rows}, chosen)

    def _note(self, rows: Mapping[Rank, Record], chosen: Sequence[Sequence[Rank]]) -> None:
        for claim, ranks, leased in zip(self.asked, chosen, self.leased, strict=True):
            for rank in ranks:
                row = rows.get(rank)
                if row is not None and row["epoch"] is not None:
                    leased[rank] = claims.leased(
                        row, self._tags[rank], worker_id=claim.worker_id, claimed_at=claim.now
                    )
                    continue
                self._count(rank, claim.worker_id, -1)
                if row is not None and self.limits.sessions_per_device is not None:
                    self.held_up.append(row["slot_id"])
                    self._running.devices[row["device"]] = self.limits.sessions_per_device


async def claim_all(
    link: Link, lines: Lines, turns: Turns, asked: Sequence[Claim]
) -> tuple[list[list[LeasedSlot]], dict[int, Start]]:
    """What each of these gets, and where lines begin after that."""
    await alone(link, Lock.CLAIMS)
    leased: list[list[LeasedSlot]] = []
    starts: dict[int, Start] = {}
    for _, group in groupby(asked, lambda claim: claim.kind):
        alike = [*group]
        choice = await _serve(link, await lines.matching(link, alike[0].tags), turns, alike)
        gone = {rank for slots in choice.leased for rank in slots}
        gone |= await _set_aside(link, choice, alike[-1].now)
        leased += [[slot for _, slot in sorted(slots.items())] for slots in choice.leased]
        starts |= starts_after(choice.lines.values(), gone, alike[-1].now)
    return leased, starts


async def _serve(
    link: Link, lines: Sequence[Line], turns: Turns, asked: Sequence[Claim]
) -> _Choice:
    """Have claims of one kind get what there is."""
    limits, now = asked[0].limits, asked[-1].now
    running = await _running(link, limits, {claim.worker_id for claim in asked}, now)
    gate = Gate(limits, running, await _buckets(link, limits), now=now)
    choice = _Choice(asked, lines, gate, running)
    share = max(LEAST_SHARE, SHARES * choice.room() // max(len(lines), 1))
    unfinished: list[Line] = []
    for look in range(LOOKS):
        if not lines or not choice.room():
            break
        starts = [line.further() for line in lines]
        rows = await SQL["heads"].rows(
            link,
            lines=[line.number for line in lines],
            versions=[version for version, _ in starts],
            readies=[ready for _, (ready, _) in starts],
            slot_ids=[slot_id for _, (_, slot_id) in starts],
            share=share,
            horizon=math.floor(asked[0].horizon),
            due_by=math.floor(now),
        )
        looked_at = set(lines)
        unfinished = [line for line in unfinished if line not in looked_at]
        unfinished += choice.add(rows, share)
        share *= 4
        lines = choice.needed(unfinished)
        if not lines or look == LOOKS - 1:
            while any(chosen := choice.choose(turns)):
                await choice.take(link, chosen)
            lines = [line for line in unfinished if not line.free]
    for tag, bucket in gate.spent():
        await SQL["spend"].rows(link, tag=tag, **bucket._asdict())
    return choice


async def _set_aside(link: Link, choice: _Choice, now: float) -> set[Rank]:
    """Take what its device holds up out of the queue, until a lease of that device ends."""
    if not choice.held_up:
        return set()
    rows = await queue.SQL["set_aside"].rows(link, slot_ids=choice.held_up, now=now)
    return {(row["ready"], row["slot_id"]) for row in rows}


async def _running(
    link: Link, limits: ClaimLimits, worker_ids: set[str | None], now: float
) -> Running:
    """What limits are about, but for devices, which are counted where they are looked at."""
    running = Running()
    if limits.sessions_per_worker is not None:
        for worker_id in worker_ids - {None}:
            own = await SQL["running_of_worker"].value(link, worker_id=worker_id, now=now)
            running.workers[str(worker_id)] = own
    limited = [tag for tag, limit in limits.tags.items() if limit.sessions is not None]
    if limited:
        for row in await SQL["running_of_tags"].rows(link, tags=limited, now=now):
            running.tags[row["tag"]] = row["running"]
    return running


async def _buckets(link: Link, limits: ClaimLimits) -> dict[str, Bucket]:
    if all(limit.starts_per_minute is None for limit in limits.tags.values()):
        return {}
    rows = await SQL["buckets"].rows(link)
    return {row["tag"]: Bucket(row["tokens"], row["at"]) for row in rows}

"""Claims: those of one controller that wait together are one transaction.

Claims come one after the other, of whichever controller, under a lock: limits hold for all of them
together, and two that choose at once would choose the same. So what a claim costs beside its rows
(the lock, round trips, the flush) is shared by those that wait, and they look at the queue once.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from roundsman.ledger.postgresql.sweeps import Sweeper

SQL = load("claims")

LEAST_SHARE: Final = 4
"""So many slots of each line are looked at, at the least."""
SHARES: Final = 8
"""So many times its even share of the room is looked at of each line; most lines are empty."""
LOOKS: Final = 8
"""Where that was too few, so often is looked further, four times as far each time."""
MOST_AT_ONCE: Final = 1000
"""Claims wait for the next transaction when there is room for so many slots in one."""


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
        self._sweeper = Sweeper(database)
        self._per_device: int | None = -1  # another than any: what others set aside is offered

    def forget(self) -> None:
        """The database may be another, or another one's limits may have been in force."""
        self.lines.forget()
        self.lines.forget_starts()
        self._sweeper.forget()
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
        await self._sweeper.close()

    async def _serve(self) -> None:
        while self._waiting:
            calls: list[_Call] = []
            try:
                choices = await self._claim(calls)
            except Exception as error:  # noqa: BLE001  # whatever it is, the callers are told
                for call in calls or self._next():
                    if not call.answered.done():
                        call.answered.set_exception(error)
            else:
                for call, slots in zip(calls, leased_by(choices), strict=True):
                    if not call.answered.done():
                        call.answered.set_result(slots)

    def _next(self) -> list[_Call]:
        """Those that go together now; who has gone meanwhile is left out."""
        room = MOST_AT_ONCE
        calls: list[_Call] = []
        while self._waiting and (not calls or self._goes_along(self._waiting[0].claim, room)):
            call = self._waiting.pop(0)
            if not call.answered.done():
                calls.append(call)
                room -= call.claim.limit
        return calls

    def _goes_along(self, claim: Claim, room: int) -> bool:
        """Whether it may go with others that were offered what their bound leaves."""
        return claim.limit <= room and claim.limits.sessions_per_device == self._per_device

    async def _claim(self, calls: list[_Call]) -> list["Choice"]:
        """Serve those that wait once it is this controller's turn, and tell which."""
        first = self._waiting[0].claim
        await self._sweeper.sweep(first.now, max(call.claim.limit for call in self._waiting))
        await self._bound_devices(first)

        async def together(link: Link) -> tuple[list["Choice"], dict[int, Start]]:
            await alone(link, Lock.CLAIMS)
            if not calls:  # else it is tried again
                calls.extend(self._next())
            asked = [call.claim for call in calls]
            return await claim_all(link, self.lines, self._turns, asked)

        choices, starts = await self._database().transact(together)
        self.lines.keep(starts)
        return choices

    async def _bound_devices(self, claim: Claim) -> None:
        """Offer what was set aside by another bound than this one."""
        if self._per_device != claim.limits.sessions_per_device:
            await self._database().do(
                lambda link: queue.let_in_all(link, claim.now, whatever_runs=True)
            )
            self._per_device = claim.limits.sessions_per_device


class Choice:
    """What claims of one kind look at, choose and get, by the laws that all drivers share."""

    def __init__(
        self, asked: Sequence[Claim], lines: Sequence[Line], gate: Gate, running: Running
    ) -> None:
        """Nothing was looked at yet."""
        self.asked = asked
        self.limits = asked[0].limits
        self.lines = {line.number: line for line in lines}
        self.got: list[dict[Rank, Record]] = [{} for _ in asked]
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
        for number, version, ready, slot_id, device in rows:
            line, rank = self.lines[number], (ready, slot_id)
            if rank not in self._devices:
                if not line.seen:
                    line.start = Start(version, line.start.rank)
                line.seen.append(rank)
                line.free.append(rank)
                self._devices[rank] = device
        looked_at = Counter(row[0] for row in rows)
        return [self.lines[number] for number, count in looked_at.items() if count >= share]

    def needed(self, lines: Sequence[Line]) -> list[Line]:
        """Those of which more may be among the oldest that there is room for."""
        oldest = sorted(rank for line in self.lines.values() for rank in line.free)
        room = self.room()
        last = oldest[room - 1] if len(oldest) >= room else NEVER
        return [line for line in lines if line.seen[-1] <= last]

    def room(self) -> int:
        """How many more all claims together may get."""
        return sum(map(self._room, self.asked, self.got))

    def _room(self, claim: Claim, got: Mapping[Rank, Record]) -> int:
        return self.gate.room(claim.limit - len(got), claim.worker_id)

    def choose(self, turns: Turns) -> list[list[Rank]]:
        """For each claim what it might get of what was looked at."""
        lines = [line for line in self.lines.values() if line.free]
        chosen = []
        for claim, got in zip(self.asked, self.got, strict=True):
            self._worker_id = claim.worker_id
            chosen.append(turns.choose(claim.tags, lines, self, self._room(claim, got)))
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
        self.gate.take(self._tags[rank], by)  # it counts by tag
        self._running.devices[self._devices[rank]] += by
        if worker_id is not None:
            self._running.workers[worker_id] += by

    async def take(self, link: Link, chosen: Sequence[Sequence[Rank]]) -> None:
        """Lease this, but for what somebody is just changing, or whose device has no room."""
        slot_ids, readies, places, claims = [], [], [], []
        before: Counter[str] = Counter()
        for number, ranks in enumerate(chosen, start=1):  # as the database counts
            for rank in ranks:
                ready, slot_id = rank
                device = self._devices[rank]
                slot_ids.append(slot_id)
                readies.append(ready)
                places.append(before[device])
                claims.append(number)
                before[device] += 1
        rows = await SQL["take"].rows(
            link,
            slot_ids=slot_ids,
            readies=readies,
            places=places,
            claims=claims,
            nows=[claim.now for claim in self.asked],
            seconds=[claim.lease_seconds for claim in self.asked],
            worker_ids=[claim.worker_id for claim in self.asked],
            per_device=self.limits.sessions_per_device,
        )
        self._note({(row["ready"], row["slot_id"]): row for row in rows}, chosen)

    def _note(self, rows: Mapping[Rank, Record], chosen: Sequence[Sequence[Rank]]) -> None:
        for claim, ranks, got in zip(self.asked, chosen, self.got, strict=True):
            for rank in ranks:
                row = rows.get(rank)
                if row is not None and row["epoch"] is not None:
                    got[rank] = row
                    continue
                self._count(rank, claim.worker_id, -1)
                if row is not None and self.limits.sessions_per_device is not None:
                    self.held_up.append(row["slot_id"])
                    self._running.devices[row["device"]] = self.limits.sessions_per_device

    def leased(self) -> Iterator[list[LeasedSlot]]:
        """For each claim what it got, oldest first."""
        for claim, got in zip(self.asked, self.got, strict=True):
            yield [
                claims.leased(
                    row, self._tags[rank], worker_id=claim.worker_id, claimed_at=claim.now
                )
                for rank, row in sorted(got.items())
            ]


def leased_by(choices: Iterable[Choice]) -> list[list[LeasedSlot]]:
    """For each claim what it got: not before it is committed, as others wait for that."""
    return [slots for choice in choices for slots in choice.leased()]


async def claim_all(
    link: Link, lines: Lines, turns: Turns, asked: Sequence[Claim]
) -> tuple[list[Choice], dict[int, Start]]:
    """What each of these gets, and where lines begin after that; under the lock of claims."""
    choices: list[Choice] = []
    starts: dict[int, Start] = {}
    for _, group in groupby(asked, lambda claim: claim.kind):
        alike = [*group]
        choice = await _serve(link, await lines.matching(link, alike[0].tags), turns, alike)
        gone = {rank for got in choice.got for rank in got}
        gone |= await _set_aside(link, choice, alike[-1].now)
        choices.append(choice)
        starts |= starts_after(choice.lines.values(), gone, alike[-1].now)
    return choices, starts


async def _serve(link: Link, lines: Sequence[Line], turns: Turns, asked: Sequence[Claim]) -> Choice:
    """Have claims of one kind get what there is."""
    limits, now = asked[0].limits, asked[-1].now
    running = await _running(link, limits, {claim.worker_id for claim in asked}, now)
    gate = Gate(limits, running, await _buckets(link, limits), now=now)
    choice = Choice(asked, lines, gate, running)
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


async def _set_aside(link: Link, choice: Choice, now: float) -> set[Rank]:
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

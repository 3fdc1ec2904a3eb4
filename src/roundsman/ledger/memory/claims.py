"""Claims and renewals: who is given which slot, and for how long."""

from collections.abc import Sequence
from dataclasses import dataclass

from roundsman.errors import NotFoundError
from roundsman.ledger.fairness import NEVER, Rank, Tags
from roundsman.ledger.interface import (
    UNLIMITED,
    ClaimLimits,
    LeasedSlot,
    Priority,
    RunNow,
    TagFilter,
)
from roundsman.ledger.limits import Gate, Running
from roundsman.ledger.memory.rows import Row, leased_slot
from roundsman.ledger.memory.tables import Tables
from roundsman.ledger.spans import lost_with
from roundsman.wire.execution import LeaseKey


@dataclass(frozen=True, slots=True)
class _Lane:
    tags: Tags
    priority: Priority
    ranks: list[Rank]
    """Last first, so that the oldest can be popped."""

    @property
    def bound(self) -> Rank:
        return self.ranks[-1] if self.ranks else NEVER


class _Offers:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def head(self, lane: _Lane) -> Rank:
        return lane.bound if self._gate.lets(lane.tags) else NEVER

    def pop(self, lane: _Lane) -> Rank:
        self._gate.take(lane.tags)
        return lane.ranks.pop()


class Claims(Tables):
    """Leases are given and made longer."""

    async def claim(
        self,
        tags: TagFilter,
        *,
        limit: int,
        horizon: float,
        now: float,
        lease_seconds: float,
        worker_id: str | None,
        limits: ClaimLimits = UNLIMITED,
    ) -> list[LeasedSlot]:
        self._must_be_open()
        running = self._running(now)
        gate = Gate(limits, running, self._buckets, now=now)
        lanes: dict[tuple[Tags, Priority], _Lane] = {}
        free = {
            row.rank: row
            for row in self._slots.values()
            if row.offered_at(now, horizon)
            and not row.leased_at(now)
            and not self._paused(row)
            and tags.matches(row.tags)
        }
        for rank in sorted(free, reverse=True):
            row = free[rank]
            lanes.setdefault(row.lane, _Lane(*row.lane, [])).ranks.append(rank)
        by_tags = [lanes[key] for key in sorted(lanes)]
        taken: list[Row] = []
        room = gate.room(limit, worker_id)
        while chosen := self._turns.choose(tags, by_tags, _Offers(gate), room - len(taken)):
            for rank in chosen:
                row = free[int(rank[0]), rank[1]]
                if gate.lets_device(row.device):
                    running.count(row.device, row.tags, worker_id)
                    taken.append(row)
                else:
                    gate.take(row.tags, -1)
        self._buckets.update(gate.spent())
        return [
            self._lease(row, now, lease_seconds, worker_id)
            for row in sorted(taken, key=lambda row: row.rank)
        ]

    def _running(self, now: float) -> Running:
        running = Running()
        for row in self._slots.values():
            if row.leased_at(now):
                running.count(row.device, row.tags, row.worker_id)
        return running

    def _lease(
        self, row: Row, now: float, lease_seconds: float, worker_id: str | None
    ) -> LeasedSlot:
        row.epoch += 1
        row.lost = lost_with(row.lost, row.claimed_at, row.lease_expires_at, row.worker_id)
        row.lease_expires_at = max(now, row.due or 0) + lease_seconds
        row.worker_id = worker_id
        row.claimed_at = now
        return leased_slot(row)

    async def renew(
        self, keys: Sequence[LeaseKey], *, worker_id: str | None, now: float, until: float
    ) -> list[bool]:
        self._must_be_open()
        return [self._renew(key, worker_id, until) for key in keys]

    def _renew(self, key: LeaseKey, worker_id: str | None, until: float) -> bool:
        row = self._lease_for(key)
        if row is None or worker_id not in (None, row.worker_id):
            return False
        row.lease_expires_at = max(row.lease_expires_at or 0.0, until)
        return True

    async def run_now(self, device: str, job: str, now: int, *, beside: bool = False) -> RunNow:
        self._must_be_open()
        row = self._slots.get((device, job))
        if row is None:
            raise NotFoundError(f"job {job} on device {device} is not configured")
        if row.leased_at(now):
            return RunNow.RUNNING
        if self._paused(row):
            return RunNow.PAUSED
        if row.due is not None and row.due <= now and (row.on_demand or not beside):
            if row.ready is not None and row.ready <= now:
                return RunNow.ALREADY_DUE
            row.ready = now
            return RunNow.QUEUED
        if not row.on_demand:
            row.on_demand, row.resume_due = True, row.due
        row.due = row.ready = now
        return RunNow.QUEUED

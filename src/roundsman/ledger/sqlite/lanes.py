"""The lanes, remembered by the writer: which there are, and what each has to offer.

Only the writer's thread uses them. They are a memory of what the database says, told of every slot
that becomes free or stops being so, and read again after a rollback or a change of the
configuration.
"""

import heapq
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from roundsman.ledger.fairness import NEVER, Rank, Tags
from roundsman.ledger.interface import Priority, TagFilter
from roundsman.ledger.limits import Gate, Running
from roundsman.ledger.sqlite.statements import load

SQL = load("lanes")

PRIORITIES = len(Priority)
_Offer = tuple[int, Rank, float]

REMEMBERED_FILTERS = 1000
"""Beyond so many different filters, what they match is worked out anew."""


@dataclass(slots=True, eq=False)
class Lane:
    """The slots of one priority, of devices with a distinct set of tags."""

    tags: Tags
    priority: Priority
    queue: list[Rank] = field(default_factory=list)
    """A heap of the ranks of its free slots, and of some that are free no more. Slots whose next
    attempt lies ahead are not in it."""
    bound: Rank = NEVER
    """The first of the queue: no free slot of this lane is ranked before this."""


@dataclass(frozen=True, slots=True)
class _Lease:
    device: str
    tags: Tags
    worker_id: str | None
    runs: bool


class Lanes:
    """Every lane of the database: known by four times the number of its tags, and its priority."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.expired_until = -math.inf
        """Slots whose leases expired until then are free; `turn_to` moves it."""
        self.running = Running()
        self._leases: dict[int, _Lease] = {}
        # What a device's limit left no room for: it is offered again when a lease of it ends.
        self._aside: dict[str, dict[int, _Offer]] = {}
        self._devices_aside: dict[int, str] = {}
        self._per_device: int | None = None
        self._tags: dict[int, Tags] = {}
        self._by_id: dict[int, Lane] = {}
        self._free: dict[int, Rank] = {}  # each free slot, by its number
        # Slots whose next attempt lies ahead, however far a claim looks: by the time of that.
        self._delays: list[tuple[Rank, int]] = []
        self._matching: dict[TagFilter, list[Lane]] = {}
        self._known = False

    def forget(self) -> None:
        """What is remembered may no longer be so."""
        self._known = False

    def tags_of(self, lane_id: int) -> Tags:
        """A distinct set of tags, by its number."""
        return self._tags[lane_id]

    def offer(self, lane_id: int, rank: Rank, due: float) -> None:
        """A slot of this lane is free, with this rank and no longer with any other.

        One that is ready later than `due` waits for another attempt.
        """
        if not self._known:
            return
        self._let_in_slot(rank[1])
        self._free[rank[1]] = rank
        if rank[0] > max(due, self.expired_until):
            heapq.heappush(self._delays, (rank, lane_id))
        else:
            self._enqueue(lane_id, rank)

    def _enqueue(self, lane_id: int, rank: Rank) -> None:
        lane = self._lane(lane_id)
        heapq.heappush(lane.queue, rank)
        lane.bound = lane.queue[0]

    def _lane(self, lane_id: int) -> Lane:
        lane = self._by_id.get(lane_id)
        if lane is None:
            number, priority = divmod(lane_id, PRIORITIES)
            lane = self._by_id[lane_id] = Lane(self._tags[number], Priority(priority))
            self._matching.clear()
        return lane

    def withdraw(self, slot_id: int) -> None:
        """A slot is not free, whether or not it was."""
        self._free.pop(slot_id, None)
        self._let_in_slot(slot_id)

    def bound_devices(self, most: int | None) -> None:
        """Offer what was set aside by another bound than this one."""
        if most != self._per_device:
            self._per_device = most
            for device in list(self._aside):
                self._let_in(device)

    def set_aside(self, lane_id: int, rank: Rank, due: float, device: str) -> None:
        """A slot that was taken out is not offered until a lease of its device ends."""
        self._aside.setdefault(device, {})[rank[1]] = (lane_id, rank, due)
        self._devices_aside[rank[1]] = device

    def _let_in_slot(self, slot_id: int) -> None:
        device = self._devices_aside.pop(slot_id, None)
        if device is not None:
            del self._aside[device][slot_id]

    def _let_in(self, device: str) -> None:
        for offered in list(self._aside.get(device, {}).values()):
            self.offer(*offered)
        self._aside.pop(device, None)

    def lease(self, slot_id: int, device: str, tags: Tags, worker_id: str | None) -> None:
        """A slot is leased, whether or not a lease of it ran out before."""
        self.end(slot_id)
        self._leases[slot_id] = _Lease(device, tags, worker_id, runs=True)
        self.running.count(device, tags, worker_id)

    def end(self, slot_id: int) -> None:
        """A slot's lease has ended."""
        self._stop(self._leases.pop(slot_id, None))

    def revive(self, slot_id: int) -> None:
        """A lease that had run out was renewed."""
        self.withdraw(slot_id)
        lease = self._leases.get(slot_id)
        if lease is not None and not lease.runs:
            self._leases[slot_id] = replace(lease, runs=True)
            self.running.count(lease.device, lease.tags, lease.worker_id)

    def _expire(self, slot_id: int) -> None:
        lease = self._leases.get(slot_id)
        if lease is not None:
            self._leases[slot_id] = replace(lease, runs=False)
            self._stop(lease)

    def _stop(self, lease: _Lease | None) -> None:
        if lease is not None and lease.runs:
            self.running.count(lease.device, lease.tags, lease.worker_id, -1)
            self._let_in(lease.device)

    def turn_to(self, connection: sqlite3.Connection, now: float) -> None:
        """Offer the slots whose leases have expired by now, or whose next attempt has come."""
        if now < self.expired_until:  # the clock was set back: neither is so any more
            self.forget()
        after, self.expired_until = self.expired_until, now
        if not self._known:
            return
        for lane_id, due, ready, slot_id, is_free in connection.execute(
            SQL["expiring"], {"after": after, "until": now}
        ):
            self._expire(slot_id)
            if is_free:
                self.offer(lane_id, (ready, slot_id), due)
        while self._delays and self._delays[0][0][0] <= now:
            rank, lane_id = heapq.heappop(self._delays)
            if self._free.get(rank[1]) == rank:
                self._enqueue(lane_id, rank)

    def head(self, lane: Lane) -> Rank:
        """The rank of a lane's oldest free slot, `NEVER` when there is none."""
        while lane.bound != NEVER and self._free.get(lane.bound[1]) != lane.bound:
            _drop_first(lane)
        return lane.bound

    def pop(self, lane: Lane) -> Rank:
        """Take out the head, which `head` has shown to be there."""
        rank = lane.bound
        del self._free[rank[1]]
        _drop_first(lane)
        return rank

    def matching(self, connection: sqlite3.Connection, tags: TagFilter) -> Sequence[Lane]:
        """The lanes that a filter matches, sorted by their tags."""
        if not self._known:
            self._read(connection)
        lanes = self._matching.get(tags)
        if lanes is None:
            if len(self._matching) >= REMEMBERED_FILTERS:
                self._matching.clear()
            lanes = [lane for lane in self._by_id.values() if tags.matches(lane.tags)]
            lanes.sort(key=lambda lane: lane.tags)
            self._matching[tags] = lanes
        return lanes

    def _read(self, connection: sqlite3.Connection) -> None:
        self._matching.clear()
        self._free.clear()
        self._delays.clear()
        self._by_id.clear()
        self._aside.clear()
        self._devices_aside.clear()
        self._tags = {
            lane_id: msgspec.json.decode(tags, type=Tags)
            for lane_id, tags in connection.execute(SQL["lanes"])
        }
        self._read_leases(connection)
        for lane_id, due, ready, slot_id in connection.execute(
            SQL["free_slots"], {"expired_until": self.expired_until}
        ):
            self._free[slot_id] = rank = (ready, slot_id)
            if ready > max(due, self.expired_until):
                self._delays.append((rank, lane_id))
            else:
                self._lane(lane_id).queue.append(rank)
        heapq.heapify(self._delays)
        for lane in self._by_id.values():
            if lane.queue:
                heapq.heapify(lane.queue)
                lane.bound = lane.queue[0]
        self._known = True

    def _read_leases(self, connection: sqlite3.Connection) -> None:
        self.running = Running()
        self._leases.clear()
        for slot_id, device, lane_id, worker_id, runs in connection.execute(
            SQL["open_leases"], {"expired_until": self.expired_until}
        ):
            tags = self._tags[lane_id]
            self._leases[slot_id] = _Lease(device, tags, worker_id, bool(runs))
            if runs:
                self.running.count(device, tags, worker_id)


def _drop_first(lane: Lane) -> None:
    heapq.heappop(lane.queue)
    lane.bound = lane.queue[0] if lane.queue else NEVER


class DueOffers:
    """What the lanes have due at or before a horizon, as far as there is room for it."""

    def __init__(self, lanes: Lanes, horizon: float, gate: Gate) -> None:
        """Offer what is due by then."""
        self._lanes = lanes
        self._gate = gate
        self._horizon = horizon

    def head(self, lane: Lane, /) -> Rank:
        """The lane's oldest free slot, if it is due and its tags have room."""
        if not self._gate.lets(lane.tags):
            return NEVER
        rank = self._lanes.head(lane)
        return rank if rank[0] <= self._horizon else NEVER

    def pop(self, lane: Lane, /) -> Rank:
        """Take out the head, which `head` has shown to be there."""
        self._gate.take(lane.tags)
        return self._lanes.pop(lane)

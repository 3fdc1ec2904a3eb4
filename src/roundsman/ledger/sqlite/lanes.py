"""The lanes, remembered by the writer: which there are, and what each has to offer.

Only the writer's thread uses them. They are a memory of what the database says, told of every slot
that becomes free or stops being so, and read again after a rollback or a change of the
configuration.
"""

import heapq
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from roundsman.ledger.fairness import NEVER, Rank, Tags
from roundsman.ledger.interface import Priority, TagFilter
from roundsman.ledger.limits import Gate, Running
from roundsman.ledger.sqlite.statements import load

SQL = load("lanes")

PRIORITIES = len(Priority)

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


class _Lease(NamedTuple):
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
        self._aside: dict[str, dict[int, tuple[Lane, Rank]]] = {}
        self._per_device: int | None = None
        self._tags: dict[int, Tags] = {}
        self._by_id: dict[int, Lane] = {}
        self._free: dict[int, Rank] = {}  # each free slot, by its number
        self._devices: dict[int, str] = {}  # of each slot that was ever free, by its number
        self._names: dict[str, str] = {}  # so that a device's name is kept once
        # Slots whose next attempt lies ahead, however far a claim looks: by the time of that.
        self._delays: list[tuple[Rank, int]] = []
        self._matching: dict[TagFilter, list[Lane]] = {}
        self._known = False

    def forget(self) -> None:
        """What is remembered may no longer be so."""
        self._known = False

    def read(self, connection: sqlite3.Connection) -> None:
        """Read what is not known, so that the next claim need not."""
        if not self._known:
            self._read(connection)

    @property
    def known(self) -> bool:
        """Whether nothing has to be read."""
        return self._known

    def tags_of(self, lane_id: int) -> Tags:
        """A distinct set of tags, by its number."""
        return self._tags[lane_id]

    def offer(self, lane_id: int, rank: Rank, due: float, device: str) -> None:
        """A slot of this lane is free, with this rank and no longer with any other.

        One that is ready later than `due` waits for another attempt.
        """
        if not self._known:
            return
        self._forget_aside(rank[1])
        self._free[rank[1]] = rank
        self._devices[rank[1]] = self._names.setdefault(device, device)
        if rank[0] > max(due, self.expired_until):
            heapq.heappush(self._delays, (rank, lane_id))
        else:
            self._enqueue(self._lane(lane_id), rank)

    @staticmethod
    def _enqueue(lane: Lane, rank: Rank) -> None:
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
        self._forget_aside(slot_id)

    def bound_devices(self, most: int | None) -> None:
        """So many leases of a device may run at once. What another bound held up is offered."""
        if most != self._per_device:
            self._per_device = most
            for device in list(self._aside):
                self._let_in(device)

    def _set_aside(self, lane: Lane, device: str) -> None:
        """The head of a lane is not offered until a lease of its device ends."""
        rank = self._pop(lane)
        self._aside.setdefault(device, {})[rank[1]] = (lane, rank)

    def _forget_aside(self, slot_id: int) -> None:
        aside = self._aside.get(self._devices.get(slot_id, ""))
        if aside is not None:
            aside.pop(slot_id, None)

    def _let_in(self, device: str) -> None:
        for lane, rank in self._aside.pop(device, {}).values():
            self._free[rank[1]] = rank
            self._enqueue(lane, rank)

    def end(self, slot_id: int) -> None:
        """A slot's lease has ended."""
        self._stop(self._leases.pop(slot_id, None))

    def revive(self, slot_id: int) -> None:
        """A lease that had run out was renewed."""
        self.withdraw(slot_id)
        lease = self._leases.get(slot_id)
        if lease is not None and not lease.runs:
            self._leases[slot_id] = lease._replace(runs=True)
            self.running.count(lease.device, lease.tags, lease.worker_id)

    def _expire(self, slot_id: int) -> None:
        lease = self._leases.get(slot_id)
        if lease is not None:
            self._leases[slot_id] = lease._replace(runs=False)
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
        for lane_id, due, ready, slot_id, device, is_free in connection.execute(
            SQL["expiring"], {"after": after, "until": now}
        ):
            self._expire(slot_id)
            if is_free:
                self.offer(lane_id, (ready, slot_id), due, device)
        while self._delays and self._delays[0][0][0] <= now:
            rank, lane_id = heapq.heappop(self._delays)
            if self._free.get(rank[1]) == rank:
                self._enqueue(self._lane(lane_id), rank)

    def head(self, lane: Lane, horizon: float) -> Rank:
        """The rank of a lane's oldest slot that is free, due by then, and whose device has room.

        `NEVER` when there is none. What is met of a busy device is set aside, so that it is met
        once for each lease of that device, and not by each claim.
        """
        while (rank := lane.bound)[0] <= horizon:
            if self._free.get(rank[1]) != rank:
                _drop_first(lane)
                continue
            device = self._devices[rank[1]]
            if self._per_device is None or self.running.devices[device] < self._per_device:
                return rank
            self._set_aside(lane, device)
        return NEVER

    def lease(self, lane: Lane, worker_id: str | None) -> Rank:
        """Take out the head, which `head` has shown to be there, and have it leased."""
        rank = self._pop(lane)
        slot_id, device = rank[1], self._devices[rank[1]]
        self.end(slot_id)  # whether or not a lease of it ran out before
        self._leases[slot_id] = _Lease(device, lane.tags, worker_id, runs=True)
        self.running.count(device, lane.tags, worker_id)
        return rank

    def _pop(self, lane: Lane) -> Rank:
        rank = lane.bound
        del self._free[rank[1]]
        _drop_first(lane)
        return rank

    def matching(self, connection: sqlite3.Connection, tags: TagFilter) -> Sequence[Lane]:
        """The lanes that a filter matches, sorted by their tags."""
        self.read(connection)
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
        self._devices.clear()
        self._names.clear()
        self._tags = {
            lane_id: msgspec.json.decode(tags, type=Tags)
            for lane_id, tags in connection.execute(SQL["lanes"])
        }
        self._read_leases(connection)
        for lane_id, due, ready, slot_id, device in connection.execute(
            SQL["free_slots"], {"expired_until": self.expired_until}
        ):
            self._free[slot_id] = rank = (ready, slot_id)
            self._devices[slot_id] = self._names.setdefault(device, device)
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

    def __init__(self, lanes: Lanes, gate: Gate, *, horizon: float, worker_id: str | None) -> None:
        """Offer this claimer what is due by then."""
        self._lanes = lanes
        self._gate = gate
        self._horizon = horizon
        self._worker_id = worker_id

    def head(self, lane: Lane, /) -> Rank:
        """The lane's oldest free slot, if it is due and its tags and its device have room."""
        return self._lanes.head(lane, self._horizon) if self._gate.lets(lane.tags) else NEVER

    def pop(self, lane: Lane, /) -> Rank:
        """Lease the head, which `head` has shown to be there."""
        self._gate.take(lane.tags)
        return self._lanes.lease(lane, self._worker_id)

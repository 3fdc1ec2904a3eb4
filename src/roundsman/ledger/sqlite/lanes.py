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

import msgspec

from roundsman.ledger.fairness import NEVER, Rank, Tags
from roundsman.ledger.interface import TagFilter
from roundsman.ledger.sqlite.statements import load

SQL = load("lanes")

REMEMBERED_FILTERS = 1000
"""Beyond so many different filters, what they match is worked out anew."""


@dataclass(slots=True, eq=False)
class Lane:
    """A distinct set of device tags."""

    tags: Tags
    queue: list[Rank] = field(default_factory=list)
    """A heap of the ranks of its free slots, and of some that are free no more. Slots whose next
    attempt lies ahead are not in it."""
    bound: Rank = NEVER
    """The first of the queue: no free slot of this lane is ranked before this."""


class Lanes:
    """Every lane of the database."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.expired_until = -math.inf
        """Slots whose leases expired until then are free; `turn_to` moves it."""
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
        """The tags of a lane that `matching` returned."""
        return self._by_id[lane_id].tags

    def offer(self, lane_id: int, rank: Rank, due: float) -> None:
        """A slot of this lane is free, with this rank and no longer with any other.

        One that is ready later than `due` waits for another attempt.
        """
        if not self._known:
            return
        self._free[rank[1]] = rank
        if rank[0] > max(due, self.expired_until):
            heapq.heappush(self._delays, (rank, lane_id))
        else:
            self._enqueue(lane_id, rank)

    def _enqueue(self, lane_id: int, rank: Rank) -> None:
        lane = self._by_id[lane_id]
        heapq.heappush(lane.queue, rank)
        lane.bound = lane.queue[0]

    def withdraw(self, slot_id: int) -> None:
        """A slot is not free, whether or not it was."""
        self._free.pop(slot_id, None)

    def turn_to(self, connection: sqlite3.Connection, now: float) -> None:
        """Offer the slots whose leases have expired by now, or whose next attempt has come."""
        if now < self.expired_until:  # the clock was set back: neither is so any more
            self.forget()
        after, self.expired_until = self.expired_until, now
        if not self._known:
            return
        for lane_id, due, ready, slot_id in connection.execute(
            SQL["expiring"], {"after": after, "until": now}
        ):
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
        self._by_id = {
            lane_id: Lane(msgspec.json.decode(tags, type=Tags))
            for lane_id, tags in connection.execute(SQL["lanes"])
        }
        for lane_id, due, ready, slot_id in connection.execute(
            SQL["free_slots"], {"expired_until": self.expired_until}
        ):
            self._free[slot_id] = rank = (ready, slot_id)
            if ready > max(due, self.expired_until):
                self._delays.append((rank, lane_id))
            else:
                self._by_id[lane_id].queue.append(rank)
        heapq.heapify(self._delays)
        for lane in self._by_id.values():
            if lane.queue:
                heapq.heapify(lane.queue)
                lane.bound = lane.queue[0]
        self._known = True


def _drop_first(lane: Lane) -> None:
    heapq.heappop(lane.queue)
    lane.bound = lane.queue[0] if lane.queue else NEVER


class DueOffers:
    """What the lanes have due at or before a horizon."""

    def __init__(self, lanes: Lanes, horizon: float) -> None:
        """Offer what is due by then."""
        self._lanes = lanes
        self._horizon = horizon

    def head(self, lane: Lane, /) -> Rank:
        """The lane's oldest free slot, if it is due."""
        rank = self._lanes.head(lane)
        return rank if rank[0] <= self._horizon else NEVER

    def pop(self, lane: Lane, /) -> Rank:
        """Take out the head, which `head` has shown to be there."""
        return self._lanes.pop(lane)

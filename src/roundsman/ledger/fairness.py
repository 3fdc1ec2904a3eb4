"""Whom a claim serves: law 5 of the ledger, for every driver.

Half of the room is dealt round the lanes that have something due, one slot a turn, starting where
the last claim of the same filter stopped; the rest goes to the oldest. So an old backlog of one tag
does not hold up the others, and no lane waits for ever.

What was asked for on demand goes before all that; then what has a higher priority, each priority by
the same rule. A quarter of the room goes to the oldest whatever its priority.
"""

import heapq
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from roundsman.ledger.interface import PlannedSlot, Priority, TagFilter

Tags = tuple[str, ...]
Rank = tuple[float, int]
"""When a slot is offered (`ready`), and its number: the order within and across lanes."""

NEVER: Rank = (float("inf"), 0)
"""The rank of nothing."""

REMEMBERED_FILTERS = 1000
"""Beyond so many different filters, turns begin anew; each is a worker's set of tags."""


def due_order(slot: PlannedSlot) -> tuple[bool, int, str]:
    """The order in which new slots are numbered, those of one schedule together.

    Slots of one due time are claimed by their numbers. Numbered by due time at first, slots that
    are claimed together have numbers close to each other ever after, and a database that keeps
    rows by number has them side by side.
    """
    return (slot.first_due is None, slot.first_due or 0, slot.plan)


class LaneLike(Protocol):
    """A lane, as far as fairness cares."""

    @property
    def tags(self) -> Tags:
        """The tags that make this lane."""
        ...

    @property
    def priority(self) -> Priority:
        """What all of its slots have."""
        ...

    @property
    def bound(self) -> Rank:
        """A rank not later than that of the lane's head, known without looking."""
        ...


LaneType = TypeVar("LaneType", bound=LaneLike)
LaneType_contra = TypeVar("LaneType_contra", contravariant=True)


class Offers(Protocol[LaneType_contra]):
    """What the lanes have due, for one claim; `NEVER` when nothing is left."""

    def head(self, lane: LaneType_contra, /) -> Rank:
        """The rank of the lane's oldest due slot."""
        ...

    def pop(self, lane: LaneType_contra, /) -> Rank:
        """Take the head out."""
        ...


class Turns:
    """Which lane was dealt to last, for each filter."""

    def __init__(self) -> None:
        """Nobody had a turn yet."""
        self._last: dict[tuple[TagFilter, Priority], Tags] = {}
        self._by_age = 0.0

    def choose(
        self,
        tags: TagFilter,
        lanes: Sequence[LaneType],
        offers: Offers[LaneType],
        limit: int,
    ) -> list[Rank]:
        """Up to `limit` slots of these lanes, which are sorted by their tags; oldest first."""
        by_priority: dict[Priority, list[LaneType]] = {}
        for lane in lanes:
            by_priority.setdefault(lane.priority, []).append(lane)
        urgent = by_priority.pop(Priority.ON_DEMAND, [])
        chosen = self._choose(tags, urgent, offers, limit)
        if len(by_priority) > 1:
            chosen += self._oldest_of_all(by_priority, offers, limit - len(chosen))
        for _, alike in sorted(by_priority.items()):
            chosen += self._choose(tags, alike, offers, limit - len(chosen))
        return sorted(chosen)

    def _choose(
        self, tags: TagFilter, lanes: Sequence[LaneType], offers: Offers[LaneType], limit: int
    ) -> list[Rank]:
        """The same for lanes of one priority."""
        if not lanes or limit <= 0:
            return []
        dealt = self._deal(tags, lanes, offers, limit // 2)
        return dealt + _oldest(lanes, offers, limit - len(dealt))

    def _oldest_of_all(
        self,
        by_priority: Mapping[Priority, Sequence[LaneType]],
        offers: Offers[LaneType],
        room: int,
    ) -> list[Rank]:
        """A quarter of the room; what is not a whole slot is kept for the next claim."""
        self._by_age += room / 4
        quarter = int(self._by_age)
        self._by_age -= quarter
        return _oldest([lane for alike in by_priority.values() for lane in alike], offers, quarter)

    def _deal(
        self, tags: TagFilter, lanes: Sequence[LaneType], offers: Offers[LaneType], room: int
    ) -> list[Rank]:
        turn = (tags, lanes[0].priority)
        start = bisect_right(lanes, self._last.get(turn, ()), key=lambda lane: lane.tags)
        circle = [*lanes[start:], *lanes[:start]]
        dealt: list[Rank] = []
        last: LaneType | None = None
        while circle and len(dealt) < room:
            served: list[LaneType] = []
            for lane in circle:
                if len(dealt) == room:
                    break
                if offers.head(lane) != NEVER:
                    dealt.append(offers.pop(lane))
                    served.append(lane)
                    last = lane
            circle = served
        if last is not None:
            self._remember(turn, last.tags)
        return dealt

    def _remember(self, turn: tuple[TagFilter, Priority], last: Tags) -> None:
        if len(self._last) >= REMEMBERED_FILTERS and turn not in self._last:
            self._last.clear()
        self._last[turn] = last


def _oldest(lanes: Sequence[LaneType], offers: Offers[LaneType], room: int) -> list[Rank]:
    """Merge the lanes, looking only into those whose bound says that they may be next."""
    waiting = [(lane.bound, number) for number, lane in enumerate(lanes)]
    heapq.heapify(waiting)
    found: list[Rank] = []
    while waiting and len(found) < room:
        bound, number = waiting[0]
        lane = lanes[number]
        head = offers.head(lane)
        if head == bound != NEVER:
            found.append(offers.pop(lane))
            head = lane.bound
        if head == NEVER:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, (head, number))
    return found

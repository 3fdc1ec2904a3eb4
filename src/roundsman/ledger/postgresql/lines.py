"""What a controller remembers of the lines of the queue: whose they are, and where each begins.

A line is the slots of one priority of a lane. Where it begins is the water that this controller
found by its own claims: what it took since is not walked over, even while some old transaction
keeps the database from clearing it away. It holds as long as nobody has put anything before it:
whoever may have done so has written the line's row in `waters`, whose version is compared.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from roundsman.ledger.fairness import NEVER, REMEMBERED_FILTERS, Rank, Tags
from roundsman.ledger.interface import Priority, TagFilter
from roundsman.ledger.postgresql.statements import Link, load

SQL = load("queue")

PRIORITIES: Final = len(Priority)


class Start(NamedTuple):
    """Nothing that may be claimed stands before this rank in a line."""

    version: int
    """Of the line's row in `waters`, with which this goes."""
    rank: Rank


UNKNOWN: Final = Start(0, (0, 0))
"""No row has this version: the line begins where the database says."""


@dataclass(slots=True, eq=False)
class Line:
    """The slots of one priority of a lane, as far as one claim has looked."""

    number: int
    tags: Tags
    priority: Priority
    start: Start
    free: deque[Rank] = field(default_factory=deque)
    """What may be taken, oldest first."""
    seen: list[Rank] = field(default_factory=list)
    """All that was looked at, in order."""

    @property
    def bound(self) -> Rank:
        """The first that may be taken."""
        return self.free[0] if self.free else NEVER

    def further(self) -> Start:
        """Where to look next."""
        if not self.seen:
            return self.start
        ready, slot_id = self.seen[-1]
        return Start(self.start.version, (ready, slot_id + 1))


class Lines:
    """All lines, and where they begin."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._tags: dict[int, Tags] | None = None
        self._starts: dict[int, Start] = {}
        self._matching: dict[TagFilter, list[tuple[Tags, int]]] = {}

    def forget(self) -> None:
        """Lanes may have come or gone."""
        self._tags = None

    def forget_starts(self) -> None:
        """Look at every line from the water in the database."""
        self._starts.clear()

    async def refresh(self, link: Link) -> None:
        """Read the lanes again if some came or went."""
        lanes = self._tags
        if lanes is not None:  # and may be forgotten while the database answers
            [known] = await SQL["lanes_there"].rows(link)
            if (known["number"], known["last"]) != (len(lanes), max(lanes, default=0)):
                self.forget()

    async def matching(self, link: Link, tags: TagFilter) -> list[Line]:
        """The lines that a filter matches, sorted by their tags."""
        if self._tags is None:
            rows = await SQL["lanes"].rows(link)
            self._tags = {row["lane_id"]: tuple(row["tags"]) for row in rows}
            self._matching.clear()
        lanes = self._matching.get(tags)
        if lanes is None:
            if len(self._matching) >= REMEMBERED_FILTERS:
                self._matching.clear()
            lanes = sorted((own, lane) for lane, own in self._tags.items() if tags.matches(own))
            self._matching[tags] = lanes
        return [
            Line(number, own, priority, self._starts.get(number, UNKNOWN))
            for own, lane in lanes
            for priority in Priority
            for number in [lane * PRIORITIES + priority]
        ]

    def keep(self, starts: Mapping[int, Start]) -> None:
        """Where lines begin after a claim that was committed."""
        self._starts.update(starts)


def starts_after(lines: Iterable[Line], gone: set[Rank], now: float) -> dict[int, Start]:
    """Where lines begin once these ranks have gone out of them, as far as was looked."""
    starts = {}
    for line in lines:
        if line.seen:
            first = next((rank for rank in line.seen if rank not in gone), line.further().rank)
            starts[line.number] = Start(line.start.version, min(first, (math.floor(now), 0)))
    return starts

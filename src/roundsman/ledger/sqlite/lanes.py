"""The lanes, remembered by the writer: which there are, and how soon each can have something due.

Only the writer's thread uses them. They are a memory of what the database says, so after a rollback
they are forgotten and read again.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from roundsman.ledger.fairness import NEVER, Rank, Tags
from roundsman.ledger.interface import TagFilter
from roundsman.ledger.sqlite.statements import load

SQL = load("lanes")

UNKNOWN: Final[Rank] = (-(2**62), 0)
"""A bound that says nothing: look."""

REMEMBERED_FILTERS = 1000
"""Beyond so many different filters, what they match is worked out anew."""


@dataclass(slots=True, eq=False)
class Lane:
    """A distinct set of device tags."""

    lane_id: int
    tags: Tags
    bound: Rank
    """No free slot of this lane is ranked before this."""


class Lanes:
    """Every lane of the database."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._by_id: dict[int, Lane] = {}
        self._by_tags: dict[Tags, Lane] = {}
        self._matching: dict[TagFilter, list[Lane]] = {}
        self._known = False

    def forget(self) -> None:
        """What is remembered may no longer be so."""
        self._known = False

    def tags_of(self, lane_id: int) -> Tags:
        """The tags of a lane that `matching` returned."""
        return self._by_id[lane_id].tags

    def offer(self, lane_id: int, rank: Rank) -> None:
        """A slot of this lane may have become free with this rank."""
        lane = self._by_id.get(lane_id)
        if lane is not None and rank < lane.bound:
            lane.bound = rank

    def matching(self, connection: sqlite3.Connection, tags: TagFilter) -> Sequence[Lane]:
        """The lanes that a filter matches, sorted by their tags."""
        self._recall(connection)
        lanes = self._matching.get(tags)
        if lanes is None:
            if len(self._matching) >= REMEMBERED_FILTERS:
                self._matching.clear()
            lanes = [lane for key, lane in sorted(self._by_tags.items()) if tags.matches(key)]
            self._matching[tags] = lanes
        return lanes

    def of_tags(self, connection: sqlite3.Connection, tags: Tags) -> int:
        """The id of the lane of these tags, which is made if need be."""
        self._recall(connection)
        lane = self._by_tags.get(tags)
        if lane is None:
            text = msgspec.json.encode(tags).decode()
            cursor = connection.execute(SQL["add_lane"], {"tags": text})
            lane = self._add(cursor.lastrowid or 0, tags)
            self._matching.clear()
        return lane.lane_id

    def remove_empty(self, connection: sqlite3.Connection) -> None:
        """Drop the lanes that no slot has any more."""
        connection.execute(SQL["remove_empty_lanes"])
        self.forget()

    def _recall(self, connection: sqlite3.Connection) -> None:
        if self._known:
            return
        self._by_id.clear()
        self._by_tags.clear()
        self._matching.clear()
        for lane_id, tags in connection.execute(SQL["lanes"]):
            self._add(lane_id, msgspec.json.decode(tags, type=Tags))
        self._known = True

    def _add(self, lane_id: int, tags: Tags) -> Lane:
        lane = Lane(lane_id, tags, UNKNOWN)
        self._by_id[lane_id] = self._by_tags[tags] = lane
        return lane


class LaneOffers:
    """What the lanes have due, read from the database a few slots at a time."""

    def __init__(self, connection: sqlite3.Connection, horizon: float, at_a_time: int) -> None:
        """Offer what is due at or before `horizon`, reading so many slots of a lane at a time."""
        self._connection = connection
        self._horizon = horizon
        self._at_a_time = at_a_time
        self._read: dict[int, list[Rank]] = {}

    def head(self, lane: Lane, /) -> Rank:
        """The lane's oldest free slot, if it is due."""
        if lane.bound[0] > self._horizon:
            return NEVER
        ranks = self._read.get(lane.lane_id)
        if not ranks:
            ranks = self._read_from(lane)
        lane.bound = ranks[-1] if ranks else NEVER
        return lane.bound if lane.bound[0] <= self._horizon else NEVER

    def pop(self, lane: Lane, /) -> Rank:
        """Take out the head, which `head` has shown to be there."""
        due, number = self._read[lane.lane_id].pop()
        lane.bound = (due, number + 1)
        return (due, number)

    def _read_from(self, lane: Lane) -> list[Rank]:
        due, number = lane.bound
        ranks: list[Rank] = self._connection.execute(
            load("claims")["offered"],
            {
                "lane_id": lane.lane_id,
                "due": due,
                "slot_id": number,
                "limit": self._at_a_time,
            },
        ).fetchall()
        ranks.reverse()
        self._read[lane.lane_id] = ranks
        return ranks

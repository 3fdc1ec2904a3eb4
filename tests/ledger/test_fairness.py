from dataclasses import dataclass, field
from random import Random

from roundsman.ledger.fairness import NEVER, Rank, Tags, Turns
from roundsman.ledger.interface import Priority, TagFilter

EVERYTHING = TagFilter()


@dataclass
class Lane:
    """A lane whose bound is a little too early, as a driver's may be."""

    tags: Tags
    ranks: list[Rank] = field(default_factory=list)
    priority: Priority = Priority.NORMAL
    looked: int = 0

    @property
    def bound(self) -> Rank:
        due, number = min(self.ranks, default=(0.0, 0))
        return (due - 5, number)


class LaneOffers:
    def head(self, lane: Lane) -> Rank:
        lane.looked += 1
        return min(lane.ranks, default=NEVER)

    def pop(self, lane: Lane) -> Rank:
        head = min(lane.ranks)
        lane.ranks.remove(head)
        return head


def lanes_of(rng: Random, lanes: int, slots: int) -> list[Lane]:
    made = [Lane((f"t{number:05}",)) for number in range(lanes)]
    for number in range(slots):
        rng.choice(made).ranks.append((rng.randrange(1000), number))
    return made


def test_half_is_dealt_evenly_and_the_rest_is_the_oldest(rng: Random) -> None:
    for _ in range(200):
        lanes = lanes_of(rng, rng.randint(1, 12), rng.randint(0, 60))
        before = {lane.tags: sorted(lane.ranks) for lane in lanes}
        limit = rng.randint(0, 30)
        chosen = Turns().choose(EVERYTHING, lanes, LaneOffers(), limit)

        everything = sorted(rank for ranks in before.values() for rank in ranks)
        assert len(chosen) == min(limit, len(everything))
        assert chosen == sorted(set(chosen))
        open_lanes = [ranks for ranks in before.values() if ranks]
        share = (limit // 2) // len(open_lanes) if open_lanes else 0
        for ranks in open_lanes:
            # Each lane gives its oldest, and at least its even share.
            taken = [rank for rank in ranks if rank in chosen]
            assert taken == ranks[: len(taken)]
            assert len(taken) >= min(share, len(ranks))
        # What is not by the shares is the oldest: at least half of the room is.
        oldest = everything[: limit - limit // 2]
        assert set(oldest) <= set(chosen)


def test_turns_go_round_for_each_filter_by_itself() -> None:
    lanes = [Lane((name,), [(due, due) for due in range(9)]) for name in "abcde"]
    turns = Turns()
    other = TagFilter(any_of=frozenset("abcde"))

    def dealt(tags: TagFilter) -> list[str]:
        before = {lane.tags[0]: len(lane.ranks) for lane in lanes}
        # In the lanes' order of turns: nothing is older elsewhere, so the rest is from the first.
        turns.choose(tags, lanes, LaneOffers(), 4)
        return [lane.tags[0] for lane in lanes if len(lane.ranks) < before[lane.tags[0]]]

    assert set("ab") <= set(dealt(EVERYTHING))
    assert set("cd") <= set(dealt(EVERYTHING))
    assert set("ab") <= set(dealt(other))
    assert set("ea") <= set(dealt(EVERYTHING))


def test_a_claim_looks_into_few_lanes_however_many_there_are(rng: Random) -> None:
    """Fault 9: each claim scanned everything."""
    lanes = lanes_of(rng, 5000, 0)
    for number, lane in enumerate(lanes):
        lane.ranks.append((1000.0 + number * 10, number))
    assert len(Turns().choose(EVERYTHING, lanes, LaneOffers(), 20)) == 20
    assert sum(lane.looked > 0 for lane in lanes) < 40


def test_priorities_go_first_but_for_a_quarter_by_age() -> None:
    """Claim by claim, so that also one at a time waits for nothing for ever."""
    for limit in (1, 3, 8):
        turns = Turns()
        low = Lane(("a",), [(float(n), n) for n in range(100)], Priority.LOW)
        high = Lane(("a",), [(500.0 + n, 500 + n) for n in range(100)], Priority.HIGH)
        asked = Lane(("b",), [(900.0, 900)], Priority.ON_DEMAND)
        taken: list[Rank] = []
        while len(taken) < 48:
            taken += turns.choose(EVERYTHING, [low, high, asked], LaneOffers(), limit)
            if len(taken) <= limit:
                assert (900.0, 900) in taken
        assert sum(number < 100 for _, number in taken) in (11, 12, 13)

"""Laws 2, 3 and 5."""

import asyncio

from roundsman.ledger.interface import (
    Ledger,
    TagFilter,
)
from roundsman.testing.ledger_conformance.helpers import (
    LEASE,
    NOW,
    claim,
    names,
    planned,
)


class Claims:
    """Laws 2, 3 and 5."""

    async def test_a_claim_returns_what_is_due_oldest_first(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [planned(f"d{i}", due=NOW - offset) for i, offset in enumerate((5, 30, 0, -1, 10))],
            NOW,
        )
        assert names(await claim(ledger)) == ["d1", "d4", "d0", "d2"]

    async def test_the_horizon_looks_ahead_and_the_lease_runs_from_the_due_time(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(
            [
                planned("old", due=NOW - 50),
                planned("soon", due=NOW + 10),
                planned("late", due=NOW + 16),
            ],
            NOW,
        )
        old, soon = await claim(ledger, now=NOW + 0.5, ahead=15, worker_id="w1")
        assert (old.device, old.due, old.expires_at) == ("old", NOW - 50, NOW + 0.5 + LEASE)
        assert (soon.device, soon.due, soon.expires_at) == ("soon", NOW + 10, NOW + 10 + LEASE)
        assert (old.covered_until, soon.covered_until) == (NOW, NOW + 10)
        assert (old.epoch, old.worker_id, old.claimed_at) == (1, "w1", NOW + 0.5)
        assert (old.on_demand, old.resume_due) == (False, None)

    async def test_a_leased_slot_is_not_offered_until_its_lease_expires(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        assert len(await claim(ledger)) == 1
        # However far ahead the horizon looks, the lease has not expired now.
        assert await claim(ledger, now=NOW + LEASE - 1, ahead=3600) == []
        (again,) = await claim(ledger, now=NOW + LEASE)
        assert (again.due, again.epoch) == (NOW, 2)

    async def test_what_a_dead_worker_held_is_offered_again_with_its_due_time(
        self, ledger: Ledger
    ) -> None:
        """Fault 2: a dead worker's executions were never offered again."""
        await ledger.sync_slots([planned(f"d{i}", due=NOW - 600 + i) for i in range(5)], NOW)
        first = await claim(ledger, worker_id="dead")
        again = await claim(ledger, now=NOW + LEASE, worker_id="alive")
        assert [(s.device, s.due) for s in again] == [(s.device, s.due) for s in first]
        assert {s.epoch for s in again} == {2}

    async def test_expired_leases_come_before_what_fell_due_later(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("old", due=NOW - 10)], NOW)
        await claim(ledger)
        await ledger.sync_slots([planned("old", due=None), planned("new", due=NOW + 5)], NOW)
        assert names(await claim(ledger, 1, now=NOW + LEASE)) == ["old"]

    async def test_concurrent_claims_share_nothing(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned(f"d{i:03}", tags=[f"t{i % 7}"]) for i in range(200)], NOW)
        batches = await asyncio.gather(*(claim(ledger, 9) for _ in range(30)))
        taken = [name for batch in batches for name in names(batch)]
        assert len(taken) == len(set(taken)) == 200
        assert all(len(batch) <= 9 for batch in batches)

    async def test_no_room_is_no_claim(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        assert await claim(ledger, 0) == []
        assert len(await claim(ledger, 1)) == 1

    async def test_without_tags_every_device_is_offered_tagged_or_not(self, ledger: Ledger) -> None:
        """Fault 3: `tag` absent gave only untagged devices."""
        await ledger.sync_slots(
            [planned("a", tags=["x"]), planned("b"), planned("c", tags=["x", "y"])], NOW
        )
        assert sorted(names(await claim(ledger))) == ["a", "b", "c"]

    async def test_tags_choose_any_of_them_within_what_the_credential_allows(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(
            [
                planned("a", tags=["x"]),
                planned("b"),
                planned("c", tags=["x", "y"]),
                planned("d", tags=["z"]),
            ],
            NOW,
        )
        both = TagFilter(any_of=frozenset("xz"), within=frozenset("y"))
        assert names(await claim(ledger, tags=both)) == ["c"]
        assert names(await claim(ledger, tags=TagFilter(any_of=frozenset("z")))) == ["d"]
        assert names(await claim(ledger, tags=TagFilter(within=frozenset("x")))) == ["a"]
        assert await claim(ledger, tags=TagFilter(any_of=frozenset())) == []

    async def test_no_tag_starves_another(self, ledger: Ledger) -> None:
        """Fault 9: the first tag was drained first."""
        backlog = [planned(f"a{i:03}", tags=["a"], due=NOW - 5000 + i) for i in range(200)]
        await ledger.sync_slots(
            [
                *backlog,
                *(planned(f"b{i}", tags=["b"], due=NOW - 20 + i) for i in range(10)),
                *(planned(f"c{i}", tags=["c"], due=NOW - 10 + i) for i in range(10)),
            ],
            NOW,
        )
        first = await claim(ledger, 12)
        # Of twelve, six are dealt round the three tags; the other six go to the oldest.
        assert names(first) == [f"a{i:03}" for i in range(8)] + ["b0", "b1", "c0", "c1"]
        assert [slot.due for slot in first] == sorted(slot.due for slot in first)

    async def test_with_more_tags_than_room_every_tag_has_its_turn(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [
                planned(f"t{tag:02}-{i}", tags=[f"t{tag:02}"], due=NOW - 100 * (20 - tag) + i)
                for tag in range(20)
                for i in range(50)
            ],
            NOW,
        )
        served: set[str] = set()
        for _ in range(10):
            served |= {slot.tags[0] for slot in await claim(ledger, 4)}
        assert len(served) == 20

    async def test_a_lane_with_nothing_due_leaves_its_share_to_the_others(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(
            [
                planned("idle", tags=["a"], due=NOW + 60),
                planned("ended", tags=["d"], due=None),
                planned("one", tags=["b"], due=NOW - 1),
                *(planned(f"c{i}", tags=["c"], due=NOW - 90 + i) for i in range(9)),
            ],
            NOW,
        )
        assert names(await claim(ledger, 10)) == [*(f"c{i}" for i in range(9)), "one"]

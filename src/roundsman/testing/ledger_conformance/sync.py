"""Slots follow the configuration."""

from roundsman.ledger.interface import (
    FinishAnswer,
    Ledger,
    SlotQuery,
    SyncSummary,
    TagFilter,
)
from roundsman.testing.ledger_conformance.helpers import (
    NOW,
    OTHER,
    claim,
    end_of,
    history,
    lease_of,
    names,
    planned,
    slot_of,
)
from roundsman.wire.run import Cause, Outcome


class Sync:
    """Slots follow the configuration."""

    async def test_the_summary_says_what_was_done(self, ledger: Ledger) -> None:
        slots = [planned("a"), planned("b"), planned("c"), planned("d", tags=["x"])]
        assert await ledger.sync_slots(slots, NOW) == SyncSummary(added=4)
        assert await ledger.sync_slots(slots, NOW) == SyncSummary(kept=4)
        changed = [planned("b"), planned("c", plan=OTHER), planned("d", tags=["y"]), planned("e")]
        assert await ledger.sync_slots(changed, NOW) == SyncSummary(
            added=1, changed=2, removed=1, kept=1
        )
        assert [slot.device for slot in (await ledger.slots(SlotQuery(), NOW)).items] == list(
            "bcde"
        )

    async def test_what_did_not_change_keeps_its_due_time(self, ledger: Ledger) -> None:
        """Fault 2: due times that nobody asked for in time were gone; and a restart is a sync."""
        await ledger.sync_slots([planned("d", due=NOW - 7200)], NOW - 7200)
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        assert (await slot_of(ledger, "d")).due == NOW - 7200

    async def test_a_changed_schedule_takes_effect(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        await ledger.sync_slots([planned("d", due=NOW + 10, plan=OTHER)], NOW)
        assert await claim(ledger, now=NOW + 9) == []
        assert len(await claim(ledger, now=NOW + 10)) == 1
        assert await history(ledger) == []

    async def test_a_due_time_that_passed_is_missed_when_its_schedule_changes(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 7200), planned("e", due=NOW + 10)], NOW)
        await ledger.sync_slots(
            [planned("d", due=NOW + 10, plan=OTHER), planned("e", due=NOW + 10, plan=OTHER)],
            NOW + 5,
        )
        (missed,) = await history(ledger)
        assert (missed.device, missed.due, missed.last_due) == ("d", NOW - 7200, NOW)
        assert (missed.outcome, missed.count) == (Outcome.MISSED, 3)
        assert missed.cause is Cause.REPLANNED
        assert "schedule" in (missed.failure or "")
        assert await claim(ledger, now=NOW + 9) == []
        assert names(await claim(ledger, now=NOW + 10)) == ["d", "e"]

    async def test_a_leased_slot_gets_its_new_schedule_afterwards(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        await ledger.sync_slots([planned("d", due=NOW + 5, plan=OTHER, tags=["x"])], NOW)
        assert await claim(ledger, now=NOW + 5) == []
        held = await lease_of(ledger, "d", "backup")
        assert held is not None
        assert (held.due, held.epoch, held.tags) == (NOW, 1, ("x",))
        assert await ledger.sync_slots(
            [planned("d", due=NOW + 6, plan=OTHER, tags=["x"])], NOW
        ) == SyncSummary(kept=1)
        assert await ledger.finish([end_of(leased)], NOW) == [FinishAnswer.KEPT]

    async def test_a_slot_asked_for_on_demand_keeps_its_turn(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        await ledger.run_now("d", "backup", NOW)
        await ledger.sync_slots([planned("d", due=NOW + 5, plan=OTHER)], NOW)
        (leased,) = await claim(ledger)
        assert (leased.due, leased.on_demand) == (NOW, True)

    async def test_changed_tags_move_the_slot_to_another_lane(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", tags=["x"])], NOW)
        await ledger.sync_slots([planned("d", tags=["y"])], NOW)
        assert await claim(ledger, tags=TagFilter(any_of=frozenset("x"))) == []
        assert names(await claim(ledger, tags=TagFilter(any_of=frozenset("y")))) == ["d"]

    async def test_what_is_taken_away_while_due_or_leased_is_missed(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("leased", due=NOW + 10)], NOW)
        await claim(ledger, ahead=15)
        slots = [planned("leased"), planned("due", due=NOW - 5), planned("waiting", due=NOW + 1)]
        await ledger.sync_slots(slots, NOW)
        assert await ledger.sync_slots([], NOW) == SyncSummary(removed=3)
        missed = await history(ledger)
        assert {(run.device, run.due) for run in missed} == {("leased", NOW + 10), ("due", NOW - 5)}
        assert {run.outcome for run in missed} == {Outcome.MISSED}
        assert all(run.failure for run in missed)
        assert await claim(ledger, ahead=100) == []

    async def test_both_times_of_an_overdue_on_demand_slot_are_missed(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        await ledger.run_now("d", "backup", NOW)
        await ledger.sync_slots([], NOW + 60)
        assert {(run.due, run.on_demand) for run in await history(ledger)} == {
            (NOW, True),
            (NOW + 60, False),
        }

    async def test_a_pair_that_comes_back_does_not_revive_old_leases(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (old,) = await claim(ledger)
        await ledger.sync_slots([], NOW)
        await ledger.sync_slots([planned("d")], NOW)
        assert await ledger.finish([end_of(old)], NOW) == [FinishAnswer.STALE]
        (new,) = await claim(ledger)
        assert new.epoch == 2
        assert await ledger.finish([end_of(old)], NOW) == [FinishAnswer.STALE]

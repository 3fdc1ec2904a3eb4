"""What is known of results, so that the next one can be held against it."""

import msgspec

from roundsman.ledger.interface import (
    Extent,
    KeptResult,
    Ledger,
    Quarantined,
    RunEnd,
)
from roundsman.testing.ledger_conformance.helpers import (
    NOW,
    OTHER,
    claim,
    end_of,
    lease_of,
    planned,
    retry_of,
    run_of,
    slot_of,
)
from roundsman.wire.run import Outcome


class Results:
    """What is known of results, so that the next one can be held against it."""

    EXTENT = Extent(lines=100, size=2000)
    WAITING = Quarantined(run_id="run-1", digest="x", extent=Extent(lines=None, size=7))

    async def test_what_is_known_of_a_result_stays_until_something_else_is(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        assert await ledger.result_of("d", "backup") is None
        assert await ledger.result_of("e", "backup") is None
        (leased,) = await claim(ledger)
        known = KeptResult(extent=self.EXTENT, quarantined=self.WAITING)
        ending = retry_of(leased, NOW + 60, run_of(leased, outcome=Outcome.RETRIED), result=known)
        await ledger.finish([ending], NOW)
        assert await ledger.result_of("d", "backup") == known
        assert (await slot_of(ledger, "d")).quarantined == "run-1"
        (again,) = await claim(ledger, now=NOW + 60)
        lease = await lease_of(ledger, "d", "backup")
        assert lease is not None
        assert lease.result == known
        await ledger.finish([end_of(again, run_of(again, "run-2"))], NOW + 61)
        assert await ledger.result_of("d", "backup") == known
        await ledger.sync_slots([planned("d", plan=OTHER, tags=["x"])], NOW + 61)
        assert await ledger.result_of("d", "backup") == known

    async def test_how_runs_ended_is_told_of_many_at_once(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d"), planned("e")], NOW)
        kept, failed = await claim(ledger)
        run = msgspec.structs.replace(run_of(kept, "kept"), version="abc")
        other = run_of(failed, "failed", outcome=Outcome.FAILED)
        await ledger.finish([end_of(kept, run), end_of(failed, other)], NOW)
        await ledger.record_stale(run_of(kept, "late", outcome=Outcome.STALE))
        assert await ledger.ends_of(["failed", "none", "kept", "late"]) == [
            RunEnd(Outcome.FAILED, None),
            None,
            RunEnd(Outcome.SUCCEEDED, "abc"),
            RunEnd(Outcome.STALE, None),
        ]
        assert await ledger.ends_of([]) == []

    async def test_a_quarantined_result_is_accepted_once(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        known = KeptResult(extent=self.EXTENT, quarantined=self.WAITING)
        run = run_of(leased, outcome=Outcome.RETRIED)
        await ledger.finish([retry_of(leased, NOW + 60, run, result=known)], NOW)

        async def accept(run_id: str) -> bool:
            return await ledger.accept(run_id, version="abc", changed=True, by="ada", now=NOW + 9)

        assert not await accept("run-2")
        assert await accept("run-1")
        assert not await accept("run-1")
        assert await ledger.result_of("d", "backup") == KeptResult(extent=self.WAITING.extent)
        slot = await slot_of(ledger, "d")
        assert (slot.quarantined, slot.due, slot.ready) == (None, NOW, NOW + 60)
        accepted = await ledger.run("run-1")
        assert accepted is not None
        assert (accepted.outcome, accepted.version, accepted.changed) == (
            Outcome.RETRIED,
            "abc",
            True,
        )
        assert (accepted.accepted_by, accepted.accepted_at) == ("ada", NOW + 9)

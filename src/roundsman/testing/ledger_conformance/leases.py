"""Laws 4, 6 and 7."""

from roundsman.ledger.interface import (
    Finish,
    FinishAnswer,
    Ledger,
    ResultKey,
    RunQuery,
    SlotQuery,
    Span,
    TagFilter,
)
from roundsman.testing.ledger_conformance.helpers import (
    LEASE,
    NOW,
    claim,
    end_of,
    history,
    key_of,
    lease_of,
    names,
    planned,
    repeat_of,
    run_of,
    slot_of,
)
from roundsman.wire.execution import LeaseKey
from roundsman.wire.run import Outcome, Run, SecretFinding, SlotState


class Leases:
    """Laws 4, 6 and 7."""

    async def test_a_renewed_lease_is_not_offered_and_never_moves_back(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger, worker_id="w1")
        key = key_of(leased)
        until = NOW + 2 * LEASE
        assert await ledger.renew([key], worker_id="w1", now=NOW + 60, until=until) == [True]
        assert await ledger.renew([key], worker_id="w1", now=NOW + 61, until=NOW) == [True]
        assert await claim(ledger, now=until - 1) == []
        assert (await slot_of(ledger, "d")).lease_expires_at == until
        assert len(await claim(ledger, now=until)) == 1

    async def test_renewing_says_for_each_lease_whether_it_held(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("a", due=NOW - 1), planned("b")], NOW)
        a, b = await claim(ledger, worker_id="w1")
        keys = [
            key_of(b),
            LeaseKey(device="a", job="backup", epoch=2),
            LeaseKey(device="a", job="backup", epoch=0),
            LeaseKey(device="gone", job="backup", epoch=1),
            key_of(a),
        ]
        held = [True, False, False, False, True]
        until = NOW + 200
        assert await ledger.renew(keys, worker_id="w1", now=NOW, until=until) == held
        assert await ledger.renew(keys, worker_id=None, now=NOW, until=until) == held
        assert await ledger.renew(keys, worker_id="w2", now=NOW, until=until) == [False] * 5
        assert await ledger.renew([], worker_id="w1", now=NOW, until=until) == []

    async def test_an_expired_lease_holds_until_somebody_claims(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger, worker_id="w1")
        late = NOW + LEASE + 50
        assert await claim(ledger, now=late, tags=TagFilter(any_of=frozenset("z"))) == []
        renewed = await ledger.renew([key_of(leased)], worker_id="w1", now=late, until=late + 60)
        assert renewed == [True]
        assert await claim(ledger, now=late + 59) == []
        assert len(await claim(ledger, now=late + 60)) == 1
        assert await ledger.renew([key_of(leased)], worker_id="w1", now=late, until=late) == [False]

    async def test_a_lease_lasts_again_when_the_clock_is_set_back(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await claim(ledger)
        late = NOW + LEASE
        assert await claim(ledger, now=late, tags=TagFilter(any_of=frozenset("z"))) == []
        assert await claim(ledger, now=late - 1) == []
        assert (await slot_of(ledger, "d", now=late - 1)).state is SlotState.LEASED
        assert names(await claim(ledger, now=late)) == ["d"]

    async def test_the_lease_of_a_slot_is_the_open_one_expired_or_not(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", tags=["x"])], NOW)
        assert await lease_of(ledger, "d", "backup") is None
        assert await lease_of(ledger, "d", "other") is None
        (leased,) = await claim(ledger, worker_id="w1")
        assert await lease_of(ledger, "d", "backup") == leased
        await claim(ledger, now=NOW + LEASE, tags=TagFilter(any_of=frozenset("z")))
        assert await lease_of(ledger, "d", "backup") == leased
        await ledger.finish([end_of(leased)], NOW)
        assert await lease_of(ledger, "d", "backup") is None

    async def test_finishing_writes_the_run_and_moves_the_slot(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger, worker_id="w1")
        run = Run(
            run_id="full",
            device="d",
            job="backup",
            due=NOW,
            outcome=Outcome.SUCCEEDED,
            recorded_at=NOW + 3.25,
            epoch=1,
            worker_id="w1",
            started_at=NOW + 1.5,
            ended_at=NOW + 2.5,
            size=10_000,
            changed=False,
            version="abc",
            digest="digest-1",
            evidence=True,
            on_demand=True,
            detected_secrets=(SecretFinding(detector="jwt", line=3, count=2),),
        )
        assert await ledger.finish([end_of(leased, run)], NOW + 3) == [FinishAnswer.KEPT]
        assert (await ledger.runs(RunQuery())).items == (run,)
        assert await ledger.run("full") == run
        assert await ledger.run("other") is None
        slot = await slot_of(ledger, "d")
        assert (slot.state, slot.due, slot.epoch) == (SlotState.WAITING, NOW + 3600, 1)
        assert await claim(ledger, now=NOW + 3599) == []
        (following,) = await claim(ledger, now=NOW + 3600)
        assert (following.due, following.epoch) == (NOW + 3600, 2)

    async def test_a_schedule_that_ended_is_not_offered_any_more(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        await ledger.finish([end_of(leased, next_due=None)], NOW)
        assert (await slot_of(ledger, "d")).state is SlotState.ENDED
        assert await claim(ledger, now=NOW + 10**9) == []

    async def test_spans_are_written_beside_the_run_that_stands_for_them(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 7200)], NOW)
        (leased,) = await claim(ledger)
        spans = (
            Span(
                outcome=Outcome.MISSED,
                first_due=NOW - 9000,
                last_due=NOW - 8000,
                count=3,
                reason="too many",
            ),
            Span(outcome=Outcome.COALESCED, first_due=NOW - 3600, last_due=NOW, count=2),
        )
        await ledger.finish([end_of(leased, spans=spans)], NOW + 5)
        (missed,) = await history(ledger, RunQuery(outcome=Outcome.MISSED))
        assert (missed.due, missed.last_due, missed.count) == (NOW - 9000, NOW - 8000, 3)
        assert (missed.failure, missed.into, missed.recorded_at) == ("too many", None, NOW + 5)
        (coalesced,) = await history(ledger, RunQuery(outcome=Outcome.COALESCED))
        assert (coalesced.due, coalesced.last_due, coalesced.count) == (NOW - 3600, NOW, 2)
        assert (coalesced.device, coalesced.job, coalesced.into) == ("d", "backup", "run-1")
        assert len({run.run_id for run in await history(ledger)}) == 3

    async def test_a_lease_may_end_without_a_run(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        ending = Finish(
            plan=leased.plan,
            run=None,
            key=key_of(leased),
            next_due=NOW + 60,
            spans=(
                Span(outcome=Outcome.MISSED, first_due=NOW, last_due=NOW, count=1, reason="late"),
            ),
        )
        assert await ledger.finish([ending], NOW) == [FinishAnswer.KEPT]
        assert [run.outcome for run in await history(ledger)] == [Outcome.MISSED]
        assert (await slot_of(ledger, "d")).due == NOW + 60
        assert await ledger.finish([ending], NOW) == [FinishAnswer.STALE]
        assert len(await history(ledger)) == 1

    async def test_the_same_completion_again_is_a_repeat(self, ledger: Ledger) -> None:
        """Fault 7: the same slot completed twice was kept twice."""
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        run, same = run_of(leased), run_of(leased, "run-2")
        assert await ledger.finish([end_of(leased, run)], NOW) == [FinishAnswer.KEPT]
        before = await slot_of(ledger, "d")
        assert await ledger.finish([end_of(leased, same)], NOW) == [FinishAnswer.REPEATED]
        assert await repeat_of(ledger, "d", "backup", NOW, "digest-1") == run
        # Also when the slot was handed out again since, and both in one call.
        (later,) = await claim(ledger, now=NOW + 3600)
        answers = await ledger.finish(
            [end_of(leased, same), end_of(later, run_of(later, "run-3"))], NOW
        )
        assert answers == [FinishAnswer.REPEATED, FinishAnswer.KEPT]
        assert before.due == NOW + 3600
        assert sorted(run.run_id for run in await history(ledger)) == ["run-1", "run-3"]

    async def test_another_result_under_an_ended_lease_is_stale(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        await ledger.finish([end_of(leased)], NOW)
        other = end_of(leased, run_of(leased, "other", digest="digest-2"), next_due=NOW + 9)
        unnamed = end_of(leased, run_of(leased, "unnamed", digest=None))
        assert await ledger.finish([other, unnamed], NOW) == [FinishAnswer.STALE] * 2
        assert (await slot_of(ledger, "d")).due == NOW + 3600
        stale = await history(ledger, RunQuery(outcome=Outcome.STALE))
        assert {run.run_id for run in stale} == {"other", "unnamed"}
        assert await repeat_of(ledger, "d", "backup", NOW, "digest-2") is None
        assert await ledger.finish([other], NOW) == [FinishAnswer.STALE]

    async def test_an_old_epoch_is_stale_and_touches_nothing(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (old,) = await claim(ledger, worker_id="slow")
        (new,) = await claim(ledger, now=NOW + LEASE, worker_id="fast")
        spans = (Span(outcome=Outcome.COALESCED, first_due=NOW + 1, last_due=NOW + 1, count=1),)
        answers = await ledger.finish([end_of(old, run_of(old, "late"), spans=spans)], NOW + 200)
        assert answers == [FinishAnswer.STALE]
        assert await lease_of(ledger, "d", "backup") == new
        assert [(run.run_id, run.outcome) for run in await history(ledger)] == [
            ("late", Outcome.STALE)
        ]
        assert await ledger.finish([end_of(new)], NOW + 201) == [FinishAnswer.KEPT]

    async def test_finishing_what_is_not_known_is_stale(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        await ledger.sync_slots([], NOW)
        assert await ledger.finish([end_of(leased)], NOW) == [FinishAnswer.STALE]
        assert (await ledger.slots(SlotQuery(), NOW)).items == ()

    async def test_an_expired_lease_that_nobody_claimed_may_still_be_finished(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        late = NOW + LEASE + 1
        await claim(ledger, now=late, tags=TagFilter(any_of=frozenset("z")))
        assert await ledger.finish([end_of(leased)], late) == [FinishAnswer.KEPT]
        assert await claim(ledger, now=late) == []

    async def test_repeats_are_told_by_slot_due_time_and_digest(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        run = run_of(leased, outcome=Outcome.FAILED)
        await ledger.finish([end_of(leased, run)], NOW)
        assert await repeat_of(ledger, "d", "backup", NOW, "digest-1") == run
        for other in (
            ("d", "backup", NOW, "x"),
            ("d", "backup", 1, "digest-1"),
            ("e", "backup", NOW, "digest-1"),
        ):
            assert await repeat_of(ledger, *other) is None

    async def test_how_several_results_stand_is_told_in_their_order(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d"), planned("e"), planned("f")], NOW)
        d, e = await claim(ledger, 2)
        run = run_of(d)
        await ledger.finish([end_of(d, run)], NOW)
        asked = [
            ResultKey(device=device, job="backup", due=NOW, digest="digest-1")
            for device in ("e", "unknown", "d", "f", "e")
        ]
        standings = await ledger.standings(asked)
        assert [standing.lease for standing in standings] == [e, None, None, None, e]
        assert [standing.repeated for standing in standings] == [None, None, run, None, None]
        assert await ledger.standings([]) == []

    async def test_a_repeat_of_one_attempt_is_told_from_that_of_another(
        self, ledger: Ledger
    ) -> None:
        """Two attempts may fail with the same words at the same second."""
        await ledger.sync_slots([planned("d")], NOW)
        runs = []
        for epoch in (1, 2):
            (leased,) = await claim(ledger)
            runs.append(run_of(leased, f"run-{epoch}"))
            await ledger.finish([end_of(leased, runs[-1], next_due=NOW)], NOW)
        asked = [
            ResultKey(device="d", job="backup", due=NOW, digest="digest-1", epoch=epoch)
            for epoch in (None, 1, 2, 3)
        ]
        standings = await ledger.standings(asked)
        assert [standing.repeated for standing in standings] == [runs[-1], *runs, None]

    async def test_a_refused_result_is_recorded_as_stale_once(self, ledger: Ledger) -> None:
        run = Run(
            run_id="r", device="d", job="backup", due=NOW, outcome=Outcome.STALE, recorded_at=NOW
        )
        await ledger.record_stale(run)
        await ledger.record_stale(run)
        assert await history(ledger) == [run]

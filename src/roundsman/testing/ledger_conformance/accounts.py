"""Law 6: what was planned is known beside what became of it."""

import msgspec

from roundsman.ledger.interface import (
    AccountQuery,
    Finish,
    FinishAnswer,
    Ledger,
    LostLease,
    Pause,
    PauseKind,
    PlanEpoch,
    Presence,
    Resumption,
    SlotAccount,
    Span,
    TagFilter,
    Tally,
)
from roundsman.testing.ledger_conformance.helpers import (
    HOURLY,
    LEASE,
    NOW,
    OTHER,
    claim,
    end_of,
    history,
    key_of,
    lease_of,
    planned,
    retry_of,
    run_of,
    slot_of,
)
from roundsman.wire.run import Cause, Outcome, SlotState

HOUR = 3600


async def accounts(
    ledger: Ledger, since: int = 0, until: int = NOW + 1, **narrowed: str
) -> list[SlotAccount]:
    """Every account, read page by page."""
    query = AccountQuery(
        since=since,
        until=until,
        device=narrowed.get("device"),
        job=narrowed.get("job"),
        tag=narrowed.get("tag"),
        limit=2,
    )
    found: list[SlotAccount] = []
    while True:
        page = await ledger.accounts(query, NOW)
        found += page.items
        if page.next is None:
            return found
        query = msgspec.structs.replace(query, after=page.next)


async def account(ledger: Ledger, since: int = 0, until: int = NOW + 1) -> SlotAccount:
    """The one that there is."""
    [found] = await accounts(ledger, since, until)
    return found


class Accounts:
    """Law 6: what was planned is known beside what became of it."""

    async def test_a_slot_is_planned_from_when_it_is_new(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + HOUR, tags=["x"])], NOW + 0.5)
        assert await accounts(ledger) == [
            SlotAccount(
                device="d",
                job="backup",
                tags=("x",),
                plans=(PlanEpoch(plan=HOURLY, since=NOW + 0.5, until=None),),
                tallies=(),
                cut=(),
                open_due=NOW + HOUR,
                state=SlotState.WAITING,
                attempts=0,
            )
        ]
        assert await accounts(ledger, until=NOW) == []

    async def test_a_replaced_plan_is_kept_with_its_end(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - HOUR)], NOW - HOUR - 1)
        await ledger.sync_slots([planned("d", due=NOW + 300, plan=OTHER)], NOW + 5)
        found = await account(ledger, until=NOW + 10)
        assert found.plans == (
            PlanEpoch(plan=HOURLY, since=NOW - HOUR - 1, until=NOW + 5),
            PlanEpoch(plan=OTHER, since=NOW + 5, until=None),
        )
        assert found.tallies == (
            Tally(outcome=Outcome.MISSED, cause=Cause.REPLANNED, on_demand=False, count=2),
        )
        # A plan that counted at no time is none.
        await ledger.sync_slots([planned("d", due=NOW + 10)], NOW + 5)
        later = await account(ledger, until=NOW + 10)
        assert [(plan.plan, plan.until) for plan in later.plans] == [
            (HOURLY, NOW + 5),
            (HOURLY, None),
        ]

    async def test_a_pair_that_is_gone_is_still_accounted_for(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - HOUR, tags=["x"])], NOW - HOUR - 1)
        await ledger.sync_slots([], NOW + 5)
        found = await account(ledger)
        assert (found.tags, found.state, found.open_due) == (("x",), None, None)
        assert found.plans == (PlanEpoch(plan=HOURLY, since=NOW - HOUR - 1, until=NOW + 5),)
        [missed] = found.tallies
        assert (missed.outcome, missed.cause, missed.count) == (
            Outcome.MISSED,
            Cause.REMOVED,
            2,
        )
        assert await accounts(ledger, since=NOW + 6, until=NOW + 9) == []

    async def test_the_new_plan_counts_from_where_a_lease_ended_the_old_one(
        self, ledger: Ledger
    ) -> None:
        """The leased time stays; what passed after it by the old plan was missed."""
        await ledger.sync_slots([planned("d", due=NOW - 2 * HOUR)], NOW - 3 * HOUR)
        (leased,) = await claim(ledger, now=NOW - HOUR - 10)
        await ledger.sync_slots([planned("d", due=NOW + 400, plan=OTHER)], NOW + 5)
        [missed] = await history(ledger)
        assert (missed.due, missed.last_due, missed.count) == (NOW - HOUR, NOW, 2)
        held = await lease_of(ledger, "d", "backup")
        assert held is not None
        assert (held.due, held.plan, held.planned_since) == (NOW - 2 * HOUR, OTHER, NOW + 5)
        late = Span(outcome=Outcome.COALESCED, first_due=NOW - HOUR, last_due=NOW, count=2)
        # Worked out by the plan of before: what is said of its times counts no more.
        ending = end_of(leased, next_due=NOW + HOUR, spans=(late,))
        assert await ledger.finish([ending], NOW + 6) == [FinishAnswer.KEPT]
        assert len(await history(ledger)) == 2
        slot = await slot_of(ledger, "d")
        assert slot.due is not None
        assert NOW + 5 < slot.due <= NOW + 5 + 420

    async def test_a_plan_that_a_lease_ran_ahead_of_ends_after_it(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW)], NOW - HOUR)
        (leased,) = await claim(ledger, now=NOW - 10, ahead=15)
        await ledger.sync_slots([planned("d", due=NOW - 5, plan=OTHER)], NOW - 8)
        found = await account(ledger)
        assert [plan.until for plan in found.plans] == [NOW, None]
        await ledger.finish([end_of(leased, next_due=NOW + HOUR)], NOW - 7)
        assert ((await slot_of(ledger, "d")).due or 0) > NOW

    async def test_a_pair_that_comes_back_is_planned_from_where_it_ended(
        self, ledger: Ledger
    ) -> None:
        """So that no time is planned twice that a lease ran ahead of."""
        await ledger.sync_slots([planned("d", due=NOW)], NOW - HOUR)
        await claim(ledger, now=NOW - 10, ahead=15)
        await ledger.sync_slots([], NOW - 8)
        await ledger.sync_slots([planned("d", due=NOW)], NOW - 7)
        found = await account(ledger, until=NOW + HOUR)
        assert [(plan.since, plan.until) for plan in found.plans] == [
            (NOW - HOUR, NOW),
            (NOW, None),
        ]
        assert found.open_due == NOW + HOUR

    async def test_times_that_were_run_before_their_time_stay_with_their_plan(
        self, ledger: Ledger
    ) -> None:
        """By a clock that was set back, or a worker whose clock is ahead."""
        await ledger.sync_slots([planned("d", due=NOW)], NOW - HOUR)
        (leased,) = await claim(ledger)
        await ledger.finish([end_of(leased, next_due=NOW + HOUR)], NOW)
        await ledger.sync_slots([planned("d", due=NOW - 5, plan=OTHER)], NOW - 10)
        found = await account(ledger, until=NOW + HOUR)
        [before, now] = found.plans
        assert NOW <= (before.until or 0) < NOW + HOUR
        assert now.since == before.until
        assert found.open_due is not None
        assert found.open_due > now.since

    async def test_what_a_retried_attempt_left_is_given_up_with_its_plan(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d", due=NOW)], NOW - HOUR)
        (leased,) = await claim(ledger)
        failed = run_of(leased, outcome=Outcome.RETRIED)
        await ledger.finish([retry_of(leased, NOW + 60, failed)], NOW)
        found = await account(ledger)
        assert (found.open_due, found.attempts) == (NOW, 1)
        await ledger.sync_slots([planned("d", due=NOW + 70, plan=OTHER)], NOW + 30)
        [missed, _] = await history(ledger)
        assert (missed.due, missed.count, missed.cause) == (NOW, 1, Cause.REPLANNED)
        assert "failed attempts before: 1" in (missed.failure or "")

    async def test_what_was_asked_for_stands_beside_the_plan(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 50)], NOW)
        await ledger.run_now("d", "backup", NOW + 10)
        assert (await account(ledger, until=NOW + HOUR)).open_due == NOW + 50
        await ledger.sync_slots([planned("d", due=NOW + 200, plan=OTHER)], NOW + 100)
        [missed] = await history(ledger)
        assert (missed.due, missed.on_demand) == (NOW + 50, False)
        (leased,) = await claim(ledger, now=NOW + 100)
        assert (leased.on_demand, leased.resume_due) == (True, NOW + 200)
        await ledger.finish([end_of(leased, next_due=NOW + 200)], NOW + 101)
        found = await account(ledger, since=NOW, until=NOW + HOUR)
        assert found.tallies == (
            Tally(outcome=Outcome.MISSED, cause=Cause.REPLANNED, on_demand=False, count=1),
            Tally(outcome=Outcome.SUCCEEDED, cause=None, on_demand=False, count=1),
        )

    async def test_a_resume_leaves_what_was_asked_for(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 50)], NOW)
        await ledger.run_now("d", "backup", NOW + 10)
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW + 20, by="alice"))
        [freed] = await ledger.to_resume(PauseKind.DEVICE, "d") or []
        assert (freed.due, freed.ready) == (NOW + 50, NOW + 50)
        moved = Resumption(device="d", job="backup", epoch=0, plan=HOURLY, next_due=NOW + HOUR)
        await ledger.resume(PauseKind.DEVICE, "d", [moved], NOW + 60)
        (leased,) = await claim(ledger, now=NOW + 60)
        assert (leased.due, leased.on_demand, leased.resume_due) == (NOW + 10, True, NOW + HOUR)

    async def test_a_resume_by_a_plan_of_before_moves_nothing(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW)], NOW)
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        moved = Resumption(device="d", job="backup", epoch=0, plan=OTHER, next_due=NOW + HOUR)
        await ledger.resume(PauseKind.DEVICE, "d", [moved], NOW + 60)
        assert (await slot_of(ledger, "d")).due == NOW

    async def test_outcomes_are_counted_by_their_due_times(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW)], NOW - 1)
        (leased,) = await claim(ledger, now=NOW + 5 * HOUR)
        spans = (
            Span(
                outcome=Outcome.COALESCED,
                first_due=NOW + HOUR,
                last_due=NOW + 2 * HOUR,
                count=2,
                cause=Cause.NO_WORKER,
            ),
            Span(
                outcome=Outcome.COALESCED,
                first_due=NOW + 3 * HOUR,
                last_due=NOW + 5 * HOUR,
                count=3,
                cause=Cause.BUSY,
                reason="busy",
            ),
        )
        await ledger.finish([end_of(leased, spans=spans, next_due=NOW + 6 * HOUR)], NOW + 6 * HOUR)
        found = await account(ledger, NOW + 1, NOW + 4 * HOUR)
        assert found.tallies == (
            Tally(outcome=Outcome.COALESCED, cause=Cause.NO_WORKER, on_demand=False, count=2),
        )
        assert found.cut == (spans[1],)
        whole = await account(ledger, NOW, NOW + 6 * HOUR)
        assert (sum(tally.count for tally in whole.tallies), whole.cut) == (6, ())
        inside = await account(ledger, NOW + 4 * HOUR, NOW + 4 * HOUR + 1)
        assert (inside.tallies, inside.cut) == ((), (spans[1],))

    async def test_accounts_are_narrowed_and_paged(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [planned(name, job, tags=[name]) for name in "abc" for job in ("backup", "check")], NOW
        )
        kept = [planned(name, job, tags=[name]) for name in "bc" for job in ("backup", "check")]
        await ledger.sync_slots(kept, NOW + 5)
        everyone = await accounts(ledger, until=NOW + 10)
        assert [(each.device, each.job) for each in everyone] == [
            (name, job) for name in "abc" for job in ("backup", "check")
        ]
        for found in (
            await accounts(ledger, until=NOW + 10, device="a"),
            await accounts(ledger, until=NOW + 10, tag="a"),
        ):
            assert [(each.device, each.job) for each in found] == [("a", "backup"), ("a", "check")]
        found = await accounts(ledger, until=NOW + 10, job="check", tag="b")
        assert [(each.device, each.job) for each in found] == [("b", "check")]

    async def test_a_claim_tells_of_the_leases_that_ran_out(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (first,) = await claim(ledger, worker_id="w1")
        assert first.lost is None
        (second,) = await claim(ledger, now=NOW + LEASE + 5, worker_id="w2")
        lost = LostLease(since=NOW, until=NOW + LEASE, worker_id="w1")
        assert second.lost == lost
        (third,) = await claim(ledger, now=NOW + 500)
        assert third.lost == LostLease(since=NOW, until=NOW + 245, worker_id="w2", count=2)
        assert await lease_of(ledger, "d", "backup") == third
        await ledger.finish(
            [Finish(run=None, key=key_of(third), plan=third.plan, next_due=NOW + 500)], NOW + 500
        )
        (fourth,) = await claim(ledger, now=NOW + 500)
        assert fourth.lost is None

    async def test_presences_are_prolonged(self, ledger: Ledger) -> None:
        up = Presence(session="s1", asked=None, since=NOW, until=NOW + 1)
        some = TagFilter(any_of=frozenset(["b", "a"]), within=frozenset(["c"]))
        asked = Presence(session="s1", asked=some, since=NOW + 0.5, until=NOW + 0.5)
        await ledger.note_presences([up, asked])
        longer = Presence(session="s1", asked=None, since=NOW, until=NOW + 10)
        other = Presence(session="s2", asked=TagFilter(), since=NOW + 5, until=NOW + 6)
        await ledger.note_presences([longer, other])
        assert await ledger.presences(NOW, NOW + 20) == [longer, asked, other]
        assert await ledger.presences(NOW + 2, NOW + 4) == [longer]
        assert await ledger.presences(NOW + 11, NOW + 12) == []
        await ledger.note_presences([])

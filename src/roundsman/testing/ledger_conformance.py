"""The laws of the ledger as tests, for every driver, ours and others'.

A test module makes a subclass whose name begins with `Test` and gives it a fixture `ledger`, an
open and empty ledger:

    class TestOurLedger(LedgerConformance):
        @pytest.fixture
        async def ledger(self, tmp_path): ...

The tests are coroutines: pytest-asyncio, or the like, has to run them.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from roundsman.errors import NotFoundError, RoundsmanError
from roundsman.ledger.interface import (
    Extent,
    Finish,
    FinishAnswer,
    KeptResult,
    LeasedSlot,
    Ledger,
    LedgerUnavailableError,
    Page,
    Pause,
    PauseKind,
    PlannedSlot,
    ProcessChange,
    ProcessQuery,
    Quarantined,
    ResultKey,
    ResumedSlot,
    Resumption,
    RunNow,
    RunQuery,
    SlotQuery,
    Span,
    SyncSummary,
    TagFilter,
)
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.process import Process, ProcessState
from roundsman.wire.run import FailureClass, Outcome, Run, SecretFinding, Slot, SlotState
from roundsman.wire.worker import Worker

NOW = 1_700_000_000
LEASE = 120
EVERYTHING = TagFilter()
EVERY_RUN = RunQuery(limit=1000)


def planned(
    device: str,
    job: str = "backup",
    *,
    tags: Sequence[str] = (),
    plan: str = "hourly",
    due: int | None = NOW,
) -> PlannedSlot:
    """A slot of the configuration, due now."""
    return PlannedSlot(device=device, job=job, tags=tuple(tags), plan=plan, first_due=due)


async def claim(
    ledger: Ledger,
    limit: int = 100,
    *,
    tags: TagFilter = EVERYTHING,
    now: float = NOW,
    ahead: float = 0,
    worker_id: str | None = None,
) -> list[LeasedSlot]:
    """Claim what is due up to `ahead` seconds from now."""
    return await ledger.claim(
        tags,
        limit=limit,
        horizon=now + ahead,
        now=now,
        lease_seconds=LEASE,
        worker_id=worker_id,
    )


def key_of(leased: LeasedSlot) -> LeaseKey:
    """What names its lease."""
    return LeaseKey(device=leased.device, job=leased.job, epoch=leased.epoch)


def run_of(
    leased: LeasedSlot,
    run_id: str = "run-1",
    *,
    digest: str | None = "digest-1",
    outcome: Outcome = Outcome.SUCCEEDED,
    at: float = NOW,
) -> Run:
    """The run that ends a lease."""
    return Run(
        run_id=run_id,
        device=leased.device,
        job=leased.job,
        due=leased.due,
        outcome=outcome,
        recorded_at=at,
        epoch=leased.epoch,
        worker_id=leased.worker_id,
        digest=digest,
    )


def end_of(
    leased: LeasedSlot,
    run: Run | None = None,
    *,
    next_due: int | None = NOW + 3600,
    spans: tuple[Span, ...] = (),
) -> Finish:
    """The end of a lease, with its usual run."""
    return Finish(run=run or run_of(leased), key=key_of(leased), next_due=next_due, spans=spans)


def retry_of(leased: LeasedSlot, at: int, run: Run, *, result: KeptResult | None = None) -> Finish:
    """The end of an attempt that another follows."""
    return Finish(run=run, key=key_of(leased), next_due=None, retry_at=at, result=result)


async def slot_of(ledger: Ledger, device: str, job: str = "backup", now: float = NOW) -> Slot:
    """One slot, as the list has it."""
    page = await ledger.slots(SlotQuery(device=device, job=job), now)
    (slot,) = page.items
    return slot


async def lease_of(ledger: Ledger, device: str, job: str) -> LeasedSlot | None:
    """The open lease of a slot."""
    key = ResultKey(device=device, job=job, due=0, digest="")
    [standing] = await ledger.standings([key])
    return standing.lease


async def repeat_of(ledger: Ledger, device: str, job: str, due: int, digest: str) -> Run | None:
    """The kept run that such a result would repeat."""
    key = ResultKey(device=device, job=job, due=due, digest=digest)
    [standing] = await ledger.standings([key])
    return standing.repeated


async def history(ledger: Ledger, query: RunQuery = EVERY_RUN) -> list[Run]:
    """Every run, newest first."""
    return list((await ledger.runs(query)).items)


def names(leased: Sequence[LeasedSlot]) -> list[str]:
    """The devices, in order."""
    return [slot.device for slot in leased]


def process(process_id: str = "p1", *, worker_id: str = "w1", at: float = NOW) -> Process:
    """A process that was asked for."""
    return Process(
        process_id=process_id,
        worker_id=worker_id,
        command="sh",
        path="count.sh",
        state=ProcessState.REQUESTED,
        requested_at=at,
        requested_by="alice",
    )


def worker(worker_id: str = "w1", name: str = "ams-1") -> Worker:
    """A worker that has just enrolled."""
    return Worker(
        worker_id=worker_id,
        name=name,
        tags=("dmz",),
        version="1.0",
        enrolled_at=NOW,
        seen_at=NOW,
        address="192.0.2.1",
        allowed_tags=("dmz", "lab"),
    )


class _Claims:
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


class _Leases:
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


class _Retries:
    """Several attempts at one due time."""

    async def _retried(self, ledger: Ledger, at: int, *, device: str = "d") -> LeasedSlot:
        """A first attempt, which failed; the next is to follow at an instant."""
        (leased,) = await claim(ledger, 1)
        assert leased.device == device
        run = run_of(leased, outcome=Outcome.RETRIED)
        assert await ledger.finish([retry_of(leased, at, run)], NOW) == [FinishAnswer.KEPT]
        return leased

    async def test_a_due_time_stays_until_its_last_attempt(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 9)], NOW)
        first = await self._retried(ledger, NOW + 60)
        assert (first.attempts, first.ready) == (0, NOW - 9)
        slot = await slot_of(ledger, "d")
        assert (slot.state, slot.due, slot.ready) == (SlotState.WAITING, NOW - 9, NOW + 60)
        assert (slot.epoch, slot.attempts) == (1, 1)
        (second,) = await claim(ledger, now=NOW + 60)
        assert (second.due, second.epoch) == (NOW - 9, 2)
        assert (second.attempts, second.ready) == (1, NOW + 60)
        run = run_of(second, "run-2", outcome=Outcome.FAILED, digest="digest-2")
        assert await ledger.finish([end_of(second, run)], NOW + 61) == [FinishAnswer.KEPT]
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.ready, slot.attempts) == (NOW + 3600, NOW + 3600, 0)
        assert [run.outcome for run in await history(ledger)] == [Outcome.FAILED, Outcome.RETRIED]

    async def test_an_attempt_waits_for_its_time_however_far_a_claim_looks(
        self, ledger: Ledger
    ) -> None:
        """Its due time has passed: whoever is given it runs it at once."""
        await ledger.sync_slots([planned("d"), planned("e", due=NOW + 300)], NOW)
        await self._retried(ledger, NOW + 60)
        assert names(await claim(ledger, now=NOW + 59, ahead=3600)) == ["e"]
        assert names(await claim(ledger, now=NOW + 60)) == ["d"]

    async def test_an_attempt_waits_again_when_the_clock_is_set_back(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        assert await claim(ledger, 0, now=NOW + 60) == []
        assert await claim(ledger, now=NOW + 50, ahead=60) == []
        assert names(await claim(ledger, now=NOW + 60)) == ["d"]

    async def test_attempts_take_their_turn_by_their_own_times(self, ledger: Ledger) -> None:
        """So that what fails again and again is not always first in the queue."""
        await ledger.sync_slots([planned("d", due=NOW - 999)], NOW)
        await self._retried(ledger, NOW + 60)
        new = [planned("x", due=NOW + 59), planned("y", due=NOW + 61)]
        await ledger.sync_slots([planned("d", due=None), *new], NOW)
        assert names(await claim(ledger, now=NOW + 62)) == ["x", "d", "y"]

    async def test_an_attempt_whose_worker_died_is_offered_again(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await claim(ledger, now=NOW + 60)
        (again,) = await claim(ledger, now=NOW + 60 + LEASE)
        assert (again.due, again.epoch, again.attempts) == (NOW, 3, 1)

    async def test_a_repeat_of_a_failed_attempt_changes_nothing(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        first = await self._retried(ledger, NOW + 60)
        again = retry_of(first, NOW + 90, run_of(first, "run-2", outcome=Outcome.RETRIED))
        assert await ledger.finish([again], NOW + 1) == [FinishAnswer.REPEATED]
        assert (await slot_of(ledger, "d")).ready == NOW + 60
        repeated = await repeat_of(ledger, "d", "backup", NOW, "digest-1")
        assert repeated is not None
        assert repeated.run_id == "run-1"

    async def test_run_now_hastens_a_waiting_attempt(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 9)], NOW)
        await self._retried(ledger, NOW + 60)
        assert await ledger.run_now("d", "backup", NOW + 1) is RunNow.QUEUED
        assert await ledger.run_now("d", "backup", NOW + 2) is RunNow.ALREADY_DUE
        (leased,) = await claim(ledger, now=NOW + 3)
        assert (leased.due, leased.attempts, leased.on_demand) == (NOW - 9, 1, False)

    async def test_what_was_asked_for_is_tried_again_beside_the_schedule(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 3600)], NOW)
        await ledger.run_now("d", "backup", NOW)
        await self._retried(ledger, NOW + 60)
        (again,) = await claim(ledger, now=NOW + 60)
        assert (again.due, again.on_demand, again.resume_due) == (NOW, True, NOW + 3600)

    async def test_a_pause_holds_a_waiting_attempt_and_says_so_when_lifted(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        assert await claim(ledger, now=NOW + 90) == []
        held = ResumedSlot(device="d", job="backup", due=NOW, epoch=1, ready=NOW + 60)
        assert await ledger.to_resume(PauseKind.DEVICE, "d") == [held]
        kept = Resumption(device="d", job="backup", epoch=1, next_due=NOW)
        await ledger.resume(PauseKind.DEVICE, "d", [kept], NOW + 30)
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.ready, slot.attempts) == (NOW, NOW + 60, 1)
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        moved = Resumption(device="d", job="backup", epoch=1, next_due=NOW + 3600)
        await ledger.resume(PauseKind.DEVICE, "d", [moved], NOW + 90)
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.ready, slot.attempts) == (NOW + 3600, NOW + 3600, 0)

    async def test_a_sync_leaves_a_waiting_attempt_alone(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.sync_slots([planned("d", due=NOW + 3600, tags=["x"])], NOW)
        assert await claim(ledger, now=NOW + 59) == []
        (leased,) = await claim(ledger, now=NOW + 60)
        assert (leased.due, leased.attempts, leased.tags) == (NOW, 1, ("x",))

    async def test_another_schedule_ends_what_waits_for_an_attempt(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.sync_slots([planned("d", due=NOW + 30, plan="new")], NOW)
        missed, _ = await history(ledger)
        assert (missed.outcome, missed.due) == (Outcome.MISSED, NOW)
        assert "failed attempts before: 1" in (missed.failure or "")
        (leased,) = await claim(ledger, now=NOW + 30)
        assert (leased.due, leased.attempts) == (NOW + 30, 0)

    async def test_what_is_taken_away_between_two_attempts_is_missed(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.sync_slots([], NOW)
        missed, _ = await history(ledger)
        assert (missed.outcome, missed.due) == (Outcome.MISSED, NOW)
        assert "failed attempts before: 1" in (missed.failure or "")
        assert await claim(ledger, now=NOW + 60) == []


class _Breakers:
    """Law 7: a device that is held back, but for one slot at a time."""

    JOBS = ("backup", "check", "probe")
    PROBE = NOW + 300

    def _breaker(self, *, opened: bool = True, probe_at: int = PROBE) -> Breaker:
        return Breaker(
            device="d",
            failures=5,
            failure_class=FailureClass.UNREACHABLE,
            failure="no answer",
            failed_at=NOW,
            opened_at=NOW if opened else None,
            probe_at=probe_at if opened else None,
        )

    def _failed(
        self, leased: LeasedSlot, breaker: Breaker | None, *, next_due: int = NOW + 3600
    ) -> Finish:
        run = run_of(leased, f"run-{leased.job}-{leased.epoch}", outcome=Outcome.FAILED)
        return Finish(run=run, key=key_of(leased), next_due=next_due, breaker=breaker)

    async def _open(self, ledger: Ledger, **changes: Any) -> None:
        """Three jobs are due; the first fails, and the device is held back."""
        slots = [planned("d", job, due=NOW - 3 + i) for i, job in enumerate(self.JOBS)]
        await ledger.sync_slots(slots, NOW)
        (first,) = await claim(ledger, 1)
        assert first.job == "backup"
        failed = self._failed(first, self._breaker(**changes))
        assert await ledger.finish([failed], NOW) == [FinishAnswer.KEPT]

    async def _ready(self, ledger: Ledger) -> dict[str, int | None]:
        slots = (await ledger.slots(SlotQuery(device="d"), NOW)).items
        return {slot.job: slot.ready for slot in slots}

    async def test_failures_are_counted_and_forgotten_when_the_device_answers(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger, opened=False)
        assert await ledger.breaker("d") == self._breaker(opened=False)
        assert await ledger.breaker("e") is None
        assert await ledger.open_breakers() == []
        (second,) = await claim(ledger, 1)
        answered = Finish(
            run=run_of(second), key=key_of(second), next_due=NOW + 3600, answered=True
        )
        await ledger.finish([answered], NOW)
        assert await ledger.breaker("d") is None

    async def test_a_held_device_is_not_offered_but_once_from_its_probe_time_on(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger)
        assert await ledger.open_breakers() == [self._breaker()]
        assert await self._ready(ledger) == {
            "backup": None,
            "check": self.PROBE,
            "probe": None,
        }
        states = {
            slot.job: slot.state for slot in (await ledger.slots(SlotQuery(device="d"), NOW)).items
        }
        assert states["probe"] is SlotState.HELD
        held = await ledger.slots(SlotQuery(state=SlotState.HELD), NOW)
        assert [slot.job for slot in held.items] == ["backup", "probe"]
        assert await claim(ledger, now=self.PROBE - 1, ahead=1999) == []
        (probe,) = await claim(ledger, now=self.PROBE, ahead=1999)
        assert (probe.job, probe.due, probe.was_held) == ("check", NOW - 2, True)
        assert await claim(ledger, now=self.PROBE + 60, ahead=1999) == []
        lease = await lease_of(ledger, "d", "check")
        assert lease is not None
        assert lease.device_held

    async def test_a_probe_that_failed_is_followed_by_another_later(self, ledger: Ledger) -> None:
        await self._open(ledger)
        (probe,) = await claim(ledger, now=self.PROBE)
        wider = self._breaker(probe_at=self.PROBE + 600)
        await ledger.finish([self._failed(probe, wider)], self.PROBE)
        assert await self._ready(ledger) == {
            "backup": None,
            "check": None,
            "probe": self.PROBE + 600,
        }

    async def test_a_probe_that_was_well_sets_all_free(self, ledger: Ledger) -> None:
        await self._open(ledger)
        (probe,) = await claim(ledger, now=self.PROBE)
        well = Finish(run=run_of(probe), key=key_of(probe), next_due=NOW + 3600, answered=True)
        await ledger.finish([well], self.PROBE + 1)
        assert await ledger.open_breakers() == []
        (other,) = await claim(ledger, now=self.PROBE + 2)
        assert (other.job, other.due, other.was_held) == ("probe", NOW - 1, True)
        assert await self._ready(ledger) == {
            "backup": NOW + 3600,
            "check": NOW + 3600,
            "probe": NOW - 1,
        }

    async def test_a_run_that_says_nothing_of_the_device_passes_the_probe_on(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger)
        (probe,) = await claim(ledger, now=self.PROBE)
        await ledger.finish([self._failed(probe, None)], self.PROBE + 1)
        (following,) = await claim(ledger, now=self.PROBE + 2)
        assert following.job == "probe"

    async def test_a_probe_whose_worker_died_is_offered_again(self, ledger: Ledger) -> None:
        await self._open(ledger)
        await claim(ledger, now=self.PROBE)
        (again,) = await claim(ledger, now=self.PROBE + LEASE)
        assert (again.job, again.epoch) == ("check", 2)

    async def test_leases_of_before_run_to_their_end(self, ledger: Ledger) -> None:
        slots = [planned("d", job, due=NOW - 3 + i) for i, job in enumerate(self.JOBS)]
        await ledger.sync_slots(slots, NOW)
        first, second = await claim(ledger, 2)
        await ledger.finish([self._failed(first, self._breaker())], NOW)
        assert await ledger.finish([self._failed(second, None)], NOW + 1) == [FinishAnswer.KEPT]
        assert await self._ready(ledger) == {"backup": None, "check": None, "probe": self.PROBE}

    async def test_it_is_closed_by_hand(self, ledger: Ledger) -> None:
        await self._open(ledger)
        assert await ledger.close_breaker("d", NOW + 9)
        assert not await ledger.close_breaker("d", NOW + 9)
        assert await ledger.breaker("d") is None
        taken = await claim(ledger, now=NOW + 9)
        assert [slot.job for slot in taken] == ["check", "probe"]

    async def test_what_a_person_asks_for_passes(self, ledger: Ledger) -> None:
        await self._open(ledger)
        assert await ledger.run_now("d", "probe", NOW + 1) is RunNow.QUEUED
        assert await ledger.run_now("d", "probe", NOW + 2) is RunNow.ALREADY_DUE
        assert await ledger.run_now("d", "backup", NOW + 3) is RunNow.QUEUED
        taken = await claim(ledger, now=NOW + 4)
        assert [(slot.job, slot.due, slot.on_demand) for slot in taken] == [
            ("probe", NOW - 1, False),
            ("backup", NOW + 3, True),
        ]

    async def test_a_pause_passes_the_probe_on_and_its_end_does_not_set_free(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger)
        await ledger.pause(Pause(kind=PauseKind.JOB, name="check", since=NOW, by="alice"))
        assert await self._ready(ledger) == {"backup": None, "check": None, "probe": self.PROBE}
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        assert set((await self._ready(ledger)).values()) == {None}
        await ledger.resume(PauseKind.JOB, "check", [], NOW)
        await ledger.resume(PauseKind.DEVICE, "d", [], NOW)
        assert await self._ready(ledger) == {"backup": None, "check": self.PROBE, "probe": None}
        moved = [Resumption(device="d", job="check", epoch=0, next_due=NOW + 900)]
        await ledger.pause(Pause(kind=PauseKind.JOB, name="check", since=NOW, by="alice"))
        await ledger.resume(PauseKind.JOB, "check", moved, NOW)
        assert await self._ready(ledger) == {"backup": None, "check": None, "probe": self.PROBE}

    async def test_a_sync_passes_the_probe_on_and_holds_what_is_new(self, ledger: Ledger) -> None:
        await self._open(ledger)
        await ledger.sync_slots([planned("d", job) for job in ("backup", "probe", "new")], NOW)
        assert await self._ready(ledger) == {"backup": None, "probe": self.PROBE, "new": None}
        assert await claim(ledger, now=self.PROBE - 1) == []
        await ledger.sync_slots([planned("e")], NOW)
        assert await ledger.breaker("d") is None


class _Results:
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
        await ledger.sync_slots([planned("d", plan="new", tags=["x"])], NOW + 61)
        assert await ledger.result_of("d", "backup") == known

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


class _RunNow:
    """On demand, beside the schedule."""

    async def test_a_waiting_slot_is_due_now_and_resumes_its_schedule(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 3600)], NOW)
        assert await ledger.run_now("d", "backup", NOW) is RunNow.QUEUED
        assert await ledger.run_now("d", "backup", NOW + 1) is RunNow.ALREADY_DUE
        slot = await slot_of(ledger, "d")
        assert (slot.state, slot.due, slot.on_demand) == (SlotState.DUE, NOW, True)
        (leased,) = await claim(ledger, now=NOW + 2)
        assert (leased.due, leased.on_demand, leased.resume_due) == (NOW, True, NOW + 3600)
        assert await ledger.run_now("d", "backup", NOW + 3) is RunNow.RUNNING
        await ledger.finish([end_of(leased, next_due=leased.resume_due)], NOW + 4)
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.on_demand) == (NOW + 3600, False)

    async def test_a_slot_whose_schedule_ended_can_be_run(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=None)], NOW)
        assert await ledger.run_now("d", "backup", NOW) is RunNow.QUEUED
        (leased,) = await claim(ledger)
        assert (leased.on_demand, leased.resume_due) == (True, None)

    async def test_what_is_due_or_whose_lease_expired_is_due_already(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 5)], NOW)
        assert await ledger.run_now("d", "backup", NOW) is RunNow.ALREADY_DUE
        await claim(ledger)
        assert await ledger.run_now("d", "backup", NOW + LEASE) is RunNow.ALREADY_DUE
        assert (await slot_of(ledger, "d")).on_demand is False

    async def test_a_paused_slot_is_left_alone(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        await ledger.pause(Pause(kind=PauseKind.JOB, name="backup", since=NOW, by="alice"))
        assert await ledger.run_now("d", "backup", NOW) is RunNow.PAUSED
        assert (await slot_of(ledger, "d")).due == NOW + 60

    async def test_an_unknown_slot_is_not_found(self, ledger: Ledger) -> None:
        with pytest.raises(NotFoundError, match="job backup on device d "):
            await ledger.run_now("d", "backup", NOW)


class _Sync:
    """Slots follow the configuration."""

    async def test_the_summary_says_what_was_done(self, ledger: Ledger) -> None:
        slots = [planned("a"), planned("b"), planned("c"), planned("d", tags=["x"])]
        assert await ledger.sync_slots(slots, NOW) == SyncSummary(added=4)
        assert await ledger.sync_slots(slots, NOW) == SyncSummary(kept=4)
        changed = [planned("b"), planned("c", plan="daily"), planned("d", tags=["y"]), planned("e")]
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
        await ledger.sync_slots([planned("d", due=NOW + 10, plan="new")], NOW)
        assert await claim(ledger, now=NOW + 9) == []
        assert len(await claim(ledger, now=NOW + 10)) == 1
        assert await history(ledger) == []

    async def test_a_due_time_that_passed_is_missed_when_its_schedule_changes(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 60), planned("e", due=NOW)], NOW)
        await ledger.sync_slots(
            [planned("d", due=NOW + 10, plan="new"), planned("e", due=NOW, plan="new")], NOW
        )
        (missed,) = await history(ledger)
        assert (missed.device, missed.due, missed.outcome) == ("d", NOW - 60, Outcome.MISSED)
        assert "schedule" in (missed.failure or "")
        assert names(await claim(ledger)) == ["e"]

    async def test_a_leased_slot_gets_its_new_schedule_afterwards(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        (leased,) = await claim(ledger)
        await ledger.sync_slots([planned("d", due=NOW + 5, plan="new", tags=["x"])], NOW)
        assert await claim(ledger, now=NOW + 5) == []
        held = await lease_of(ledger, "d", "backup")
        assert held is not None
        assert (held.due, held.epoch, held.tags) == (NOW, 1, ("x",))
        assert await ledger.sync_slots(
            [planned("d", due=NOW + 6, plan="new", tags=["x"])], NOW
        ) == SyncSummary(kept=1)
        assert await ledger.finish([end_of(leased)], NOW) == [FinishAnswer.KEPT]

    async def test_a_slot_asked_for_on_demand_keeps_its_turn(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        await ledger.run_now("d", "backup", NOW)
        await ledger.sync_slots([planned("d", due=NOW + 5, plan="new")], NOW)
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


class _Pauses:
    """What is held back, and how it goes on."""

    DEVICE = Pause(kind=PauseKind.DEVICE, name="a", since=NOW, by="alice")
    JOB = Pause(kind=PauseKind.JOB, name="backup", since=NOW + 1.5, by="bob")
    SLOTS = (planned("a"), planned("a", "check"), planned("b"), planned("b", "check"))

    async def test_a_pause_is_kept_once(self, ledger: Ledger) -> None:
        assert await ledger.pauses() == []
        assert await ledger.pause(self.JOB)
        assert await ledger.pause(self.DEVICE)
        assert not await ledger.pause(Pause(kind=PauseKind.JOB, name="backup", since=1, by="x"))
        assert await ledger.pauses() == [self.DEVICE, self.JOB]
        assert await ledger.resume(PauseKind.JOB, "backup", [], NOW)
        assert not await ledger.resume(PauseKind.JOB, "backup", [], NOW)
        assert await ledger.pauses() == [self.DEVICE]

    async def test_a_slot_is_free_when_neither_its_device_nor_its_job_is_paused(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(self.SLOTS, NOW)
        await ledger.pause(self.DEVICE)
        await ledger.pause(self.JOB)
        taken = await claim(ledger)
        assert [(slot.device, slot.job) for slot in taken] == [("b", "check")]
        await ledger.resume(PauseKind.DEVICE, "a", [], NOW)
        taken = await claim(ledger)
        assert [(slot.device, slot.job) for slot in taken] == [("a", "check")]
        await ledger.resume(PauseKind.JOB, "backup", [], NOW)
        taken = await claim(ledger)
        assert sorted((slot.device, slot.job) for slot in taken) == [
            ("a", "backup"),
            ("b", "backup"),
        ]

    async def test_a_sync_keeps_pauses_also_for_what_is_new(self, ledger: Ledger) -> None:
        await ledger.pause(self.DEVICE)
        await ledger.sync_slots(self.SLOTS, NOW)
        changed = [planned("a", plan="new", tags=["x"]), planned("a", "third")]
        await ledger.sync_slots(changed, NOW)
        assert await claim(ledger) == []
        assert {slot.state for slot in (await ledger.slots(SlotQuery(), NOW)).items} == {
            SlotState.PAUSED
        }

    async def test_a_lease_runs_to_its_end_and_is_then_held_back(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("a", due=NOW - 1), planned("b")], NOW)
        a, _ = await claim(ledger, worker_id="w1")
        await ledger.pause(self.JOB)
        assert (await slot_of(ledger, "a")).state is SlotState.LEASED
        assert await ledger.renew([key_of(a)], worker_id="w1", now=NOW, until=NOW + 130) == [True]
        assert await ledger.finish([end_of(a, next_due=NOW + 60)], NOW) == [FinishAnswer.KEPT]
        assert await claim(ledger, now=NOW + 1000) == []
        assert await ledger.to_resume(PauseKind.JOB, "backup") == [
            ResumedSlot(device="a", job="backup", due=NOW + 60, ready=NOW + 60, epoch=1)
        ]
        await ledger.resume(PauseKind.JOB, "backup", [], NOW + 1000)
        again = await claim(ledger, now=NOW + 1000)
        assert [(slot.device, slot.epoch) for slot in again] == [("b", 2), ("a", 2)]

    async def test_to_resume_names_what_would_be_free(self, ledger: Ledger) -> None:
        await ledger.sync_slots([*self.SLOTS, planned("a", "ended", due=None)], NOW)
        assert await ledger.to_resume(PauseKind.DEVICE, "a") is None
        await ledger.pause(self.DEVICE)
        await ledger.pause(self.JOB)
        assert await ledger.to_resume(PauseKind.DEVICE, "a") == [
            ResumedSlot(device="a", job="check", due=NOW, ready=NOW, epoch=0),
            ResumedSlot(device="a", job="ended", due=None, epoch=0),
        ]

    async def test_resuming_moves_slots_on_with_what_became_of_their_times(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(self.SLOTS, NOW)
        await ledger.pause(self.DEVICE)
        spans = (
            Span(
                outcome=Outcome.MISSED, first_due=NOW, last_due=NOW + 50, count=2, reason="paused"
            ),
        )
        moved = [
            Resumption(device="a", job="backup", epoch=0, next_due=NOW + 100, spans=spans),
            Resumption(device="a", job="check", epoch=7, next_due=NOW + 100, spans=spans),
            Resumption(device="b", job="check", epoch=0, next_due=NOW + 100, spans=spans),
            Resumption(device="c", job="check", epoch=0, next_due=NOW + 100, spans=spans),
        ]
        assert await ledger.resume(PauseKind.DEVICE, "a", moved, NOW + 60)
        (missed,) = await history(ledger)
        assert (missed.device, missed.job, missed.count) == ("a", "backup", 2)
        assert (missed.failure, missed.last_due) == ("paused", NOW + 50)
        dues = {
            (slot.device, slot.job): slot.due
            for slot in (await ledger.slots(SlotQuery(), NOW)).items
        }
        assert dues == {
            ("a", "backup"): NOW + 100,
            ("a", "check"): NOW,
            ("b", "backup"): NOW,
            ("b", "check"): NOW,
        }

    async def test_resuming_one_leaves_what_another_holds(self, ledger: Ledger) -> None:
        await ledger.sync_slots(self.SLOTS, NOW)
        await ledger.pause(self.DEVICE)
        await ledger.pause(self.JOB)
        moved = [Resumption(device="a", job="backup", epoch=0, next_due=NOW + 100)]
        await ledger.resume(PauseKind.DEVICE, "a", moved, NOW)
        slot = await slot_of(ledger, "a")
        assert (slot.state, slot.due) == (SlotState.PAUSED, NOW)


class _Lists:
    """Pages and filters."""

    async def test_the_state_of_a_slot_says_where_it_stands(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [
                planned("leased", due=NOW - 9, tags=["x", "y"]),
                planned("due"),
                planned("waiting", due=NOW + 1),
                planned("ended", due=None),
                planned("paused", due=None),
            ],
            NOW,
        )
        await claim(ledger, 1, worker_id="w1")
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="paused", since=NOW, by="alice"))
        slots = (await ledger.slots(SlotQuery(), NOW)).items
        assert {slot.device: slot.state.value for slot in slots} == {
            slot.device: slot.device for slot in slots
        }
        assert await slot_of(ledger, "leased") == Slot(
            device="leased",
            job="backup",
            tags=("x", "y"),
            due=NOW - 9,
            ready=NOW - 9,
            state=SlotState.LEASED,
            epoch=1,
            worker_id="w1",
            lease_expires_at=NOW + LEASE,
        )
        expired = await slot_of(ledger, "leased", now=NOW + LEASE)
        assert (expired.state, expired.worker_id) == (SlotState.DUE, None)
        assert expired.lease_expires_at is None

    async def test_slots_are_filtered(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [
                planned(device, job, tags=tags, due=due)
                for device, tags, due in (
                    ("a", ["x"], NOW - 1),
                    ("b", ["x", "y"], NOW + 50),
                    ("c", [], None),
                )
                for job in ("backup", "check")
            ],
            NOW,
        )
        await claim(ledger, 1, worker_id="w1")

        async def found(query: SlotQuery) -> list[str]:
            page = await ledger.slots(query, NOW)
            return [f"{slot.device} {slot.job}" for slot in page.items]

        assert await found(SlotQuery(device="a")) == ["a backup", "a check"]
        assert await found(SlotQuery(job="check")) == ["a check", "b check", "c check"]
        assert await found(SlotQuery(tag="x", job="check")) == ["a check", "b check"]
        assert await found(SlotQuery(tag="y")) == ["b backup", "b check"]
        assert await found(SlotQuery(tag="nowhere")) == []
        assert await found(SlotQuery(worker_id="w1")) == ["a backup"]
        assert await found(SlotQuery(worker_id="w2")) == []
        assert await found(SlotQuery(state=SlotState.LEASED)) == ["a backup"]
        assert await found(SlotQuery(state=SlotState.DUE)) == ["a check"]
        assert await found(SlotQuery(state=SlotState.WAITING)) == ["b backup", "b check"]
        assert await found(SlotQuery(state=SlotState.ENDED)) == ["c backup", "c check"]
        assert await found(SlotQuery(state=SlotState.PAUSED)) == []
        await ledger.pause(Pause(kind=PauseKind.JOB, name="check", since=NOW, by="alice"))
        assert await found(SlotQuery(state=SlotState.PAUSED)) == ["a check", "b check", "c check"]
        assert await found(SlotQuery(state=SlotState.PAUSED, device="b", tag="y")) == ["b check"]

    async def test_slots_come_in_pages(self, ledger: Ledger) -> None:
        wanted = [(f"d{i}", job) for i in range(5) for job in ("backup", "check")]
        await ledger.sync_slots([planned(device, job) for device, job in wanted], NOW)
        for limit in (1, 3, 5, 10, 11):
            seen: list[tuple[str, str]] = []
            after: str | None = None
            while True:
                page = await ledger.slots(SlotQuery(after=after, limit=limit), NOW)
                assert len(page.items) <= limit
                seen += [(slot.device, slot.job) for slot in page.items]
                after = page.next
                if after is None:
                    break
            assert seen == wanted

    async def test_runs_are_filtered_newest_first(self, ledger: Ledger) -> None:
        runs = [
            Run(
                run_id=f"r{i}",
                device=f"d{i % 2}",
                job=f"j{i % 3}",
                due=NOW,
                outcome=Outcome.FAILED if i % 4 == 0 else Outcome.STALE,
                recorded_at=NOW + i,
                worker_id=f"w{i % 5}",
            )
            for i in range(10)
        ]
        await ledger.sync_slots([planned(run.device, run.job) for run in runs[:6]], NOW)
        for run in runs:
            await self._record(ledger, run)

        async def found(query: RunQuery) -> list[int]:
            return [int(run.run_id[1:]) for run in (await ledger.runs(query)).items]

        assert await found(RunQuery()) == list(range(9, -1, -1))
        assert await found(RunQuery(device="d1")) == [9, 7, 5, 3, 1]
        assert await found(RunQuery(job="j0")) == [9, 6, 3, 0]
        assert await found(RunQuery(device="d0", job="j0")) == [6, 0]
        assert await found(RunQuery(outcome=Outcome.FAILED)) == [8, 4, 0]
        assert await found(RunQuery(worker_id="w2")) == [7, 2]
        assert await found(RunQuery(since=NOW + 3, until=NOW + 6)) == [5, 4, 3]
        assert await found(RunQuery(outcome=Outcome.FAILED, since=NOW + 1, job="j2")) == [8]

    async def _record(self, ledger: Ledger, run: Run) -> None:
        """Write a run as it comes about: refused, or at the end of a lease."""
        if run.outcome is Outcome.STALE:
            await ledger.record_stale(run)
            return
        await ledger.run_now(run.device, run.job, NOW)
        for leased in await claim(ledger):
            mine = (leased.device, leased.job) == (run.device, run.job)
            ending = Finish(run=run if mine else None, key=key_of(leased), next_due=NOW)
            await ledger.finish([ending], NOW)

    async def test_runs_come_in_pages_also_those_of_one_instant(self, ledger: Ledger) -> None:
        for i in range(9):
            run = Run(
                run_id=f"r{i}",
                device="d",
                job="j",
                due=NOW,
                outcome=Outcome.STALE,
                recorded_at=NOW + 0.125 * (i // 4),
            )
            await ledger.record_stale(run)
        for limit in (1, 2, 4, 9, 10):
            seen: list[str] = []
            after: str | None = None
            while True:
                page = await ledger.runs(RunQuery(device="d", after=after, limit=limit))
                seen += [run.run_id for run in page.items]
                after = page.next
                if after is None:
                    break
            assert seen == [f"r{i}" for i in range(8, -1, -1)]

    @pytest.mark.parametrize(
        "after", ["x", "%%%", "bm90IGpzb24", "é", "WzEsMl0=x", "e30", "WyJhIl0", "WzEsLTFd" * 9]
    )
    async def test_a_malformed_cursor_is_named(self, ledger: Ledger, after: str) -> None:
        with pytest.raises(RoundsmanError) as raised:
            await ledger.slots(SlotQuery(after=after), NOW)
        assert raised.value.code == "page.cursor"
        with pytest.raises(RoundsmanError) as raised:
            await ledger.runs(RunQuery(after=after))
        assert raised.value.code == "page.cursor"
        with pytest.raises(RoundsmanError) as raised:
            await ledger.processes(ProcessQuery(after=after))
        assert raised.value.code == "page.cursor"


class _Workers:
    """Workers and their tokens."""

    async def test_a_worker_is_kept_with_the_digest_of_its_token(self, ledger: Ledger) -> None:
        await ledger.add_worker(worker("w1", "b"), "digest-1")
        await ledger.add_worker(worker("w2", "a"), "digest-2")
        assert await ledger.workers() == [worker("w2", "a"), worker("w1", "b")]
        assert await ledger.worker("w1") == worker("w1", "b")
        assert await ledger.worker("w3") is None
        assert await ledger.worker_tokens() == {"digest-1": "w1", "digest-2": "w2"}

    async def test_touching_notes_what_it_said_and_leaves_the_rest(self, ledger: Ledger) -> None:
        await ledger.add_worker(worker(), "digest-1")
        assert await ledger.touch_worker("w1", now=NOW + 5)
        assert await ledger.touch_worker("w1", now=NOW + 9.5, version="1.1", tags=["a", "b"])
        known = await ledger.worker("w1")
        assert known is not None
        assert (known.seen_at, known.version, known.tags) == (NOW + 9.5, "1.1", ("a", "b"))
        assert (known.address, known.enrolled_at) == ("192.0.2.1", NOW)
        assert await ledger.touch_worker("w1", now=NOW + 10, address="192.0.2.2", tags=[])
        known = await ledger.worker("w1")
        assert known is not None
        assert (known.address, known.tags) == ("192.0.2.2", ())
        assert known.allowed_tags == ("dmz", "lab")  # not for the worker to say
        assert not await ledger.touch_worker("w2", now=NOW)

    async def test_a_removed_worker_is_forgotten_with_its_token(self, ledger: Ledger) -> None:
        await ledger.add_worker(worker(), "digest-1")
        await ledger.add_process(process())
        assert await ledger.remove_worker("w1")
        assert not await ledger.remove_worker("w1")
        assert await ledger.workers() == []
        assert await ledger.worker_tokens() == {}
        assert await ledger.process("p1") == process()


class _Processes:
    """States that go one way."""

    async def test_a_process_goes_from_requested_to_its_end(self, ledger: Ledger) -> None:
        await ledger.add_process(process())
        assert await ledger.process("p1") == process()
        assert await ledger.process("p2") is None
        started = self._change(ProcessState.RUNNING, NOW + 1)
        assert await ledger.change_process(started)
        running = await ledger.process("p1")
        assert running is not None
        assert (running.state, running.started_at, running.done) == (
            ProcessState.RUNNING,
            NOW + 1,
            False,
        )
        ended = self._change(ProcessState.ENDED, NOW + 2, exit_status=3)
        assert await ledger.change_process(ended)
        done = await ledger.process("p1")
        assert done is not None
        assert (done.started_at, done.ended_at) == (NOW + 1, NOW + 2)
        assert (done.done, done.error_text) == (True, "exit status 3")

    def _change(
        self,
        state: ProcessState,
        at: float,
        *,
        exit_status: int | None = None,
        error: str | None = None,
    ) -> ProcessChange:
        return ProcessChange(
            process_id="p1",
            worker_id="w1",
            state=state,
            at=at,
            exit_status=exit_status,
            error=error,
        )

    @pytest.mark.parametrize(
        "final", [ProcessState.ENDED, ProcessState.REFUSED, ProcessState.UNKNOWN]
    )
    async def test_a_final_state_stays_whatever_comes_later(
        self, ledger: Ledger, final: ProcessState
    ) -> None:
        """Fault 16: a query right after a stop that succeeded said that it was still running."""
        await ledger.add_process(process())
        assert await ledger.change_process(self._change(final, NOW + 2, error="first"))
        kept = await ledger.process("p1")
        assert kept is not None
        assert (kept.state, kept.error) == (final, "first")
        for later in ProcessState:
            assert await ledger.change_process(self._change(later, NOW + 3, error="later"))
        assert await ledger.process("p1") == kept

    async def test_a_state_told_twice_is_written_once(self, ledger: Ledger) -> None:
        await ledger.add_process(process())
        assert await ledger.change_process(self._change(ProcessState.RUNNING, NOW + 1))
        assert await ledger.change_process(self._change(ProcessState.RUNNING, NOW + 9))
        assert await ledger.change_process(self._change(ProcessState.REQUESTED, NOW + 9))
        kept = await ledger.process("p1")
        assert kept is not None
        assert (kept.state, kept.started_at) == (ProcessState.RUNNING, NOW + 1)

    async def test_only_its_own_worker_changes_a_process(self, ledger: Ledger) -> None:
        await ledger.add_process(process(worker_id="w2"))
        assert not await ledger.change_process(self._change(ProcessState.RUNNING, NOW + 1))
        assert await ledger.process("p1") == process(worker_id="w2")

    async def test_processes_are_listed_newest_first_in_pages(self, ledger: Ledger) -> None:
        for i in range(6):
            await ledger.add_process(process(f"p{i}", worker_id=f"w{i % 2}", at=NOW + i // 2))
        change = ProcessChange(
            process_id="p3", worker_id="w1", state=ProcessState.RUNNING, at=NOW + 9
        )
        await ledger.change_process(change)

        def ids(page: Page[Process]) -> list[str]:
            return [item.process_id for item in page.items]

        first = await ledger.processes(ProcessQuery(limit=4))
        assert ids(first) == ["p5", "p4", "p3", "p2"]
        rest = await ledger.processes(ProcessQuery(limit=4, after=first.next))
        assert (ids(rest), rest.next) == (["p1", "p0"], None)
        assert ids(await ledger.processes(ProcessQuery(worker_id="w0"))) == ["p4", "p2", "p0"]
        running = ProcessQuery(state=ProcessState.RUNNING)
        assert ids(await ledger.processes(running)) == ["p3"]
        both = ProcessQuery(state=ProcessState.REQUESTED, worker_id="w1")
        assert ids(await ledger.processes(both)) == ["p5", "p1"]


class _Life:
    """Opening and closing."""

    async def test_it_says_whether_it_serves(self, ledger: Ledger) -> None:
        await ledger.check()
        await ledger.close()
        await ledger.close()
        with pytest.raises(LedgerUnavailableError):
            await ledger.check()
        with pytest.raises(LedgerUnavailableError):
            await claim(ledger)
        with pytest.raises(LedgerUnavailableError):
            await ledger.pauses()

    async def test_one_that_was_closed_can_be_opened_again(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await ledger.close()
        await ledger.open()
        assert names(await claim(ledger)) == ["d"]


class LedgerConformance(
    _Life,
    _Claims,
    _Leases,
    _Retries,
    _Breakers,
    _Results,
    _RunNow,
    _Sync,
    _Pauses,
    _Lists,
    _Workers,
    _Processes,
):
    """Every law and every method; a driver is finished when it passes."""

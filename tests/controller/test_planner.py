"""What comes after each run: planned due times = the sum of outcomes, whatever the policy."""

import math
import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundsman.controller import planner
from roundsman.controller.planner import Planner, planned_slots
from roundsman.ledger.interface import LeasedSlot, ResumedSlot, Span
from roundsman.schedules.cron import Cron
from roundsman.schedules.duration import Duration
from roundsman.schedules.fixed import Fixed
from roundsman.schedules.interface import Schedule, due_times
from roundsman.schedules.iso_8601 import Iso8601
from roundsman.wire.job import MissedPolicy
from roundsman.wire.run import Outcome
from tests.controller.serving import configuration, device, job, slot

START = 1_700_000_000

SCHEDULES: list[Schedule] = [
    Duration("1 second"),
    Duration("7 seconds"),
    Duration("1 hour"),
    Cron("*/5 * * * *"),
    Cron("30 2 * * *", "Europe/Berlin"),
    Cron("*/20 0,30 8-9 * * 1-5"),
    Iso8601("R40/2023-11-14T22:13:20Z/PT90S"),
    Fixed(START + 500),
]


def leased(due: int, claimed_at: float, **changes: object) -> LeasedSlot:
    plain = LeasedSlot(
        device="edge1",
        job="show",
        tags=(),
        due=due,
        epoch=1,
        expires_at=claimed_at + 120,
        covered_until=max(due, int(claimed_at)),
    )
    return msgspec.structs.replace(plain, **changes)


def times_of(schedule: Schedule, span: Span) -> list[int]:
    times = due_times(schedule, span.first_due - 1, span.last_due, cap=span.count + 1)
    assert len(times) == span.count
    assert (times[0], times[-1]) == (span.first_due, span.last_due)
    return times


@given(
    schedule=st.sampled_from(SCHEDULES),
    policy=st.sampled_from(MissedPolicy),
    cap=st.integers(1, 5),
    grace=st.integers(0, 300),
    waits=st.lists(st.floats(0, 700), min_size=1, max_size=8),
)
def test_every_planned_time_has_exactly_one_outcome(
    schedule: Schedule, policy: MissedPolicy, cap: int, grace: int, waits: list[float]
) -> None:
    """However late the worker comes, and however long it takes."""
    task = job("show", missed=policy, missed_cap=cap, missed_grace_seconds=grace)
    outcomes: Counter[int] = Counter()
    now = float(START)
    due = schedule.next_after(START)
    for wait in waits:
        if due is None:
            break
        now += wait
        if due > now:
            continue
        lease = leased(due, now)
        if planner.is_too_late(lease, task, now):
            following = planner.after_too_late(lease, schedule, task, now)
            assert following.due is None or following.due >= now - grace
        else:
            outcomes[due] += 1
            now += wait / 10
            following = planner.after_run(lease, schedule, task, now)
        for span in following.spans:
            outcomes.update(times_of(schedule, span))
        assert following.due is None or following.due > due
        due = following.due
    end = due - 1 if due is not None else int(now) + 4000
    assert outcomes == Counter(due_times(schedule, START, end, cap=100_000))


def test_latest_runs_once_for_all_of_them() -> None:
    schedule = Duration("100 seconds")
    following = planner.after_run(leased(100, 450.5), schedule, job("show"), 470)
    assert following.due == 500
    [span] = following.spans
    assert (span.outcome, span.first_due, span.last_due, span.count) == (
        Outcome.COALESCED,
        200,
        400,
        3,
    )


def test_a_time_that_falls_due_during_the_run_comes_next() -> None:
    following = planner.after_run(leased(100, 110), Duration("100 seconds"), job("show"), 350)
    assert following == planner.Next(200)


def test_all_runs_the_newest_and_says_which_were_too_many() -> None:
    task = job("show", missed=MissedPolicy.ALL, missed_cap=2)
    following = planner.after_run(leased(100, 950), Duration("100 seconds"), task, 950)
    assert following.due == 800
    [span] = following.spans
    assert (span.outcome, span.first_due, span.last_due, span.count) == (
        Outcome.MISSED,
        200,
        700,
        6,
    )
    assert span.reason == "more than 2 due times were overdue"


def test_none_goes_on_to_the_first_time_that_is_not_too_late() -> None:
    task = job("show", missed=MissedPolicy.NONE, missed_grace_seconds=60)
    assert not planner.is_too_late(leased(100, 160), task, 160)
    assert planner.is_too_late(leased(100, 161), task, 161)
    assert not planner.is_too_late(leased(100, 900, on_demand=True), task, 900)
    following = planner.after_too_late(leased(100, 455), Duration("100 seconds"), task, 455)
    assert following.due == 400
    assert [(s.first_due, s.last_due, s.count) for s in following.spans] == [(100, 300, 3)]


@pytest.mark.parametrize("policy", MissedPolicy)
def test_on_demand_stands_beside_the_schedule(policy: MissedPolicy) -> None:
    schedule = Duration("100 seconds")
    lease = leased(150, 150, on_demand=True, resume_due=200)
    assert planner.after_run(lease, schedule, job("show", missed=policy), 450) == (200, ())


def test_on_demand_after_the_schedule_changed() -> None:
    lease = leased(150, 150, on_demand=True, resume_due=200)
    following = planner.after_run(lease, Duration("70 seconds"), job("show"), 180)
    assert following == (210, ())
    late = planner.after_run(lease, Duration("70 seconds"), job("show"), 205)
    assert late.due == 210
    assert [(span.outcome, span.first_due) for span in late.spans] == [(Outcome.MISSED, 200)]
    ended = msgspec.structs.replace(lease, resume_due=None)
    assert planner.after_run(ended, Fixed(10), job("show"), 205) == (None, ())


def test_a_changed_schedule_counts_from_the_claim() -> None:
    lease = leased(100, 450)
    assert planner.after_run(lease, Duration("70 seconds"), job("show"), 460) == (490, ())


def test_a_very_long_outage_is_bounded_and_says_so(rng: random.Random) -> None:
    """Fault 1: never unbounded work."""
    asked = 0

    class Counting:
        def next_after(self, after: float) -> int:
            nonlocal asked
            asked += 1
            return math.floor(after) + 1

    claimed = START + rng.randrange(10**8, 10**9)
    for policy in MissedPolicy:
        task = job("show", missed=policy)
        lease = leased(START, claimed)
        if planner.is_too_late(lease, task, claimed):
            following = planner.after_too_late(lease, Counting(), task, claimed)
        else:
            following = planner.after_run(lease, Counting(), task, claimed)
        [span] = following.spans
        assert following.due == span.last_due + 1
        assert span.count == planner.COUNT_CAP
        assert "at least 10,000" in (span.reason or "")
    assert asked < 3 * 12_000


def test_slots_that_share_a_schedule_share_the_count() -> None:
    asked = 0

    class Counting:
        def next_after(self, after: float) -> int:
            nonlocal asked
            asked += 1
            return math.floor(after) + 1

    schedule = Counting()
    for _ in range(100):
        planner.after_run(leased(START, START + 5000), schedule, job("show"), START + 5000)
    assert asked < 10_000


def test_a_pause_misses_what_fell_due_in_it() -> None:
    show = job("show")
    known = Planner(configuration([slot(device("edge1"), show)]))
    held = [
        ResumedSlot(device="edge1", job="show", due=500, epoch=3),
        ResumedSlot(device="edge1", job="show", due=200, epoch=3),
        ResumedSlot(device="edge9", job="show", due=200, epoch=3),
    ]
    first, second = known.resume(held, 450)
    assert (first.next_due, first.spans) == (500, ())
    assert (second.next_due, second.epoch) == (500, 3)
    [span] = second.spans
    assert (span.outcome, span.first_due, span.last_due, span.count) == (
        Outcome.MISSED,
        200,
        400,
        3,
    )
    assert span.reason == "paused"


def test_planned_slots_ask_each_schedule_once() -> None:
    asked: list[float] = []

    class Listening:
        def next_after(self, after: float) -> int:
            asked.append(after)
            return 900

    shared = Listening()
    slots = [slot(device(f"edge{n}", "b", "a"), job("show"), shared) for n in range(50)]
    planned = planned_slots(configuration(slots), 450.5)
    assert asked == [450.5]
    assert len(planned) == 50
    assert (planned[0].device, planned[0].job, planned[0].tags) == ("edge0", "show", ("a", "b"))
    assert (planned[0].first_due, planned[0].plan) == (900, "100 seconds")


def test_devices_and_jobs_are_encoded_once_until_a_reload() -> None:
    first = slot(device("edge1"), job("show"))
    known = Planner(configuration([first]))
    assert known.encoded(first.device) is known.encoded(first.device)
    assert b'"pass":"hunter2"' in bytes(known.encoded(first.device))
    other = slot(device("edge2"), job("show"))
    known.replace(configuration([other]))
    assert b"edge2" in bytes(known.encoded(other.device))

"""What comes after each run: planned due times = the sum of outcomes, whatever the policy."""

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundsman.controller import planner
from roundsman.controller.planner import Held, Planner, planned_slots
from roundsman.ledger.interface import LeasedSlot, ResumedSlot, Span
from roundsman.schedules.cron import Cron
from roundsman.schedules.duration import Duration
from roundsman.schedules.fixed import Fixed
from roundsman.schedules.interface import Schedule, due_times
from roundsman.schedules.iso_8601 import Iso8601
from roundsman.schedules.plans import plan_of
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


@pytest.mark.parametrize("policy", MissedPolicy)
def test_after_a_replaced_plan_the_new_one_counts_from_its_beginning(policy: MissedPolicy) -> None:
    """What was due before is accounted for; what the new plan missed meanwhile is as ever."""
    lease = leased(100, 150, planned_since=450.5)
    task = job("show", missed=policy, missed_cap=1)
    assert planner.after_run(lease, Duration("70 seconds"), task, 460) == (490, ())
    again = msgspec.structs.replace(lease, covered_until=600)
    following = planner.after_run(again, Duration("70 seconds"), task, 600)
    passed = [(span.outcome, span.first_due, span.count) for span in following.spans]
    assert (following.due, passed) == {
        MissedPolicy.LATEST: (630, [(Outcome.COALESCED, 490, 2)]),
        MissedPolicy.ALL: (560, [(Outcome.MISSED, 490, 1)]),
        MissedPolicy.NONE: (490, []),
    }[policy]


def test_a_time_of_a_replaced_plan_is_missed_beside_those_of_the_new_one() -> None:
    lease = leased(100, 1000, planned_since=450.5)
    task = job("show", missed=MissedPolicy.NONE, missed_grace_seconds=60)
    following = planner.after_too_late(lease, Duration("70 seconds"), task, 700)
    assert following.due == 700
    assert [(s.first_due, s.last_due, s.count) for s in following.spans] == [
        (100, 100, 1),
        (490, 630, 3),
    ]
    early = planner.after_too_late(lease, Duration("70 seconds"), task, 460)
    assert (early.due, [span.count for span in early.spans]) == (490, [1])


def test_a_very_long_outage_is_counted_without_walking(rng: random.Random) -> None:
    """Fault 1: never unbounded work."""
    claimed = START + rng.randrange(10**7, 10**8)
    for policy in MissedPolicy:
        for schedule in (Duration("1 second"), Cron("* * * * *", "Europe/Berlin")):
            task = job("show", missed=policy)
            due = schedule.next_after(START)
            assert due is not None
            lease = leased(due, claimed)
            if planner.is_too_late(lease, task, claimed):
                following = planner.after_too_late(lease, schedule, task, claimed)
            else:
                following = planner.after_run(lease, schedule, task, claimed)
            [span] = following.spans
            assert following.due == schedule.next_after(span.last_due)
            if isinstance(schedule, Duration):
                assert span.count == span.last_due - span.first_due + 1


def test_a_pause_misses_what_fell_due_in_it() -> None:
    show = job("show")
    plan = plan_of(show.schedule)
    known = Planner(configuration([slot(device("edge1"), show)]))
    held = [
        ResumedSlot(device=name, job="show", due=due, epoch=3, plan=plan, planned_since=0)
        for name, due in (("edge1", 500), ("edge1", 200), ("edge9", 200))
    ]
    first, second = known.resume(held, 450, Held(since=150, before=[]))
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

        def count(self, after: float, until: float) -> int:
            raise NotImplementedError

    shared = Listening()
    slots = [slot(device(f"edge{n}", "b", "a"), job("show"), shared) for n in range(50)]
    planned = planned_slots(configuration(slots), 450.5)
    assert asked == [450.5]
    assert len(planned) == 50
    assert (planned[0].device, planned[0].job, planned[0].tags) == ("edge0", "show", ("a", "b"))
    assert (planned[0].first_due, planned[0].plan) == (900, plan_of(job("show").schedule))


def test_devices_and_jobs_are_encoded_once_until_a_reload() -> None:
    first = slot(device("edge1"), job("show"))
    known = Planner(configuration([first]))
    assert known.encoded(first.device) is known.encoded(first.device)
    assert b'"pass":"hunter2"' in bytes(known.encoded(first.device))
    other = slot(device("edge2"), job("show"))
    known.replace(configuration([other]))
    assert b"edge2" in bytes(known.encoded(other.device))

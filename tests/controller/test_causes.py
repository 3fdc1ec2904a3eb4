from hypothesis import given
from hypothesis import strategies as st

from roundsman.controller.causes import Facts, cause_at, explained
from roundsman.ledger.interface import LostLease, Presence, Span, TagFilter
from roundsman.schedules.duration import Duration
from roundsman.schedules.interface import due_times
from roundsman.wire.run import Cause, Outcome

MINUTELY = Duration("60 seconds")
AMS = TagFilter(any_of=frozenset(["ams"]))


def up(since: float, until: float) -> Presence:
    return Presence(session="s", asked=None, since=since, until=until)


def asked(since: float, until: float, tags: TagFilter = AMS) -> Presence:
    return Presence(session="s", asked=tags, since=since, until=until)


def span(first: int, last: int) -> Span:
    count = MINUTELY.count(first - 1, last)
    return Span(outcome=Outcome.COALESCED, first_due=first, last_due=last, count=count, reason="so")


def test_a_span_is_told_in_parts_where_causes_differ() -> None:
    """Up until 300, down until 630, then without a worker until 900, who is then busy."""
    facts = Facts(("ams",), [up(0, 300.5), up(630.2, 2000), asked(0, 250), asked(901.5, 2000)])
    parts = list(explained(span(60, 1200), MINUTELY, facts))
    assert [(part.cause, part.first_due, part.last_due, part.count) for part in parts] == [
        (Cause.BUSY, 60, 240, 4),
        (Cause.NO_WORKER, 300, 300, 1),
        (Cause.CONTROLLER_DOWN, 360, 600, 5),
        (Cause.NO_WORKER, 660, 900, 5),
        (Cause.BUSY, 960, 1200, 5),
    ]
    assert parts[2].reason == "controller down; so"


def test_a_worker_for_other_tags_is_none() -> None:
    there = [up(0, 100), asked(0, 100, TagFilter(within=frozenset(["fra"])))]
    assert cause_at(50, Facts(("ams",), there)) is Cause.NO_WORKER
    assert cause_at(50, Facts(("ams", "fra"), there)) is Cause.BUSY
    assert cause_at(50, Facts((), [up(0, 100), asked(0, 100, TagFilter())])) is Cause.BUSY


def test_what_holds_a_slot_back_goes_before_who_was_there() -> None:
    lost = LostLease(since=10, until=60)
    facts = Facts((), [up(0, 100)], lost=lost, paused_since=80)
    causes = [cause_at(at, facts) for at in (5, 10, 60, 61, 80, 200)]
    assert causes == [
        Cause.NO_WORKER,
        Cause.WORKER_LOST,
        Cause.WORKER_LOST,
        Cause.NO_WORKER,
        Cause.PAUSED,
        Cause.PAUSED,
    ]
    assert cause_at(10, facts._replace(was_held=True)) is Cause.BREAKER_OPEN


instants = st.floats(0, 3000)
presences = st.lists(
    st.builds(
        lambda since, length, worker: (
            asked(since, since + length) if worker else up(since, since + length)
        ),
        instants,
        st.floats(0, 900),
        st.booleans(),
    ),
    max_size=8,
)


@given(
    presences,
    st.none()
    | st.builds(
        lambda since, length: LostLease(since=since, until=since + length), instants, instants
    ),
    st.booleans(),
    st.none() | instants,
    st.tuples(st.integers(0, 20), st.integers(0, 30)),
)
def test_each_time_is_in_one_part_with_its_own_cause(
    there: list[Presence],
    lost: LostLease | None,
    was_held: bool,  # made by hypothesis
    paused_since: float | None,
    place: tuple[int, int],
) -> None:
    first, more = place
    facts = Facts(("ams",), there, lost, was_held, paused_since)
    whole = span(first * 60, (first + more) * 60)
    told = [
        (due, part.cause)
        for part in explained(whole, MINUTELY, facts)
        for due in due_times(MINUTELY, part.first_due - 1, part.last_due, cap=part.count)
    ]
    times = due_times(MINUTELY, whole.first_due - 1, whole.last_due, cap=whole.count)
    assert told == [(due, cause_at(due, facts)) for due in times]

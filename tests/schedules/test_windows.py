import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundsman.schedules.windows import ALWAYS, Stretch, Weekly, Window, Windows
from tests.schedules.laws import at

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks change by half an hour
CHANGES = [
    at("2026-03-29T01:00Z"),  # Berlin, forward
    at("2026-10-25T01:00Z"),  # Berlin, back
    at("2026-03-08T07:00Z"),  # New York, forward
    at("2026-11-01T06:00Z"),  # New York, back
    at("2026-04-04T15:00Z"),  # Lord Howe, back
]
MINUTES = st.integers(0, 24 * 60).map(lambda minutes: timedelta(minutes=minutes))


@st.composite
def weekly(draw: st.DrawFn) -> Weekly:
    begin, end = draw(MINUTES), draw(MINUTES)
    return Weekly(
        days=frozenset(draw(st.sets(st.integers(0, 6), min_size=1))),
        begin=begin,
        end=end if begin < end else end + timedelta(days=1),
    )


@st.composite
def window(draw: st.DrawFn) -> Window:
    begins = draw(st.lists(st.sampled_from(CHANGES).map(lambda at: at - 7000), max_size=1))
    return Window(
        name=draw(st.sampled_from("abcd")),
        closes=draw(st.booleans()),
        zone=draw(st.sampled_from([UTC, BERLIN, NEW_YORK, LORD_HOWE])),
        weekly=tuple(draw(st.lists(weekly(), max_size=2))),
        once=tuple(Stretch(begin, begin + draw(st.integers(1, 20_000))) for begin in begins),
    )


MOMENTS = st.tuples(st.sampled_from(CHANGES), st.integers(-200_000, 200_000)).map(sum)


def is_in(window: Window, instant: int) -> bool:
    """By the clock on the wall, which shows each time of the day once on most days."""
    if any(begin <= instant < end for begin, end in window.once):
        return True
    wall = datetime.fromtimestamp(instant, window.zone).replace(tzinfo=None, fold=0)
    for number in (0, 1):
        day = wall.replace(hour=0, minute=0, second=0) - timedelta(days=number)
        for each in window.weekly:
            if day.weekday() in each.days and day + each.begin <= wall < day + each.end:
                return True
    return False


@given(window=window(), instant=MOMENTS)
def test_a_window_is_what_the_wall_clock_says(window: Window, instant: int) -> None:
    """But near a change of clocks, where it shows times twice, or never."""
    offsets = {
        datetime.fromtimestamp(instant + hours * 3600, window.zone).utcoffset()
        for hours in range(-49, 50)
    }
    if len(offsets) == 1:
        assert (window.end_of(instant) is not None) == is_in(window, instant)


@given(windows=st.lists(window(), max_size=3), instant=MOMENTS, part=st.floats(0, 1))
def test_it_opens_when_it_says_and_not_before(
    windows: list[Window], instant: int, part: float
) -> None:
    gate = Windows(windows)
    opens_at = gate.opens_at(instant)
    if opens_at is None:
        assert gate.closed_by(instant)
        return
    assert opens_at >= instant
    assert not gate.closed_by(opens_at)
    assert (opens_at == instant) == (not gate.closed_by(instant))
    if opens_at > instant:
        assert gate.closed_by(opens_at - 1)
        assert gate.closed_by(instant + int(part * (opens_at - 1 - instant)))


@given(windows=st.lists(window(), max_size=3), first=MOMENTS, part=st.floats(0, 1))
def test_between_two_changes_nothing_changes(
    windows: list[Window], first: int, part: float
) -> None:
    gate, last = Windows(windows), first + 200_000
    changes = [first, *gate.changes(first, last), last + 1]
    assert changes == sorted(changes)
    for begin, end in itertools.pairwise(changes):
        inside = begin + int(part * (end - 1 - begin))
        assert bool(gate.closed_by(inside)) == bool(gate.closed_by(begin))


@given(window=window(), instant=MOMENTS)
def test_one_that_closes_is_the_opposite_of_one_that_allows(window: Window, instant: int) -> None:
    closes, allows = (
        Windows([window._replace(closes=True)]),
        Windows([window._replace(closes=False)]),
    )
    assert bool(closes.closed_by(instant)) != bool(allows.closed_by(instant))


@pytest.mark.parametrize(
    ("start", "end", "begin", "until"),
    [
        # 29 March: 02:00 to 03:00 is never shown. What begins in it begins when it is jumped over.
        ("01:00", "04:00", "2026-03-29T00:00Z", "2026-03-29T02:00Z"),
        ("02:30", "04:00", "2026-03-29T01:00Z", "2026-03-29T02:00Z"),
        ("01:00", "02:30", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
        ("02:10", "02:50", None, None),
    ],
)
def test_when_clocks_go_forward(start: str, end: str, begin: str | None, until: str | None) -> None:
    sundays = night(start, end)
    if begin is None or until is None:
        assert sundays.begins_after(at("2026-03-28T12:00Z")) == at("2026-04-05T00:10Z")
        return
    assert sundays.begins_after(at("2026-03-28T12:00Z")) == at(begin)
    assert sundays.end_of(at(begin)) == at(until)


@pytest.mark.parametrize(
    ("start", "end", "begin", "until"),
    [
        # 25 October: 02:00 to 03:00 is shown twice; the first counts.
        ("01:00", "04:00", "2026-10-24T23:00Z", "2026-10-25T03:00Z"),
        ("02:30", "04:00", "2026-10-25T00:30Z", "2026-10-25T03:00Z"),
        ("01:00", "02:30", "2026-10-24T23:00Z", "2026-10-25T00:30Z"),
    ],
)
def test_when_clocks_go_back(start: str, end: str, begin: str, until: str) -> None:
    sundays = night(start, end)
    assert sundays.begins_after(at("2026-10-24T12:00Z")) == at(begin)
    assert sundays.end_of(at(begin)) == at(until)


def night(start: str, end: str) -> Window:
    times = []
    for text in (start, end):
        hours, minutes = text.split(":")
        times.append(timedelta(hours=int(hours), minutes=int(minutes)))
    weekly = Weekly(frozenset({6}), *times)
    return Window(name="night", closes=True, zone=BERLIN, weekly=(weekly,))


def test_without_windows_it_is_open() -> None:
    assert (ALWAYS.closed_by(5), ALWAYS.opens_at(4.5), ALWAYS.changes(0, 10**10)) == ((), 5, [])


def test_what_never_opens_says_so() -> None:
    whole_week = Weekly(frozenset(range(7)), timedelta(0), timedelta(days=1))
    never = Windows([Window(name="never", closes=True, zone=UTC, weekly=(whole_week,))])
    assert never.opens_at(0) is None
    over = Window(name="over", closes=False, zone=UTC, once=(Stretch(10, 20),))
    assert Windows([over]).opens_at(20) is None
    assert Windows([over]).opens_at(0) == 10


def test_several_that_allow_are_one_or_another_and_what_closes_prevails() -> None:
    first = Window(name="first", closes=False, zone=UTC, once=(Stretch(10, 20),))
    second = Window(name="second", closes=False, zone=UTC, once=(Stretch(20, 30),))
    freeze = Window(name="freeze", closes=True, zone=UTC, once=(Stretch(15, 25),))
    gate = Windows([first, second, freeze])
    assert [gate.closed_by(at) for at in (5, 12, 17, 27, 30)] == [
        ("first", "second"),
        (),
        ("freeze",),
        (),
        ("first", "second"),
    ]
    assert [gate.opens_at(at) for at in (5, 12, 17, 30)] == [10, 12, 25, None]
    assert gate.changes(0, 100) == [10, 15, 25, 30]

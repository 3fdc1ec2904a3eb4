import calendar
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundsman.schedules.bounds import FIRST, LAST
from roundsman.schedules.build import build
from roundsman.schedules.duration import Duration
from roundsman.schedules.fixed import Fixed
from roundsman.schedules.interface import Schedule, ScheduleError, due_times
from roundsman.schedules.iso_8601 import Iso8601
from roundsman.wire import job
from tests.schedules.laws import at, holds_its_law

instants = st.one_of(
    st.floats(allow_nan=False), st.integers(-(10**13), 10**13), st.floats(-1e9, 4e9)
)
moments = st.lists(instants, min_size=1, max_size=5)
EDGES = [float("-inf"), FIRST - 0.5, FIRST, -1.5, 0.0, LAST - 1.0, LAST, LAST + 1.0, float("inf")]
near = st.integers(at("1999-01-01T00:00Z"), at("2050-01-01T00:00Z"))


@given(st.integers(1, 40_000), st.sampled_from(["second", "minutes", "hour", "days"]), moments)
@example(1, "second", EDGES)
@example(36_525, "days", EDGES)
def test_duration_law(number: int, unit: str, when: list[float]) -> None:
    holds_its_law(Duration(f"{min(number, 36_525)} {unit}"), when)


def test_duration_is_aligned_to_the_epoch() -> None:
    schedule = Duration("15 minutes")
    assert schedule.next_after(at("2026-01-01T00:00Z")) == at("2026-01-01T00:15Z")
    assert schedule.next_after(at("2026-01-01T00:14Z") + 59.9) == at("2026-01-01T00:15Z")
    assert schedule.next_after(-1) == 0
    assert Duration("90 seconds").next_after(0) == 90
    assert Duration("2 days").next_after(86400) == 172800


@pytest.mark.parametrize(
    "text", ["", "15", "minutes", "1.5 hours", "-1 hour", "0 days", "1 week", "1 HOUR",
             "36526 days", "999999999999 days", "15minutes", "1 hour 5 minutes", "\u0661 hour"],
)  # fmt: skip
def test_refuses_durations(text: str) -> None:
    with pytest.raises(ScheduleError, match=f'duration "{text}": expected'):
        Duration(text)


@given(st.integers(0, LAST), moments)
@example(0, EDGES)
@example(LAST, EDGES)
def test_fixed_law(instant: int, when: list[float]) -> None:
    schedule = Fixed(instant)
    holds_its_law(schedule, when)
    assert schedule.next_after(instant - 0.5) == instant
    assert schedule.next_after(instant) is None


@pytest.mark.parametrize("instant", [-1, LAST + 1, 10**30])
def test_refuses_instants(instant: int) -> None:
    with pytest.raises(ScheduleError, match="expected Unix seconds from 0 to 253402300799"):
        Fixed(instant)


durations = st.sampled_from(
    ["PT1S", "PT7M", "PT1H", "P1D", "P1W", "P1M", "P1Y", "P1M1D", "P2Y3M4DT5H6M7S", "P13M"]
)
starts = st.sampled_from(
    ["2000-01-31T00:00:00Z", "2024-02-29T12:00:00+05:30", "1970-01-01T00:00:00Z",
     "2026-12-31T23:59:59-11:00", "0002-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
)  # fmt: skip
repeats = st.sampled_from(["R", "R1", "R3", "R100", "R999999999999"])


@given(repeats, starts, durations, moments, st.booleans())
@example("R", "2000-01-31T00:00:00Z", "P1M", EDGES, False)
@example("R", "2000-01-31T00:00:00Z", "PT1S", EDGES, False)
@example("R", "2000-01-31T00:00:00Z", "P1M", EDGES, True)
@example("R", "2000-01-31T00:00:00Z", "PT1S", EDGES, True)
def test_iso_8601_law(
    repeat: str, start: str, duration: str, when: list[float], backwards: bool
) -> None:
    parts = (repeat, duration, start) if backwards else (repeat, start, duration)
    holds_its_law(Iso8601("/".join(parts)), when)


def plus(start: datetime, months: int, seconds: int) -> int:
    """Calendar arithmetic, written anew."""
    count = start.year * 12 + start.month - 1 + months
    year, month = count // 12, count % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int((start.replace(year=year, month=month, day=day)).timestamp()) + seconds


@given(
    anchor=near,
    months=st.integers(0, 30),
    seconds=st.integers(0, 4_000_000),
    count=st.one_of(st.none(), st.integers(1, 60)),
    offset=st.integers(-500, 500),
    backwards=st.booleans(),
)
def test_iso_8601_agrees_with_counting(
    *, anchor: int, months: int, seconds: int, count: int | None, offset: int, backwards: bool
) -> None:
    seconds = seconds or (0 if months else 1000)
    start = datetime.fromtimestamp(anchor, UTC)
    text = f"P{months}MT{seconds}S"
    parts = (text, start.isoformat()) if backwards else (start.isoformat(), text)
    schedule = Iso8601("/".join((f"R{count or ''}", *parts)))
    reach = count or 60
    numbers = range(-reach, 0) if backwards else range(reach)
    all_times = [plus(start, number * months, number * seconds) for number in numbers]
    after = all_times[reach // 2] + offset
    later = [time for time in all_times if time > after]
    found = due_times(schedule, after, all_times[-1], cap=1000)
    assert found == later or (count is None and found[-len(later) :] == later)
    if count is not None:
        assert due_times(schedule, -1e12, 1e12, cap=1000) == all_times


def test_months_clamp_without_drift() -> None:
    schedule = Iso8601("R5/2026-01-31T08:00:00Z/P1M")
    assert due_times(schedule, 0, 1e11, cap=10) == [
        at(f"2026-{day}T08:00:00Z") for day in ("01-31", "02-28", "03-31", "04-30", "05-31")
    ]


def test_start_and_end_give_the_length() -> None:
    schedule = Iso8601("R3/2026-01-01T00:00:00Z/2026-01-01T06:00:00+02:00")
    assert due_times(schedule, 0, 1e11, cap=10) == [
        at(f"2026-01-01T{hour:02}:00:00Z") for hour in (0, 4, 8)
    ]


def test_duration_and_end_count_backwards() -> None:
    schedule = Iso8601("R2/PT1H/2026-01-01T00:00:00Z")
    assert due_times(schedule, 0, 1e11, cap=10) == [
        at("2025-12-31T22:00Z"), at("2025-12-31T23:00Z")
    ]  # fmt: skip


def test_without_an_offset_it_is_utc() -> None:
    assert Iso8601("R1/2026-01-01T00:00/PT1H").next_after(0) == at("2026-01-01T00:00Z")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-01-01T00:00:00Z/PT1H", "expected R\\[n\\]/start/duration"),
        ("R/2026-01-01T00:00:00Z", "expected R\\[n\\]/start/duration"),
        ("R-1/2026-01-01T00:00:00Z/PT1H", "expected R\\[n\\]/start/duration"),
        ("R0/2026-01-01T00:00:00Z/PT1H", "repeated 0 times, it would never be due"),
        ("R/2026-01-01T00:00:00Z/PT0S", "has to be longer than nothing"),
        ("R/2026-01-01T00:00:00Z/2026-01-01T00:00:00Z", "has to be longer than nothing"),
        ("R/2026-01-01T00:00:00Z/2025-01-01T00:00:00Z", "has to be longer than nothing"),
        ("R/2026-02-30T00:00:00Z/PT1H", '"2026-02-30T00:00:00Z" is no date and time'),
        ("R/2026-01-01T00:00:00.5Z/PT1H", "is no date and time in whole seconds"),
        ("R/PT1H/PT1H", '"PT1H" is no date and time'),
        ("R/2026-01-01T00:00:00Z/P", '"P" is no duration'),
        ("R/2026-01-01T00:00:00Z/P1DT", '"P1DT" is no duration'),
        ("R/2026-01-01T00:00:00Z/PT1.5H", '"PT1.5H" is no duration in whole numbers'),
    ],
)
def test_refuses_intervals(text: str, reason: str) -> None:
    with pytest.raises(ScheduleError, match=reason):
        Iso8601(text)


@given(st.text(st.sampled_from("R/PTYMWDHS0123456789-:Z+.,"), max_size=40))
def test_any_text_is_an_interval_or_refused(text: str) -> None:
    try:
        schedule = Iso8601(text)
    except ScheduleError:
        return
    holds_its_law(schedule, EDGES)


def test_exactly_one_kind() -> None:
    with pytest.raises(ScheduleError, match=r"expected exactly one of .* got none"):
        build(job.Schedule())
    with pytest.raises(ScheduleError, match="got cron and fixed"):
        build(job.Schedule(cron="* * * * *", fixed=1))
    with pytest.raises(ScheduleError, match="timezone goes with cron only, got it with duration"):
        build(job.Schedule(duration="1 hour", timezone="UTC"))
    assert build(job.Schedule(cron="* * * * *", timezone="Asia/Tokyo")).next_after(0) == 60
    assert build(job.Schedule(duration="1 hour")).next_after(0) == 3600
    assert build(job.Schedule(iso_8601="R/1970-01-01T00:00Z/PT1M")).next_after(0) == 60
    assert build(job.Schedule(fixed=5)).next_after(0) == 5


def test_far_jumps_are_direct() -> None:
    """A second's interval that began in the year 2 is as quick to ask as any: no step by step."""
    schedule = Iso8601("R/0002-01-01T00:00:00Z/PT1S")
    start = at("2026-01-01T00:00Z")
    assert due_times(schedule, start, start + 1000, cap=1000)[-1] == start + 1000


@pytest.mark.parametrize(
    "schedule",
    [
        Duration("7 seconds"),
        Fixed(1_700_000_300),
        Iso8601("R40/2023-11-14T22:13:20Z/PT90S"),
        Iso8601("R/2023-10-31T22:13:20Z/P1M"),
        Iso8601("R9/P1D/2023-11-20T00:00:00Z"),
    ],
)
@given(
    before=st.floats(-1_000_000, 1_000_000),
    seconds=st.floats(-10, 10_000) | st.floats(-10, 10_000_000),
)
def test_counting_is_walking(schedule: Schedule, before: float, seconds: float) -> None:
    start = 1_700_000_000 + before
    end = (
        min(start + seconds, start + 30_000) if isinstance(schedule, Duration) else start + seconds
    )
    assert schedule.count(start, end) == len(due_times(schedule, start, end, cap=1_000_000))
    assert schedule.count(start, float("inf")) >= schedule.count(start, end)

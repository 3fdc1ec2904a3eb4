import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from roundsman.schedules.bounds import LAST
from roundsman.schedules.cron import Cron
from roundsman.schedules.interface import ScheduleError, due_times
from tests.schedules.laws import at, brute_force, holds_its_law

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Cairo",  # changes at midnight
    "Pacific/Apia",  # skipped 30 December 2011
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Africa/Casablanca",  # back for Ramadan
    "Europe/Dublin",  # negative summer time
    "Antarctica/Troll",  # two hours of it
]
# Around changes of clocks in those zones, and one ordinary day.
MOMENTS = [
    "2026-03-29T01:00Z",
    "2026-10-25T01:00Z",
    "2026-03-08T07:00Z",
    "2026-11-01T06:00Z",
    "2026-04-04T15:00Z",
    "2026-10-03T15:30Z",
    "2026-04-23T22:00Z",
    "2026-10-29T21:00Z",
    "2011-12-30T10:00Z",
    "2018-11-04T03:00Z",
    "2018-02-18T02:00Z",
    "2026-02-15T02:00Z",
    "2026-03-22T02:00Z",
    "2026-06-15T12:00Z",
]

instants = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(10**13), 10**13).map(float),
    st.integers(0, 2**32),
    st.builds(
        lambda moment, hours: at(moment) + hours * 3600,
        st.sampled_from(MOMENTS),
        st.floats(-30, 30),
    ),
)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranged = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    stepped = st.tuples(st.one_of(st.just("*"), ranged), st.integers(1, high)).map(
        lambda pair: f"{pair[0]}/{pair[1]}"
    )
    item = st.one_of(number.map(str), ranged, stepped)
    return st.one_of(
        st.just("*"),
        item,
        st.lists(item, min_size=1, max_size=3).map(",".join),
    )


five_fields = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(
    " ".join
)
expressions = st.one_of(
    five_fields, st.tuples(field(0, 59), five_fields).map(" ".join), st.just("* * * * * *")
)


def built(expression: str, zone: str) -> Cron:
    try:
        return Cron(expression, zone)
    except ScheduleError as error:
        assume("no such day" not in error.text and "is not allowed" not in error.text)
        raise


@given(expressions, st.sampled_from(ZONES), st.lists(instants, min_size=1, max_size=4))
@example("* * * * *", "Pacific/Apia", [float("-inf"), -1e300, LAST, LAST - 1, 1e300, float("inf")])
@example("* * * * *", "America/New_York", [LAST - 86400.0, LAST - 60, LAST - 18000])
def test_law(expression: str, zone: str, moments: list[float]) -> None:
    holds_its_law(built(expression, zone), moments)


def test_not_a_number_has_no_time_after_it() -> None:
    assert Cron("* * * * *").next_after(float("nan")) is None


def allowed(text: str, low: int, high: int) -> set[int]:
    """What a field means, written anew."""
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def matcher(
    minute: str, hour: str, day: str, month: str, weekday: str
) -> Callable[[datetime], bool]:
    def matches(wall: datetime) -> bool:
        by_day = wall.day in allowed(day, 1, 31)
        by_weekday = wall.isoweekday() % 7 in {n % 7 for n in allowed(weekday, 0, 7)}
        both = day.startswith("*") or weekday.startswith("*")
        return (
            wall.minute in allowed(minute, 0, 59)
            and wall.hour in allowed(hour, 0, 23)
            and wall.month in allowed(month, 1, 12)
            and ((by_day and by_weekday) if both else (by_day or by_weekday))
        )

    return matches


coarse = st.tuples(
    st.sampled_from(["0", "30", "0,15,45", "*/15", "0-45/15"]),
    st.sampled_from(["*", "0", "1,2,3", "0-4", "*/2", "23", "2"]),
    st.sampled_from(["*", "1-7", "*/2", "29,30,31", "25"]),
    st.sampled_from(["*", "3,10", "1-12/2", "2-4"]),
    st.sampled_from(["*", "0", "1-5", "7", "*/3"]),
)


@given(coarse, st.sampled_from(ZONES), st.sampled_from(MOMENTS), st.integers(-100, 100))
def test_agrees_with_a_clock_that_is_watched(
    fields: tuple[str, str, str, str, str], zone: str, moment: str, quarters: int
) -> None:
    step = 900  # every matching minute and every offset of these zones, in these years
    start = at(moment) + quarters * step
    end = start + 30 * 3600
    expected = brute_force(matcher(*fields), ZoneInfo(zone), start, end, step=step)
    assert due_times(Cron(" ".join(fields), zone), start, end, cap=1000) == expected


@given(
    st.sampled_from(sorted(zoneinfo.available_timezones())),
    st.integers(-(2**31), 2**32),
    st.integers(-7200, 7200),
)
def test_law_in_every_zone_near_its_changes(zone: str, somewhere: int, offset: int) -> None:
    change = next_change(zone, somewhere)
    schedule = Cron("*/7 * * * * *", zone)
    moments = [change + offset + n for n in range(-60, 60, 3)]
    holds_its_law(schedule, [float(moment) for moment in moments])


@given(
    expressions,
    st.sampled_from(ZONES),
    st.sampled_from(MOMENTS),
    st.integers(-100_000, 100_000),
    st.integers(-10, 200_000),
)
@example("30 * * * *", "Pacific/Apia", "2011-12-30T10:00Z", -90_000, 190_000)
def test_counting_is_walking(
    expression: str, zone: str, moment: str, before: int, seconds: int
) -> None:
    schedule = built(expression, zone)
    start = at(moment) + before
    walked = due_times(schedule, start, start + seconds, cap=1_000_000)
    assert schedule.count(start, start + seconds) == len(walked)


def next_change(zone: str, start: int) -> int:
    """The first change of a zone's offset after an instant, within four years; else the instant."""
    info = ZoneInfo(zone)

    def offset(instant: int) -> timedelta | None:
        return datetime.fromtimestamp(instant, info).utcoffset()

    for month in range(start, start + 4 * 31_557_600, 30 * 86400):
        low, high = month, month + 30 * 86400
        if offset(low) != offset(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            return high
    return start


def runs(expression: str, zone: str, start: str, end: str) -> list[str]:
    return [
        datetime.fromtimestamp(due, UTC).strftime("%d %H:%M:%S")
        for due in due_times(Cron(expression, zone), at(start) - 1, at(end), cap=10_000)
    ]


def test_times_in_a_gap_run_once_after_it() -> None:
    """Berlin, 29 March 2026: the clock goes from 02:00 to 03:00 at 01:00 UTC."""
    day = ("Europe/Berlin", "2026-03-29T00:00Z", "2026-03-29T02:00Z")
    assert runs("30 2 * * *", *day) == ["29 01:00:00"]
    assert runs("5,10,15 2 * * *", *day) == ["29 01:00:00"]
    assert runs("30 1,2,3 * * *", *day) == ["29 00:30:00", "29 01:00:00", "29 01:30:00"]
    assert runs("0 2,3 * * *", *day) == ["29 01:00:00"]
    assert runs("*/20 * * * *", *day) == [
        "29 00:00:00", "29 00:20:00", "29 00:40:00", "29 01:00:00", "29 01:20:00", "29 01:40:00",
        "29 02:00:00",
    ]  # fmt: skip


def test_repeated_times_run_the_first_time_only() -> None:
    """Berlin, 25 October 2026: the clock goes from 03:00 back to 02:00 at 01:00 UTC."""
    day = ("Europe/Berlin", "2026-10-24T23:00Z", "2026-10-25T02:30Z")
    assert runs("30 2 * * *", *day) == ["25 00:30:00"]
    assert runs("30 * * * *", *day) == ["24 23:30:00", "25 00:30:00", "25 02:30:00"]
    assert len(runs("* * * * * *", *day)) == 3600 + 3600 + 1800 + 1


def test_half_an_hour_of_summer_time() -> None:
    """Lord Howe, 4 October 2026: from 02:00 to 02:30; 5 April: from 02:00 back to 01:30."""
    zone = "Australia/Lord_Howe"
    assert runs("15 2 * * *", zone, "2026-10-03T12:00Z", "2026-10-04T12:00Z") == ["03 15:30:00"]
    assert runs("45 1 * * *", zone, "2026-04-04T12:00Z", "2026-04-05T12:00Z") == ["04 14:45:00"]


def test_a_day_that_never_was() -> None:
    """Apia skipped 30 December 2011: its times run at midnight, when the 31st begins."""
    day = ("Pacific/Apia", "2011-12-29T10:00Z", "2011-12-31T09:00Z")
    assert runs("0 12 * * *", *day) == ["29 22:00:00", "30 10:00:00", "30 22:00:00"]
    assert runs("0 12 30 12 *", *day) == ["30 10:00:00"]


def test_days_of_month_and_week() -> None:
    january = ("UTC", "2026-01-01T00:00Z", "2026-01-31T00:00Z")
    assert runs("0 0 13 * FRI", *january) == [
        f"{day:02} 00:00:00" for day in (2, 9, 13, 16, 23, 30)
    ]
    assert runs("0 0 * JAN 1", *january) == [f"{day:02} 00:00:00" for day in (5, 12, 19, 26)]
    assert runs("0 0 12 * *", *january) == ["12 00:00:00"]
    assert runs("0 0 L * *", *january) == ["31 00:00:00"]
    assert runs("0 0 * * mon#2", *january) == ["12 00:00:00"]


def test_a_step_in_a_range_of_one() -> None:
    for once in ("0 2-2/9 1 1 *", "0 02-2/9 1 JAN-jan/3 *"):
        assert runs(once, "UTC", "2026-01-01T00:00Z", "2026-01-02T00:00Z") == ["01 02:00:00"]


def test_seconds_come_first() -> None:
    assert runs("5,50 59 23 * * *", "UTC", "2026-01-01T00:00Z", "2026-01-02T00:00Z") == [
        "01 23:59:05",
        "01 23:59:50",
    ]


def test_leap_days_across_a_century_without_one() -> None:
    schedule = Cron("0 0 29 2 *")
    assert schedule.next_after(at("2096-02-29T00:00Z")) == at("2104-02-29T00:00Z")


def test_the_rarest_day() -> None:
    """A 29 February that is a Monday: forty years apart where a century has no leap day."""
    schedule = Cron("0 0 */28 2 MON#5")
    assert schedule.next_after(at("2044-03-01T00:00Z")) == at("2072-02-29T00:00Z")
    assert schedule.next_after(at("2072-02-29T00:00Z")) == at("2112-02-29T00:00Z")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("5-1 * * * *", 'cron "5-1 * * * *": minute "5-1" is not allowed'),
        ("* 25 * * *", 'cron "* 25 * * *": hour "25" is not allowed'),
        ("60 * * * * *", 'cron "60 * * * * *": second "60" is not allowed'),
        ("* * * 13 *", 'cron "* * * 13 *": month "13" is not allowed'),
        ("* * * * 8", 'cron "* * * * 8": day of week "8" is not allowed'),
        ("* * 0 * *", 'cron "* * 0 * *": day of month "0" is not allowed'),
        ("*/0 * * * *", 'cron "*/0 * * * *": minute "*/0" is not allowed'),
        (
            "*/90 * * * *",
            (
                'cron "*/90 * * * *": minute "*/90" has a step beyond 60, '
                "which would not do what it says"
            ),
        ),
        ("0 0 30 2 *", 'cron "0 0 30 2 *": day of month "30" is not allowed'),
        (
            "0 0 */30 2 MON#5",
            'cron "0 0 */30 2 MON#5": there is no such day, it would never be due',
        ),
        (
            "* * * *",
            (
                'cron "* * * *": expected five fields (minute, hour, day of month, month, '
                "day of week) or six with the second first, got 4"
            ),
        ),
    ],
)
def test_refuses(expression: str, text: str) -> None:
    """Fault 1: `5-1 * * * *` passes the original's check and panics later."""
    with pytest.raises(ScheduleError) as caught:
        Cron(expression)
    assert caught.value.text == text


@pytest.mark.parametrize(
    "zone", ["Europe/Bonn", "", "../etc/passwd", "/etc/passwd", "a\0b", "MEZ-"]
)
def test_refuses_time_zones_that_do_not_exist(zone: str) -> None:
    with pytest.raises(ScheduleError, match="expected a name of the IANA database"):
        Cron("* * * * *", zone)


@given(st.text(st.sampled_from("0123456789*/-,#L W?@SUNMOJAN.\t²"), max_size=30))
@example("9" * 5000 + " * * * *")
@example("* * * * " + "1," * 400 + "1")
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        schedule = Cron(text)
    except ScheduleError:
        return
    holds_its_law(schedule, [0.0, 1.8e9, float(LAST)])


def test_an_answer_does_not_depend_on_what_was_asked_before() -> None:
    asked = [90_000.0, 100.5, 0.0, 3_599.0, 3_600.0, 86_399.0, 50_000.0, 3_600.5]
    schedule = Cron("0 * * * *")
    assert [schedule.next_after(each) for each in asked] == [
        Cron("0 * * * *").next_after(each) for each in asked
    ]

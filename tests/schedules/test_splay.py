from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundsman.schedules.bounds import LAST
from roundsman.schedules.build import build, splay_of
from roundsman.schedules.cron import Cron
from roundsman.schedules.duration import Duration
from roundsman.schedules.fixed import Fixed
from roundsman.schedules.interface import Schedule, ScheduleError, due_times
from roundsman.schedules.iso_8601 import Iso8601
from roundsman.schedules.splay import Splay, Splayed, share_of
from roundsman.wire import job
from tests.schedules.laws import at, holds_its_law

BASES: list[Schedule] = [
    Cron("0 2 * * *", "Europe/Berlin"),
    Cron("*/7 1,2,3 * * *", "Europe/Berlin"),
    Cron("0,1 * * * *"),  # a minute, then an hour without
    Duration("10 minutes"),
    Duration("1 second"),
    Iso8601("R5/2026-03-28T22:00:00Z/PT25M"),
    Iso8601("R/2026-01-31T00:00:00Z/P1M"),
    Fixed(at("2026-03-29T00:30Z")),
]
WINDOWS = st.sampled_from([1, 7, 600, 1800, 3600, 86_400])
NEAR = at("2026-03-29T01:00Z")  # the clocks of Berlin jump


@given(
    base=st.sampled_from(BASES),
    window=WINDOWS,
    part=st.floats(0, 1, exclude_max=True),
    moments=st.lists(
        st.floats(NEAR - 200_000, NEAR + 200_000) | st.floats(allow_nan=False), min_size=1
    ),
)
def test_law(base: Schedule, window: int, part: float, moments: list[float]) -> None:
    schedule = Splayed(Splay(base, window), int(part * window))
    holds_its_law(schedule, moments)
    assert schedule.next_after(LAST) is None


@given(
    base=st.sampled_from(BASES),
    window=WINDOWS,
    part=st.floats(0, 1, exclude_max=True),
    start=st.integers(NEAR - 90_000, NEAR + 90_000),
    seconds=st.integers(0, 9_000),
)
def test_each_time_is_due_once_after_it_and_before_the_next(
    base: Schedule, window: int, part: float, start: int, seconds: int
) -> None:
    schedule = Splayed(Splay(base, window), int(part * window))
    end = start + seconds
    spread = due_times(schedule, start, end, cap=100_000)
    assert schedule.count(start, end) == len(spread)
    bases = due_times(base, start - window - 1, end, cap=200_000)
    expected = []
    for due in bases:
        following = base.next_after(due)
        upto = len(spread) if following is None else bisect_left(spread, following)
        moved = spread[bisect_left(spread, due) : upto]
        assert len(moved) <= 1
        expected += moved
        assert all(time - due < window for time in moved)
    assert expected == spread


def test_a_share_is_the_devices_own_for_ever() -> None:
    """Whoever changes this moves every due time of every splayed fleet."""
    assert share_of("edge1", "backup", 1800) == 1099
    assert share_of("edge1", "check", 1800) != share_of("edge1", "backup", 1800)


def test_a_fleet_is_no_herd() -> None:
    base = Cron("0 2 * * *")
    splay = Splay(base, 1800)
    midnight = at("2026-06-01T00:00Z")
    times = Counter(
        Splayed(splay, share_of(f"edge{n}", "backup", 1800)).next_after(midnight) or 0
        for n in range(20_000)
    )
    assert max(times.values()) < 40  # 11 on average
    assert min(times) - midnight - 7200 < 5
    assert 1795 < max(times) - midnight - 7200 < 1800


@pytest.mark.parametrize("text", ["30", "0 minutes", "half an hour"])
def test_a_window_is_a_duration(text: str) -> None:
    configured = job.Schedule(cron="0 2 * * *", splay=text)
    with pytest.raises(ScheduleError, match=f'splay "{text}": expected'):
        splay_of(configured, build(configured))

"""Repeating intervals of ISO 8601: `R[n]/start/duration`, `R[n]/start/end`, `R[n]/duration/end`.

An interval repeats back to back, n times or, without n, for ever; it is due at the start of each.
Given with its end, the last of them ends there. Months and years are counted by the calendar from
the instant given, so that the 31st becomes the last day of a shorter month and the 31st again.
"""

import re
from bisect import bisect_right
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Final

from roundsman.schedules.bounds import FIRST, LAST, whole_seconds
from roundsman.schedules.interface import ScheduleError

_DURATION: Final = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,9})Y)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})W)?(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})S)?)?"
)
_SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENDLESS: Final = LAST - FIRST + 1  # repetitions: one each second for all time


class Iso8601:
    """Due at the start of each repetition of an interval.

    >>> Iso8601("R/2026-01-01T00:00:00Z/PT1H").next_after(1767225600)
    1767229200
    """

    __slots__ = ("_anchor", "_count", "_first", "_months", "_seconds")

    def __init__(self, text: str) -> None:
        """Read a repeating interval. Raises `ScheduleError`."""
        parts = text.strip().split("/")
        repeat = re.fullmatch(r"R([0-9]{0,12})", parts[0])
        if repeat is None or len(parts) != 3:
            raise ScheduleError(
                f'iso_8601 "{text}": expected R[n]/start/duration, R[n]/start/end or '
                "R[n]/duration/end, such as R/2026-01-01T00:00:00Z/PT1H"
            )
        self._count = min(int(repeat[1]), _ENDLESS) if repeat[1] else _ENDLESS
        self._months = 0
        # The repetition that has the number 0 counts from the anchor; those before are negative.
        self._first = 0
        if parts[1].startswith("P"):
            self._months, self._seconds = _duration(parts[1], text)
            self._anchor = _instant(parts[2], text)
            self._first = -self._count
        else:
            self._anchor = _instant(parts[1], text)
            if parts[2].startswith("P"):
                self._months, self._seconds = _duration(parts[2], text)
            else:
                self._seconds = (_instant(parts[2], text) - self._anchor) // _SECOND
        if self._months <= 0 and self._seconds <= 0:
            raise ScheduleError(f'iso_8601 "{text}": the interval has to be longer than nothing')
        if self._count == 0:
            raise ScheduleError(f'iso_8601 "{text}": repeated 0 times, it would never be due')

    def next_after(self, after: float) -> int | None:
        """The start of the next repetition."""
        start = whole_seconds(after)
        if start is None:
            return None
        position = self._begun_by(start)
        if position == self._count:
            return None
        due = self._start_of(self._first + position)
        return due if due <= LAST else None

    def count(self, after: float, until: float) -> int:
        """The repetitions that start between."""
        start, end = whole_seconds(after), whole_seconds(min(until, LAST - 1))
        if start is None or end is None:
            return 0
        return max(0, self._begun_by(end) - self._begun_by(start))

    def _begun_by(self, instant: int) -> int:
        """How many repetitions start at that instant or before."""
        numbers = range(self._first, self._first + self._count)
        return bisect_right(numbers, instant, key=self._start_of)

    def _start_of(self, number: int) -> int:
        """When the repetition of that number starts; outside all time where it would be."""
        year, month = divmod(
            self._anchor.year * 12 + self._anchor.month - 1 + number * self._months, 12
        )
        if not 1 <= year <= 9999:
            return FIRST - 1 if year < 1 else LAST + 1
        day = min(self._anchor.day, monthrange(year, month + 1)[1])
        moved = self._anchor.replace(year=year, month=month + 1, day=day)
        return (moved - _EPOCH) // _SECOND + number * self._seconds


def _instant(part: str, text: str) -> datetime:
    """A date and time; in UTC where it does not say."""
    try:
        instant = datetime.fromisoformat(part)
        instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        if FIRST <= (instant - _EPOCH) // _SECOND <= LAST and not instant.microsecond:
            return instant
    except (ValueError, OverflowError):
        pass
    raise ScheduleError(
        f'iso_8601 "{text}": "{part}" is no date and time in whole seconds, such as '
        "2026-01-01T00:00:00Z"
    )


def _duration(part: str, text: str) -> tuple[int, int]:
    """Months and seconds of a duration."""
    match = _DURATION.fullmatch(part)
    if match is None:
        raise ScheduleError(
            f'iso_8601 "{text}": "{part}" is no duration in whole numbers, such as P1M or PT15M'
        )
    years, months, weeks, days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    days += 7 * weeks
    return years * 12 + months, ((days * 24 + hours) * 60 + minutes) * 60 + seconds

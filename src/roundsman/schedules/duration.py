"""Every so many seconds, minutes, hours or days, counted from 1970-01-01T00:00:00Z."""

import re
from typing import Final

from roundsman.schedules.bounds import LAST, whole_seconds
from roundsman.schedules.interface import ScheduleError

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_TEXT: Final = re.compile(r"([0-9]{1,12}) +(second|minute|hour|day)s?")
_LONGEST: Final = 36_525 * 86400  # a hundred years: more is surely a slip


def seconds_of(text: str, name: str = "duration") -> int:
    """How long a text such as `15 minutes` is. Raises `ScheduleError` that names it."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ScheduleError(
            f'{name} "{text}": expected a whole number and a unit, second, minute, hour or '
            'day, such as "15 minutes"'
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if not 0 < seconds <= _LONGEST:
        raise ScheduleError(f'{name} "{text}": expected from 1 second to 36525 days')
    return seconds


class Duration:
    """Due at every multiple of a period since the epoch, whoever asks and whenever it started.

    >>> Duration("15 minutes").next_after(901)
    1800
    """

    __slots__ = ("_period",)

    def __init__(self, text: str) -> None:
        """Take a text such as `15 minutes`. Raises `ScheduleError`."""
        self._period = seconds_of(text)

    def next_after(self, after: float) -> int | None:
        """The next multiple of the period."""
        start = whole_seconds(after)
        if start is None:
            return None
        due = (start // self._period + 1) * self._period
        return due if due <= LAST else None

    def count(self, after: float, until: float) -> int:
        """The multiples of the period between."""
        start, end = whole_seconds(after), whole_seconds(min(until, LAST - 1))
        if start is None or end is None:
            return 0
        return max(0, end // self._period - start // self._period)

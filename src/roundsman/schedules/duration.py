"""Every so many seconds, minutes, hours or days, counted from 1970-01-01T00:00:00Z."""

import re
from typing import Final

from roundsman.schedules.bounds import LAST, whole_seconds
from roundsman.schedules.interface import ScheduleError

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_TEXT: Final = re.compile(r"([0-9]{1,12}) +(second|minute|hour|day)s?")
_LONGEST: Final = 36_525 * 86400  # a hundred years: more is surely a slip


class Duration:
    """Due at every multiple of a period since the epoch, whoever asks and whenever it started.

    >>> Duration("15 minutes").next_after(901)
    1800
    """

    __slots__ = ("_period",)

    def __init__(self, text: str) -> None:
        """Take a text such as `15 minutes`. Raises `ScheduleError`."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ScheduleError(
                f'duration "{text}": expected a whole number and a unit, second, minute, hour or '
                'day, such as "15 minutes"'
            )
        self._period = int(match[1]) * _UNITS[match[2]]
        if not 0 < self._period <= _LONGEST:
            raise ScheduleError(f'duration "{text}": expected from 1 second to 36525 days')

    def next_after(self, after: float) -> int | None:
        """The next multiple of the period."""
        start = whole_seconds(after)
        if start is None:
            return None
        due = (start // self._period + 1) * self._period
        return due if due <= LAST else None

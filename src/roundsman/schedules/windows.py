"""Windows: times at which scheduled runs may be started, or may not.

Pure functions of an instant. Weekly times are wall-clock times of a time zone, and each of these
has exactly one instant, whatever the clocks do (`schedules.wall`).
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from roundsman.schedules.wall import instant_of

_DAY: Final = timedelta(days=1)
_STEPS: Final = 2000
"""Stretches looked at before it is said that there is no end: years of whole days."""


class Stretch(NamedTuple):
    """From one instant on, and before another, Unix seconds."""

    begin: int
    end: int


class Weekly(NamedTuple):
    """On some days of the week from one time of the day to another, perhaps of the next day."""

    days: frozenset[int]
    """0: Monday."""
    begin: timedelta
    """After midnight, by the clock on the wall."""
    end: timedelta
    """Likewise; more than a day where it is on the next one."""


class Window(NamedTuple):
    """A named set of times, and what they mean."""

    name: str
    closes: bool
    """Whether nothing is started in these times; else nothing is started out of them."""
    zone: tzinfo
    weekly: tuple[Weekly, ...] = ()
    once: tuple[Stretch, ...] = ()

    def end_of(self, instant: float) -> int | None:
        """When the stretch ends in which the instant lies; none: it lies in none."""
        ends = [each.end for each in self._around(instant, 0) if each.begin <= instant < each.end]
        return max(ends, default=None)

    def begins_after(self, instant: float) -> int | None:
        """When the next stretch begins; none: there is no other."""
        begins = [each.begin for each in self._around(instant, 8) if instant < each.begin]
        return min(begins, default=None)

    def _around(self, instant: float, days: int) -> Iterator[Stretch]:
        """Those that lie around an instant, and up to so many days after it; never an empty one."""
        yield from self.once
        midnight = datetime.fromtimestamp(instant, self.zone).replace(
            hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0
        )
        for number in range(-2, days + 2):
            day = midnight + number * _DAY
            for each in self.weekly:
                if day.weekday() in each.days:
                    begin = instant_of(day + each.begin, self.zone)
                    end = instant_of(day + each.end, self.zone)
                    if begin < end:  # the clocks may jump over all of it
                        yield Stretch(begin, end)


class Windows:
    """All windows that a slot is under; without any it is open at all times."""

    def __init__(self, windows: Sequence[Window] = ()) -> None:
        """Take those that close, and those out of which nothing is started."""
        self._closing = [window for window in windows if window.closes]
        self._opening = [window for window in windows if not window.closes]

    def closed_by(self, instant: float) -> tuple[str, ...]:
        """The names of the windows because of which nothing may be started; none: it may."""
        closing = [each for each in self._closing if each.end_of(instant) is not None]
        if not any(each.end_of(instant) is not None for each in self._opening):
            closing += self._opening
        return tuple(sorted(each.name for each in closing))

    def opens_at(self, instant: float) -> int | None:
        """The first second from an instant on at which something may be started; none: never."""
        at = math.ceil(instant)
        for _ in range(_STEPS):
            changed = self._closed_until(at)
            if changed == at:
                return at
            if changed is None:
                return None
            at = changed
        return None

    def _closed_until(self, at: int) -> int | None:
        """When something changes for the better; the instant itself where it is open already."""
        ends = [end for each in self._closing if (end := each.end_of(at)) is not None]
        if ends:
            return max(ends)
        if not self._opening or any(each.end_of(at) is not None for each in self._opening):
            return at
        begins = (each.begins_after(at) for each in self._opening)
        return min((begin for begin in begins if begin is not None), default=None)

    def changes(self, first: int, last: int) -> list[int]:
        """The instants from one to another at which it opens or closes."""
        found: list[int] = []
        at: int | None = first
        while at is not None and at <= last and len(found) < _STEPS:
            at = self.opens_at(at + 1) if self.closed_by(at) else self._closes_after(at)
            if at is not None and at <= last:
                found.append(at)
        return found

    def _closes_after(self, at: int) -> int | None:
        """When it closes next, of an instant at which it is open."""
        for _ in range(_STEPS):
            begins = [begin for each in self._closing if (begin := each.begins_after(at))]
            if self._opening:
                begins.append(max(end for each in self._opening if (end := each.end_of(at))))
            if not begins:
                return None
            at = min(begins)
            if self.closed_by(at):
                return at
        return None


ALWAYS: Final = Windows()
"""No window at all."""

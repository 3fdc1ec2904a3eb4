"""Cron expressions: five fields, or six with seconds first, in a time zone.

Cronsim reads the expression and walks wall-clock times; what becomes of them when the clocks
change is `wall`'s business (docs/adr/0006-cron-engine.md).
"""

import copy
import re
from datetime import date, datetime, time, timedelta
from typing import Final

from cronsim import CronSim, CronSimError

from roundsman.schedules.bounds import LAST, whole_seconds
from roundsman.schedules.interface import ScheduleError, due_times
from roundsman.schedules.wall import instant_of, wall_reached, zone_of

_FIELDS: Final = ("second", "minute", "hour", "day of month", "month", "day of week")
_SIZES: Final = (60, 60, 24, 31, 12, 7)
_STEP: Final = re.compile(r"/([0-9]+)")
# The engine takes 2-2/9 for 2/9, which is every ninth from 2 on: say what it is, 2 alone.
_RANGE_OF_ONE: Final = re.compile(r"(?<![A-Z0-9])0*([A-Z0-9]+)-0*\1/[0-9]+")
_LONGEST: Final = 1000  # characters; a list of all 60 minutes has 169
_DAY: Final = timedelta(days=1)
_DAY_SECONDS: Final = 86_400
_DAY_END: Final = time(23, 59, 59)
_START: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall-clock time has no zone, on purpose


class Cron:
    """Due at the wall-clock times that match an expression.

    A time that the clock skips is due once, when the clock has jumped; several skipped at once
    are due together. A time that the clock shows twice is due the first time.
    """

    __slots__ = ("_engine", "_known", "_zone")

    def __init__(self, expression: str, timezone: str | None = None) -> None:
        """Read an expression, in an IANA time zone (default: UTC). Raises `ScheduleError`."""
        self._zone = zone_of(timezone)
        self._engine = _engine(expression)
        self._known: tuple[int, int] = (0, 0)
        """The last answer, and what was asked: a fleet that was due together asks one after
        another, from times close together."""
        if _next_wall(self._engine, _START) is None:
            raise ScheduleError(f'cron "{expression}": there is no such day, it would never be due')

    def next_after(self, after: float) -> int | None:
        """The instant of the next matching wall-clock time."""
        start = whole_seconds(after)
        if start is None:
            return None
        asked, answer = self._known
        if asked <= start < answer:
            return answer
        try:
            wall = _next_wall(self._engine, wall_reached(start, self._zone))
            while wall is not None:
                instant = instant_of(wall, self._zone)
                if start < instant <= LAST:
                    self._known = (start, instant)
                    return instant
                wall = _next_wall(self._engine, wall)
        except (OverflowError, ValueError):  # how datetime says that year 9999 has ended
            pass
        return None

    def count(self, after: float, until: float) -> int:
        """The matches between, day by day; only where the clocks change are they walked through."""
        start, end = whole_seconds(after), whole_seconds(min(until, LAST - 1))
        if start is None or end is None or start >= end:
            return 0
        reached, last = wall_reached(start, self._zone), wall_reached(end, self._zone)
        counted, day = 0, reached.date()
        before, begin = self._begin_of(day - _DAY), self._begin_of(day)
        while day <= last.date():
            following = self._begin_of(day + _DAY)
            # What is skipped at the end of a day is due at the beginning of the next.
            if not following - begin == begin - before == _DAY_SECONDS:
                stretch = max(start, begin - 1), min(end, following - 1)
                counted += len(due_times(self, *stretch, cap=_DAY_SECONDS * 2))
            elif self._matches(day):
                counted += self._matches_until(last if day == last.date() else _DAY_END)
                counted -= self._matches_until(reached) if day == reached.date() else 0
            day, before, begin = day + _DAY, begin, following
        return counted

    def _begin_of(self, day: date) -> int:
        return instant_of(datetime.combine(day, time.min), self._zone)

    def _matches(self, day: date) -> bool:
        return day.month in self._engine.months and self._engine.match_day(day)

    def _matches_until(self, wall: datetime | time) -> int:
        """How many times of day up to this one match, on a day that does."""
        engine = self._engine
        hours = sum(hour < wall.hour for hour in engine.hours)
        if wall.hour not in engine.hours:
            return hours * len(engine.minutes) * len(engine.seconds)
        minutes = hours * len(engine.minutes) + sum(m < wall.minute for m in engine.minutes)
        if wall.minute not in engine.minutes:
            return minutes * len(engine.seconds)
        return minutes * len(engine.seconds) + sum(s <= wall.second for s in engine.seconds)


def _next_wall(engine: CronSim, wall: datetime) -> datetime | None:
    """The next match later than `wall`; none when there is none within fifty years.

    The rarest day that there is, 29 February on one day of the week, is forty years off at most.
    """
    search = copy.copy(engine)  # it is an iterator: each search has its own
    search.dt = wall
    return next(search, None)


def _engine(expression: str) -> CronSim:
    fields = expression.split()
    if len(fields) not in (5, 6) or len(expression) > _LONGEST or not expression.isascii():
        raise ScheduleError(
            f'cron "{expression[:_LONGEST]}": expected five fields (minute, hour, day of month, '
            f"month, day of week) or six with the second first, got {len(fields)}"
        )
    names = _FIELDS[-len(fields) :]
    for name, size, field in zip(names, _SIZES[-len(fields) :], fields, strict=True):
        if any(int(step) > size for step in _STEP.findall(field)):
            raise ScheduleError(
                f'cron "{expression}": {name} "{field}" has a step beyond {size}, '
                "which would not do what it says"
            )
    try:
        return CronSim(_RANGE_OF_ONE.sub(r"\1", expression.upper()), _START)
    except CronSimError as error:
        raise ScheduleError(f'cron "{expression}": {_explain(str(error), names, fields)}') from None


def _explain(error: str, names: tuple[str, ...], fields: list[str]) -> str:
    """The engine says `Bad day-of-month`: say also what stands there."""
    name = error.removeprefix("Bad ").replace("-", " ")
    if name not in names:
        return error
    return f'{name} "{fields[names.index(name)]}" is not allowed'

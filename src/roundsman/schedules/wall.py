"""Wall-clock times and the instants at which they come round, in a time zone.

Every wall-clock time has exactly one instant here. One that the clock shows twice, as when summer
time ends, has the first of the two. One that the clock never shows, as when summer time begins,
has the instant at which the clock jumps over it. So a later wall-clock time never has an earlier
instant, and a schedule may be searched in wall-clock time alone.
"""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from roundsman.schedules.interface import ScheduleError

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock times have no zone, on purpose
_SECOND: Final = timedelta(seconds=1)


def zone_of(name: str | None) -> tzinfo:
    """The time zone of that name, default UTC. Raises `ScheduleError`."""
    if name is None or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # unknown, or no name at all
        raise ScheduleError(
            f'timezone "{name}": expected a name of the IANA database, such as Europe/Berlin'
        ) from None


def instant_of(wall: datetime, zone: tzinfo) -> int:
    """The instant of a wall-clock time, in Unix seconds. Raises `OverflowError` at year 9999."""
    seconds = (wall - _EPOCH) // _SECOND
    if zone is UTC:
        return seconds
    before, after = _offsets(wall, zone)
    if before >= after:
        return seconds - before
    # Skipped: the jump lies between the two readings of this wall-clock time.
    return _first(seconds - after + 1, seconds - before, after, zone)


def wall_reached(instant: int, zone: tzinfo) -> datetime:
    """The last wall-clock time whose instant is not later than this one, to the second."""
    if zone is UTC:
        return _EPOCH + instant * _SECOND
    local = datetime.fromtimestamp(instant, zone)
    wall = local.replace(tzinfo=None, fold=0)
    if not local.fold:
        return wall
    # Second time round: the whole stretch that the clock shows twice has had its instants.
    before, after = _offsets(wall, zone)
    turned_back = _first(instant - (before - after) + 1, instant, after, zone)
    return _EPOCH + (turned_back + before - 1) * _SECOND


def _offsets(wall: datetime, zone: tzinfo) -> tuple[int, int]:
    """Seconds east of UTC that hold at this wall-clock time before and after a change of clocks.

    The same number twice where there is no change.
    """
    aware = wall.replace(tzinfo=zone)
    return _seconds(aware), _seconds(aware.replace(fold=1))


def _first(low: int, high: int, offset: int, zone: tzinfo) -> int:
    """The first instant from `low` to `high` at which the zone has this offset."""
    return low + bisect_left(
        range(high - low),
        True,
        key=lambda step: _seconds(datetime.fromtimestamp(low + step, zone)) == offset,
    )


def _seconds(local: datetime) -> int:
    offset = local.utcoffset()
    return 0 if offset is None else offset // _SECOND

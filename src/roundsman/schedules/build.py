"""A configured schedule, made ready to be asked."""

from roundsman.schedules.cron import Cron
from roundsman.schedules.duration import Duration, seconds_of
from roundsman.schedules.fixed import Fixed
from roundsman.schedules.interface import Schedule, ScheduleError
from roundsman.schedules.iso_8601 import Iso8601
from roundsman.schedules.splay import Splay
from roundsman.wire import job

KINDS = ("cron", "duration", "iso_8601", "fixed")


def build(schedule: job.Schedule) -> Schedule:
    """The due times of a configured schedule, before they are spread over its `splay`.

    Raises `ScheduleError` with what is wrong.
    """
    given = [kind for kind in KINDS if getattr(schedule, kind) is not None]
    if len(given) != 1:
        raise ScheduleError(
            f"expected exactly one of {', '.join(KINDS)}, got {' and '.join(given) or 'none'}"
        )
    if schedule.timezone is not None and schedule.cron is None:
        raise ScheduleError(f"timezone goes with cron only, got it with {given[0]}")
    if schedule.cron is not None:
        return Cron(schedule.cron, schedule.timezone)
    if schedule.duration is not None:
        return Duration(schedule.duration)
    if schedule.iso_8601 is not None:
        return Iso8601(schedule.iso_8601)
    assert schedule.fixed is not None  # noqa: S101 - the one that is left
    return Fixed(schedule.fixed)


def splay_of(schedule: job.Schedule, base: Schedule) -> Splay | None:
    """How a configured schedule is spread over devices; none: it is not.

    Raises `ScheduleError`.
    """
    if schedule.splay is None:
        return None
    return Splay(base, seconds_of(schedule.splay, "splay"))

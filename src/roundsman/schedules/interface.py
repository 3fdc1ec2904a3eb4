"""What every schedule promises."""

from typing import Protocol

from roundsman.errors import RoundsmanError


class ScheduleError(RoundsmanError):
    """A schedule that cannot be read, or that can never be due."""

    code = "schedule.invalid"


class Schedule(Protocol):
    """The due times of a job, as a pure function: no clock, no state.

    Law: `next_after(t)` is greater than `t`, always; and `a <= b` gives
    `next_after(a) <= next_after(b)`.
    """

    def next_after(self, after: float) -> int | None:
        """The first due time later than `after`, both Unix seconds; none when there is none."""
        ...

    def count(self, after: float, until: float) -> int:
        """How many due times are later than `after` and not later than `until`.

        Without walking through them, so that years of a short schedule cost little.
        """
        ...


def due_times(schedule: Schedule, after: float, until: float, *, cap: int) -> list[int]:
    """The due times later than `after` and not later than `until`, the first `cap` of them."""
    times: list[int] = []
    at = schedule.next_after(after)
    while at is not None and at <= until and len(times) < cap:
        times.append(at)
        at = schedule.next_after(at)
    return times


def newest_due_times(schedule: Schedule, after: int, until: int, limit: int) -> list[int]:
    """The last `limit` due times later than `after` and not later than `until`, oldest first.

    Found by bisection, not by walking: the cost grows with the logarithm of the time between.
    """
    times = due_times(schedule, after, until, cap=limit + 1)
    # Invariant: later than `few` there are at most `limit` due times, later than `many` more.
    many, few = after, until
    while len(times) > limit and few - many > 1:
        middle = (many + few) // 2
        if len(due_times(schedule, middle, until, cap=limit + 1)) > limit:
            many = middle
        else:
            few = middle
    return times if len(times) <= limit else due_times(schedule, few, until, cap=limit)

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


def due_times(schedule: Schedule, after: float, until: float, *, cap: int) -> list[int]:
    """The due times later than `after` and not later than `until`, the first `cap` of them."""
    times: list[int] = []
    at = schedule.next_after(after)
    while at is not None and at <= until and len(times) < cap:
        times.append(at)
        at = schedule.next_after(at)
    return times

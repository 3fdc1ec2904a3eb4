"""What every schedule owes, and an oracle that knows nothing of how it is done."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

from roundsman.schedules.bounds import LAST
from roundsman.schedules.interface import Schedule


def at(text: str) -> int:
    """Unix seconds of a time in ISO 8601."""
    return int(datetime.fromisoformat(text).timestamp())


def holds_its_law(schedule: Schedule, instants: list[float]) -> None:
    """Strictly after, in whole seconds, and monotone: none counts as later than all."""
    before = float("-inf")
    for instant in sorted(instants):
        due = schedule.next_after(instant)
        assert due is None or instant < due <= LAST
        assert due is None or type(due) is int
        assert before <= (float("inf") if due is None else due)
        before = float("inf") if due is None else due


def brute_force(
    matches: Callable[[datetime], bool], zone: tzinfo, start: int, end: int, *, step: int
) -> list[int]:
    """The instants in (start, end] at which wall-clock times that match come round.

    Walks the clock itself, second by second of real time: each reading counts where it is first
    shown, and a reading that the clock jumps over counts where it lands. `step` is the greatest
    that divides every matching time and every offset.
    """
    day = 2 * 86400  # look back further than any change of clocks, to know what was shown before
    shown_up_to = datetime.fromtimestamp(start - day, UTC).astimezone(zone).replace(tzinfo=None)
    due = set()
    for instant in range(start - day - start % step, end + 1, step):
        wall = datetime.fromtimestamp(instant, UTC).astimezone(zone).replace(tzinfo=None)
        reading = shown_up_to + timedelta(seconds=step)
        while reading <= wall:
            if matches(reading) and instant > start:
                due.add(instant)
            reading += timedelta(seconds=step)
        shown_up_to = max(shown_up_to, wall)
    return sorted(due)

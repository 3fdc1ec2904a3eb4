"""One instant."""

from roundsman.schedules.bounds import LAST
from roundsman.schedules.interface import ScheduleError


class Fixed:
    """Due once."""

    __slots__ = ("_at",)

    def __init__(self, at: int) -> None:
        """Take the Unix second at which it is due. Raises `ScheduleError`."""
        if not 0 <= at <= LAST:
            raise ScheduleError(f"fixed {at}: expected Unix seconds from 0 to {LAST} (year 9999)")
        self._at = at

    def next_after(self, after: float) -> int | None:
        """The instant while it lies ahead."""
        return self._at if self._at > after else None

    def count(self, after: float, until: float) -> int:
        """One, or none."""
        return int(after < self._at <= until)

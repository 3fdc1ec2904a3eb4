"""Spreads what is due at one time over a window: each device by its own, fixed share of it."""

import hashlib
from functools import lru_cache

from roundsman.schedules.bounds import LAST
from roundsman.schedules.interface import Schedule, newest_due_times


def share_of(device: str, job: str, window: int) -> int:
    """How many of the seconds of a window a device waits with a job, always the same.

    Follows from the two names alone, so that no other device changes it, nor a restart.

    >>> share_of("edge1", "backup", 1800) == share_of("edge1", "backup", 1800) < 1800
    True
    """
    digest = hashlib.sha256(f"{device}\n{job}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * window >> 64


class Splay:
    """A schedule whose times are spread over a window; shared by all who are spread."""

    def __init__(self, base: Schedule, window: int) -> None:
        """Spread the times of `base` over `window` seconds, or up to its next time if sooner."""
        self.base = base
        self.window = window
        # Slots that share a schedule ask the same: a fleet asks for one instant.
        self._next_after = lru_cache(maxsize=64)(base.next_after)

    def spread(self, due: int, share: int) -> int:
        """When it is due for the one who waits `share` seconds of the window.

        Where the next time comes within the window, it waits the same part of the time until that.
        """
        following = self._next_after(due)
        if following is None or following - due >= self.window:
            return due + share
        return due + share * (following - due) // self.window

    def next_after(self, after: float, share: int) -> int | None:
        """The first time later than `after` for the one who waits `share` seconds."""
        due = self._next_after(after - self.window)
        if due is not None and due <= after:
            last = self.last_until(after)
            due = self._next_after(after) if last is None else last
        while due is not None:
            at = self.spread(due, share)
            if at > after:
                return at if at <= LAST else None
            due = self._next_after(due)
        return None

    def last_until(self, instant: float) -> int | None:
        """The last time of the base that may still be to come for somebody at that instant."""
        times = newest_due_times(self.base, int(instant - self.window) - 1, int(instant), 1)
        return times[-1] if times else None


class Splayed:
    """Due a fixed share of a window after each time of another schedule."""

    __slots__ = ("_share", "_splay")

    def __init__(self, splay: Splay, share: int) -> None:
        """Wait `share` seconds of the window."""
        self._splay = splay
        self._share = share

    def next_after(self, after: float) -> int | None:
        """The first time later than `after`."""
        return self._splay.next_after(after, self._share)

    def count(self, after: float, until: float) -> int:
        """As many as the other schedule has, but for the one that is on its way at either end."""
        if after >= until:
            return 0
        base = self._splay.base.count(after, until)
        return base + self._is_to_come(after) - self._is_to_come(until)

    def _is_to_come(self, instant: float) -> bool:
        """Whether a time of the other schedule has come whose share has not."""
        last = self._splay.last_until(instant)
        return last is not None and self._splay.spread(last, self._share) > instant

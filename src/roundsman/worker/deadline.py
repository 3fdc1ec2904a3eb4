"""Until when a lease is certain to hold, by this machine's own clock.

A worker that was stopped, swapped out or asleep wakes up in the midst of a run, and cannot know
what happened meanwhile until it has asked. So each piece that goes to a device is preceded by a
look at this: no network, and a clock that nobody sets and that goes on while the machine sleeps.
"""

import math
from typing import Final

from roundsman.clock import Clock, SystemClock
from roundsman.errors import RoundsmanError


class LeaseExpiredError(RoundsmanError, ConnectionError):
    """The lease may have passed to another worker: its device is touched no more.

    A `ConnectionError` too, so that it ends a connection from wherever something is sent.
    """

    code = "lease.expired"


class LeaseDeadline:
    """What each run has to look at before it sends anything to its device.

    Once it was seen to be over it stays so, whatever the controller says later: the run is broken.
    """

    def __init__(self, clock: Clock, at: float) -> None:
        """Hold until `at`, by the monotonic clock, in seconds."""
        self._clock = clock
        self._over = False
        self.at = at
        """By the monotonic clock, in seconds."""

    def move(self, at: float) -> None:
        """The lease was renewed; a deadline is never brought forward."""
        self.at = max(self.at, at)

    @property
    def is_over(self) -> bool:
        """Whether the lease may be another's by now."""
        self._over = self._over or self._clock.monotonic() >= self.at
        return self._over

    def check(self) -> None:
        """Raise `LeaseExpiredError` if it is over."""
        if self.is_over:
            raise LeaseExpiredError(
                "the lease was not renewed in time, so that another worker may have it",
                remedy="none is needed: the execution is offered again",
            )


NO_DEADLINE: Final = LeaseDeadline(SystemClock(), math.inf)
"""For sessions that are nobody's lease."""

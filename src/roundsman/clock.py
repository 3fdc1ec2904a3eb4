"""Time, passed in.

Instants are Unix seconds, UTC: `float` where fractions matter, `int` for the times at which
executions are due. Durations are seconds.
"""

import asyncio
import time
from typing import Final, Protocol

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps. So it is called on Linux; elsewhere the other one does it."""


class Clock(Protocol):
    """What tells the time and waits; tests pass one that they turn by hand."""

    def now(self) -> float:
        """The wall clock, in Unix seconds, UTC. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; never steps back, and goes on while the machine sleeps.

        For measuring and for deadlines.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for that long; zero or less only yields."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """The wall clock, in Unix seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed point; never steps back."""
        return time.clock_gettime(_STEADY)

    async def sleep(self, seconds: float) -> None:
        """Wait for that long; zero or less only yields."""
        await asyncio.sleep(max(0.0, seconds))

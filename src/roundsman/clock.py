"""Time, passed in.

Instants are Unix seconds, UTC: `float` where fractions matter, `int` for the times at which
executions are due. Durations are seconds.
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time and waits; tests pass one that they turn by hand."""

    def now(self) -> float:
        """The wall clock, in Unix seconds, UTC. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; never steps back. For measuring and for deadlines."""
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
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for that long; zero or less only yields."""
        await asyncio.sleep(max(0.0, seconds))

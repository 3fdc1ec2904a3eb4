"""A clock that is turned by hand, so that no test waits for real time."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class ManualClock:
    """A `roundsman.clock.Clock` whose time moves only by `advance` and `step`.

    Use it from one event loop.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        """Start at this wall time, in Unix seconds; the monotonic clock starts at 0."""
        self._now = now
        self._monotonic = 0.0
        self._order = count()
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._watching: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def now(self) -> float:
        """The wall clock, in Unix seconds."""
        return self._now

    def monotonic(self) -> float:
        """Seconds turned so far."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was turned that far; zero or less only yields."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        entry = (self._monotonic + seconds, next(self._order), woken)
        heapq.heappush(self._sleeping, entry)
        self._tell_watchers()
        try:
            await woken
        finally:
            if entry in self._sleeping:  # cancelled
                self._sleeping.remove(entry)
                heapq.heapify(self._sleeping)

    def advance(self, seconds: float) -> None:
        """Turn both clocks on, and wake whose time has come: earliest first, then as they came.

        They run when the caller next awaits.
        """
        if seconds < 0:
            raise ValueError("time does not go back: step() moves the wall clock")
        self._now += seconds
        self._monotonic += seconds
        while self._sleeping and self._sleeping[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleeping)
            if not woken.done():
                woken.set_result(None)

    def step(self, seconds: float) -> None:
        """Set the wall clock on or back, as an administrator or NTP does; nobody wakes by it."""
        self._now += seconds

    async def sleepers(self, number: int = 1) -> None:
        """Return as soon as at least so many tasks sleep on this clock."""
        await self._watch(lambda: len(self._sleeping) >= number)

    async def sleeper(self, seconds: float) -> None:
        """Return as soon as a task sleeps that has just so long to sleep from now on."""
        at = self._monotonic + seconds
        await self._watch(lambda: any(entry[0] == at for entry in self._sleeping))

    async def _watch(self, is_so: Callable[[], bool]) -> None:
        if not is_so():
            seen = asyncio.get_running_loop().create_future()
            self._watching.append((is_so, seen))
            await seen

    def _tell_watchers(self) -> None:
        still: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        for is_so, seen in self._watching:
            if not is_so():
                still.append((is_so, seen))
            elif not seen.done():
                seen.set_result(None)
        self._watching = still

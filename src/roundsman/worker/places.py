"""How many sessions are open at once.

A session is *busy* for a while from its beginning, and for as long as its device gets on with what
it sends. A device that is dead, or stalls, or trickles costs next to nothing while nothing comes of
it: its session is *slow*, and its place is another's. So devices that live are not kept waiting by
those that do not, and what a worker is sized by is the sessions that make work.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from roundsman.clock import Clock
from roundsman.worker.waiting import wait_for_event

SLOW_SECONDS: Final = 2.0
"""After so long without getting on a session is slow. Old devices take a second to log in to."""
GETTING_ON_BYTES: Final = 1024
"""So much in `SLOW_SECONDS` is getting on."""
OPEN_PER_BUSY: Final = 5
"""Slow sessions hold memory and files: with the busy ones there are at most so many times the
places."""


class Place:
    """One open session's."""

    def __init__(self, clock: Clock) -> None:
        """It begins now."""
        self._clock = clock
        self._bytes = 0
        self.got_on_at = clock.monotonic()
        """When it began, or the device last got on."""

    def received(self, count: int) -> None:
        """The device sent so many bytes."""
        self._bytes += count
        if self._bytes >= GETTING_ON_BYTES:
            self._bytes = 0
            self.got_on_at = self._clock.monotonic()


class Places:
    """The places of a worker."""

    def __init__(self, *, busy: int, most_open: int, clock: Clock) -> None:
        """So many for busy sessions; with slow ones at most `most_open`."""
        self._busy = busy
        self._most_open = most_open
        self._clock = clock
        self._open: set[Place] = set()
        self._first = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def open(self) -> int:
        """Sessions that are open."""
        return len(self._open)

    def free(self) -> int:
        """How many more may begin now."""
        slow_since = self._clock.monotonic() - SLOW_SECONDS
        busy = sum(place.got_on_at > slow_since for place in self._open)
        return max(0, min(self._busy - busy, self._most_open - self.open))

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Place]:
        """Wait for a place, first come, first served; leave it on leaving."""
        async with self._first:
            while not self.free():
                self._changed.clear()
                await wait_for_event(self._changed, self._clock, self._until_slow())
            place = Place(self._clock)
            self._open.add(place)
        try:
            yield place
        finally:
            self._open.discard(place)
            self._changed.set()

    def _until_slow(self) -> float:
        """Seconds until a busy session may have become slow."""
        now = self._clock.monotonic()
        ends = (place.got_on_at + SLOW_SECONDS - now for place in self._open)
        return min((end for end in ends if end > 0), default=SLOW_SECONDS)

"""Keeps when this controller was up, and what workers asked it for: so that causes are known.

What is heard is kept in memory and written every few seconds, so that no claim waits for it. After
a kill up to so many seconds are missing, and count as time in which the controller was down.
"""

import uuid
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.ledger.interface import Ledger, LedgerUnavailableError, Presence, TagFilter

log = logs.get(__name__)

EVERY_SECONDS: Final = 10.0
GAP_SECONDS: Final = 60.0
"""Who was not heard of for longer was not there meanwhile. Workers that are busy do not ask, but
send a heartbeat every 20 s."""
FILTERS: Final = 10_000
"""Beyond so many different filters, those not heard of for the longest are forgotten at once."""


class Attendance:
    """Listens to who asks, and tells who was there."""

    def __init__(self, *, ledger: Ledger, clock: Clock) -> None:
        """Keep it in this ledger."""
        self._ledger = ledger
        self._clock = clock
        self._session = str(uuid.uuid4())
        self._since = 0.0
        self._asked: dict[TagFilter, Presence] = {}
        self._ended: list[Presence] = []
        self._last_filter: dict[str, TagFilter] = {}

    async def open(self) -> None:
        """The controller is up."""
        self._session = str(uuid.uuid4())
        self._since = self._clock.now()
        await self._write()

    async def close(self) -> None:
        """The controller was up until now."""
        try:
            await self._write()
        except LedgerUnavailableError as error:
            log.error("attendance.not_kept", reason=error.text)

    async def run(self) -> None:
        """Write what was heard, every few seconds, until cancelled."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            await self.close()

    def heard(self, asked: TagFilter, worker_id: str | None) -> None:
        """Somebody asked for this."""
        now = self._clock.now()
        known = self._asked.get(asked)
        if known is None or not 0 <= now - known.until <= GAP_SECONDS:
            if known is not None:
                self._ended.append(known)
            since = now
        else:
            since = known.since
        if len(self._asked) >= FILTERS and known is None:
            self._ended.append(self._asked.pop(next(iter(self._asked))))
        self._asked[asked] = Presence(session=self._session, asked=asked, since=since, until=now)
        if worker_id is not None:
            self._last_filter[worker_id] = asked

    def alive(self, worker_id: str) -> None:
        """A worker sent its heartbeat: it is there for what it asked for last."""
        asked = self._last_filter.get(worker_id)
        if asked is not None:
            self.heard(asked, worker_id)

    async def between(self, since: float, until: float) -> list[Presence]:
        """Who was there at that time, at this controller or at others."""
        kept = await self._ledger.presences(since, until)
        own = self._own()
        mine = {(each.asked, each.since) for each in own}
        others = [
            each
            for each in kept
            if each.session != self._session or (each.asked, each.since) not in mine
        ]
        return [*others, *own]

    def _own(self) -> list[Presence]:
        """What this controller heard; who was there a moment ago is there still."""
        now = self._clock.now()
        up = Presence(session=self._session, asked=None, since=self._since, until=now)
        return [
            up,
            *self._ended,
            *(
                msgspec.structs.replace(each, until=now)
                if 0 <= now - each.until <= GAP_SECONDS
                else each
                for each in self._asked.values()
            ),
        ]

    async def _write(self) -> None:
        now = self._clock.now()
        up = Presence(session=self._session, asked=None, since=self._since, until=now)
        ended = list(self._ended)
        gone = [asked for asked, each in self._asked.items() if now - each.until > GAP_SECONDS]
        await self._ledger.note_presences([up, *ended, *self._asked.values()])
        del self._ended[: len(ended)]
        for asked in gone:
            self._asked.pop(asked, None)

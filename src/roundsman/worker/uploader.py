"""Brings finished runs to the controller, oldest first, until it keeps each or says never."""

import asyncio
import heapq
import math
import random
from enum import StrEnum
from typing import Final

from roundsman import logs
from roundsman.client import ControllerClient
from roundsman.client.errors import (
    ControllerError,
    ForbiddenError,
    StaleError,
    UnauthorizedError,
)
from roundsman.client.retry import Backoff
from roundsman.clock import Clock
from roundsman.worker.heartbeat import Heartbeat
from roundsman.worker.leases import HeldLeases
from roundsman.worker.outbox import Entry, Outbox
from roundsman.worker.waiting import wait_for_event

log = logs.get(__name__)

UPLOADS: Final = 8
"""At once. The controller commits many results in one go, and waits for the disk meanwhile."""
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 60.0
REFUSED_TOKEN_SECONDS: Final = 15.0
"""Least wait after a refused token: the heartbeat enrols anew in the meantime if need be."""


class Verdict(StrEnum):
    """What a failed upload means for the result."""

    STALE = "stale"
    """The lease is no longer held: drop it."""
    SET_ASIDE = "set_aside"
    """The controller will never take it: keep it for people."""
    RETRY = "retry"
    """Try again later."""


def judge(error: ControllerError) -> Verdict:
    """The table: which errors are tried again, which never.

    What a proxy says in the controller's place costs no result: it is tried again.
    """
    if isinstance(error, StaleError) and error.about_subject:
        return Verdict.STALE
    if error.status in (400, 404, 413) and error.about_subject:
        return Verdict.SET_ASIDE
    return Verdict.RETRY


class Uploader:
    """See the module. Several uploads at once, never two of one result."""

    def __init__(
        self,
        *,
        client: ControllerClient,
        outbox: Outbox,
        leases: HeldLeases,
        heartbeat: Heartbeat,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        """Empty `outbox`, which is open: what it holds already is taken up, leases included."""
        self._client = client
        self._outbox = outbox
        self._leases = leases
        self._heartbeat = heartbeat
        self._clock = clock
        self._backoff = Backoff(
            first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS, chance=chance
        )
        self._entries: dict[str, Entry] = {}
        self._ready: list[str] = []
        self._later: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        self._closed_until = -math.inf
        self._failures_of_all = 0
        self._changed = asyncio.Event()
        for entry in outbox.entries:
            if (key := entry.key) is not None:
                leases.hold(key, seconds=math.inf)
            self._add(entry)
        outbox.on_finished = self._add

    async def run(self) -> None:
        """Upload until cancelled; what is under way then stays in the outbox."""
        async with asyncio.TaskGroup() as group:
            for number in range(UPLOADS):
                group.create_task(self._run_one(), name=f"uploader {number}")

    async def run_once(self) -> None:
        """Wait for a result that may be uploaded, and try once to do so."""
        entry = await self._take()
        try:
            await self._deliver(entry)
        except OSError as error:
            log.error("outbox.disk", entry=entry.entry_id, reason=str(error))
            self._try_later(entry, at_least=None)

    async def _run_one(self) -> None:
        while True:
            await self.run_once()

    def _add(self, entry: Entry) -> None:
        self._entries[entry.entry_id] = entry
        heapq.heappush(self._ready, entry.entry_id)
        self._changed.set()

    async def _take(self) -> Entry:
        while True:
            now = self._clock.monotonic()
            while self._later and self._later[0][0] <= now:
                heapq.heappush(self._ready, heapq.heappop(self._later)[1])
            if self._ready and self._closed_until <= now:
                return self._entries[heapq.heappop(self._ready)]
            self._changed.clear()
            await wait_for_event(self._changed, self._clock, self._next_at() - now)

    def _next_at(self) -> float:
        """When there may be something to do, if nothing changes before."""
        if self._ready:
            return self._closed_until
        if self._later:
            return max(self._closed_until, self._later[0][0])
        return math.inf

    async def _deliver(self, entry: Entry) -> None:
        completion = entry.record.completion
        names = {
            "device": completion.device,
            "job": completion.job,
            "due": completion.job_timestamp,
        }
        try:
            await self._client.worker.complete(completion, entry.data, size=entry.record.size or 0)
        except ControllerError as error:
            match judge(error):
                case Verdict.STALE:
                    log.warning("result.stale", **names, reason=error.text)
                    await self._outbox.remove(entry)
                    self._settle(entry)
                case Verdict.SET_ASIDE:
                    log.error("result.set_aside", **names, reason=str(error))
                    await self._outbox.set_aside(entry, str(error))
                    self._settle(entry)
                case Verdict.RETRY:
                    self._retry(entry, error)
        else:
            log.info("result.kept", **names)
            self._failures_of_all = 0
            await self._outbox.remove(entry)
            self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        if (key := entry.key) is not None:
            self._leases.settle(key)
        del self._entries[entry.entry_id]
        self._failures.pop(entry.entry_id, None)

    def _try_later(self, entry: Entry, *, at_least: float | None) -> None:
        failures = self._failures.get(entry.entry_id, 0) + 1
        self._failures[entry.entry_id] = failures
        wait = self._backoff.delay(failures, at_least=at_least)
        heapq.heappush(self._later, (self._clock.monotonic() + wait, entry.entry_id))
        self._changed.set()

    def _retry(self, entry: Entry, error: ControllerError) -> None:
        """Try this one later, and all others after a pause of their own.

        The pause is for all, since ten thousand results need not each find out that the controller
        is away. It starts over with each success, so a result that alone fails time and again holds
        up the others by less than a second each time, and itself waits ever longer.
        """
        now = self._clock.monotonic()
        at_least = error.retry_after_seconds
        if isinstance(error, UnauthorizedError | ForbiddenError):
            self._heartbeat.hurry()
            at_least = REFUSED_TOKEN_SECONDS
        if now >= self._closed_until:  # of several uploads that fail together, one counts
            self._failures_of_all += 1
            wait = self._backoff.delay(self._failures_of_all, at_least=at_least)
            self._closed_until = now + wait
            log.warning(
                "result.not_taken",
                device=entry.record.completion.device,
                job=entry.record.completion.job,
                reason=str(error),
                waiting=len(self._entries),
                retry_in_seconds=round(wait, 1),
            )
        self._try_later(entry, at_least=at_least)

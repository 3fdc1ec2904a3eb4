"""Hands out what is due: `GET /worker/next`."""

import asyncio
import math
from collections.abc import Sequence
from typing import Final

import msgspec

from roundsman import logs
from roundsman.clock import Clock
from roundsman.config.records import ConfiguredSlot
from roundsman.controller.access import Principal
from roundsman.controller.attendance import Attendance
from roundsman.controller.causes import all_explained, facts_of
from roundsman.controller.planner import Planner, after_closed, after_too_late, is_too_late
from roundsman.ledger.interface import (
    ClaimLimits,
    Finish,
    LeasedSlot,
    Ledger,
    Presence,
    TagFilter,
)
from roundsman.schedules.plans import times_of
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import Lease, LeaseKey
from roundsman.wire.job import MissedPolicy

log = logs.get(__name__)

SKIPPING_SECONDS: Final = 1.0
"""A call goes on skipping what policy has missed for about so long: a client of the published
contract gives up after 3 s, and with it would go what it was handed."""
POSTPONED_SECONDS: Final = 900
"""What its windows keep from starting is looked at again so often: they may be changed."""

_Pair = tuple[LeasedSlot, ConfiguredSlot]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks for."""

    tags: frozenset[str]
    """Devices with any of these; empty: every device."""
    seconds: int
    """How far ahead, in seconds."""
    max: int
    """At most so many."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One element of the answer: a `wire.Execution` whose larger parts are encoded already."""

    device: msgspec.Raw
    job: msgspec.Raw
    timestamp: int
    lease: Lease


class Dispatch:
    """Leases due slots to workers."""

    def __init__(
        self, *, planner: Planner, ledger: Ledger, attendance: Attendance, clock: Clock
    ) -> None:
        """Offer the planner's slots, as the ledger has them due."""
        self._attendance = attendance
        self._planner = planner
        self._ledger = ledger
        self._clock = clock

    async def next_executions(self, wanted: Wanted, principal: Principal) -> list[Offer]:
        """Lease what is due, oldest first; empty when nothing is.

        Asking beyond the configured ceilings is asking for the ceilings. Due times that policy
        has missed rather than run are finished on the way, and others take their place.
        """
        limits = self._planner.configuration.controller.limits
        room = min(wanted.max, limits.executions_per_call)
        horizon = min(wanted.seconds, limits.seconds_ahead)
        tags = TagFilter(any_of=wanted.tags or None, within=principal.tags)
        self._attendance.heard(tags, principal.worker_id)
        leases = self._planner.configuration.controller.leases
        seconds = leases.seconds if principal.worker_id else leases.seconds_without_heartbeat
        deadline = self._clock.monotonic() + SKIPPING_SECONDS
        offers: list[Offer] = []
        while len(offers) < room and self._clock.monotonic() < deadline:
            limit = room - len(offers)
            leased = await self._claim(tags, limit, horizon, seconds, principal.worker_id)
            if not leased:
                break
            offers += await self._offer(leased, seconds)
        return offers

    async def _claim(
        self, tags: TagFilter, limit: int, horizon: int, seconds: float, worker_id: str | None
    ) -> list[LeasedSlot]:
        ceilings = self._planner.configuration.controller.limits
        now = self._clock.now()
        return await self._ledger.claim(
            tags,
            limit=limit,
            horizon=now + horizon,
            now=now,
            lease_seconds=seconds,
            worker_id=worker_id,
            limits=ClaimLimits(
                sessions_per_device=ceilings.sessions_per_device,
                sessions_per_worker=ceilings.sessions_per_worker,
                tags=ceilings.tags,
            ),
        )

    async def _offer(self, leased: Sequence[LeasedSlot], seconds: float) -> list[Offer]:
        """What of it can be handed out; what came too late is finished without a run."""
        now = self._clock.now()
        offers: list[Offer] = []
        late: list[_Pair] = []
        closed: list[_Pair] = []
        for lease in leased:
            slot = self._planner.find(lease.device, lease.job)
            if slot is None:
                # Taken out of the configuration a moment ago: the sync under way removes it.
                log.info("dispatch.not_configured", device=lease.device, job=lease.job)
            elif is_too_late(lease, slot.job, now):
                late.append((lease, slot))
            elif not lease.on_demand and slot.windows.closed_by(_start(lease, now)):
                (late if slot.job.missed is MissedPolicy.NONE else closed).append((lease, slot))
            else:
                offers.append(self._encode(lease, slot, seconds))
        if late:
            await self._skip(late, now)
        if closed:
            await self._postpone(closed, now)
        return offers

    async def _postpone(self, closed: Sequence[_Pair], now: float) -> None:
        """Offer again what is kept from starting, when it may be started."""
        held = {breaker.device: breaker for breaker in await self._ledger.open_breakers()}
        finishes = [_postponed(*pair, now, held.get(pair[0].device)) for pair in closed]
        await self._ledger.finish(finishes, now)
        log.info("dispatch.postponed", count=len(closed))

    async def _skip(self, late: Sequence[_Pair], now: float) -> None:
        presences = await self._attendance.between(min(lease.due for lease, _ in late), now)
        # In a thread: after a long outage there is much to count.
        finishes = await asyncio.to_thread(
            lambda: [_missed(*pair, now, presences) for pair in late]
        )
        await self._ledger.finish(finishes, now)
        log.info("dispatch.skipped", count=len(late))

    def _encode(self, lease: LeasedSlot, slot: ConfiguredSlot, seconds: float) -> Offer:
        return Offer(
            device=self._planner.encoded(slot.device),
            job=self._planner.encoded(slot.job),
            timestamp=lease.due,
            lease=Lease(epoch=lease.epoch, expires_at=lease.expires_at, seconds=seconds),
        )


def _start(lease: LeasedSlot, now: float) -> float:
    """When a worker that is handed it now would start it."""
    return max(now, lease.due)


def _postponed(lease: LeasedSlot, slot: ConfiguredSlot, now: float, held: Breaker | None) -> Finish:
    start = math.ceil(_start(lease, now))
    opens_at, look_at = slot.windows.opens_at(start), start + POSTPONED_SECONDS
    again = look_at if opens_at is None else min(opens_at, look_at)
    if held is not None:  # else another of the device's slots would be its probe, and another
        held = msgspec.structs.replace(held, probe_at=max(again, held.probe_at or 0))
    return Finish(
        run=None,
        key=_key(lease),
        next_due=None,
        plan=lease.plan,
        retry_at=again,
        breaker=held,
    )


def _key(lease: LeasedSlot) -> LeaseKey:
    return LeaseKey(device=lease.device, job=lease.job, epoch=lease.epoch)


def _missed(
    lease: LeasedSlot, slot: ConfiguredSlot, now: float, presences: Sequence[Presence]
) -> Finish:
    times = times_of(lease.plan)
    if is_too_late(lease, slot.job, now):
        following = after_too_late(lease, times, slot.job, now)
    else:
        closed_by = slot.windows.closed_by(_start(lease, now))
        following = after_closed(lease, times, slot.job, now, closed_by)
    return Finish(
        run=None,
        key=_key(lease),
        next_due=following.due,
        plan=lease.plan,
        spans=all_explained(following.spans, times, facts_of(lease, presences, slot.windows)),
    )

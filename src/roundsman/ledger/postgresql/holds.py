"""Breakers, and the slots that they hold back; whoever calls holds the slots of the device."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.holds import Holdable, arrange
from roundsman.ledger.interface import Finish
from roundsman.ledger.postgresql import queue
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.breaker import Breaker

SQL = load("breakers")


async def note(link: Link, ending: Finish, now: float) -> None:
    """Keep what the end of a run says of its device, before the slot moves on."""
    if ending.answered:
        await close(link, ending.key.device, now)
    elif ending.breaker is not None:
        await SQL["keep_breaker"].rows(link, **msgspec.structs.asdict(ending.breaker))
        await SQL["watch"].rows(link, device=ending.breaker.device)


async def close(link: Link, device: str, now: float) -> bool:
    """Forget the failures of a device, and offer its slots again; false when not held."""
    row = await SQL["forget_breaker"].row(link, device=device)
    if row is None or row["opened_at"] is None:
        return False
    await queue.requeue(link, await SQL["release"].column(link, device=device, now=now), now)
    return True


async def hold(link: Link, device: str, now: float) -> None:
    """Hold back the slots of a device, but for one, if its breaker is open."""
    probe_at = await SQL["probe_at"].value(link, device=device)
    if probe_at is None:
        return
    rows = await SQL["holdable"].rows(link, device=device, now=now)
    arranged = arrange([Holdable(*row) for row in rows], probe_at)
    slot_ids = [slot.number for slot in arranged]
    await SQL["arrange"].rows(
        link,
        slot_ids=slot_ids,
        readies=[slot.ready for slot in arranged],
        were_held=[slot.was_held for slot in arranged],
    )
    await queue.requeue(link, slot_ids, now)


async def hold_those_among(link: Link, devices: Sequence[str], now: float) -> None:
    """Arrange anew what is held back of these devices."""
    for device in await SQL["held_among"].column(link, devices=devices):
        await hold(link, device, now)


async def by_device(link: Link, device: str) -> Breaker | None:
    """What a device's failures have come to."""
    row = await SQL["breaker"].row(link, device=device)
    return None if row is None else msgspec.convert(dict(row), Breaker)


async def open_ones(link: Link) -> list[Breaker]:
    """Every breaker that is open, by device."""
    return [msgspec.convert(dict(row), Breaker) for row in await SQL["open_breakers"].rows(link)]

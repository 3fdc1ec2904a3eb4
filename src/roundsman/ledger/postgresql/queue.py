"""The queue that claims take from, and the water of its lines."""

import math
from collections.abc import Sequence
from typing import Final

from roundsman.ledger.postgresql.statements import Link, load

SQL = load("queue")

OLD_SECONDS: Final = 2
"""What is put into the queue with a time so long ago holds its line, as raising the water does."""
WATER_SECONDS: Final = 5
"""The water stays so far behind now: further than a transaction is under way, but for one that is
stuck. What such a one left below the water is found when that is looked at from the start."""


def old_before(now: float) -> int:
    """What is put into the queue with a time before this is old."""
    return math.floor(now) - OLD_SECONDS


async def lock(link: Link, slot_ids: Sequence[int]) -> None:
    """Hold these slots until the end of the transaction."""
    await SQL["lock"].rows(link, slot_ids=slot_ids)


async def lock_devices(link: Link, devices: Sequence[str]) -> list[int]:
    """Hold the slots of these devices until the end of the transaction; their numbers."""
    return await SQL["lock_devices"].column(link, devices=devices)


async def requeue(link: Link, slot_ids: Sequence[int], now: float) -> None:
    """Offer slots that were changed, or do not, by what they say now."""
    await SQL["requeue"].rows(link, slot_ids=slot_ids, old_before=old_before(now))


async def raise_water(link: Link, now: float, *, from_start: bool) -> None:
    """Let claims begin at the first slot of each line; in a transaction of its own.

    What was claimed before that is not walked over any more, though it may still lie there.
    """
    lines = await SQL["hold_water"].column(link)
    await SQL["raise_water"].rows(
        link,
        lines=lines,
        old_before=math.floor(now) - WATER_SECONDS,
        from_start=from_start,
    )

"""The queue that claims take from, and the water of its lines."""

import math
from collections.abc import Sequence
from typing import Final

from roundsman.ledger.postgresql.statements import Link, load

SQL = load("queue")

SOON_SECONDS: Final = 4
"""Who puts something into the queue that is due, or will be so soon, writes the row of its line in
`waters`: so all who know where the line begins look again. It is longer than a transaction is
under way, but for one that is stuck. What such a one left is found when all is looked at."""


def old_before(now: float) -> int:
    """What is put into the queue with a time before this is told."""
    return math.floor(now) + SOON_SECONDS


async def lock(link: Link, slot_ids: Sequence[int]) -> None:
    """Hold these slots until the end of the transaction."""
    await SQL["lock"].rows(link, slot_ids=slot_ids)


async def lock_devices(link: Link, devices: Sequence[str]) -> list[int]:
    """Hold the slots of these devices until the end of the transaction; their numbers."""
    return await SQL["lock_devices"].column(link, devices=devices)


async def requeue(link: Link, slot_ids: Sequence[int], now: float) -> None:
    """Offer slots that were changed, or do not, by what they say now."""
    await SQL["requeue"].rows(link, slot_ids=slot_ids, old_before=old_before(now))


async def let_in(link: Link, devices: Sequence[str], now: float) -> None:
    """Offer what was set aside of devices of which a lease has ended.

    In a statement after the one that ended it: only so it sees what was set aside meanwhile.
    """
    if devices:
        await SQL["let_in"].rows(link, devices=devices, old_before=old_before(now))


async def let_in_all(link: Link, now: float, *, whatever_runs: bool) -> None:
    """Offer what was set aside of all devices, or of those of which no lease runs."""
    devices = await SQL["devices_aside"].column(link, now=now, whatever_runs=whatever_runs)
    await let_in(link, devices, now)


async def raise_water(link: Link, now: float) -> None:
    """Write where each line begins, for who knows nothing; in a transaction of its own.

    What was claimed before that is not walked over any more, though it may still lie there.
    """
    lines = await SQL["hold_water"].column(link)
    await SQL["raise_water"].rows(link, lines=lines, now=math.floor(now))

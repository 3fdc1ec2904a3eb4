"""Leases that ran out: found, some at a time, and their slots offered again."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.postgresql import queue
from roundsman.ledger.postgresql.database import Database
from roundsman.ledger.postgresql.statements import Link, load

SQL = load("claims")

AT_ONCE: Final = 100
"""So many leases are looked at in one transaction, for which others may have to wait."""
SWEEP_SECONDS: Final = 1.0
"""Leases that ran out are looked for at least so often, those of other controllers too."""
LATE_SECONDS: Final = 10.0
"""How much longer ago than the last look one is looked for that was passed over then."""


class Sweeper:
    """Looks for leases that ran out, before claims; those of a dead worker run out all at once."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """Nothing was looked at yet."""
        self._database = database
        self._swept_at = -math.inf
        self._rest: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Look for all of them at the next claim."""
        self._swept_at = -math.inf

    async def sweep(self, now: float, room: int) -> None:
        """Offer again what is under leases that ran out, if there may be any.

        As many as a claim has room for, or some more; the rest beside the claims. Raises
        `LedgerUnavailableError`.
        """
        if self._rest is not None and not self._rest.done():
            return
        if self._swept_at <= now < self._swept_at + SWEEP_SECONDS:
            return
        after = self._swept_at - LATE_SECONDS if self._swept_at <= now else -math.inf
        most = max(room, AT_ONCE)
        more = await self._database().do(partial(sweep, after=after, now=now, most=most))
        self._swept_at = now
        if more is not None:
            self._rest = asyncio.create_task(self._sweep_rest(more, now))

    async def _sweep_rest(self, after: float, now: float) -> None:
        try:
            await sweep_all(self._database(), after=after, now=now)
        except LedgerUnavailableError:
            self.forget()  # the next claim says it, or finds the database back

    async def close(self) -> None:
        """Leave what is left to others."""
        if self._rest is not None:
            self._rest.cancel()
            with suppress(asyncio.CancelledError):
                await self._rest


async def sweep_all(database: Database, *, after: float = -math.inf, now: float) -> None:
    """Offer again what is under leases that ran out from then on, some at a time.

    Raises `LedgerUnavailableError`.
    """
    more: float | None = after
    while more is not None:
        more = await database.do(partial(sweep, after=more, now=now, most=AT_ONCE))


async def sweep(link: Link, *, after: float, now: float, most: int) -> float | None:
    """Offer again what is under the first leases that ran out from then on, so many at most.

    From when on there may be more; none when that was all, or when others hold them just now.
    """
    [row] = await SQL["sweep"].rows(
        link, after=after, now=now, most=most, old_before=queue.old_before(now)
    )
    await queue.let_in(link, row["devices"], now)
    until: float | None = row["until"]
    return until if row["looked_at"] and row["found"] == most else None

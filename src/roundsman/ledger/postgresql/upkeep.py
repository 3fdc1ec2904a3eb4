"""What is looked after beside the calls: the clock, the water of the lanes, forgotten leases."""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Final

from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.postgresql import queue
from roundsman.ledger.postgresql.clock import DatabaseClock
from roundsman.ledger.postgresql.database import Database
from roundsman.ledger.postgresql.lines import Lines
from roundsman.ledger.postgresql.statements import load
from roundsman.ledger.postgresql.sweeps import sweep_all

ROUND_SECONDS: Final = 0.5
ROUNDS_FROM_START: Final = 120
"""Every so many rounds, a minute, everything is looked at from the start."""


async def look_after(database: Database, clock: DatabaseClock, lines: Lines) -> None:
    """Round after round until cancelled; what is away now is looked after when it is back.

    The first round, all of it, was had before.
    """
    for number in count(1):
        await clock.sleep(ROUND_SECONDS)
        with suppress(LedgerUnavailableError):
            await one_round(database, clock, lines, from_start=number % ROUNDS_FROM_START == 0)


async def one_round(
    database: Database, clock: DatabaseClock, lines: Lines, *, from_start: bool
) -> None:
    """Look after everything once. Raises `LedgerUnavailableError`."""
    clock.set(await database.do(load("life")["clock"].value))
    now = clock.now()
    await database.do(lines.refresh)
    if from_start:
        await sweep_all(database, now=now)
        await database.do(lambda link: queue.let_in_all(link, now, whatever_runs=False))
        await database.transact(lambda link: queue.raise_water(link, now))
        lines.forget_starts()


async def stop(task: "asyncio.Task[None]") -> None:
    """End the rounds."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

"""How to speak to SQLite: the same claims, durable, over 100,000 slots, by three ways.

- the standard library's sqlite3 behind the ledger's writer thread (one hop a claim, commits shared)
- aiosqlite (one hop a statement)
- SQLAlchemy's asyncio engine on aiosqlite (the same, with its layers)

A claim reads the slots that it chose and leases them, by the ledger's own statements. Run it with
`python -m bench.choices.sql`; ways whose library is not installed are left out.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from itertools import count, product
from pathlib import Path
from shutil import copyfile
from typing import Any

from bench.ledger_claims import NOW, folder, planned
from roundsman.ledger.sqlite import sync
from roundsman.ledger.sqlite.database import connect
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.migrations import migrate
from roundsman.ledger.sqlite.statements import load
from roundsman.ledger.sqlite.writer import Writer

SLOTS = 100_000
SECONDS = 0.4
ROUNDS = 4
SQL = load("claims")
SETTINGS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -32768")

Claim = Callable[[int], Awaitable[int]]


def chosen(turn: int, limit: int) -> dict[str, object]:
    """What a claim asks for: each time the next slots."""
    first = turn * limit % SLOTS
    return {"slot_ids": json.dumps([*range(first + 1, first + limit + 1)]), "now": NOW}


def leases(rows: Iterable[Any]) -> list[dict[str, object]]:
    """What leases the slots that were read."""
    return [
        {
            "slot_id": slot_id,
            "epoch": epoch,
            "expires_at": NOW + 120,
            "worker_id": "bench",
            "claimed_at": NOW,
        }
        for slot_id, _, epoch, *_ in rows
    ]


def make(path: Path) -> None:
    connection = connect(path, cache_megabytes=32)
    migrate(connection)
    connection.execute("BEGIN")
    differences = sync.compare(connection, planned(SLOTS))
    sync.apply(connection, Lanes(), differences, now=NOW, new_id=str)
    connection.execute("COMMIT")
    connection.close()


async def with_sqlite3(path: Path, measure: Callable[[Claim], Awaitable[None]]) -> None:
    writer = Writer(connect(path, cache_megabytes=32), lambda: None)
    turns = count()

    def work(connection: sqlite3.Connection, limit: int) -> int:
        found = leases(connection.execute(SQL["chosen"], chosen(next(turns), limit)))
        connection.executemany(SQL["lease"], found)
        return len(found)

    await measure(lambda limit: writer.do(lambda connection: work(connection, limit)))
    await writer.close()


async def with_aiosqlite(path: Path, measure: Callable[[Claim], Awaitable[None]]) -> None:
    aiosqlite = import_module("aiosqlite")
    turns, alone = count(), asyncio.Lock()
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        for setting in SETTINGS:
            await connection.execute(f"PRAGMA {setting}")

        async def claim(limit: int) -> int:
            async with alone:
                await connection.execute("BEGIN IMMEDIATE")
                asked = chosen(next(turns), limit)
                found = leases(await connection.execute_fetchall(SQL["chosen"], asked))
                await connection.executemany(SQL["lease"], found)
                await connection.execute("COMMIT")
                return len(found)

        await measure(claim)


async def with_sqlalchemy(path: Path, measure: Callable[[Claim], Awaitable[None]]) -> None:
    sqlalchemy = import_module("sqlalchemy")
    asynchronous = import_module("sqlalchemy.ext.asyncio")
    turns, alone = count(), asyncio.Lock()
    read, lease = sqlalchemy.text(SQL["chosen"]), sqlalchemy.text(SQL["lease"])
    engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{path}")

    def set_up(connection: Any, _: object) -> None:
        for setting in SETTINGS:
            connection.execute(f"PRAGMA {setting}")

    sqlalchemy.event.listen(engine.sync_engine, "connect", set_up)

    async def claim(limit: int) -> int:
        async with alone, engine.begin() as connection:
            found = leases(await connection.execute(read, chosen(next(turns), limit)))
            await connection.execute(lease, found)
            return len(found)

    await measure(claim)
    await engine.dispose()


async def rate(claim: Claim, limit: int, callers: int) -> float:
    """Slots leased per second by so many callers at once."""
    leased = 0
    started = time.perf_counter()

    async def caller() -> None:
        nonlocal leased
        while time.perf_counter() - started < SECONDS:
            batch = await claim(limit)
            leased += batch

    await asyncio.gather(*(caller() for _ in range(callers)))
    return leased / (time.perf_counter() - started)


async def main() -> None:
    ways = {
        "sqlite3, own writer thread": (with_sqlite3, "sqlite3"),
        "aiosqlite": (with_aiosqlite, "aiosqlite"),
        "SQLAlchemy + aiosqlite": (with_sqlalchemy, "sqlalchemy"),
    }
    best: dict[tuple[str, int, int], float] = {}
    with folder() as data:
        make(data / "made.sqlite3")
        path = data / "ledger.sqlite3"
        # Round by round, and the best of each: other programs' use of the disk comes and goes.
        for _, limit, callers, name in product(range(ROUNDS), (15, 100), (1, 8), ways):
            way, library = ways[name]
            if find_spec(library) is None:
                continue
            for file in data.glob("ledger.sqlite3*"):
                file.unlink()
            copyfile(data / "made.sqlite3", path)
            rates: list[float] = []

            async def measure(claim: Claim) -> None:
                rates.append(await rate(claim, limit, callers))  # noqa: B023  # called at once

            await way(path, measure)
            case = (name, limit, callers)
            best[case] = max(best.get(case, 0.0), *rates)
    for (name, limit, callers), found in sorted(best.items(), key=lambda item: item[0][1:]):
        print(f"claims of {limit:3}, {callers} callers: {name:28} {found:8,.0f} slots/s")


if __name__ == "__main__":
    asyncio.run(main())

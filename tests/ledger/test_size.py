"""A long history and a large fleet cost what a short one does: by what the databases read."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from roundsman.ledger.postgresql.database import _SETTINGS
from roundsman.ledger.postgresql.statements import Statement, load
from roundsman.ledger.sqlite.database import connect
from roundsman.ledger.sqlite.migrations import migrate
from roundsman.ledger.sqlite.statements import load as load_sqlite
from roundsman.testing.postgresql_server import PASSWORD

FEW, MANY = 3_000, 30_000
BATCH = 200
RUNS = """
    INSERT INTO runs (run_id, device, job, due, outcome, recorded_at, count, evidence, on_demand, attempt)
    SELECT 'r' || n, 'd' || n % 1000, 'show', n * 60, 'succeeded', n * 60.0, 1, {no}, {no}, 1
    FROM {numbers}
"""  # noqa: E501 - SQL as it is run


async def pages_read(link: asyncpg.Connection, statement: Statement, **values: object) -> int:
    """How many pages of the database a statement looks at, in memory or on the disk."""
    values_in_order = [values[name] for name in statement.names]
    explained = await link.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}", *values_in_order
    )
    plan: dict[str, Any] = msgspec.json.decode(explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_a_batch_of_old_runs_costs_the_same_on_postgresql(postgresql_url: str) -> None:
    link = await asyncpg.connect(
        postgresql_url, password=PASSWORD.reveal(), server_settings=_SETTINGS
    )
    try:
        prune, beyond = load("retention")["prune"], load("retention")["newest_recorded"]
        taken, looked = [], []
        first = 1
        for last in (FEW, MANY):
            numbers = f"generate_series({first}, {last}) AS n"
            await link.execute(RUNS.format(no="false", numbers=numbers))
            await link.execute("VACUUM ANALYZE runs")
            looked.append(await pages_read(link, beyond, most=10 * MANY))
            taken.append(await pages_read(link, prune, before=last * 60.0, limit=BATCH))
            first = last + 1
        print(f"pages read by a batch {taken}, by a look for what is beyond {looked}")
        assert taken[1] < 1.5 * taken[0]
        assert max(looked) < 20
    finally:
        await link.close()


async def test_what_a_result_costs_does_not_grow_with_history_on_postgresql(
    postgresql_url: str,
) -> None:
    """Claims touch no history at all; a result is looked for in it, and added."""
    link = await asyncpg.connect(
        postgresql_url, password=PASSWORD.reveal(), server_settings=_SETTINGS
    )
    try:
        find, add = load("runs")["find_repeats"], load("runs")["add_runs"]
        devices = [f"d{n}" for n in range(0, 1000, 20)]
        found, added = [], []
        first = 1
        for last in (FEW, MANY):
            numbers = f"generate_series({first}, {last}) AS n"
            await link.execute(RUNS.format(no="false", numbers=numbers))
            await link.execute("VACUUM ANALYZE runs")
            asked = {
                "devices": devices,
                "jobs": ["show"] * len(devices),
                "dues": [60 * last] * len(devices),
                "digests": ["x"] * len(devices),
            }
            found.append(await pages_read(link, find, **asked))
            runs = [
                {
                    "run_id": f"{device} {last}",
                    "device": device,
                    "job": "show",
                    "due": 60 * last,
                    "outcome": "succeeded",
                    "recorded_at": 60.0 * last,
                    "count": 1,
                    "evidence": False,
                    "on_demand": False,
                    "attempt": 1,
                }
                for device in devices
            ]
            added.append(await pages_read(link, add, runs=msgspec.json.encode(runs).decode()))
            first = last + 1
        print(
            f"pages read for {len(devices)} results: to look for them {found}, to add them {added}"
        )
        assert found[1] < 1.5 * found[0]  # indexes are a level deeper
        assert added[1] < 1.5 * added[0]
    finally:
        await link.close()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / "ledger.sqlite3", cache_megabytes=8)) as connection:
        migrate(connection)
        yield connection


def test_a_batch_of_old_runs_costs_the_same_on_sqlite(connection: sqlite3.Connection) -> None:
    sql = load_sqlite("retention")
    taken, looked, found = [], [], []
    first = 1
    for last in (FEW, MANY):
        text = RUNS.format(no=0, numbers="(SELECT value AS n FROM json_each(:numbers))")
        connection.execute(text, {"numbers": str(list(range(first, last + 1)))})
        looked.append(steps(connection, sql["newest_recorded"], {"most": 10 * MANY}))
        asked = {"results": f'[["d7","show",{60 * last},"x"]]'}
        found.append(steps(connection, load_sqlite("runs")["find_repeats"], asked))
        bound = {"before": last * 60.0, "limit": BATCH}
        taken.append(
            sum(
                steps(connection, sql[name], bound)
                for name in ("last_due_of_oldest", "sum_oldest", "remove_oldest")
            )
        )
        first = last + 1
    print(f"instructions of a batch {taken}, of a look for what is beyond {looked}")
    assert taken[1] < 1.5 * taken[0]
    assert max(looked) < 100
    assert found[1] <= found[0], "what a result repeats is looked for in its slot and due time"


def steps(connection: sqlite3.Connection, sql: str, values: Mapping[str, object]) -> int:
    """How many instructions SQLite carries out."""
    count = 0

    def note() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(note, 1)
    connection.execute(sql, values).fetchall()
    connection.set_progress_handler(None, 0)
    return count

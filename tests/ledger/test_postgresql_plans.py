"""Whatever the statistics say, what is known by its key is looked up by it on PostgreSQL."""

import re
from collections.abc import AsyncIterator, Iterator
from itertools import chain, combinations
from typing import Any, NamedTuple

import asyncpg
import msgspec
import pytest

from roundsman.ledger.postgresql.database import _SETTINGS
from roundsman.ledger.postgresql.statements import Statement, load
from roundsman.testing.postgresql_server import PASSWORD

TABLES = ("slots", "queue", "leases")
FILL = """
INSERT INTO lanes (tags) SELECT ARRAY['t' || n] FROM generate_series(1, 10) AS n;
INSERT INTO waters (line) SELECT lane_id * 4 + 2 FROM lanes;
INSERT INTO slots (device, job, lane_id, plan, planned_since, priority, due, ready, epoch, paused, watched)
SELECT 'd' || n / 2, 'j' || n % 2, 1 + n % 10, 'p', 0, 2, n, n, 0, n = 4000, false FROM generate_series(1, 4000) AS n;
INSERT INTO queue SELECT slot_id, CASE slot_id % 2 WHEN 0 THEN -7 ELSE 6 END, ready, false FROM slots;
INSERT INTO leases SELECT slot_id, 1, ready, ready, 'w', 0 FROM slots WHERE slot_id % 2 = 0;
ANALYZE;
"""  # noqa: E501 - SQL as it is run
# As of a table that was full, and was empty when it was looked at.
EMPTY = "UPDATE pg_class SET reltuples = 0, relpages = 9 WHERE relname = ANY($1::text[])"
TWO_DEVICES = """
UPDATE slots SET job = 'x' || slot_id;
UPDATE slots SET device = 'd' || slot_id % 2;
ANALYZE slots;
"""
STATEMENTS = [
    *(("queue", name) for name in ("lock", "requeue", "set_aside", "let_in", "devices_aside")),
    *(("claims", name) for name in ("take", "renew", "revive", "standing_leases")),
]


class Scan(NamedTuple):
    """How a plan gets at a table."""

    table: str
    through: str | None
    condition: str


@pytest.fixture
async def link(postgresql_url: str) -> AsyncIterator[asyncpg.Connection]:
    link = await asyncpg.connect(
        postgresql_url,
        password=PASSWORD.reveal(),
        server_settings=_SETTINGS,
        statement_cache_size=0,
    )
    for table in TABLES:  # nobody else makes statistics
        await link.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    await link.execute(FILL)
    yield link
    await link.close()


async def plan_of(link: asyncpg.Connection, statement: Statement) -> dict[str, Any]:
    """The plan that is kept for whatever values it is given."""
    await link.execute(f"PREPARE asked AS {statement.sql}")
    values = ", ".join(["NULL"] * len(statement.names))
    text = await link.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked ({values})")
    await link.execute("DEALLOCATE asked")
    plan: dict[str, Any] = msgspec.json.decode(text)[0]["Plan"]
    return plan


def scans(node: dict[str, Any]) -> Iterator[Scan]:
    if node["Node Type"].endswith("Scan") and node.get("Relation Name") in TABLES:
        yield Scan(node["Relation Name"], node.get("Index Name"), node.get("Index Cond", ""))
    for inner in node.get("Plans", ()):
        yield from scans(inner)


async def walks(link: asyncpg.Connection) -> list[tuple[str, Scan]]:
    """The statements that go through a table, or an index by another than its first column."""
    first = dict(
        await link.fetch(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true) FROM pg_index"
        )
    )
    return [
        (name, scan)
        for topic, name in STATEMENTS
        for scan in scans(await plan_of(link, load(topic)[name]))
        if not re.search(rf"\b{first.get(scan.through)}\b", scan.condition)
    ]


async def test_no_statistics_have_a_table_walked_through(link: asyncpg.Connection) -> None:
    """Those of a time when tables were empty; those of slots of two devices."""
    subsets = chain.from_iterable(combinations(TABLES, n) for n in range(1 + len(TABLES)))
    for empty in list(subsets):
        await link.execute("ANALYZE")
        await link.execute(EMPTY, empty)
        assert await walks(link) == [], f"{empty} were taken to be empty"
    await link.execute(TWO_DEVICES)
    await link.execute(EMPTY, TABLES)
    assert await walks(link) == []


async def test_few_pages_are_looked_at_for_few_slots(link: asyncpg.Connection) -> None:
    await link.execute(EMPTY, TABLES)
    slot_ids = [*range(100, 4000, 400), 4000]
    pages = {}
    for name, values in (
        ("requeue", {"slot_ids": slot_ids, "old_before": 0}),
        ("let_in", {"devices": [f"d{n}" for n in range(10, 20)], "old_before": 0}),
    ):
        statement = load("queue")[name]
        text = await link.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}",
            *(values[name] for name in statement.names),
        )
        plan = msgspec.json.decode(text)[0]["Plan"]
        pages[name] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    print(f"pages looked at: {pages}")
    assert max(pages.values()) < 500

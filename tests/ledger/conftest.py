"""A real PostgreSQL server for each process that runs tests, and a database for each test.

ROUNDSMAN_POSTGRESQL=/usr/lib/postgresql/15/bin takes the server of that folder, not the wheel's.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from roundsman.clock import SystemClock
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.testing.postgresql_server import PASSWORD, TEMPLATE, PostgresqlServer

PROGRAMS_VARIABLE = "ROUNDSMAN_POSTGRESQL"
# No row, dead or alive, no number and no statistics are left to the next test. Without triggers:
# lines of the audit are not to be removed.
EMPTIED = """
SET session_replication_role = replica;
DO $$
DECLARE used text;
BEGIN
    SELECT string_agg(relname, ', ') INTO used FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0
    AND relname NOT IN ('schema_version', 'incarnation', 'leadership', 'terms', 'probe');
    IF used IS NOT NULL THEN
        EXECUTE 'TRUNCATE ' || used || ' RESTART IDENTITY CASCADE';
    END IF;
    DELETE FROM pg_statistic
    WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace);
    UPDATE leadership SET until = 0;
END $$
"""
numbers = count()

_MEMORY = Path("/dev/shm")
MEMORY = _MEMORY if os.access(_MEMORY, os.W_OK) else None
"""A folder that is not on a disk, where there is one: for thousands of commits whose answers are
what is tested. A flush takes a millisecond, or half a second beside others."""


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlServer]:
    programs = os.environ.get(PROGRAMS_VARIABLE)
    with PostgresqlServer(Path(programs) if programs else None) as server:
        asyncio.run(make_template(server, tmp_path_factory.mktemp("template")))
        yield server


async def make_template(server: PostgresqlServer, folder: Path) -> None:
    await server.run(f"CREATE DATABASE {TEMPLATE}")
    ledger = PostgresqlLedger(server.url(TEMPLATE), PASSWORD, folder=folder, clock=SystemClock())
    await ledger.open()
    await ledger.close()


@pytest.fixture
async def postgresql_url(postgresql_server: PostgresqlServer) -> AsyncIterator[str]:
    """The URL of a database of the latest schema, empty."""
    name = f"test_{next(numbers)}"
    await postgresql_server.run(EMPTIED, TEMPLATE)  # of what a test left that was run in it
    await postgresql_server.run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield postgresql_server.url(name)
    await postgresql_server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
async def postgresql_ledger(
    postgresql_server: PostgresqlServer, tmp_path: Path
) -> AsyncIterator[PostgresqlLedger]:
    """A ledger in the template, emptied: that is quicker than a database of its own."""
    await postgresql_server.run(EMPTIED, TEMPLATE)
    ledger = PostgresqlLedger(
        postgresql_server.url(TEMPLATE), PASSWORD, folder=tmp_path / "data", clock=SystemClock()
    )
    await ledger.open()
    yield ledger
    await ledger.close()

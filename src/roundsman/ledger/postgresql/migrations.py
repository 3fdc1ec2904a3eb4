"""Brings a database to the schema that this code knows, by numbered files.

All that are missing run in one transaction, so that a database is never left between two releases.
A lock lets one controller do it while the others wait; it ends with the connection, however that
ends.

Controllers of two releases may serve at once. A migration that only adds to what is there leaves
those before it to go on; one that takes something away says so, `-- least: N`, and is not run while
a controller is up that knows less than schema N.
"""

from typing import Final

from asyncpg import Connection

from roundsman import logs
from roundsman.ledger import sql_files
from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.wire.controller import ALIVE_SECONDS

log = logs.get(__name__)

_MAKE: Final = """
CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL);
ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS least integer NOT NULL DEFAULT 1;
INSERT INTO schema_version (version) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM schema_version);
"""
_ALIVE_BELOW: Final = """
SELECT coalesce(address, controller_id) FROM controllers
WHERE seen_at > extract(epoch FROM clock_timestamp()) - $2::double precision
AND coalesce((record::json ->> 'schema')::integer, 0) < $1
"""


class LedgerInUseError(LedgerUnavailableError):
    """Controllers are up that could not go on with the schema of this release."""

    code = "ledger.in_use"


def migrations() -> list[tuple[int, str]]:
    """Number and SQL of each migration, in order."""
    return sql_files.migrations("roundsman.ledger.postgresql")


async def migrate(connection: Connection) -> int:
    """Run those that this database has not seen; the number of the last that it has.

    Raises `LedgerTooNewError` for a database that a later release keeps for itself, and
    `LedgerInUseError`.
    """
    async with connection.transaction():
        await alone(connection, Lock.MIGRATION)
        await connection.execute(_MAKE)
        version, needed = await connection.fetchrow("SELECT version, least FROM schema_version")
        known = migrations()
        lacking = sql_files.unseen(known, version, needed=needed)
        least = max([needed, *(sql_files.least(text) for _, text in lacking)])
        if version and least > needed:
            await _must_be_unused_below(connection, least)
        for number, text in lacking:
            await connection.execute(text)
            await connection.execute("UPDATE schema_version SET version = $1", number)
        await connection.execute("UPDATE schema_version SET least = $1", least)
    if version > known[-1][0]:
        log.info("ledger.later_schema", schema=version, known=known[-1][0])
    return max(int(version), known[-1][0])


async def _must_be_unused_below(connection: Connection, least: int) -> None:
    if await connection.fetchval("SELECT to_regclass('controllers')") is None:
        return
    found = await connection.fetch(_ALIVE_BELOW, least, ALIVE_SECONDS)
    if found:
        raise LedgerInUseError(
            f"the schema of this release needs controllers that know schema {least}, and"
            f" {', '.join(row[0] for row in found)} knows less",
            remedy="bring those to this release, or to one between, or stop them",
        )

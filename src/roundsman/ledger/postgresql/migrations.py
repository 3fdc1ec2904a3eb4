"""Brings a database to the schema that this code knows, by numbered files.

All that are missing run in one transaction, so that a database is never left between two releases.
A lock lets one controller do it while the others wait; it ends with the connection, however that
ends.
"""

from asyncpg import Connection

from roundsman.ledger import sql_files
from roundsman.ledger.postgresql.locks import Lock, alone


def migrations() -> list[tuple[int, str]]:
    """Number and SQL of each migration, in order."""
    return sql_files.migrations("roundsman.ledger.postgresql")


async def migrate(connection: Connection) -> int:
    """Run those that this database has not seen; the number of the last.

    Raises `LedgerTooNewError` for a database of a later release.
    """
    async with connection.transaction():
        await alone(connection, Lock.MIGRATION)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)"
        )
        version = await connection.fetchval("SELECT version FROM schema_version")
        if version is None:
            await connection.execute("INSERT INTO schema_version (version) VALUES (0)")
        known = migrations()
        for number, text in sql_files.unseen(known, version or 0):
            await connection.execute(text)
            await connection.execute("UPDATE schema_version SET version = $1", number)
    return known[-1][0]

"""Brings a database to the schema that this code knows, by numbered files."""

import sqlite3

from roundsman.ledger import sql_files


def migrations() -> list[tuple[int, str]]:
    """Number and SQL of each migration, in order."""
    return sql_files.migrations("roundsman.ledger.sqlite")


def migrate(connection: sqlite3.Connection) -> None:
    """Run those that this database has not seen, each in a transaction of its own.

    Raises `LedgerTooNewError` for a database of a later release.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, text in sql_files.unseen(migrations(), version):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

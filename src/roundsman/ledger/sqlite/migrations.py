"""Brings a database to the schema that this code knows, by numbered files."""

import sqlite3
from importlib.resources import files

from roundsman.ledger.interface import LedgerUnavailableError


class LedgerTooNewError(LedgerUnavailableError):
    """The database was written by a later release."""

    code = "ledger.too_new"


def migrations() -> list[tuple[int, str]]:
    """Number and SQL of each migration, in order."""
    folder = files("roundsman.ledger.sqlite").joinpath("sql", "migrations")
    return sorted(
        (int(entry.name.partition("_")[0]), entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Run those that this database has not seen, each in a transaction of its own."""
    known = migrations()
    newest = known[-1][0]
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > newest:
        raise LedgerTooNewError(
            f"expected a ledger of schema {newest} or earlier, found schema {version}",
            remedy="install the release that wrote it, or a later one",
        )
    for number, text in known:
        if number > version:
            try:
                connection.executescript(
                    f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;"
                )
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

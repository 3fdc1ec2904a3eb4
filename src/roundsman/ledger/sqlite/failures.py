"""What SQLite says when it cannot serve, in the words of the ledger."""

import sqlite3
from typing import Final

from roundsman.ledger.interface import LedgerUnavailableError

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "free some space on its disk",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "see that its folder exists and is readable and writable",
    sqlite3.SQLITE_IOERR: "look at the disk: the system's log says more",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_NOTADB: "restore it from a backup, or name another data folder",
    sqlite3.SQLITE_BUSY: "end the other program that writes to it",
}
_OUR_OWN_FAULTS: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)


def translate(error: Exception) -> Exception:
    """`LedgerUnavailableError` for what the database could not do; other errors as they are."""
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, _OUR_OWN_FAULTS):
        return error
    # The low byte is the error, the rest its kind: SQLITE_IOERR_WRITE is SQLITE_IOERR | 3 << 8.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    translated = LedgerUnavailableError(
        f"the ledger's database does not serve: {error}", remedy=_REMEDIES.get(code)
    )
    translated.__cause__ = error
    return translated

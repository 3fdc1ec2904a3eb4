"""Lines of the audit: added, and read by pages."""

import sqlite3
from collections.abc import Sequence

from roundsman.ledger import audit
from roundsman.ledger.interface import AuditQuery, Page
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.audit import AuditEntry

SQL = load("audit")


def add(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Write lines; they stay."""
    connection.executemany(SQL["add_line"], [audit.columns(entry) for entry in entries])


def page(connection: sqlite3.Connection, query: AuditQuery) -> Page[AuditEntry]:
    """Lines, newest or oldest first."""
    name = "list_oldest_first" if query.oldest_first else "list_newest_first"
    sql = SQL[name].format(index=_index(query), filters=audit.condition(query))
    return audit.page(connection.execute(sql, audit.values(query)).fetchall(), query.limit)


def _index(query: AuditQuery) -> str:
    """The index that leaves the fewest rows to look at."""
    if query.process_id is not None:
        return "audit_by_process"
    return "audit_by_worker" if query.worker_id is not None else "audit_by_time"

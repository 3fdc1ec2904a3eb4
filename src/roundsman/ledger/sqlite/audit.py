"""Lines of the audit: added, and read by pages."""

import math
import sqlite3
from collections.abc import Sequence

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.interface import AuditQuery, Page
from roundsman.ledger.sqlite.statements import all_of, load
from roundsman.wire.audit import AuditEntry

SQL = load("audit")

_entry = msgspec.json.Decoder(AuditEntry)


def add(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Write lines; they stay."""
    connection.executemany(SQL["add_line"], [_row(entry) for entry in entries])


def _row(entry: AuditEntry) -> dict[str, object]:
    return {
        "at": entry.at,
        "area": entry.action.area,
        "action": entry.action,
        "by": entry.by,
        "worker_id": entry.worker_id,
        "process_id": entry.process_id,
        "batch_id": entry.batch_id,
        "entry": msgspec.json.encode(entry).decode(),
    }


def page(connection: sqlite3.Connection, query: AuditQuery) -> Page[AuditEntry]:
    """Lines, newest or oldest first."""
    filters = {
        "area = :area": query.area is not None,
        "action = :action": query.action is not None,
        '"by" = :by': query.by is not None,
        "worker_id = :worker_id": query.worker_id is not None,
        "process_id = :process_id": query.process_id is not None,
        "batch_id = :batch_id": query.batch_id is not None,
        "at >= :since": query.since is not None,
        "at < :until": query.until is not None,
    }
    name = "list_oldest_first" if query.oldest_first else "list_newest_first"
    place = (-1.0, 0) if query.oldest_first else (math.inf, 0)
    if query.after is not None:
        place = cursors.time_place(query.after)
    rows = connection.execute(
        SQL[name].format(index=_index(query), filters=all_of(filters)),
        {
            **msgspec.structs.asdict(query),
            "place": place[0],
            "place_number": place[1],
            "limit": query.limit + 1,
        },
    ).fetchall()
    kept = rows[: query.limit]
    following = None
    if len(rows) > query.limit:
        number, at, _ = kept[-1]
        following = cursors.encode((at, number))
    items = tuple(
        msgspec.structs.replace(_entry.decode(text), number=number) for number, _, text in kept
    )
    return Page(items=items, next=following)


def _index(query: AuditQuery) -> str:
    """The index that leaves the fewest rows to look at."""
    if query.process_id is not None:
        return "audit_by_process"
    return "audit_by_worker" if query.worker_id is not None else "audit_by_time"

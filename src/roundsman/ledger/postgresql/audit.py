"""Lines of the audit: added, and read by pages."""

import math
from collections.abc import Sequence

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.interface import AuditQuery, Page
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.sql_files import all_of
from roundsman.wire.audit import AuditEntry

SQL = load("audit")

_entry = msgspec.json.Decoder(AuditEntry)


async def add(link: Link, entries: Sequence[AuditEntry]) -> None:
    """Write lines; they stay."""
    if entries:
        lines = [_row(entry) for entry in entries]
        await SQL["add_lines"].rows(link, lines=msgspec.json.encode(lines).decode())


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


async def page(link: Link, query: AuditQuery) -> Page[AuditEntry]:
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
    values = {
        **msgspec.structs.asdict(query),
        "place": place[0],
        "place_number": place[1],
        "limit": query.limit + 1,
    }
    rows = await SQL[name].formed(filters=all_of(filters)).rows(link, **values)
    kept = rows[: query.limit]
    following = None
    if len(rows) > query.limit:
        following = cursors.encode((kept[-1]["at"], kept[-1]["audit_number"]))
    items = tuple(
        msgspec.structs.replace(_entry.decode(row["entry"]), number=row["audit_number"])
        for row in kept
    )
    return Page(items=items, next=following)

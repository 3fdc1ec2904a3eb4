"""Lines of the audit: added, and read by pages."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger import audit
from roundsman.ledger.interface import AuditQuery, Page
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.audit import AuditEntry

SQL = load("audit")


async def add(link: Link, entries: Sequence[AuditEntry]) -> None:
    """Write lines; they stay."""
    if entries:
        lines = [audit.columns(entry) for entry in entries]
        await SQL["add_lines"].rows(link, lines=msgspec.json.encode(lines).decode())


async def page(link: Link, query: AuditQuery) -> Page[AuditEntry]:
    """Lines, newest or oldest first."""
    name = "list_oldest_first" if query.oldest_first else "list_newest_first"
    statement = SQL[name].formed(filters=audit.condition(query))
    rows = await statement.rows(link, **audit.values(query))
    found = [(row["audit_number"], row["at"], row["entry"]) for row in rows]
    return audit.page(found, query.limit)

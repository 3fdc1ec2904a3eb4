"""Lines of the audit: added, and read by pages."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import AuditQuery, Page
from roundsman.ledger.memory.pages import newest_first, oldest_first
from roundsman.ledger.memory.tables import Tables
from roundsman.wire.audit import AuditEntry


class Audit(Tables):
    """Lines come."""

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        self._must_be_open()
        self._write_audit(entries)

    def _write_audit(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            number = len(self._audit) + 1
            self._audit.append(msgspec.structs.replace(entry, number=number))

    async def audit(self, query: AuditQuery) -> Page[AuditEntry]:
        self._must_be_open()
        wanted = [
            ((entry.at, entry.number), entry)
            for entry in self._audit
            if _wanted_entry(query, entry)
        ]
        if query.oldest_first:
            return oldest_first(wanted, query.after, query.limit)
        return newest_first(wanted, query.after, query.limit)


def _wanted_entry(query: AuditQuery, entry: AuditEntry) -> bool:
    return (
        query.area in (None, entry.action.area)
        and query.action in (None, entry.action)
        and query.by in (None, entry.by)
        and query.worker_id in (None, entry.worker_id)
        and query.process_id in (None, entry.process_id)
        and query.batch_id in (None, entry.batch_id)
        and (query.since is None or entry.at >= query.since)
        and (query.until is None or entry.at < query.until)
    )

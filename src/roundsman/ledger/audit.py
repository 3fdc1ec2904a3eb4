"""Lines of the audit as rows of a table: what the drivers with SQL share."""

import math
from collections.abc import Sequence

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.interface import AuditQuery, Page
from roundsman.ledger.sql_files import all_of
from roundsman.wire.audit import AuditEntry

_entry = msgspec.json.Decoder(AuditEntry)


def columns(entry: AuditEntry) -> dict[str, object]:
    """A line as a row: what is asked for by has a column, and `entry` is all of it, as JSON."""
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


def condition(query: AuditQuery) -> str:
    """Which rows fit the filters, as SQL over `values`."""
    return all_of(
        {
            "area = :area": query.area is not None,
            "action = :action": query.action is not None,
            '"by" = :by': query.by is not None,
            "worker_id = :worker_id": query.worker_id is not None,
            "process_id = :process_id": query.process_id is not None,
            "batch_id = :batch_id": query.batch_id is not None,
            "at >= :since": query.since is not None,
            "at < :until": query.until is not None,
        }
    )


def values(query: AuditQuery) -> dict[str, object]:
    """What is asked for, and the place that the page begins after: one row more than it holds."""
    place = (-1.0, 0) if query.oldest_first else (math.inf, 0)
    if query.after is not None:
        place = cursors.time_place(query.after)
    return {
        **msgspec.structs.asdict(query),
        "place": place[0],
        "place_number": place[1],
        "limit": query.limit + 1,
    }


def page(rows: Sequence[tuple[int, float, str]], limit: int) -> Page[AuditEntry]:
    """The rows found, each its number, its time and `entry`, as a page of so many."""
    kept = rows[:limit]
    following = None
    if len(rows) > limit:
        number, at, _ = kept[-1]
        following = cursors.encode((at, number))
    items = tuple(
        msgspec.structs.replace(_entry.decode(text), number=number) for number, _, text in kept
    )
    return Page(items=items, next=following)

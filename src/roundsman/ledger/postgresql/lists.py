"""Lists by pages: the conditions that were asked for, and one row more to see the end."""

import math
from typing import Any

import msgspec
from asyncpg import Record

from roundsman.ledger import cursors
from roundsman.ledger.interface import Page, ProcessQuery, RunQuery, SlotQuery
from roundsman.ledger.postgresql import processes as process_rows
from roundsman.ledger.postgresql import results
from roundsman.ledger.postgresql import runs as run_rows
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.sql_files import all_of
from roundsman.wire.process import Process
from roundsman.wire.run import Run, Slot, SlotState

_LEASED = "expires_at > :now"
_FREE = f"({_LEASED}) IS NOT TRUE"  # there may be no lease at all
_STATES = {
    SlotState.LEASED: _LEASED,
    SlotState.PAUSED: f"paused AND {_FREE}",
    SlotState.HELD: f"held AND NOT paused AND {_FREE}",
    SlotState.ENDED: f"ended AND NOT paused AND {_FREE}",
    SlotState.DUE: f"ready <= :now AND NOT paused AND {_FREE}",
    SlotState.WAITING: f"ready > :now AND NOT paused AND {_FREE}",
}


async def slots(link: Link, query: SlotQuery, now: float) -> Page[Slot]:
    """Slots, by device and job."""
    after = cursors.slot_place(query.after) if query.after else ("", "")
    filters = {
        "device = :device": query.device is not None,
        "job = :job": query.job is not None,
        "tags @> ARRAY[:tag::text]": query.tag is not None,
        f"{_LEASED} AND worker_id = :worker_id": query.worker_id is not None,
        _STATES[query.state or SlotState.DUE]: query.state is not None,
    }
    leased = query.worker_id is not None or query.state is SlotState.LEASED
    statement = load("slots")["list_slots"].formed(
        filters=all_of(filters), join="" if leased else "LEFT"
    )
    values = {
        **msgspec.structs.asdict(query),
        "now": now,
        "after_device": after[0],
        "after_job": after[1],
        "limit": query.limit + 1,
    }
    items = [_slot(row) for row in await statement.rows(link, **values)]
    following = None
    if len(items) > query.limit:
        last = items[query.limit - 1]
        following = cursors.encode((last.device, last.job))
    return Page(items=tuple(items[: query.limit]), next=following)


def _slot(row: Record) -> Slot:
    fields: dict[str, Any] = dict(row)
    result = results.decode(fields.pop("result"))
    waiting = None if result is None else result.quarantined
    fields["quarantined"] = None if waiting is None else waiting.run_id
    return msgspec.convert(fields, Slot)


async def runs(link: Link, query: RunQuery) -> Page[Run]:
    """Runs, newest first."""
    filters = {
        "device = :device": query.device is not None,
        "job = :job": query.job is not None,
        "outcome = :outcome": query.outcome is not None,
        "worker_id = :worker_id": query.worker_id is not None,
        "recorded_at >= :since": query.since is not None,
        "recorded_at < :until": query.until is not None,
    }
    statement = load("runs")["list_runs"].formed(filters=all_of(filters))
    rows = await statement.rows(link, **_newest_first(query))
    return Page(
        items=tuple(run_rows.from_row(row) for row in rows[: query.limit]),
        next=_next(rows, query.limit, "recorded_at", "run_number"),
    )


async def processes(link: Link, query: ProcessQuery) -> Page[Process]:
    """Processes, newest first."""
    filters = {
        "worker_id = :worker_id": query.worker_id is not None,
        "state = :state": query.state is not None,
        "batch_id = :batch_id": query.batch_id is not None,
    }
    statement = load("processes")["list_processes"].formed(filters=all_of(filters))
    rows = await statement.rows(link, **_newest_first(query))
    return Page(
        items=tuple(process_rows.from_row(row) for row in rows[: query.limit]),
        next=_next(rows, query.limit, "requested_at", "process_number"),
    )


def _newest_first(query: RunQuery | ProcessQuery) -> dict[str, object]:
    before, number = cursors.time_place(query.after) if query.after else (math.inf, 0)
    return {
        **msgspec.structs.asdict(query),
        "before": before,
        "before_number": number,
        "limit": query.limit + 1,
    }


def _next(rows: list[Record], limit: int, at: str, number: str) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return cursors.encode((last[at], last[number]))

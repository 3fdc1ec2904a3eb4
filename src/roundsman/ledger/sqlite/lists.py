"""Lists by pages: the statement that fits the filters, and one row more to see the end."""

import math
import sqlite3

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.interface import Page, ProcessQuery, RunQuery, SlotQuery
from roundsman.ledger.sqlite import processes as process_rows
from roundsman.ledger.sqlite import runs as run_rows
from roundsman.ledger.sqlite.statements import all_of, load
from roundsman.wire.process import Process
from roundsman.wire.run import Run, Slot, SlotState

_LEASED = "expires_at > :now"
_FREE = f"({_LEASED}) IS NOT TRUE"  # there may be no lease at all
_STATES = {
    SlotState.LEASED: _LEASED,
    SlotState.PAUSED: f"paused = 1 AND {_FREE}",
    SlotState.HELD: f"ready IS NULL AND due IS NOT NULL AND paused = 0 AND {_FREE}",
    SlotState.ENDED: f"due IS NULL AND paused = 0 AND {_FREE}",
    SlotState.DUE: f"ready <= :now AND paused = 0 AND {_FREE}",
    SlotState.WAITING: f"ready > :now AND paused = 0 AND {_FREE}",
}
_TAGGED = (
    "lane_id IN (SELECT lane_id FROM lanes AS tagged, json_each(tagged.tags) AS tag"
    " WHERE tag.value = :tag)"
)
_HELD_BY = f"{_LEASED} AND worker_id = :worker_id"


def slots(connection: sqlite3.Connection, query: SlotQuery, now: float) -> Page[Slot]:
    """Slots, by device and job."""
    after = cursors.slot_place(query.after) if query.after else ("", "")
    filters = {
        "device = :device": query.device is not None,
        "job = :job": query.job is not None,
        _TAGGED: query.tag is not None,
        _HELD_BY: query.worker_id is not None,
        _STATES[query.state or SlotState.DUE]: query.state is not None,
    }
    sql = load("slots")["list_slots"].format(source=_slot_source(query), filters=all_of(filters))
    cursor = connection.execute(
        sql,
        {
            **msgspec.structs.asdict(query),
            "now": now,
            "after_device": after[0],
            "after_job": after[1],
            "limit": query.limit + 1,
        },
    )
    items = [_slot(cursor, row) for row in cursor]
    following = None
    if len(items) > query.limit:
        last = items[query.limit - 1]
        following = cursors.encode((last.device, last.job))
    return Page(items=tuple(items[: query.limit]), next=following)


def _slot_source(query: SlotQuery) -> str:
    """The slots beside their leases, by what leaves the fewest rows to look at."""
    if query.device is not None:
        index = "slots_by_device"
    elif query.worker_id is not None or query.state is SlotState.LEASED:
        return "leases CROSS JOIN slots USING (slot_id)"
    elif query.state is SlotState.PAUSED:
        index = "slots_paused"
    elif query.state is SlotState.HELD:
        index = "slots_held"
    elif query.state is SlotState.ENDED:
        index = "slots_ended"
    else:
        index = "slots_by_job" if query.job is not None else "slots_by_device"
    return f"slots INDEXED BY {index} LEFT JOIN leases USING (slot_id)"


def _slot(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> Slot:
    fields = run_rows.named(cursor, row)
    fields["tags"] = msgspec.json.decode(str(fields["tags"]))
    return msgspec.convert(fields, Slot, strict=False)  # SQLite keeps booleans as 0 and 1


def runs(connection: sqlite3.Connection, query: RunQuery) -> Page[Run]:
    """Runs, newest first."""
    filters = {
        "device = :device": query.device is not None,
        "job = :job": query.job is not None,
        "outcome = :outcome": query.outcome is not None,
        "worker_id = :worker_id": query.worker_id is not None,
        "recorded_at >= :since": query.since is not None,
        "recorded_at < :until": query.until is not None,
    }
    sql = load("runs")["list_runs"].format(index=_run_index(query), filters=all_of(filters))
    cursor = connection.execute(sql, _newest_first(query))
    numbered = [run_rows.named(cursor, row) for row in cursor]
    return Page(
        items=tuple(run_rows.from_columns(fields) for fields in numbered[: query.limit]),
        next=_next(numbered, query.limit, "recorded_at", "run_number"),
    )


def _run_index(query: RunQuery) -> str:
    """The index that leaves the fewest rows to look at."""
    if query.device is not None:
        return "runs_by_device"
    if query.worker_id is not None:
        return "runs_by_worker"
    if query.job is not None:
        return "runs_by_job"
    return "runs_by_outcome" if query.outcome is not None else "runs_by_time"


def processes(connection: sqlite3.Connection, query: ProcessQuery) -> Page[Process]:
    """Processes, newest first."""
    filters = {
        "worker_id = :worker_id": query.worker_id is not None,
        "state = :state": query.state is not None,
        "batch_id = :batch_id": query.batch_id is not None,
    }
    index = "processes_by_time"
    if query.batch_id is not None:
        index = "processes_by_batch"
    elif query.worker_id is not None:
        index = "processes_by_worker"
    elif query.state is not None:
        index = "processes_by_state"
    sql = load("processes")["list_processes"].format(index=index, filters=all_of(filters))
    cursor = connection.execute(sql, _newest_first(query))
    numbered = [run_rows.named(cursor, row) for row in cursor]
    return Page(
        items=tuple(process_rows.from_columns(fields) for fields in numbered[: query.limit]),
        next=_next(numbered, query.limit, "requested_at", "process_number"),
    )


def _newest_first(query: RunQuery | ProcessQuery) -> dict[str, object]:
    before, number = cursors.time_place(query.after) if query.after else (math.inf, 0)
    return {
        **msgspec.structs.asdict(query),
        "before": before,
        "before_number": number,
        "limit": query.limit + 1,
    }


def _next(rows: list[dict[str, object]], limit: int, at: str, number: str) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return cursors.encode(msgspec.convert((last[at], last[number]), cursors.TimePlace))

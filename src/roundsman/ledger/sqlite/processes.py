"""Processes, whose states go one way only: waiting, requested, running, and one that is final."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from roundsman.ledger.interface import ProcessChange
from roundsman.ledger.sqlite import audit
from roundsman.ledger.sqlite.runs import named
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.audit import AuditEntry
from roundsman.wire.process import OPEN_STATES, Process, ProcessState, StopProof

SQL = load("processes")


def add(connection: sqlite3.Connection, process: Process, lines: Sequence[AuditEntry] = ()) -> None:
    """Keep a process that was asked for, and the lines of the audit that say so."""
    connection.execute(SQL["add_process"], _row(process))
    audit.add(connection, lines)


def add_many(connection: sqlite3.Connection, members: Sequence[Process]) -> None:
    """Keep the processes of a batch."""
    connection.executemany(SQL["add_process"], map(_row, members))


def change(connection: sqlite3.Connection, told: ProcessChange) -> ProcessState | None:
    """Write what its worker told; how it stands then, none when that worker has no such process."""
    fields = msgspec.structs.asdict(told)
    row = connection.execute(SQL["process_state"], fields).fetchone()
    if row is None:
        return None
    before = ProcessState(row[0])
    if told.state is ProcessState.RUNNING:
        started = connection.execute(SQL["start_process"], fields).rowcount
        return told.state if started and before is ProcessState.REQUESTED else before
    may_skip = told.state is not ProcessState.SKIPPED or before is ProcessState.WAITING
    if told.state not in OPEN_STATES and before in OPEN_STATES and may_skip:
        connection.execute(SQL["end_process"], fields)
        return told.state
    return before


def change_many(
    connection: sqlite3.Connection, told: Sequence[ProcessChange], lines: Sequence[AuditEntry]
) -> list[ProcessState | None]:
    """Write what a worker told of several, and the lines of the audit that go with it."""
    states = [change(connection, each) for each in told]
    audit.add(connection, lines)
    return states


def begin(
    connection: sqlite3.Connection, process_id: str, not_after: float, lines: Sequence[AuditEntry]
) -> bool:
    """Its turn has come; false when it does not wait any more."""
    fields = {"process_id": process_id, "not_after": not_after}
    if not connection.execute(SQL["begin_process"], fields).rowcount:
        return False
    audit.add(connection, lines)
    return True


def skip(connection: sqlite3.Connection, batch_id: str, error: str) -> None:
    """The turns of those that wait will not come."""
    connection.execute(SQL["skip_processes"], {"batch_id": batch_id, "error": error})


def keep_stop(
    connection: sqlite3.Connection, process_id: str, worker_id: str, proof: StopProof
) -> None:
    """Write what a stop has proven."""
    text = msgspec.json.encode(proof).decode()
    fields = {"process_id": process_id, "worker_id": worker_id, "stop": text}
    connection.execute(SQL["keep_stop"], fields)


def touch(connection: sqlite3.Connection, worker_id: str, now: float) -> None:
    """Its worker has said how each stands."""
    connection.execute(SQL["touch_processes"], {"worker_id": worker_id, "now": now})


def by_id(connection: sqlite3.Connection, process_id: str) -> Process | None:
    """One process."""
    cursor = connection.execute(SQL["process"], {"process_id": process_id})
    row = cursor.fetchone()
    return None if row is None else from_row(cursor, row)


def _row(process: Process) -> dict[str, object]:
    """A record by the names of its columns."""
    row = msgspec.structs.asdict(process)
    row["arguments"] = (
        msgspec.json.encode(process.arguments).decode() if process.arguments else None
    )
    return row


def from_row(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> Process:
    """A row with all columns as a record."""
    return from_columns(named(cursor, row))


def from_columns(columns: dict[str, Any]) -> Process:
    """A row by the names of its columns as a record."""
    columns["arguments"] = msgspec.json.decode(columns["arguments"] or "[]")
    if columns["stop"] is not None:
        columns["stop"] = msgspec.json.decode(columns["stop"])
    return msgspec.convert(columns, Process)

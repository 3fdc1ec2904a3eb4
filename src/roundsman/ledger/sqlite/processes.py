"""Processes, whose states go one way only: requested, running, and one that is final."""

import sqlite3
from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import ProcessChange
from roundsman.ledger.sqlite import audit
from roundsman.ledger.sqlite.runs import named
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.audit import AuditEntry
from roundsman.wire.process import Process, ProcessState

SQL = load("processes")


def add(connection: sqlite3.Connection, process: Process, lines: Sequence[AuditEntry] = ()) -> None:
    """Keep a process that was asked for, and the lines of the audit that say so."""
    connection.execute(SQL["add_process"], msgspec.structs.asdict(process))
    audit.add(connection, lines)


def change(connection: sqlite3.Connection, told: ProcessChange) -> bool:
    """Write what its worker told; false when that worker has no such process."""
    fields = msgspec.structs.asdict(told)
    if connection.execute(SQL["process_state"], fields).fetchone() is None:
        return False
    if told.state is ProcessState.RUNNING:
        connection.execute(SQL["start_process"], fields)
    elif told.state is not ProcessState.REQUESTED:
        connection.execute(SQL["end_process"], fields)
    return True


def by_id(connection: sqlite3.Connection, process_id: str) -> Process | None:
    """One process."""
    cursor = connection.execute(SQL["process"], {"process_id": process_id})
    row = cursor.fetchone()
    return None if row is None else from_row(cursor, row)


def from_row(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> Process:
    """A row with all columns as a record."""
    return msgspec.convert(named(cursor, row), Process)

"""Rows of history, written and read."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from roundsman.ledger.interface import ResultKey, RunEnd, Span
from roundsman.ledger.spans import NewId, span_run
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.run import Outcome, Run

SQL = load("runs")


def add(connection: sqlite3.Connection, run: Run) -> None:
    """Write a run."""
    connection.execute(SQL["add_run"], _row(run))


def add_stale(connection: sqlite3.Connection, run: Run) -> None:
    """Write a run as stale, unless it is known."""
    connection.execute(SQL["add_stale_run"], _row(run))


def add_spans(
    connection: sqlite3.Connection,
    device: str,
    job: str,
    spans: Sequence[Span],
    *,
    into: str | None,
    now: float,
    new_id: NewId,
) -> None:
    """Write spans of due times, those coalesced as parts of the run `into`."""
    for span in spans:
        add(connection, span_run(new_id(), device, job, span, into=into, now=now))


def repeats(connection: sqlite3.Connection, results: Sequence[ResultKey]) -> list[list[Run]]:
    """For each result the kept runs of its slot and due time with its digest, first kept first."""
    asked = [(item.device, item.job, item.due, item.digest) for item in results]
    cursor = connection.execute(
        SQL["find_repeats"], {"results": msgspec.json.encode(asked).decode()}
    )
    found: list[list[Run]] = [[] for _ in results]
    for row in cursor:
        found[row[0]].append(from_row(cursor, row))
    return found


def by_id(connection: sqlite3.Connection, run_id: str) -> Run | None:
    """One run."""
    cursor = connection.execute(SQL["run"], {"run_id": run_id})
    row = cursor.fetchone()
    return None if row is None else from_row(cursor, row)


def ends_of(connection: sqlite3.Connection, run_ids: Sequence[str]) -> list[RunEnd | None]:
    """How each of these runs ended; none where there is no such run."""
    asked = msgspec.json.encode(run_ids).decode()
    rows = connection.execute(SQL["ends_of"], {"run_ids": asked})
    ends = {row[0]: RunEnd(Outcome(row[1]), row[2]) for row in rows}
    return [ends.get(run_id) for run_id in run_ids]


def _row(run: Run) -> dict[str, object]:
    """A record by the names of its columns."""
    row = msgspec.structs.asdict(run)
    found = run.detected_secrets
    row["detected_secrets"] = msgspec.json.encode(found).decode() if found else None
    return row


def from_row(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> Run:
    """A row with all columns as a record."""
    return from_columns(named(cursor, row))


def from_columns(columns: dict[str, Any]) -> Run:
    """A row by the names of its columns as a record."""
    columns["detected_secrets"] = msgspec.json.decode(columns["detected_secrets"] or "[]")
    return msgspec.convert(columns, Run, strict=False)  # SQLite keeps booleans as 0, 1


def named(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> dict[str, object]:
    """A row by the names of its columns."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}

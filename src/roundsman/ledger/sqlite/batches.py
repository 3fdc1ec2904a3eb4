"""Batches, whose states go one way only: running, stopping, ended."""

import math
import sqlite3
from collections.abc import Sequence

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.interface import (
    BatchQuery,
    IdempotencyKey,
    KeptBatch,
    Page,
    batch_after,
)
from roundsman.ledger.sqlite import processes
from roundsman.ledger.sqlite.statements import all_of, load
from roundsman.wire import codec
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.process import Process

SQL = load("batches")

_batch = msgspec.json.Decoder(Batch)
_work = codec.decoder(BatchWork)


def add(
    connection: sqlite3.Connection,
    batch: Batch,
    work: BatchWork,
    members: Sequence[Process],
    key: IdempotencyKey | None,
) -> KeptBatch:
    """Keep a batch with its processes, unless its key stands for an earlier one."""
    row = {
        "batch_id": batch.batch_id,
        "state": batch.state,
        "requested_at": batch.requested_at,
        "requested_by": batch.requested_by,
        "idempotency_key": None if key is None else key.key,
        "digest": "" if key is None else key.digest,
        "batch": msgspec.json.encode(batch).decode(),
        "work": codec.encode(work).decode(),
    }
    if key is not None:
        connection.execute(SQL["forget_key"], row | {"since": key.since})
        earlier = of_key(connection, batch.requested_by, key)
        if earlier is not None:
            return earlier
    connection.execute(SQL["add_batch"], row)
    processes.add_many(connection, members)
    return KeptBatch(batch_id=batch.batch_id, digest=str(row["digest"]))


def of_key(
    connection: sqlite3.Connection, requested_by: str, key: IdempotencyKey
) -> KeptBatch | None:
    """What a key has made, if that is not too long ago."""
    row = connection.execute(
        SQL["batch_of_key"],
        {"requested_by": requested_by, "idempotency_key": key.key, "since": key.since},
    ).fetchone()
    return None if row is None else KeptBatch(batch_id=row[0], digest=row[1])


def by_id(connection: sqlite3.Connection, batch_id: str) -> Batch | None:
    """One batch."""
    row = connection.execute(SQL["batch"], {"batch_id": batch_id}).fetchone()
    return None if row is None else _batch.decode(row[0])


def work(connection: sqlite3.Connection, batch_id: str) -> BatchWork | None:
    """What is sent to its workers, until it has ended."""
    row = connection.execute(SQL["work"], {"batch_id": batch_id}).fetchone()
    return None if row is None or row[0] is None else _work.decode(row[0])


def change(
    connection: sqlite3.Connection,
    batch_id: str,
    state: BatchState,
    *,
    now: float,
    reason: str | None,
) -> Batch | None:
    """Take it to a later state; how it stands then."""
    before = by_id(connection, batch_id)
    if before is None:
        return None
    after = batch_after(before, state, now=now, reason=reason)
    if after != before:
        row = {
            "batch_id": batch_id,
            "state": after.state,
            "batch": msgspec.json.encode(after).decode(),
        }
        connection.execute(SQL["change_batch"], row)
    return after


def page(connection: sqlite3.Connection, query: BatchQuery) -> Page[Batch]:
    """Batches, newest first."""
    before, number = cursors.time_place(query.after) if query.after else (math.inf, 0)
    index = "batches_by_time" if query.state is None else "batches_by_state"
    rows = connection.execute(
        SQL["list_batches"].format(
            index=index, filters=all_of({"state = :state": query.state is not None})
        ),
        {
            "state": query.state,
            "before": before,
            "before_number": number,
            "limit": query.limit + 1,
        },
    ).fetchall()
    kept = rows[: query.limit]
    following = None
    if len(rows) > query.limit:
        last_number, last_at, _ = kept[-1]
        following = cursors.encode((last_at, last_number))
    return Page(items=tuple(_batch.decode(text) for *_, text in kept), next=following)


def members(connection: sqlite3.Connection, batch_id: str) -> list[Process]:
    """Its processes, in the order of their turns."""
    cursor = connection.execute(SQL["batch_processes"], {"batch_id": batch_id})
    return [processes.from_row(cursor, row) for row in cursor]

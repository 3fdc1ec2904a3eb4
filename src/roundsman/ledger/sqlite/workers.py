"""Workers and the digests of their tokens."""

import sqlite3
from collections.abc import Sequence

import msgspec

from roundsman.ledger.sqlite.runs import named
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.worker import Worker

SQL = load("workers")


def add(connection: sqlite3.Connection, worker: Worker, token_digest: str) -> None:
    """Keep a newly enrolled worker."""
    connection.execute(
        SQL["add_worker"],
        msgspec.structs.asdict(worker)
        | {
            "tags": _tags(worker.tags),
            "allowed_tags": _tags(worker.allowed_tags),
            "token_digest": token_digest,
        },
    )


def tokens(connection: sqlite3.Connection) -> dict[str, str]:
    """Token digest to worker id."""
    return dict(connection.execute(SQL["tokens"]))


def touch(
    connection: sqlite3.Connection,
    worker_id: str,
    *,
    now: float,
    address: str | None,
    version: str | None,
    tags: Sequence[str] | None,
) -> bool:
    """Note that a worker was seen; false when unknown."""
    changes = {
        "worker_id": worker_id,
        "now": now,
        "address": address,
        "version": version,
        "tags": None if tags is None else _tags(tags),
    }
    return connection.execute(SQL["touch_worker"], changes).rowcount > 0


def every(connection: sqlite3.Connection) -> list[Worker]:
    """Every worker, by name."""
    cursor = connection.execute(SQL["workers"])
    return [_worker(cursor, row) for row in cursor]


def by_id(connection: sqlite3.Connection, worker_id: str) -> Worker | None:
    """One worker."""
    cursor = connection.execute(SQL["worker"], {"worker_id": worker_id})
    row = cursor.fetchone()
    return None if row is None else _worker(cursor, row)


def remove(connection: sqlite3.Connection, worker_id: str) -> bool:
    """Forget a worker; false when unknown."""
    return connection.execute(SQL["remove_worker"], {"worker_id": worker_id}).rowcount > 0


def _tags(tags: Sequence[str]) -> str:
    return msgspec.json.encode(tags).decode()


def _worker(cursor: sqlite3.Cursor, row: tuple[object, ...]) -> Worker:
    fields = named(cursor, row)
    tags = {key: msgspec.json.decode(str(fields[key])) for key in ("tags", "allowed_tags")}
    return msgspec.convert(fields | tags, Worker)

"""Batches, whose states go one way only: running, stopping, ended."""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from roundsman.ledger import cursors
from roundsman.ledger.interface import (
    BatchQuery,
    IdempotencyKey,
    KeptBatch,
    Page,
    batch_after,
)
from roundsman.ledger.postgresql import processes
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.sql_files import all_of
from roundsman.wire import codec
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.process import Process

SQL = load("batches")
CARRY_SECONDS: Final = 10.0
"""Who has not said for so long that it carries a batch does so no more."""

_batch = msgspec.json.Decoder(Batch)
_work = codec.decoder(BatchWork)


async def add(
    link: Link,
    batch: Batch,
    work: BatchWork,
    members: Sequence[Process],
    key: IdempotencyKey | None,
    *,
    carrier: str | None,
) -> KeptBatch:
    """Keep a batch with its processes, unless its key stands for an earlier one."""
    row = {
        "batch_id": batch.batch_id,
        "state": batch.state,
        "requested_at": batch.requested_at,
        "requested_by": batch.requested_by,
        "idempotency_key": None if key is None else key.key,
        "digest": "" if key is None else key.digest,
        "carrier": carrier,
        "carried_until": None if carrier is None else batch.requested_at + CARRY_SECONDS,
        "batch": msgspec.json.encode(batch).decode(),
        "work": codec.encode(work).decode(),
    }
    if key is not None:
        await SQL["forget_key"].rows(link, **row, since=key.since)
    if await SQL["add_batch"].row(link, **row) is None:
        assert key is not None  # noqa: S101  # nothing else is ever in the way
        earlier = await of_key(link, batch.requested_by, key)
        assert earlier is not None  # noqa: S101  # it was in the way just now, and no key is forgotten so soon
        return earlier
    await processes.add_many(link, members)
    return KeptBatch(batch_id=batch.batch_id, digest=str(row["digest"]))


async def of_key(link: Link, requested_by: str, key: IdempotencyKey) -> KeptBatch | None:
    """What a key has made, if that is not too long ago."""
    row = await SQL["batch_of_key"].row(
        link, requested_by=requested_by, idempotency_key=key.key, since=key.since
    )
    return None if row is None else KeptBatch(batch_id=row["batch_id"], digest=row["digest"])


async def by_id(link: Link, batch_id: str) -> Batch | None:
    """One batch."""
    text = await SQL["batch"].value(link, batch_id=batch_id)
    return None if text is None else _batch.decode(text)


async def work(link: Link, batch_id: str) -> BatchWork | None:
    """What is sent to its workers, until it has ended."""
    text = await SQL["work"].value(link, batch_id=batch_id)
    return None if text is None else _work.decode(text)


async def change(
    link: Link, batch_id: str, state: BatchState, *, now: float, reason: str | None
) -> Batch | None:
    """Take it to a later state; how it stands then."""
    text = await SQL["batch_to_change"].value(link, batch_id=batch_id)
    if text is None:
        return None
    before = _batch.decode(text)
    after = batch_after(before, state, now=now, reason=reason)
    if after != before:
        encoded = msgspec.json.encode(after).decode()
        await SQL["change_batch"].rows(link, batch_id=batch_id, state=after.state, batch=encoded)
    return after


async def page(link: Link, query: BatchQuery) -> Page[Batch]:
    """Batches, newest first."""
    before, number = cursors.time_place(query.after) if query.after else (math.inf, 0)
    statement = SQL["list_batches"].formed(
        filters=all_of({"state = :state": query.state is not None})
    )
    values = {"before": before, "before_number": number, "limit": query.limit + 1}
    rows = await statement.rows(link, state=query.state, **values)
    kept = rows[: query.limit]
    following = None
    if len(rows) > query.limit:
        following = cursors.encode((kept[-1]["requested_at"], kept[-1]["batch_number"]))
    return Page(items=tuple(_batch.decode(row["batch"]) for row in kept), next=following)


async def members(link: Link, batch_id: str) -> list[Process]:
    """Its processes, in the order of their turns."""
    rows = await SQL["batch_processes"].rows(link, batch_id=batch_id)
    return [processes.from_row(row) for row in rows]

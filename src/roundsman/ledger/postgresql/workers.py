"""Workers and the digests of their tokens."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.worker import Worker

SQL = load("workers")


async def add(link: Link, worker: Worker, token_digest: str) -> None:
    """Keep a newly enrolled worker."""
    fields = msgspec.structs.asdict(worker)
    await SQL["add_worker"].rows(link, token_digest=token_digest, **fields)


async def tokens(link: Link) -> dict[str, str]:
    """Token digest to worker id."""
    return {row["token_digest"]: row["worker_id"] for row in await SQL["tokens"].rows(link)}


async def touch(
    link: Link,
    worker_id: str,
    *,
    now: float,
    address: str | None,
    version: str | None,
    tags: Sequence[str] | None,
) -> bool:
    """Note that a worker was seen; false when unknown."""
    row = await SQL["touch_worker"].row(
        link, worker_id=worker_id, now=now, address=address, version=version, tags=tags
    )
    return row is not None


async def every(link: Link) -> list[Worker]:
    """Every worker, by name."""
    return [msgspec.convert(dict(row), Worker) for row in await SQL["workers"].rows(link)]


async def by_id(link: Link, worker_id: str) -> Worker | None:
    """One worker."""
    row = await SQL["worker"].row(link, worker_id=worker_id)
    return None if row is None else msgspec.convert(dict(row), Worker)


async def remove(link: Link, worker_id: str) -> bool:
    """Forget a worker; false when unknown."""
    return await SQL["remove_worker"].row(link, worker_id=worker_id) is not None

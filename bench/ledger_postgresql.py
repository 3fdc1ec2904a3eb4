"""Claims from the PostgreSQL ledger, every commit flushed: what one costs, whatever the fleet.

All slots are due, over 48 sets of tags, and numbered by due time, as the ledger does it. What was
claimed is finished, which is not timed, and due an hour later; when all have been, that hour has
passed. Then the same while another program holds a transaction open, so that nothing of what was
claimed can be cleared away: over as many finishes as there are in ten minutes when each slot is due
each minute.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median, quantiles

import msgspec

from bench.ledger_claims import (
    EVERYTHING,
    HOURLY,
    LEASE,
    ONE_EACH,
    TAG_SETS,
    finished,
    folder,
)
from bench.report import Row
from roundsman.clock import SystemClock
from roundsman.ledger.interface import LeasedSlot
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer

BATCH = 100
CLAIMERS = 3
HOUR = 3600
BEGAN = 1_700_000_000
FILL = """
INSERT INTO lanes (tags)
SELECT ARRAY['site-' || lpad(n::text, 5, '0')] FROM generate_series(1, {tag_sets}) AS n;
INSERT INTO waters (line) SELECT lane_id * 4 + n FROM lanes, generate_series(0, 3) AS n;
INSERT INTO slots (device, job, lane_id, plan, planned_since, priority, due, ready, epoch,
    paused, watched)
SELECT 'device-' || lpad(n::text, 7, '0'), 'job',
    n % {tag_sets} + (SELECT min(lane_id) FROM lanes),
    '{plan}', began, 2, began + n::bigint * 3000 / {slots}, began + n::bigint * 3000 / {slots},
    0, false, false
FROM generate_series(0, {slots} - 1) AS n,
    (SELECT {began}::bigint AS began) AS told;
INSERT INTO queue (slot_id, line, ready, delayed)
SELECT slot_id, lane_id * 4 + 2, ready, false FROM slots;
"""


@contextmanager
def server_on(data: Path) -> Iterator[PostgresqlServer]:
    """A server whose commits are flushed to the disk of the checkout."""
    data.chmod(0o755)  # the server may have to run as another user
    settings = {"fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}
    with PostgresqlServer(settings=settings, beside=data) as server:
        yield server


@asynccontextmanager
async def filled(
    server: PostgresqlServer, data: Path, slots: int
) -> AsyncIterator[PostgresqlLedger]:
    """A ledger with so many slots, all due."""
    name = f"slots_{slots}"
    await server.run(f"CREATE DATABASE {name}")
    ledger = PostgresqlLedger(server.url(name), PASSWORD, folder=data / name, clock=SystemClock())
    await ledger.open()
    try:
        fill = FILL.format(plan=HOURLY, slots=slots, tag_sets=TAG_SETS, began=BEGAN)
        await server.run(fill, name)
        await server.run("VACUUM ANALYZE", name)
        await server.run("CHECKPOINT", name)  # what was filled in is not to be flushed meanwhile
        yield ledger
    finally:
        await ledger.close()
        await server.run(f"DROP DATABASE {name} WITH (FORCE)")


class Claims:
    """Claims of one ledger, in a time of their own."""

    def __init__(self, ledger: PostgresqlLedger) -> None:
        """All slots have been due for a while."""
        self.ledger = ledger
        self.now = BEGAN + HOUR

    async def claim(self, limit: int) -> list[LeasedSlot]:
        """Lease so many."""
        return await self.ledger.claim(
            EVERYTHING,
            limit=limit,
            horizon=self.now,
            now=self.now,
            lease_seconds=LEASE,
            worker_id="bench",
            limits=ONE_EACH,
        )

    async def finish(self, leased: list[LeasedSlot]) -> None:
        """They are due in an hour, which has passed once all are."""
        endings = [
            msgspec.structs.replace(finished(slot), next_due=slot.due + HOUR) for slot in leased
        ]
        await self.ledger.finish(endings, self.now)
        if len(leased) < BATCH:
            self.now += HOUR

    async def costs(self, claims: int) -> tuple[float, float]:
        """Median and 99th percentile of a claim, in milliseconds."""
        times: list[float] = []
        while len(times) < claims:
            started = time.perf_counter()
            leased = await self.claim(BATCH)
            passed = time.perf_counter() - started
            if len(leased) == BATCH:
                times.append(passed * 1000)
            await self.finish(leased)
        return median(times), quantiles(times, n=100)[-1]


async def throughput(claims: Claims, limit: int, seconds: float) -> float:
    """Slots leased per second by some callers at once."""
    leased = 0
    started = time.perf_counter()

    async def caller() -> None:
        nonlocal leased
        while time.perf_counter() - started < seconds:
            leased += len(await claims.claim(limit))

    await asyncio.gather(*(caller() for _ in range(CLAIMERS)))
    return leased / (time.perf_counter() - started)


async def measure(sizes: tuple[int, ...], claims: int, seconds: float) -> list[Row]:
    rows = []
    with folder() as data, server_on(data) as server:
        for slots in sizes:
            async with filled(server, data, slots) as ledger:
                claiming = Claims(ledger)
                await claiming.costs(20)
                half, most = await claiming.costs(claims)
                what = f"ledger on PostgreSQL: a claim of {BATCH}, {slots:,} slots due"
                rows += [
                    Row(name=f"{what}, median", value=half, unit="ms"),
                    Row(name=f"{what}, p99", value=most, unit="ms"),
                ]
                if slots == sizes[-1]:
                    rows += [await _rate(claiming, limit, seconds) for limit in (15, BATCH)]
    return rows + await beside_a_transaction(sizes[1], claims)


async def _rate(claims: Claims, limit: int, seconds: float) -> Row:
    return Row(
        name=f"ledger on PostgreSQL: claims of {limit}, {CLAIMERS} at once",
        value=await throughput(claims, limit, seconds),
        unit="executions/s",
    )


async def beside_a_transaction(slots: int, claims: int) -> list[Row]:
    """What so many claims cost beside a transaction that is held open, against before."""
    with folder() as data, server_on(data) as server:
        async with filled(server, data, slots) as ledger:
            claiming = Claims(ledger)
            before, _ = await claiming.costs(claims)
            holder = await server.connect(f"slots_{slots}")
            await holder.execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM probe"
            )
            dead = 0
            while dead < 10 * slots:
                leased = await claiming.claim(5 * BATCH)
                await claiming.finish(leased)
                dead += len(leased)
            after, _ = await claiming.costs(claims)
            await holder.close()
    return [
        Row(
            name=f"ledger on PostgreSQL: a claim of {BATCH}, {slots:,} slots due, beside a "
            f"transaction over {dead:,} finishes",
            value=after,
            unit="ms",
            compared_to="without it",
            ratio=after / before,
        )
    ]


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, small ones."""
    if quick:
        return asyncio.run(measure((1_000, 10_000), 40, 0.2))
    return asyncio.run(measure((1_000, 10_000, 100_000, 1_000_000), 400, 3.0))


if __name__ == "__main__":
    for row in run(quick=False):
        print(row)

"""Executions leased and finished per second by the SQLite ledger, every commit flushed.

All slots are due, over 48 sets of tags. What counts is that the figures do not fall with the fleet.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import Row
from roundsman.ledger.interface import ClaimLimits, Finish, LeasedSlot, PlannedSlot, TagFilter
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.schedules.plans import plan_of
from roundsman.wire.execution import LeaseKey
from roundsman.wire.job import Schedule
from roundsman.wire.run import Outcome, Run

TAG_SETS = 48
EVERYTHING = TagFilter()
ONE_EACH = ClaimLimits(sessions_per_device=1)  # the default
NOW = 1_700_000_000
HOURLY = plan_of(Schedule(duration="1 hour"))
LEASE = 120
AT_ONCE = 32
ROUNDS = 3


def planned(number: int, tag_sets: int = TAG_SETS, now: int = NOW) -> list[PlannedSlot]:
    return [
        PlannedSlot(
            device=f"device-{i:07}",
            job="job",
            tags=(f"site-{i % tag_sets:05}",),
            plan=HOURLY,
            first_due=now - 3600 + i % 3600,
        )
        for i in range(number)
    ]


def finished(leased: LeasedSlot) -> Finish:
    key = LeaseKey(device=leased.device, job=leased.job, epoch=leased.epoch)
    run = Run(
        run_id=f"{leased.device}/{leased.job}/{leased.epoch}",
        device=leased.device,
        job=leased.job,
        due=leased.due,
        outcome=Outcome.SUCCEEDED,
        recorded_at=NOW,
        epoch=leased.epoch,
        worker_id="bench",
        size=10_000,
        changed=True,
        version="0" * 40,
        digest="0" * 64,
    )
    return Finish(run=run, key=key, plan=leased.plan, next_due=leased.due + 3600)


@contextmanager
def folder() -> Iterator[Path]:
    # On the disk of the checkout: a temporary folder may be in memory, where flushing is free.
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".ledger-") as name:
        yield Path(name)


async def claim(ledger: SqliteLedger, limit: int, now: float) -> list[LeasedSlot]:
    return await ledger.claim(
        EVERYTHING,
        limit=limit,
        horizon=now,
        now=now,
        lease_seconds=LEASE,
        worker_id="bench",
        limits=ONE_EACH,
    )


async def claims_per_second(
    ledger: SqliteLedger, limit: int, seconds: float, now: float
) -> tuple[float, float]:
    """One claim after the other, while the clock goes on; and when all leases have run out."""
    await claim(ledger, 0, now)  # reads what is read once, and sees all leases of before run out
    leased = 0
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        batch = await claim(ledger, limit, now + passed)
        leased += len(batch)
        if not batch:  # all are leased: go on when those leases have run out
            now += LEASE
    return leased / passed, now + passed + LEASE


async def finishes_per_second(ledger: SqliteLedger, leased: list[LeasedSlot]) -> float:
    """One slot a call, as completions come in, from so many callers at once."""
    waiting = iter(leased)

    async def caller() -> None:
        for slot in waiting:
            await ledger.finish([finished(slot)], NOW)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    return len(leased) / (time.perf_counter() - started)


async def measure(slots: int, seconds: float) -> dict[str, float]:
    with folder() as data:
        ledger = SqliteLedger(data / "ledger.sqlite3")
        await ledger.open()
        try:
            await ledger.sync_slots(planned(slots), NOW)
            small, now = await claims_per_second(ledger, 15, seconds, NOW)
            large, now = await claims_per_second(ledger, 100, seconds, now)
            leased = await claim(ledger, int(5000 * seconds), now)
            return {
                "claims of 15": small,
                "claims of 100": large,
                f"finishes, {AT_ONCE} callers": await finishes_per_second(ledger, leased),
            }
        finally:
            await ledger.close()


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, measured for a tenth of the time."""
    sizes = (1_000, 10_000, 100_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    best: dict[tuple[int, str], float] = {}
    # Round by round, and the best of each: other programs' use of the disk comes and goes.
    for _ in range(1 if quick else ROUNDS):
        for slots in sizes:
            for what, value in asyncio.run(measure(slots, 0.05 if quick else 0.5)).items():
                best[slots, what] = max(value, best.get((slots, what), 0.0))
    return [
        Row(
            name=f"ledger: {what}, {slots:,} slots due",
            value=value,
            unit="executions/s",
            compared_to=f"{sizes[0]:,} slots" if slots != sizes[0] else None,
            ratio=value / best[sizes[0], what] if slots != sizes[0] else None,
        )
        for (slots, what), value in best.items()
    ]


if __name__ == "__main__":
    for row in run(quick=False):
        print(row)

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
from roundsman.ledger.interface import Finish, LeasedSlot, PlannedSlot, TagFilter
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.wire.execution import LeaseKey
from roundsman.wire.run import Outcome, Run

TAG_SETS = 48
EVERYTHING = TagFilter()
NOW = 1_700_000_000
AT_ONCE = 32


def planned(number: int, tag_sets: int = TAG_SETS) -> list[PlannedSlot]:
    return [
        PlannedSlot(
            device=f"device-{i // 5:06}",
            job=f"job-{i % 5}",
            tags=(f"site-{i // 5 % tag_sets:05}",),
            plan="hourly",
            first_due=NOW - 3600 + i % 3600,
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
    return Finish(run=run, key=key, next_due=leased.due + 3600)


@contextmanager
def folder() -> Iterator[Path]:
    # On the disk of the checkout: a temporary folder may be in memory, where flushing is free.
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".ledger-") as name:
        yield Path(name)


async def claim(ledger: SqliteLedger, limit: int) -> list[LeasedSlot]:
    return await ledger.claim(
        EVERYTHING, limit=limit, horizon=NOW, now=NOW, lease_seconds=120, worker_id="bench"
    )


async def claims_per_second(
    ledger: SqliteLedger, limit: int, seconds: float
) -> tuple[float, list[LeasedSlot]]:
    """One claimer after the other, until the time is up or nothing is left."""
    leased: list[LeasedSlot] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = await claim(ledger, limit)
        leased += batch
        if not batch:
            break
    return len(leased) / (time.perf_counter() - started), leased


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
            single, leased = await claims_per_second(ledger, 15, seconds)
            large, more = await claims_per_second(ledger, 100, seconds)
            return {
                "claims of 15": single,
                "claims of 100": large,
                f"finishes, {AT_ONCE} callers": await finishes_per_second(
                    ledger, (leased + more)[:5000]
                ),
            }
        finally:
            await ledger.close()


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, of a tenth of the time."""
    rows: list[Row] = []
    fewest: dict[str, float] = {}
    for slots in (1_000, 10_000, 100_000):
        for what, value in asyncio.run(measure(slots, 0.1 if quick else 1.0)).items():
            base = fewest.setdefault(what, value)
            rows.append(
                Row(
                    name=f"ledger: {what}, {slots:,} slots due",
                    value=value,
                    unit="executions/s",
                    compared_to=None if slots == 1_000 else "1,000 slots",
                    ratio=None if slots == 1_000 else value / base,
                )
            )
    return rows


if __name__ == "__main__":
    for row in run(quick=False):
        print(row)

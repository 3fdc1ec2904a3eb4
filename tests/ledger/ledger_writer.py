"""A process that writes to a ledger without end, and prints every call that was answered.

With `--full-disk` it meets a full disk instead, and prints what came of it.
"""

import asyncio
import resource
import sys
from pathlib import Path

from roundsman.errors import RoundsmanError
from roundsman.ledger.drivers import LEDGER_FILE, open_ledger
from roundsman.ledger.interface import Ledger, LedgerUnavailableError
from roundsman.testing.ledger_conformance import (
    NOW,
    claim,
    end_of,
    planned,
    process,
    run_of,
    worker,
)


def tell(*words: object) -> None:
    print(*words, flush=True)


async def rounds(ledger: Ledger, name: str) -> None:
    for number in range(1_000_000):
        for slot in await claim(ledger, 3, worker_id=name):
            tell("claimed", slot.device, slot.job, slot.epoch)
            run_id = f"{slot.device}-{slot.job}-{slot.epoch}"
            await ledger.finish([end_of(slot, run_of(slot, run_id), next_due=NOW)], NOW)
            tell("finished", run_id)
        process_id = f"{name}-{number}"
        await ledger.add_process(process(process_id))
        tell("asked", process_id)


async def write(data: Path) -> None:
    ledger = await open_ledger(data)
    await ledger.sync_slots([planned(f"d{i:03}", tags=[f"t{i % 5}"]) for i in range(200)], NOW)
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(rounds(ledger, f"w{number}"))


async def fill(data: Path) -> None:
    ledger = await open_ledger(data)
    await ledger.add_worker(worker("before"), "before")
    sizes = [path.stat().st_size for path in data.glob(f"{LEDGER_FILE}*")]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes), hard))
    outcomes = await asyncio.gather(
        *(ledger.add_worker(worker(f"w{i}", "x" * 50_000), f"{i}") for i in range(20)),
        return_exceptions=True,
    )
    failed = [i for i, outcome in enumerate(outcomes) if outcome is not None]
    first = outcomes[failed[0]]
    assert all(isinstance(outcomes[i], LedgerUnavailableError) for i in failed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    tell(first)
    tokens = await ledger.worker_tokens()
    kept = {digest for digest in tokens if digest != "before"}
    answered = {str(i) for i in range(20) if i not in failed}
    tell(len(kept ^ answered), "half done")
    await ledger.add_worker(worker("after"), "after")
    await ledger.check()
    assert (await ledger.worker_tokens()).keys() >= {"before", "after"}
    tell("serves on")
    await ledger.close()


if __name__ == "__main__":
    try:
        asyncio.run((fill if "--full-disk" in sys.argv else write)(Path(sys.argv[1])))
    except RoundsmanError as error:
        sys.exit(str(error))

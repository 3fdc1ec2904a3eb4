"""Stores for ever, 24 at once; prints each result that was kept. Made to be killed.

Given `overviews` last, each folder has one; given `apart`, a process of its own writes.
"""

import asyncio
import sys
from pathlib import Path
from unittest import mock

from roundsman import logs
from roundsman.archive import maintenance, maintenance_plan
from roundsman.archive.git import GitArchive
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings
from roundsman.testing.archive_conformance import Spool


async def main(folder: Path, life: int, *, overviews: bool, apart: bool) -> None:
    spool_folder = folder.with_name(f"spool-{life}")
    spool_folder.mkdir()
    spool = Spool(spool_folder)
    settings = ArchiveSettings(overviews=overviews)
    archive = GitArchive(folder, SystemClock(), settings, apart=apart)
    await archive.open()

    async def client(number: int) -> None:
        device = f"d{number}"
        for count in range(1_000_000):
            content = f"{life} {device} {count}\n" + "interface\n" * (20 * number)
            if number == 0:
                content *= 10_000  # beyond what waits in memory
            stored = await archive.store(spool.entry(content.encode(), device=device))
            print(device, count, stored.version, flush=True)

    await asyncio.gather(*map(client, range(24)))


logs.configure(level="warning")
# So that kills hit maintenance too.
with (
    mock.patch.object(maintenance, "PACKS_ADDED", 4),
    mock.patch.object(maintenance_plan, "_FEW", 4),
    mock.patch.object(maintenance_plan, "_YOUNG_BYTES", 1 << 20),
):
    _, folder, life, *how = sys.argv
    asyncio.run(main(Path(folder), int(life), overviews="overviews" in how, apart="apart" in how))

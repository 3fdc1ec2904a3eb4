"""Results stored per second by the git archive: 10 KB, changed, 32 at once, each flushed.

Beside it the floor: the same bytes written and flushed to plain files in batches of the same size.
Maintenance runs as it would. What counts is how little the figure falls with the fleet, and with
overviews in every folder.
"""

import asyncio
import os
import random
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import Row
from roundsman import logs
from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Entry
from roundsman.archive.layout import FLAT, SHARDED, Layout
from roundsman.archive.moving import write_tree
from roundsman.archive.objects import BLOB, COMMIT, object_id, whole
from roundsman.archive.packs import Pack, write_pack
from roundsman.archive.trees import FILE_MODE
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings

AT_ONCE = 32
BATCH = AT_ONCE // 2  # while one half is written, the other waits
SIZE = 10_000
NOW = 1_700_000_000


class Results:
    """Configurations of 10 KB, each different from all before."""

    def __init__(self) -> None:
        self._rng = random.Random(7)
        lines = [
            f"interface Gi0/{n}\n description link-{self._rng.getrandbits(32):x}\n"
            f" ip address 10.{self._rng.randrange(256)}.{self._rng.randrange(256)}.1/24\n"
            for n in range(300)
        ]
        self._text = "".join(lines)[: SIZE - 100]
        self._number = 0

    def content(self) -> bytes:
        cut = self._rng.randrange(len(self._text))
        new = f"! {self._rng.getrandbits(256):064x}\n"
        return (self._text[:cut] + new + self._text[cut:]).ljust(SIZE).encode()

    def entry(self, devices: int) -> Entry:
        """A result as the controller hands in a small one: in memory."""
        self._number += 1
        return Entry(
            device=f"device-{self._rng.randrange(devices):06}",
            job="show_run",
            content=self.content(),
            due=NOW,
            started_at=NOW,
            ended_at=NOW,
            worker_id="bench",
            run_id=str(self._number),
        )


def fill(folder: Path, devices: int) -> None:
    """A repository in which every device has a version of its own, made in one commit."""
    pack = Pack()
    layout = Layout([SHARDED if devices > 4000 else FLAT])

    def put(kind: int, content: bytes) -> bytes:
        name = object_id(kind, content)
        pack.add(name, whole(kind, content))
        return name

    paths = [layout.path(f"device-{number:06}", "show_run") for number in range(devices)]
    blobs = [put(BLOB, b"%d\n" % number) for number in range(devices)]
    root = write_tree(
        pack, ((path, (FILE_MODE, blob)) for path, blob in zip(paths, blobs, strict=True))
    )
    who = f"bench <bench@localhost> {NOW} +0000"
    commit = f"tree {root.hex()}\nauthor {who}\ncommitter {who}\n\nfirst\n"
    tip = put(COMMIT, commit.encode())
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder], check=True)
    write_pack(Files(), folder / "objects" / "pack", pack)
    (folder / "refs" / "heads" / "main").write_text(tip.hex() + "\n")


async def stored_per_second(
    folder: Path, devices: int, seconds: float, *, overviews: bool
) -> tuple[float, float]:
    """Results per second, and how long 99 of 100 waited at most, in milliseconds."""
    fill(folder / "archive.git", devices)
    results = Results()
    settings = ArchiveSettings(overviews=overviews)
    archive = GitArchive(folder / "archive.git", SystemClock(), settings)
    await archive.open()
    waited: list[float] = []
    begun = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < begun + seconds:
            entry = results.entry(devices)
            asked = time.perf_counter()
            await archive.store(entry)
            waited.append(time.perf_counter() - asked)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    rate = len(waited) / (time.perf_counter() - begun)
    await archive.close()
    return rate, 1000 * sorted(waited)[len(waited) * 99 // 100]


def floor_per_second(folder: Path, seconds: float) -> float:
    """The same bytes in the same batches, written and flushed, and nothing else."""
    results = Results()
    written = 0
    begun = time.perf_counter()
    while time.perf_counter() < begun + seconds:
        with (folder / f"batch-{written}").open("xb") as file:
            for _ in range(BATCH):
                file.write(results.content())
            file.flush()
            os.fsync(file.fileno())
        written += BATCH
    return written / (time.perf_counter() - begun)


def run(quick: bool) -> list[Row]:
    logs.configure(level="warning")
    seconds = 2.0 if quick else 5.0
    rows = []
    with TemporaryDirectory(dir=Path(__file__).parent) as name:
        floor = floor_per_second(Path(name), seconds / 2)
    rows.append(Row(name="written and flushed, no git", value=floor, unit="results/s"))
    few = 0.0
    for devices in (1_000,) if quick else (1_000, 10_000, 100_000):
        # On the disk of the checkout: a temporary folder may be in memory, where flushing is free.
        with TemporaryDirectory(dir=Path(__file__).parent) as name:
            rate, slowest = asyncio.run(
                stored_per_second(Path(name), devices, seconds, overviews=False)
            )
        few = few or rate
        first = devices == 1_000
        rows.append(
            Row(
                name=f"stored, {devices:,} devices",
                value=rate,
                unit="results/s",
                compared_to="written and flushed, no git" if first else "stored, 1,000 devices",
                ratio=rate / floor if first else rate / few,
            )
        )
        rows.append(Row(name=f"99 of 100, {devices:,} devices", value=slowest, unit="ms"))
        with TemporaryDirectory(dir=Path(__file__).parent) as name:
            shown, _ = asyncio.run(stored_per_second(Path(name), devices, seconds, overviews=True))
        rows.append(
            Row(
                name=f"with overviews, {devices:,} devices",
                value=shown,
                unit="results/s",
                compared_to=f"stored, {devices:,} devices",
                ratio=shown / rate,
            )
        )
    return rows

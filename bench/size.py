"""How small the archive keeps a fleet's history: beside `git gc --aggressive` of a fresh clone.

The repository is made by the archive itself, with maintenance as it runs in the product. A large
one is worth keeping: `python -m bench.size build FOLDER --devices 10000 --versions 50` makes it,
`python -m bench.size measure FOLDER` says how it stands as it is, a day later, and a week later.
"""

import argparse
import asyncio
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import msgspec

from bench.report import Row
from roundsman import logs
from roundsman.archive import git as git_archive
from roundsman.archive import writing
from roundsman.archive.command import Git
from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.indexing import INDEX, VERSIONS, update
from roundsman.archive.interface import Entry, Search
from roundsman.archive.large import LargeContents
from roundsman.archive.maintenance import Maintainer
from roundsman.archive.pack_reading import packs_in
from roundsman.archive.repository import Repository
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, CommitPer, PointerSettings

AT_ONCE = 128
MOST_BYTES = 10_000
"""Of a configuration, roughly."""
JOB = "show_run"
ASKED = ["device-000007", "device-000042", "device-000077"]
DAY = 86_400.0
_SELF_AND_PROGRAMS = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
WORDS = ["core", "edge", "access", "uplink", "transit", "customer", "voice", "guest", "storage"]


class Later(SystemClock):
    """The machine's clock, some time ahead; who waits by it does not wait."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def now(self) -> float:
        return super().now() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Fleet:
    """Configurations of 2 to 10 KB, of which each version changes a few lines of the one before.

    Small ones, as of switches at the access, are 1 to 3 KB.
    """

    def __init__(self, devices: int, *, small: bool = False) -> None:
        self._rng = random.Random(7)
        of_all, self._ports = (14, (4, 26)) if small else (40, (10, 75))
        shared = [f"aaa group {self._rng.choice(WORDS)} server 10.0.0.{n}\n" for n in range(of_all)]
        self._contents = [self._first(number, shared) for number in range(devices)]

    def _first(self, number: int, shared: list[str]) -> bytes:
        lines = [f"hostname device-{number:06}\n", *shared]
        for port in range(self._rng.randrange(*self._ports)):
            lines += [f"interface GigabitEthernet0/{port}\n", self._line(), self._line(), "!\n"]
        return "".join(lines).encode()

    def _line(self) -> str:
        rng = self._rng
        if rng.random() < 0.5:
            return f" description {rng.choice(WORDS)}-{rng.choice(WORDS)}-{rng.randrange(10**6)}\n"
        return f" ip address 10.{rng.randrange(256)}.{rng.randrange(256)}.1 255.255.255.0\n"

    def next(self, number: int) -> bytes:
        """The next version of a device."""
        lines = self._contents[number].splitlines(keepends=True)
        for _ in range(self._rng.randrange(1, 4)):
            place = self._rng.randrange(1, len(lines))
            change = self._rng.random()
            if change < 0.7:
                lines[place] = self._line().encode()
            elif change < 0.85:
                lines.insert(place, self._line().encode())
            else:
                del lines[place]
        self._contents[number] = b"".join(lines)
        return self._contents[number]

    def round(self) -> Iterator[tuple[str, bytes]]:
        """A version of each device, in any order."""
        order = [*range(len(self._contents))]
        self._rng.shuffle(order)
        for number in order:
            yield f"device-{number:06}", self.next(number)


class Building(msgspec.Struct, frozen=True):
    """How a repository is made."""

    versions: int
    at_once: int = AT_ONCE
    """Results handed in, and written, together."""
    commit_per: CommitPer = CommitPer.RESULT
    seconds: float = float("inf")
    """After which it ends, whatever is missing."""
    first: int = 0
    """The version it begins with: those before it are there."""


async def build(folder: Path, fleet: Fleet, plan: Building) -> float:
    """Have the archive keep so many versions of each device; results a second."""
    settings = ArchiveSettings(commit_per=plan.commit_per)
    with (
        patch.object(writing, "BATCH_RESULTS", plan.at_once),
        patch.object(writing, "BATCH_BYTES", plan.at_once * MOST_BYTES),
        patch.object(git_archive, "_IN_HAND", 2 * plan.at_once),
    ):
        archive = GitArchive(folder / "archive.git", SystemClock(), settings)
        await archive.open()
        try:
            return await _fill(archive, fleet, plan)
        finally:
            await archive.close()


async def _fill(archive: GitArchive, fleet: Fleet, plan: Building) -> float:
    begun = time.monotonic()
    done = 0
    for version in range(plan.first, plan.versions):
        results = fleet.round()
        while entries := [_entry(*result, version) for result in islice(results, plan.at_once)]:
            await asyncio.gather(*map(archive.store, entries))
            done += len(entries)
            if time.monotonic() - begun > plan.seconds:
                break
        rate = done / (time.monotonic() - begun)
        size = (await archive.state()).bytes
        own, programs = (sum(resource.getrusage(who)[:2]) for who in _SELF_AND_PROGRAMS)
        print(
            f"{time.strftime('%H:%M:%S')} {done:,} results, {rate:.0f}/s, {size:,} bytes,"
            f" CPU for each {1000 * own / done:.2f} ms, of its programs"
            f" {1000 * programs / done:.2f} ms",
            file=sys.stderr,
            flush=True,
        )
        if time.monotonic() - begun > plan.seconds:
            break
    return done / (time.monotonic() - begun)


def _entry(device: str, content: bytes, version: int) -> Entry:
    now = int(time.time())
    return Entry(
        device=device,
        job=JOB,
        content=content,
        due=now,
        started_at=now,
        ended_at=now,
        worker_id="bench",
        run_id=f"{version:08}-{device}",
    )


async def maintain(repository: Path, ahead: float) -> float:
    """Do what maintenance has to do so many seconds from now; the seconds that it took."""
    clock = Later(ahead)
    opened = Repository(repository, Files(), clock)
    opened.open()

    async def listing() -> list[Path]:
        return [*packs_in(opened.packs)]

    async def rebuild(reason: str) -> None:
        raise AssertionError(reason)

    contents = LargeContents(opened.git, opened.files, PointerSettings())
    maintainer = Maintainer(opened, clock, listing, rebuild, contents)
    maintainer.start()
    await maintainer.stop()  # it has read what was noted
    begun = time.monotonic()
    await maintainer.look()
    opened.close()
    return time.monotonic() - begun


def packed(repository: Path) -> int:
    """Bytes of git's objects, with the indexes of packs."""
    files = (repository / "objects").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def collected(repository: Path, clone: Path) -> tuple[int, float]:
    """Bytes of the objects of a clone after `git gc --aggressive`, and the seconds that it took."""
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", repository, clone], check=True)
    begun = time.monotonic()
    command = ["git", f"--git-dir={clone}", "gc", "--quiet", "--aggressive", "--prune=now"]
    subprocess.run(command, check=True)
    return packed(clone), time.monotonic() - begun


async def asked(repository: Path) -> list[Row]:
    """What is asked of it: a word across all latest versions, and the versions of a device."""
    begun = time.monotonic()
    await asyncio.to_thread(update, Git(repository), repository / "roundsman")
    rows = [
        Row(name="index for searches brought up to date", value=time.monotonic() - begun, unit="s")
    ]
    for name in (VERSIONS, INDEX):
        size = (repository / "roundsman" / name).stat().st_size
        rows.append(Row(name=name, value=size / 1e6, unit="MB"))
    archive = GitArchive(repository, SystemClock())
    await archive.open()
    try:
        for text in ("device-000007", "GigabitEthernet0/9", "snmp-server"):
            begun = time.perf_counter()
            page = await archive.search(Search(text=text, chosen=lambda *_: True))
            took = 1000 * (time.perf_counter() - begun)
            rows.append(Row(name=f"{text}: {len(page.items)} found", value=took, unit="ms"))
        for device in ASKED:
            begun = time.perf_counter()
            found = await archive.versions(device, JOB, limit=50)
            listed = 1000 * (time.perf_counter() - begun)
            begun = time.perf_counter()
            await archive.diff(device, JOB, found[-1].version, found[0].version, context=3)
            compared = 1000 * (time.perf_counter() - begun)
            rows.append(Row(name=f"the latest {len(found)} of {device}", value=listed, unit="ms"))
            rows.append(Row(name="the first and the last compared", value=compared, unit="ms"))
    finally:
        await archive.close()
    return rows


def measure(folder: Path, *, aggressive: bool = True) -> list[Row]:
    """Its size now, a day later and a week later, beside git's; and what is asked of it."""
    repository = folder / "archive.git"
    rows = []
    size, seconds = collected(repository, folder / "clone.git") if aggressive else (None, 0.0)
    if size is not None:
        shutil.rmtree(folder / "clone.git")
        rows.append(Row(name="git gc --aggressive of a clone", value=size / 1e6, unit="MB"))
        rows.append(Row(name="git gc --aggressive took", value=seconds, unit="s"))
    rows += asyncio.run(asked(repository))
    for name, ahead in (
        ("as it was left", 0.0),
        ("a day later", 1.1 * DAY),
        ("a week later", 7.5 * DAY),
    ):
        took = asyncio.run(maintain(repository, ahead))
        rows.append(
            Row(
                name=f"{name}, maintained in {took:.0f} s",
                value=packed(repository) / 1e6,
                unit="MB",
                compared_to="git gc --aggressive" if size else None,
                ratio=packed(repository) / size if size else None,
            )
        )
    return rows


def run(quick: bool) -> list[Row]:
    logs.configure(level="warning")
    devices, versions = (200, 20) if quick else (1000, 50)
    with TemporaryDirectory(dir=Path(__file__).parent) as name:
        rate = asyncio.run(build(Path(name), Fleet(devices), Building(versions)))
        rows = [Row(name=f"{devices:,} devices x {versions} stored", value=rate, unit="results/s")]
        return [*rows, *measure(Path(name))]


def main() -> None:
    """Build a repository, or measure one, or only ask."""
    parser = argparse.ArgumentParser(prog="python -m bench.size", description=__doc__)
    parser.add_argument("what", choices=["build", "measure", "ask"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--versions", type=int, default=50)
    parser.add_argument("--small", action="store_true", help="configurations of 1 to 3 KB")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="results in a batch")
    parser.add_argument("--commit-per", type=CommitPer, default=CommitPer.RESULT)
    parser.add_argument("--first", type=int, default=0, help="go on in FOLDER with this version")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end then")
    parser.add_argument("--no-gc", action="store_true", help="leave git gc --aggressive out")
    given = parser.parse_args()
    logs.configure(level="warning")
    if given.what == "build":
        given.folder.mkdir(parents=True, exist_ok=given.first > 0)
        plan = Building(given.versions, given.at_once, given.commit_per, given.seconds, given.first)
        fleet = Fleet(given.devices, small=given.small)
        for _ in range(given.first):
            deque(fleet.round(), maxlen=0)  # made again, for the next one to differ from
        asyncio.run(build(given.folder, fleet, plan))
        return
    repository = given.folder / "archive.git"
    rows = (
        asyncio.run(asked(repository))
        if given.what == "ask"
        else measure(given.folder, aggressive=not given.no_gc)
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"  {row.ratio:.2f} of {row.compared_to}"
        print(f"{row.name:50} {row.value:10,.1f} {row.unit}{ratio}")


if __name__ == "__main__":
    main()

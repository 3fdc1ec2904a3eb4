"""What is asked of the archive: a device with very many versions, and a search of a whole fleet.

Differences and lists are asked for while results stream in. `git log -- path` stands beside.
"""

import asyncio
import random
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import Row
from roundsman import logs
from roundsman.archive.command import Git
from roundsman.archive.files import Files, NewFile
from roundsman.archive.git import GitArchive
from roundsman.archive.history import History
from roundsman.archive.indexing import update
from roundsman.archive.interface import Entry, Search
from roundsman.archive.layout import FLAT, SHARDED, Layout
from roundsman.archive.layouts import Layouts
from roundsman.archive.moving import write_tree
from roundsman.archive.objects import BLOB, COMMIT, object_id, whole
from roundsman.archive.packs import Pack, write_pack
from roundsman.archive.reading import Reading
from roundsman.archive.trees import FILE_MODE
from roundsman.clock import SystemClock

NOW = 1_700_000_000
DEVICE, JOB = "edge1", "show_run"
ASKED = 30
WHO = "bench <bench@localhost>"
CHUNK = 5000


def config(number: int, lines: int) -> bytes:
    """A configuration: words that all devices share, and some that few have."""
    rng = random.Random(number)
    return b"".join(
        b"interface Gi0/%d\n description link-%x\n ip address 10.%d.%d.1/24\n"
        % (line, rng.getrandbits(20), rng.randrange(256), rng.randrange(256))
        for line in range(lines // 3)
    )


class NotFlushed(Files):
    """The file system, for thousands of packs that need not outlive the measurement."""

    def sync_together(self, files: Sequence[NewFile]) -> None:
        """Leave it to the system."""

    def sync_folder(self, folder: Path) -> None:
        """Leave it to the system."""


def write(repository: Path, commits: Iterator[dict[str, bytes]], in_pack: int = CHUNK) -> None:
    """A repository of commits, each with the content of every path it has."""
    disk = NotFlushed()
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", repository], check=True)
    pack, parent, count = Pack(), b"", 0
    for count, files in enumerate(commits, 1):
        leaves = []
        for path, content in files.items():
            blob = object_id(BLOB, content)
            pack.add(blob, whole(BLOB, content))
            leaves.append((path.encode(), (FILE_MODE, blob)))
        head = f"tree {write_tree(pack, leaves).hex()}\n"
        head += f"parent {parent.hex()}\n" if parent else ""
        said = f"{head}author {WHO} {NOW + count} +0000\ncommitter {WHO} {NOW + count} +0000\n\nx\n"
        parent = object_id(COMMIT, said.encode())
        pack.add(parent, whole(COMMIT, said.encode()))
        if len(pack) > in_pack:
            write_pack(disk, repository / "objects" / "pack", pack)
            pack = Pack()
    if len(pack):
        write_pack(disk, repository / "objects" / "pack", pack)
    (repository / "refs" / "heads" / "main").write_text(parent.hex() + "\n")


async def slowest(ask: Callable[[int], Awaitable[object]]) -> float:
    """Of so many questions, how long 9 of 10 took at most, in milliseconds."""
    took = []
    for number in range(ASKED):
        begun = time.perf_counter()
        await ask(number)
        took.append(1000 * (time.perf_counter() - begun))
    return sorted(took)[ASKED * 9 // 10]


async def one_device(folder: Path, versions: int) -> list[Row]:
    """Lists and differences of a device with so many versions, while results stream in."""
    repository = folder / "archive.git"
    base = config(0, 300)
    path = Layout([FLAT]).path(DEVICE, JOB).decode()
    write(repository, ({path: base + b"! %d\n" % number} for number in range(versions)))
    archive = GitArchive(repository, SystemClock(), apart=True)
    begun = time.perf_counter()
    await archive.open()
    opened = time.perf_counter() - begun
    stop = asyncio.Event()
    stored = 0

    async def results(client: int) -> None:
        nonlocal stored
        while not stop.is_set():
            stored += 1
            await archive.store(
                Entry(
                    device=f"other{client}",
                    job=JOB,
                    content=base + b"! %d\n" % stored,
                    due=NOW,
                    started_at=NOW,
                    ended_at=NOW,
                    run_id=str(stored),
                )
            )

    clients = [asyncio.create_task(results(client)) for client in range(8)]
    page = await archive.versions(DEVICE, JOB, limit=1000)
    rng = random.Random(1)
    begun = time.perf_counter()
    listed = await slowest(lambda _: archive.versions(DEVICE, JOB, limit=50))

    async def diff(_: int) -> None:
        old, new = rng.sample(page, 2)
        await archive.diff(DEVICE, JOB, old.version, new.version, context=3)

    compared = await slowest(diff)
    rate = stored / (time.perf_counter() - begun)
    stop.set()
    await asyncio.gather(*clients)
    await archive.close()
    begun = time.perf_counter()
    log = ["git", f"--git-dir={repository}", "log", "--format=%H", "main", "--", path]
    subprocess.run(log, check=True, capture_output=True)
    walked = 1000 * (time.perf_counter() - begun)
    name = f"{versions:,} versions"
    return [
        Row(name=f"index made anew from git, {name}", value=opened, unit="s"),
        Row(
            name=f"latest 50 of {name}",
            value=listed,
            unit="ms, 9 of 10",
            compared_to="git log -- a path",
            ratio=listed / walked,
        ),
        Row(name=f"git log -- a path, {name}", value=walked, unit="ms"),
        Row(name=f"difference of any two of {name}", value=compared, unit="ms, 9 of 10"),
        Row(name="results stored meanwhile", value=rate, unit="results/s"),
    ]


async def waiting_packs(folder: Path, packs: int) -> list[Row]:
    """Differences and searches while so many packs wait to be joined, beside a git that looks."""
    repository, own = folder / "archive.git", folder / "archive.git" / "roundsman"
    base, layout = config(0, 300), Layout([FLAT])
    paths = [layout.path(f"edge{number}", JOB).decode() for number in range(100)]
    write(repository, ({paths[n % 100]: base + b"! %d\n" % n} for n in range(packs)), in_pack=1)
    git = Git(repository)
    own.mkdir()
    history = History(own / "versions.sqlite", git, Layouts(own, Files(), ()))
    history.catch_up(git.tip_of("main"))
    history.close()
    update(git, own)
    reading = Reading(git, own / "versions.sqlite")
    reading.start()

    async def diff(number: int) -> None:
        found = await reading.versions(f"edge{number}", JOB, None, 20)
        await reading.diff(f"edge{number}", JOB, found[-1].version, found[0].version, 3)

    async def search(_: int) -> None:
        await reading.search(Search(text="interface", chosen=lambda *_: True))

    async def log(number: int) -> None:
        command = ("log", "-1", "-p", "--format=%H", "main", "--", paths[number])
        await asyncio.to_thread(git.run, *command)

    asked = {"a difference": diff, "50 found": search, "git log -1 -p -- a path": log}
    rows = [
        Row(name=f"{name}, {packs:,} packs", value=await slowest(ask), unit="ms, 9 of 10")
        for name, ask in asked.items()
    ]
    await reading.stop()
    return rows


async def whole_fleet(folder: Path, devices: int, lines: int) -> list[Row]:
    """A search of the latest versions of so many devices."""
    repository = folder / "archive.git"
    layout = Layout([SHARDED if devices > 4000 else FLAT])
    paths = [layout.path(f"device-{number:06}", JOB).decode() for number in range(devices)]
    write(repository, iter([{path: config(n, lines) for n, path in enumerate(paths)}]))
    archive = GitArchive(repository, SystemClock())
    await archive.open()
    begun = time.perf_counter()
    update(Git(repository), repository / "roundsman")
    indexed = time.perf_counter() - begun
    rows = [Row(name=f"{devices:,} devices indexed", value=indexed, unit="s")]
    size = (repository / "roundsman" / "search.sqlite").stat().st_size
    rows.append(Row(name="index", value=size / devices, unit="bytes/device"))
    rare = config(devices // 2, lines).split()[3].decode()
    for name, search in {
        "a rare word": Search(text=rare, chosen=lambda *_: True),
        "a word that all have": Search(text="interface", chosen=lambda *_: True),
        "no device's word": Search(text="snmp-server", chosen=lambda *_: True),
        "a pattern": Search(text=f"{rare}$", is_pattern=True, chosen=lambda *_: True),
    }.items():
        begun = time.perf_counter()
        page = await archive.search(search)
        took = 1000 * (time.perf_counter() - begun)
        rows.append(
            Row(name=f"{name}: {len(page.items)} found, {page.read} read", value=took, unit="ms")
        )
    await archive.close()
    return rows


def run(quick: bool) -> list[Row]:
    logs.configure(level="warning")
    rows = []
    with TemporaryDirectory(dir=Path(__file__).parent) as name:
        rows += asyncio.run(one_device(Path(name), 5_000 if quick else 100_000))
    with TemporaryDirectory(dir=Path(__file__).parent) as name:
        rows += asyncio.run(waiting_packs(Path(name), 500 if quick else 5_000))
    with TemporaryDirectory(dir=Path(__file__).parent) as name:
        rows += asyncio.run(whole_fleet(Path(name), 2_000 if quick else 100_000, 60))
    return rows

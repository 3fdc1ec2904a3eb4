"""Joining, compacting and pruning: nothing is lost, little is left, nobody waits."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from bench.size import Fleet
from roundsman.archive import maintenance, maintenance_plan
from roundsman.archive.command import Git
from roundsman.archive.compacting import compact
from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.joining import join
from roundsman.archive.maintenance_plan import PackFile, Work, make_plan
from roundsman.archive.objects import BLOB, entry_header, object_id, stored
from roundsman.archive.pack_reading import (
    PackDamagedError,
    PackReader,
    ids_by_first_byte,
    packs_in,
)
from roundsman.archive.packs import Pack, write_pack
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import Spool, content_of, store_all
from tests.archive.stock_git import StockGit

DAY = 86_400


def contents(rng: random.Random, versions: int) -> list[bytes]:
    """A configuration of 5 KB and how it changed."""
    lines = [f"interface Gi0/{n}\n description {rng.getrandbits(64):x}\n" for n in range(120)]
    made = []
    for _ in range(versions):
        lines[rng.randrange(120)] = f"interface changed\n description {rng.getrandbits(64):x}\n"
        made.append("".join(lines).encode())
    return made


async def fill(
    archive: GitArchive, spool: Spool, rng: random.Random, *, devices: int, versions: int
) -> dict[str, list[tuple[str, bytes]]]:
    """Many versions; (version, content) by device, oldest first."""
    stored: dict[str, list[tuple[str, bytes]]] = {}

    async def device(name: str) -> None:
        for content in contents(rng, versions):
            answer = await archive.store(spool.entry(content, device=name))
            stored.setdefault(name, []).append((answer.version, content))

    await asyncio.gather(*(device(f"d{number}") for number in range(devices)))
    return stored


async def expect_all(
    archive: GitArchive, stock: StockGit, stored: dict[str, list[tuple[str, bytes]]]
) -> None:
    for device, versions in stored.items():
        for version, content in versions:
            assert stock.show(version, device) == content
        assert await content_of(archive, device) == versions[-1][1]
    stock.fsck()


def pack_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "objects" / "pack").glob("*.pack"))


def ids_in(packs: Iterable[Path]) -> list[bytes]:
    """Of all objects, each as often as it stands there."""
    return sorted(name for path in packs for names in ids_by_first_byte(path) for name in names)


def hexadecimal(commit: bytes | None) -> str:
    assert commit is not None
    return commit.hex()


@pytest.fixture
async def archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GitArchive]:
    """One that looks only when asked to."""
    monkeypatch.setattr(maintenance, "PACKS_ADDED", 1 << 30)
    monkeypatch.setattr(maintenance, "_SETTLE_SECONDS", 0)
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    yield archive
    await archive.close()


async def test_joined_packs_hold_every_object(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool, rng: random.Random
) -> None:
    stored = await fill(archive, spool, rng, devices=6, versions=8)
    again = spool.entry(stored["d0"][0][1], device="d0")  # what a pack holds already, and more
    stored["d0"].append(((await archive.store(again)).version, stored["d0"][0][1]))
    packs = sorted(packs_in(folder / "objects" / "pack"))
    before = pack_size(folder)
    name = join(Files(), folder / "objects" / "pack", packs)
    for path in packs:
        path.unlink()
        path.with_suffix(".idx").unlink()
    assert pack_size(folder) < before
    await expect_all(archive, stock, stored)
    stock.run("verify-pack", str(folder / "objects" / "pack" / f"{name}.idx"))
    once_more = join(Files(), folder / "objects" / "pack", [*packs_in(folder / "objects" / "pack")])
    assert once_more != name
    stock.run("verify-pack", str(folder / "objects" / "pack" / f"{once_more}.idx"))


async def test_what_an_earlier_release_wrote_as_it_was_is_deflated(
    archive: GitArchive, folder: Path, stock: StockGit, rng: random.Random
) -> None:
    packs = folder / "objects" / "pack"
    written = contents(rng, 2)
    for content in written:
        pack = Pack()
        pack.add(object_id(BLOB, content), entry_header(BLOB, len(content)) + stored(content))
        write_pack(Files(), packs, pack)
    found = [*packs_in(packs)]
    name = join(Files(), packs, found)
    assert (packs / f"{name}.pack").stat().st_size < 0.6 * sum(map(len, written))
    for path in found:
        path.unlink()
        path.with_suffix(".idx").unlink()
    for content in written:
        assert stock.run("cat-file", "blob", object_id(BLOB, content).hex()) == content


async def test_what_changed_on_the_disk_is_not_joined(
    archive: GitArchive, folder: Path, spool: Spool, rng: random.Random
) -> None:
    await fill(archive, spool, rng, devices=6, versions=8)
    packs = sorted(packs_in(folder / "objects" / "pack"))
    with PackReader(packs[0]) as reader:
        item = rng.choice(reader.objects)
    content = bytearray(packs[0].read_bytes())
    content[rng.randrange(item.offset, item.end)] ^= 1
    packs[0].chmod(0o644)
    packs[0].write_bytes(content)
    with pytest.raises(PackDamagedError, match=f"object {item.id.hex()} is damaged"):
        join(Files(), folder / "objects" / "pack", packs)
    assert sorted(packs_in(folder / "objects" / "pack")) == packs
    program = [sys.executable, "-m", "roundsman.archive.joining", str(os.getpid())]
    joining = subprocess.run(
        [*program, str(folder / "objects" / "pack")],
        input="\n".join(pack.stem for pack in packs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (joining.returncode, joining.stdout) == (1, "")
    assert joining.stderr == f"{packs[0]}: object {item.id.hex()} is damaged\n"


async def test_folders_are_seldom_whole_in_joined_packs(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    """Each batch's pack begins with whole trees; where many are joined they are deltas."""
    packs = folder / "objects" / "pack"
    await store_all(archive, [spool.entry(b"first\n", device=f"d{n:03}") for n in range(100)])
    for path in packs_in(packs):
        path.with_suffix(".keep").touch()
    stored = {}
    for number in range(60):
        content = b"%d\n" % number
        answer = await archive.store(spool.entry(content, device=f"d{number:03}"))
        stored[f"d{number:03}"] = [(answer.version, content)]

    async def joined(parts: int) -> int:
        young = [path for path in packs_in(packs) if not path.with_suffix(".keep").exists()]
        young.sort(key=lambda path: path.stat().st_mtime_ns)
        step = len(young) // parts
        made = 0
        for start in range(0, len(young), step):
            name = join(Files(), packs, young[start : start + step])
            said = stock.run("verify-pack", "-v", str(packs / f"{name}.idx")).decode()
            chains = [line.split() for line in said.splitlines() if line.startswith("chain")]
            assert max((int(line[3].rstrip(":")) for line in chains), default=0) <= 50
            lines = [line.split() for line in said.splitlines()]
            made += sum(
                len(line) == 5 and line[1] == "tree" and int(line[2]) > 200 for line in lines
            )
        for path in young:
            path.unlink()
            path.with_suffix(".idx").unlink()
        return made

    assert await joined(2) == 4  # 30 in each, of which 16 at most are one chain
    assert await joined(1) <= 4
    await expect_all(archive, stock, stored)


async def test_packs_of_git_are_joined_too(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool, rng: random.Random
) -> None:
    stored = await fill(archive, spool, rng, devices=3, versions=5)
    stock.run("-c", "repack.useDeltaBaseOffset=false", "repack", "-a", "-d", "-f", "-q")
    packs = [*packs_in(folder / "objects" / "pack")]
    for device, versions in (await fill(archive, spool, rng, devices=3, versions=5)).items():
        stored[device] += versions
    stock.run("repack", "-q")
    packs = [*packs_in(folder / "objects" / "pack")]
    join(Files(), folder / "objects" / "pack", packs)
    for path in packs:
        path.unlink()
        path.with_suffix(".idx").unlink()
    await expect_all(archive, stock, stored)


async def test_versions_that_grow_and_shrink_are_found_to_be_alike(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    """git compares a version with some that are of about its size, not with the one before it."""
    fleet = Fleet(60)
    for _ in range(20):
        await store_all(
            archive, [spool.entry(content, device=device) for device, content in fleet.round()]
        )
    archive._maintainer._noted.compacted_at = 0
    await archive._maintainer.look()
    compact = pack_size(folder)
    stock.run("gc", "--quiet", "--aggressive", "--prune=now")
    assert compact < 1.25 * pack_size(folder)


async def test_compacted_packs_hold_every_object_once(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool, rng: random.Random
) -> None:
    """What a commit needs and others do not, and what it does not need: not yet, or not any more.

    git is told what stands where by what commits need; the packs go, whatever that left out.
    """
    packs = folder / "objects" / "pack"
    stored = await fill(archive, spool, rng, devices=3, versions=4)
    reached = hexadecimal(archive._repository.tip())
    compacted: set[Path] = set()
    beyond: list[str] = []
    for _ in range(2):
        for device, versions in (await fill(archive, spool, rng, devices=3, versions=4)).items():
            stored[device] += versions
        young = {*packs_in(packs)} - compacted
        made = compact(Git(folder), [*young], reached, beyond)
        fresh = [packs / f"{name}.pack" for name in made]
        assert ids_in(fresh) == sorted({*ids_in(young)})
        compacted.update(fresh)
        for path in young:
            path.unlink()
            path.with_suffix(".idx").unlink()
        await expect_all(archive, stock, stored)
        reached = hexadecimal(archive._repository.tip())
        beyond = [reached]


async def test_paths_of_others_that_are_no_text_do_not_hold_up_compacting(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool, rng: random.Random
) -> None:
    stored = await fill(archive, spool, rng, devices=2, versions=2)
    names = [rb"caf\351/show_run", rb"Icon\r", rb"new\nline", rb"tab\t\"quoted\""]
    feed = [b"commit refs/heads/main", b"committer Other <o@example.org> 1700000000 +0000"]
    feed += [b"data 0", b"from refs/heads/main^0"]
    feed += [b'M 100644 inline "%s"\ndata 1\n%d' % (name, at) for at, name in enumerate(names)]
    stock.run("fast-import", "--quiet", stdin=b"\n".join(feed) + b"\n")
    for device, versions in (await fill(archive, spool, rng, devices=2, versions=2)).items():
        stored[device] += versions
    archive._maintainer._noted.compacted_at = 0
    await archive._maintainer.look()
    done = (await archive.state()).maintenance
    assert done is not None
    assert (done.work, done.failure) == ("compact", None)
    await expect_all(archive, stock, stored)
    stock.fsck()


async def test_a_look_joins_and_another_day_compacts(
    *,
    archive: GitArchive,
    folder: Path,
    stock: StockGit,
    spool: Spool,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = await fill(archive, spool, rng, devices=4, versions=40)
    monkeypatch.setattr(maintenance_plan, "_FEW", 4)
    monkeypatch.setattr(maintenance_plan, "_WORTH_BYTES", 1 << 30)
    maintainer = archive._maintainer
    maintainer._noted.compacted_at = SystemClock().now()
    await maintainer.look()
    state = await archive.state()
    assert state.packs <= 4
    assert state.maintenance is not None
    assert (state.maintenance.work, state.maintenance.failure) == ("join", None)
    joined = pack_size(folder)
    maintainer._noted.compacted_at = 0
    await expect_all(archive, stock, stored)
    monkeypatch.setattr(maintenance_plan, "_WORTH_BYTES", 1)
    await maintainer.look()
    state = await archive.state()
    assert state.maintenance is not None
    assert (state.maintenance.work, state.maintenance.failure) == ("compact", None)
    compact = pack_size(folder)
    assert compact < joined / 3
    await expect_all(archive, stock, stored)
    assert (folder / "objects/info/commit-graphs/commit-graph-chain").exists()
    stock.run("commit-graph", "verify")
    await maintainer.look()
    assert (await archive.state()).maintenance == state.maintenance  # nothing is left to do
    stock.run("gc", "--quiet", "--aggressive", "--prune=now")
    assert compact < 1.3 * pack_size(folder)


async def test_what_comes_while_git_compacts_is_joined(
    *,
    archive: GitArchive,
    folder: Path,
    stock: StockGit,
    spool: Spool,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance_plan, "_FEW", 4)
    monkeypatch.setattr(maintenance_plan, "_WORTH_BYTES", 1)
    stored = await fill(archive, spool, rng, devices=2, versions=6)
    maintainer = archive._maintainer
    compact, begun, joined = maintainer._programs.compact, asyncio.Event(), asyncio.Event()
    join_packs = maintainer._programs.join

    async def compacted_after_a_join(
        names: Sequence[str], tip: str, beyond: Sequence[str]
    ) -> set[str]:
        begun.set()
        await joined.wait()
        return await compact(names, tip, beyond)

    async def seen(names: Sequence[str]) -> set[str]:
        made = await join_packs(names)
        asked.append({*names})
        joined.set()
        return made

    asked: list[set[str]] = []
    monkeypatch.setattr(maintainer._programs, "compact", compacted_after_a_join)
    monkeypatch.setattr(maintainer._programs, "join", seen)
    maintainer._noted.compacted_at = 0
    before = {path.stem for path in packs_in(folder / "objects" / "pack")}
    looking = asyncio.create_task(maintainer.look())
    await begun.wait()
    more = await fill(archive, spool, rng, devices=2, versions=10)
    maintainer._wanted.set()  # as after so many batches
    await looking
    assert len(asked[0]) >= 10
    assert not asked[0] & before  # those are read by git
    for device, versions in more.items():
        stored[device] += versions
    await expect_all(archive, stock, stored)


async def test_pruning_forgets_what_nothing_refers_to(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool, rng: random.Random
) -> None:
    first = await archive.store(spool.entry(b"kept\n"))
    large = await archive.store(spool.entry(rng.randbytes(9_000_000), device="large"))
    lost = await archive.store(spool.entry(rng.randbytes(9_000_000), device="lost"))
    await archive.store(spool.entry(b"lost\n"))
    stock.run("update-ref", "refs/heads/main", large.version)
    await archive.check()  # sees it
    archive._maintainer._noted.pruned_at = 0
    await archive._maintainer.look()
    assert await content_of(archive) == b"kept\n"
    assert len(await content_of(archive, "large")) == 9_000_000
    assert 9_000_000 < pack_size(folder) < 9_100_000
    listed = stock.run("cat-file", "--batch-check=%(objectname)", "--batch-all-objects").decode()
    assert first.version in listed
    assert lost.version not in listed
    stock.fsck()


async def test_pruning_that_fails_holds_up_nothing_else(
    archive: GitArchive, spool: Spool, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where git needs more memory for the whole of it than there is."""
    await fill(archive, spool, rng, devices=2, versions=20)
    prune = AsyncMock(side_effect=ArchiveUnavailableError("git pack-objects: killed"))
    monkeypatch.setattr(archive._maintainer._programs, "prune", prune)
    archive._maintainer._noted.pruned_at = archive._maintainer._noted.compacted_at = 0
    await archive._maintainer.look()
    assert archive._maintainer.last is not None
    assert "killed" in str(archive._maintainer.last.failure)
    await archive._maintainer.look()
    assert (archive._maintainer.last.work, archive._maintainer.last.failure) == ("compact", None)
    assert prune.await_count == 1


async def test_a_pack_whose_result_is_not_stored_yet_is_left_alone(
    archive: GitArchive, folder: Path, spool: Spool, rng: random.Random
) -> None:
    await archive.store(spool.entry(b"1\n"))
    await archive.store(spool.entry(rng.randbytes(300_000)))
    for path in packs_in(folder / "objects" / "pack"):
        archive._maintainer.pending.add(path.stem)
    archive._maintainer._noted.pruned_at = 0
    await archive._maintainer.look()
    assert archive._maintainer.last is None


async def test_what_fails_is_told_and_harms_nothing(
    *,
    archive: GitArchive,
    folder: Path,
    stock: StockGit,
    spool: Spool,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    logged: list[MutableMapping[str, Any]],
) -> None:
    stored = await fill(archive, spool, rng, devices=2, versions=20)
    monkeypatch.setattr(maintenance_plan, "_FEW", 4)
    victim = min(packs_in(folder / "objects" / "pack"))
    index = victim.with_suffix(".idx").read_bytes()
    victim.with_suffix(".idx").chmod(0o644)
    victim.with_suffix(".idx").write_bytes(index[:-1])
    archive._maintainer._noted.compacted_at = SystemClock().now()
    await archive._maintainer.look()
    state = await archive.state()
    assert state.maintenance is not None
    assert "damaged" in str(state.maintenance.failure) or "version" in str(
        state.maintenance.failure
    )
    assert any(event["event"] == "archive.maintenance_failed" for event in logged)
    victim.with_suffix(".idx").write_bytes(index)
    await expect_all(archive, stock, stored)


async def test_results_come_and_go_while_packs_are_replaced(
    folder: Path,
    stock: StockGit,
    spool: Spool,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance, "PACKS_ADDED", 8)
    monkeypatch.setattr(maintenance_plan, "_FEW", 4)
    monkeypatch.setattr(maintenance_plan, "_YOUNG_BYTES", 200_000)
    archive, replaced = GitArchive(folder, SystemClock()), asyncio.Event()
    look = archive._maintainer.look

    async def and_tell() -> None:
        await look()
        if archive._maintainer.last is not None:
            replaced.set()

    monkeypatch.setattr(archive._maintainer, "look", and_tell)
    await archive.open()
    filling = asyncio.create_task(fill(archive, spool, rng, devices=4, versions=40))
    # Maintenance runs beside it, and what it does first may end after the last result was kept.
    while not (filling.done() and replaced.is_set()):
        for number in range(4):
            for item in (await archive.versions(f"d{number}", "show_run", limit=9))[-1:]:
                assert await content_of(archive, f"d{number}", version=item.version)
    stored = await filling
    await archive._maintainer.stop()
    await expect_all(archive, stock, stored)
    await archive.close()
    leftovers = [*(folder / "objects" / "pack").glob("tmp_*")]
    assert not leftovers
    stock.fsck()


def test_a_pack_that_is_cut_off_is_not_read(tmp_path: Path) -> None:
    pack = tmp_path / "pack-1.pack"
    for content, index in ((b"", b""), (b"PACK", b"\xfftOc\0\0\0\2"), (b"PACK", b"x" * 2000)):
        pack.write_bytes(content)
        pack.with_suffix(".idx").write_bytes(index)
        with pytest.raises(PackDamagedError):
            PackReader(pack)


@pytest.mark.parametrize(
    ("sizes", "work", "count"),
    [
        ([], Work.NOTHING, 0),
        ([1] * 15, Work.NOTHING, 0),
        ([1] * 15 + [10_000] * 15, Work.NOTHING, 0),
        ([1] * 100, Work.JOIN, 100),
        ([1] * 100 + [10_000], Work.JOIN, 100),
        ([1] * 100 + [10_000] * 32, Work.JOIN, 32),
        ([2 << 20] * 200, Work.COMPACT, 200),
    ],
)
def test_what_is_worth_doing(sizes: list[int], work: Work, count: int) -> None:
    packs = [PackFile(str(number), size, generation=None) for number, size in enumerate(sizes)]
    plan = make_plan(packs, now=DAY, compacted_at=DAY - 60, pruned_at=0)
    assert (plan.work, len(plan.packs)) == (work, count)


def test_each_object_is_copied_seldom() -> None:
    """A batch's pack is joined, and what that makes when there are as many like it."""
    young: list[int] = []
    copied = 0
    for number in range(1, 20_001):
        young.append(10)
        if number % maintenance.PACKS_ADDED:
            continue
        while True:
            packs = [PackFile(str(at), size, generation=None) for at, size in enumerate(young)]
            plan = make_plan(packs, now=0, compacted_at=0, pruned_at=0)
            if plan.work is Work.NOTHING:
                break
            assert plan.work is Work.JOIN
            joined = {int(name) for name in plan.packs}
            copied += sum(young[at] for at in joined)
            young = [size for at, size in enumerate(young) if at not in joined]
            young.append(sum(packs[at].size for at in joined))
        assert len(young) < 3 * 16
    assert copied < 3 * 20_000 * 10


def test_each_object_is_compacted_seldom() -> None:
    """Sizes of the compact packs grow like powers, so a year of results passes few times."""
    compact: list[int] = []
    written = 0
    for _ in range(1000):
        packs = [PackFile("young", 256 << 20, generation=None)]
        packs += [PackFile(str(at), size, generation=str(at)) for at, size in enumerate(compact)]
        plan = make_plan(packs, now=0, compacted_at=0, pruned_at=0)
        assert plan.work is Work.COMPACT
        made = (32 << 20) + sum(size for at, size in enumerate(compact) if str(at) in plan.packs)
        compact = [size for at, size in enumerate(compact) if str(at) not in plan.packs] + [made]
        written += made
        assert len(compact) < 12
    assert written < 12 * 1000 * (32 << 20)


def test_what_is_noted_outlives_the_process(folder: Path) -> None:
    noted = maintenance._Noted(generations={"pack-1": "c0ffee"}, pruned_at=1.5)
    assert msgspec.json.decode(msgspec.json.encode(noted), type=maintenance._Noted) == noted


async def test_what_maintenance_runs_ends_with_a_controller_that_is_killed(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\nexec 9>{alive}\necho up >&9\nexec sleep 600\n")
    program.chmod(0o755)
    code = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from roundsman.archive.command import Git\n"
        "from roundsman.archive.programs import Programs\n"
        "folder = Path(sys.argv[1])\ngit = Git(folder)\ngit.program = str(folder / 'git')\n"
        "asyncio.run(Programs(git, folder).verify())\n"
    )
    with (
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as controller,
        alive.open() as said,
    ):
        assert said.readline() == "up\n"
        controller.kill()
        assert said.read() == ""  # it held this open as long as it lived

"""What stock git reads of what we wrote, and what the archive makes of what others wrote."""

import asyncio
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from roundsman.archive import batch, locks
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import Spool, content_of
from roundsman.testing.clock import ManualClock
from tests.archive.stock_git import StockGit


async def opened(folder: Path) -> GitArchive:
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    return archive


async def test_a_commit_says_what_it_holds(folder: Path, stock: StockGit, spool: Spool) -> None:
    archive = GitArchive(folder, ManualClock(1_700_009_999.0))
    await archive.open()
    stored = await archive.store(spool.entry(b"one\n"))
    await archive.close()
    assert stock.run("log", "--format=%H%n%an <%ae> %at%n%cn <%ce> %ct%n%B", "main").decode() == (
        f"{stored.version}\n"
        "Roundsman <roundsman@localhost> 1700000002\n"
        "Roundsman <roundsman@localhost> 1700009999\n"
        "edge1 show_run, due 2023-11-14T22:13:20Z\n\n"
        "Roundsman-Run: run-1\n"
        "Roundsman-Device: edge1\n"
        "Roundsman-Job: show_run\n"
        "Roundsman-Due: 2023-11-14T22:13:20Z\n"
        "Roundsman-Worker: worker-1\n\n"
    )
    trailers = stock.run("log", "--format=%(trailers:key=Roundsman-Run,valueonly)", "main")
    assert trailers.split() == [b"run-1"]


async def test_no_value_adds_a_line_to_the_message(
    archive: GitArchive, stock: StockGit, spool: Spool
) -> None:
    entry = spool.entry(b"one\n")
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    hostile = type(entry)(**{**fields, "worker_id": "w\nRoundsman-Run: x", "ended_at": -1e300})
    await archive.store(hostile)
    assert b"Roundsman-Worker: w?Roundsman-Run: x\n" in stock.run("log", "--format=%B", "main")
    stock.fsck()


async def test_stock_git_clones_logs_and_diffs(
    archive: GitArchive, folder: Path, spool: Spool, tmp_path: Path
) -> None:
    await archive.store(spool.entry(b"a\nb\nc\n"))
    await archive.store(spool.entry(b"x\n", device="edge2"))
    await archive.store(spool.entry(b"a\nB\nc\n"))
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", folder, clone], check=True)
    assert (clone / "by_device/edge1/show_run").read_bytes() == b"a\nB\nc\n"
    log = subprocess.run(
        ["git", "-C", clone, "log", "--format=%s", "-p", "--", "by_device/edge1/show_run"],
        capture_output=True,
        check=True,
    ).stdout
    assert log.count(b"diff --git") == 2
    assert b"-b\n+B\n" in log


async def test_it_is_created_bare_with_main(
    archive: GitArchive, folder: Path, stock: StockGit
) -> None:
    """Fault 17: an empty or absent repository, and the controller did not start."""
    assert (folder / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert stock.run("rev-parse", "--is-bare-repository") == b"true\n"
    assert stock.commits() == []
    stock.fsck()


@pytest.mark.parametrize("branch", ["main", "master"])
async def test_an_empty_repository_of_stock_git_is_adopted(
    folder: Path, stock: StockGit, spool: Spool, branch: str
) -> None:
    subprocess.run(["git", "init", "-q", "--bare", "-b", branch, folder], check=True)
    archive = await opened(folder)
    stored = await archive.store(spool.entry(b"one\n"))
    await archive.close()
    assert stock.run("rev-parse", "HEAD").decode().strip() == stored.version
    assert stock.run("symbolic-ref", "HEAD") == b"refs/heads/main\n"
    stock.fsck()


async def test_a_repository_with_history_is_adopted(
    folder: Path, stock: StockGit, spool: Spool
) -> None:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "archive", folder], check=True)
    history = b"".join(
        b"commit refs/heads/archive\ncommitter A <a@b> %d +0000\ndata 4\nold\n"
        b"M 100644 inline by_device/edge1/show_run\ndata 2\n%d\n"
        b"M 100644 inline README.md\ndata 2\n%d\n" % (1_600_000_000 + number, number, number)
        for number in range(3)
    )
    stock.run("fast-import", "--quiet", stdin=history)
    old = stock.commits()
    archive = await opened(folder)
    versions = await archive.versions("edge1", "show_run", limit=10)
    assert [(item.version, item.at) for item in versions] == [
        (old[0], 1_600_000_002),
        (old[1], 1_600_000_001),
        (old[2], 1_600_000_000),
    ]
    assert await content_of(archive) == b"2\n"
    unchanged = await archive.store(spool.entry(b"2\n"))
    assert (unchanged.changed, unchanged.version) == (False, old[0])
    stored = await archive.store(spool.entry(b"new\n"))
    assert stock.commits("archive") == [stored.version, *old]
    assert stock.run("cat-file", "blob", "archive:README.md") == b"2\n"
    await archive.close()
    stock.fsck()


@pytest.mark.parametrize("what", ["file", "folder", "work tree", "sha256", "detached"])
async def test_what_is_not_a_bare_repository_is_refused_and_left_alone(
    folder: Path, what: str
) -> None:
    if what == "file":
        folder.write_text("mine\n")
    elif what == "folder":
        folder.mkdir()
        (folder / "mine").write_text("mine\n")
    elif what == "work tree":
        subprocess.run(["git", "init", "-q", folder], check=True)
    elif what == "sha256":
        subprocess.run(
            ["git", "init", "-q", "--bare", "--object-format=sha256", folder], check=True
        )
    else:
        subprocess.run(["git", "init", "-q", "--bare", folder], check=True)
        (folder / "HEAD").write_text("0" * 40 + "\n")
    before = sorted(folder.parent.rglob("*"))
    archive = GitArchive(folder, SystemClock())
    with pytest.raises(ArchiveUnavailableError, match="expected") as caught:
        await archive.open()
    assert caught.value.remedy
    assert sorted(folder.parent.rglob("*")) == before
    await archive.close()


async def test_leftovers_of_a_crash_are_cleared(
    folder: Path, stock: StockGit, spool: Spool
) -> None:
    """Fault 17: with a leftover lock the controller did not start, or dropped what it had."""
    archive = await opened(folder)
    first = await archive.store(spool.entry(b"one\n"))
    await archive.close()
    packs = folder / "objects" / "pack"
    leftovers = [
        folder / "refs/heads/main.lock",
        folder / "HEAD.lock",
        folder / "packed-refs.lock",
        folder / "config.lock",
        packs / "tmp_pack_a1b2c3",
        packs / "tmp_pack_a1b2c3_idx",
        packs / f"pack-{'1' * 40}.pack",
        packs / f"pack-{'2' * 40}.idx",
        packs / f"pack-{'3' * 40}.keep",
        folder / "objects/info/commit-graph.lock",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    mark = min(packs.glob("*.pack")).with_suffix(".keep")
    mark.write_bytes(b"receive-pack 4194305 on somewhere")  # more than there are processes
    leftovers.append(mark)
    shutil.copytree(folder, folder.with_name("archive.git.new"))  # a creation that was cut off
    archive = await opened(folder)
    assert not any(path.exists() for path in leftovers)
    second = await archive.store(spool.entry(b"two\n"))
    await archive.close()
    assert stock.commits() == [second.version, first.version]
    stock.fsck()


async def test_a_lock_that_nobody_holds_is_cleared_in_the_midst_of_work(
    archive: GitArchive, folder: Path, spool: Spool, stock: StockGit
) -> None:
    """Fault 17: with a leftover lock nothing was kept any more."""
    await archive.store(spool.entry(b"one\n"))
    lock = folder / "refs/heads/main.lock"
    lock.touch()
    assert (await archive.store(spool.entry(b"two\n"))).changed
    assert not lock.exists()
    stock.fsck()


async def test_a_lock_that_a_git_program_holds_is_waited_for(
    archive: GitArchive,
    folder: Path,
    spool: Spool,
    stock: StockGit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    await archive.store(spool.entry(b"one\n"))
    lock = folder / "refs/heads/main.lock"
    with subprocess.Popen(
        ["git", f"--git-dir={folder}", "update-ref", "--stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b"start\nverify refs/heads/main " + stock.commits()[0].encode())
        program.stdin.write(b"\nprepare\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"start: ok\n"
        assert program.stdout.readline() == b"prepare: ok\n"
        assert lock.exists()
        with pytest.raises(ArchiveUnavailableError, match=r"main\.lock"):
            await archive.store(spool.entry(b"two\n"))
        monkeypatch.setattr(locks, "PATIENCE_SECONDS", 60)
        storing = asyncio.create_task(archive.store(spool.entry(b"two\n")))
        await asyncio.sleep(0)
        program.stdin.write(b"abort\n")
        program.stdin.close()
        assert (await storing).changed
    stock.fsck()


async def test_a_repository_has_one_writer(archive: GitArchive, folder: Path, spool: Spool) -> None:
    other = GitArchive(folder, SystemClock())
    with pytest.raises(ArchiveUnavailableError, match="only writer"):
        await other.open()
    assert (await archive.store(spool.entry(b"one\n"))).changed
    await archive.close()
    await other.open()
    await other.close()


async def test_commits_of_others_are_built_upon(
    archive: GitArchive, stock: StockGit, spool: Spool
) -> None:
    await archive.store(spool.entry(b"one\n"))
    stock.run(
        "fast-import",
        "--quiet",
        stdin=b"commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 3\nus\n"
        b"from refs/heads/main^0\nM 100644 inline by_device/edge1/show_run\ndata 4\ntwo\n\n"
        b"M 100644 inline notes\ndata 2\nx\n\n",
    )
    theirs = stock.commits()[0]
    unchanged = await archive.store(spool.entry(b"two\n"))
    assert (unchanged.changed, unchanged.version) == (False, theirs)
    third = await archive.store(spool.entry(b"three\n"))
    assert len(await archive.versions("edge1", "show_run", limit=9)) == 3
    assert stock.run("cat-file", "blob", f"{third.version}:notes") == b"x\n"
    stock.fsck()


async def test_a_branch_set_back_is_followed(
    archive: GitArchive, stock: StockGit, spool: Spool
) -> None:
    first = await archive.store(spool.entry(b"one\n"))
    await archive.store(spool.entry(b"two\n"))
    stock.run("update-ref", "refs/heads/main", first.version)
    again = await archive.store(spool.entry(b"two\n", device="edge2"))
    versions = await archive.versions("edge1", "show_run", limit=9)
    assert [item.version for item in versions] == [first.version]
    assert stock.commits("main") == [again.version, first.version]
    stock.fsck()


async def test_gc_by_hand_is_no_harm(archive: GitArchive, stock: StockGit, spool: Spool) -> None:
    stored = [await archive.store(spool.entry(b"%d\n" % number)) for number in range(5)]
    stock.run("gc", "--quiet", "--prune=now")
    assert await content_of(archive, version=stored[2].version) == b"2\n"
    stored.append(await archive.store(spool.entry(b"5\n")))
    assert stock.commits("main") == [item.version for item in reversed(stored)]
    stock.fsck()


@pytest.mark.parametrize("damage", ["gone", "no database", "behind", "wrong"])
async def test_the_list_of_versions_is_made_anew_from_git(
    folder: Path, spool: Spool, damage: str
) -> None:
    archive = await opened(folder)
    stored = [await archive.store(spool.entry(b"%d\n" % number)) for number in range(3)]
    file = folder / "roundsman" / "versions.sqlite"
    if damage == "behind":
        shutil.copytree(file.parent, folder / "older")
    stored += [await archive.store(spool.entry(b"%d\n" % number)) for number in range(3, 6)]
    await archive.close()
    if damage == "gone":
        file.unlink()
    elif damage == "no database":
        file.write_bytes(b"half a page" * 1000)
    elif damage == "behind":
        shutil.rmtree(file.parent)
        shutil.move(folder / "older", file.parent)
    else:
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("DELETE FROM version WHERE number > 3")
    archive = await opened(folder)
    unchanged = await archive.store(spool.entry(b"5\n"))
    assert (unchanged.changed, unchanged.version) == (False, stored[-1].version)
    versions = await archive.versions("edge1", "show_run", limit=9)
    assert [item.version for item in versions] == [item.version for item in reversed(stored)]
    await archive.close()


async def test_when_the_tree_is_large_results_share_commits(
    archive: GitArchive, stock: StockGit, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(
        *(archive.store(spool.entry(b"0\n", device=f"d{number}")) for number in range(50))
    )
    monkeypatch.setattr(batch, "_TREE_BYTES", 5000)
    before = len(stock.commits())
    stored = await asyncio.gather(
        *(archive.store(spool.entry(b"1\n", device=f"d{number}")) for number in range(50)),
        archive.store(spool.entry(b"2\n", device="d0")),
        archive.store(spool.entry(b"2\n", device="d0")),
    )
    assert sum(item.changed for item in stored) == 51
    assert 3 <= len(stock.commits()) - before <= 40
    assert stock.show(stored[0].version, "d0") == b"1\n"
    assert stock.show("main", "d0") == b"2\n"
    for number in range(1, 50):
        assert stock.show(stored[number].version, f"d{number}") == b"1\n"
        versions = await archive.versions(f"d{number}", "show_run", limit=9)
        assert versions[0].version == stored[number].version
    stock.fsck()


async def test_a_large_blob_stays_in_a_pack_of_its_own(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    stored = await archive.store(spool.entry(bytes(9_000_000)))
    assert len(list((folder / "objects" / "pack").glob("*.keep"))) == 1
    assert stock.show(stored.version) == bytes(9_000_000)
    stock.fsck()


async def test_what_was_handed_in_is_kept_though_nobody_waits_for_it_any_more(
    folder: Path, spool: Spool, stock: StockGit
) -> None:
    archive = await opened(folder)
    entry = msgspec.structs.replace(spool.entry(b""), content=b"1\n")
    waiting = [
        asyncio.create_task(archive.store(msgspec.structs.replace(entry, device=f"d{number}")))
        for number in range(200)
    ]
    await asyncio.sleep(0)
    for item in waiting:
        item.cancel()
    await archive.close()
    assert len(stock.commits()) == 200


async def test_closed_it_serves_nothing_and_opened_again_it_does(
    folder: Path, spool: Spool
) -> None:
    archive = await opened(folder)
    waiting = [
        asyncio.create_task(archive.store(spool.entry(b"1\n", device=f"d{number}")))
        for number in range(300)
    ]
    await asyncio.sleep(0)
    await archive.close()
    await archive.close()
    assert all(item.changed for item in await asyncio.gather(*waiting))
    with pytest.raises(ArchiveUnavailableError):
        await archive.store(spool.entry(b"2\n"))
    with pytest.raises(ArchiveUnavailableError):
        await archive.check()
    await archive.open()
    assert (await archive.store(spool.entry(b"2\n"))).changed
    await archive.close()

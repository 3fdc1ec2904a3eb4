"""What is asked of the git archive that a clock, its files or other writers have a say in."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from roundsman.archive import history, origins, timeline
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import TooLargeToCompareError, Withdrawal
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, CommitPer, PointerSettings
from roundsman.testing.archive_conformance import DUE, Spool, content_of, store_all
from roundsman.testing.clock import ManualClock
from roundsman.testing.memory_archive import MemoryArchive
from tests.archive.git_servers import commit
from tests.archive.stock_git import StockGit


async def opened(folder: Path, settings: ArchiveSettings | None = None) -> GitArchive:
    archive = GitArchive(folder, SystemClock(), settings or ArchiveSettings())
    await archive.open()
    return archive


@pytest.mark.parametrize("per", CommitPer)
async def test_a_list_made_anew_says_the_same(folder: Path, spool: Spool, per: CommitPer) -> None:
    settings = ArchiveSettings(commit_per=per, pointers=PointerSettings(above_bytes=400_000))
    archive = await opened(folder, settings)
    contents = [b"one\n", b"two\n" * 90_000, b"big\n" * 200_000, b"a\0\n", b""]
    for content in contents:
        entries = [spool.entry(content + b"%d" % n, device=f"edge{n}") for n in range(3)]
        await store_all(archive, entries)
    before = [await archive.versions(f"edge{n}", "show_run", limit=9) for n in range(3)]
    await archive.close()
    for file in (folder / "roundsman").glob("versions.sqlite*"):
        file.unlink()
    archive = await opened(folder, settings)
    assert [await archive.versions(f"edge{n}", "show_run", limit=9) for n in range(3)] == before
    assert [(item.size, item.lines) for item in before[0]] == [
        (1, 0),
        (4, None),
        (800_001, None),
        (360_001, 90_000),
        (5, 1),
    ]
    assert {item.run_id for item in before[0]} == {"run-1", "run-4", "run-7", "run-10", "run-13"}
    await archive.close()


async def test_a_list_of_an_earlier_release_is_made_anew(folder: Path, spool: Spool) -> None:
    archive = await opened(folder)
    stored = await archive.store(spool.entry(b"one\n"))
    await archive.close()
    file = folder / "roundsman" / "versions.sqlite"
    for part in file.parent.glob("versions.sqlite*"):
        part.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.executescript("CREATE TABLE path (id); PRAGMA user_version = 1;")
    archive = await opened(folder)
    [version] = await archive.versions("edge1", "show_run", limit=9)
    assert (version.version, version.number, version.run_id) == (stored.version, 1, "run-1")
    await archive.close()


async def test_the_fleet_as_it_was(folder: Path, spool: Spool) -> None:
    clock = ManualClock(DUE)
    git, memory = GitArchive(folder, clock), MemoryArchive(clock)
    await git.open()
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(60):
        clock.advance(rng.choice([0, 1, 60]))
        entry = spool.entry(b"%d" % number, device=f"d{rng.randrange(6)}")
        await git.store(entry)
        await memory.store(entry)
    for at in (DUE - 1, DUE, *(DUE + rng.randrange(1800) for _ in range(10)), clock.now()):
        wanted, found = [
            [
                (each.device, each.version.number, each.version.at)
                for each in await archive.as_of(
                    at, after=("", ""), limit=99, chosen=lambda *_: True
                )
            ]
            for archive in (memory, git)
        ]
        assert found == wanted
    await git.close()


async def test_a_version_stands_where_what_was_kept_instead_is_not_here(
    archive: GitArchive, spool: Spool
) -> None:
    """It is the only one of its run, as in a thinned repository that left the other line out."""
    stored = await archive.store(spool.entry(b"one\n"))
    kept = "ab" * 20
    await archive.withdraw(
        [Withdrawal(device="edge1", job="show_run", version=stored.version, kept=kept)]
    )
    assert not (await archive.version("edge1", "show_run")).withdrawn


async def test_what_came_late_with_an_earlier_time_was_there_then(
    folder: Path, stock: StockGit, spool: Spool
) -> None:
    clock = ManualClock(DUE - 100)
    archive = GitArchive(folder, clock)
    await archive.open()
    for device, seconds in (("a", 200), ("b", 0)):
        await archive.store(spool.entry(b"x\n", device=device))
        clock.advance(seconds)
    commit(stock, {"by_device/c/show_run": "of another line\n"})  # at DUE, and on top of b
    await archive.store(spool.entry(b"x\n", device="d"))
    for at, wanted in ((DUE - 100, "a"), (DUE + 99, "ac"), (DUE + 100, "abcd")):
        found = await archive.as_of(at, after=("", ""), limit=9, chosen=lambda *_: True)
        assert "".join(each.device for each in found) == wanted
    await archive.close()


async def test_what_others_committed_is_told_too(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool, tmp_path: Path
) -> None:
    await archive.store(spool.entry(b"one\n"))
    work = tmp_path / "work"
    stock.run("clone", "--quiet", str(folder), str(work))
    (work / "by_device/edge1/show_run").write_bytes(b"one\nby hand\n")
    other = StockGit(work / ".git")
    who = ("-c", "user.name=ada", "-c", "user.email=ada@localhost", f"--work-tree={work}")
    other.run(*who, "commit", "--quiet", "--all", "--message=by hand")
    other.run("push", "--quiet", "origin", "HEAD")
    await archive.store(spool.entry(b"x", device="edge2"))
    version = await archive.version("edge1", "show_run")
    assert (version.subject, version.run_id, version.lines) == ("by hand", None, 2)
    told = await archive.origins("edge1", "show_run", None, limit=100)
    assert [(line.text, line.number) for line in told.lines] == [("one", 1), ("by hand", 2)]


async def test_what_is_very_large_is_not_compared(archive: GitArchive, spool: Spool) -> None:
    await archive.store(spool.entry(b"one\n"))
    await archive.store(spool.entry(b"one\n" * 2_200_000))
    with pytest.raises(TooLargeToCompareError):
        await archive.diff("edge1", "show_run", None, None, context=3)
    with pytest.raises(TooLargeToCompareError):
        await archive.origins("edge1", "show_run", None, limit=100)
    assert len(await content_of(archive)) == 8_800_000


async def test_looking_back_ends_in_time_and_says_so(
    archive: GitArchive, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await archive.store(spool.entry(b"always\n%d\n" % number))
    monkeypatch.setattr(origins, "SECONDS", -1.0)
    told = await archive.origins("edge1", "show_run", None, limit=100)
    assert (told.complete, told.reached) == (False, 5)
    monkeypatch.setattr(origins, "SECONDS", 60.0)
    told = await archive.origins("edge1", "show_run", None, limit=100)
    assert (told.complete, told.reached) == (True, 1)
    assert [line.number for line in told.lines] == [1, 5]


async def test_a_long_content_that_changed_at_both_ends_is_told_line_by_line(
    archive: GitArchive, spool: Spool
) -> None:
    always = [f"route {number}\n! \n" for number in range(5000)]
    after = [*always[:2500], "!\n", *always[2501:]]
    for content in (
        ["a\n", *always, "z\n"],
        ["b\n", *after],
        ["c\n", *after, "y\n"],
        ["d\n", *after[:10], *after[11:4000], "new\n", *after[4000:], "y"],
    ):
        await archive.store(spool.entry("".join(content).encode()))
    told = await archive.origins("edge1", "show_run", None, limit=20_000)
    came = [(line.text, line.number) for line in told.lines if line.number > 1]
    assert came == [("d", 4), ("!", 2), ("new", 4), ("y", 3)]
    assert (len(told.lines), told.count, told.complete) == (10_000, 10_000, True)
    last = await archive.origins("edge1", "show_run", None, first=9_990, limit=20)
    assert last.lines == told.lines[9_990:]


async def test_no_question_grows_with_the_fleet_or_the_history(
    archive: GitArchive, folder: Path
) -> None:
    """To note a batch went through all paths, and to find a version through all of its device's."""
    find = history._FIND.format(rows="(?, ?), (?, ?)")
    wanted = {find: "device=? AND job=?", timeline._ONE: "path=? AND commit_id=?"}
    wanted |= {timeline._AS_OF: "path=? AND seq=?", timeline._BEFORE: "path=? AND seq<?"}
    with closing(sqlite3.connect(folder / "roundsman" / "versions.sqlite")) as database:
        for query, index in wanted.items():
            asked = [1] * (3 if "?3" in query and "?4" not in query else 4)
            plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}", asked)]
            assert not [step for step in plan if step in ("SCAN path", "SCAN version")], plan
            assert any(index in step for step in plan), plan


async def test_the_list_of_the_release_before_goes_on(tmp_path: Path, spool: Spool) -> None:
    folder = tmp_path / "archive.git"
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    await archive.store(spool.entry(b"one\n"))
    await archive.close()
    with closing(sqlite3.connect(folder / "roundsman" / "versions.sqlite")) as database:
        database.executescript(
            "DROP VIEW told; ALTER TABLE version DROP COLUMN withdrawn;"
            "CREATE VIEW told AS SELECT path FROM version;"
            "UPDATE version SET subject = 'not made anew'; PRAGMA user_version = 2;"
            "INSERT INTO moment VALUES (9000000000, 0);"  # less than was reached before
        )
    await archive.open()
    await archive.store(spool.entry(b"two\n"))
    newest, oldest = await archive.versions("edge1", "show_run", limit=9)
    assert (oldest.subject, oldest.withdrawn, newest.number) == ("not made anew", False, 2)
    [found] = await archive.as_of(9e9, after=("", ""), limit=9, chosen=lambda *_: True)
    assert found.version == newest
    await archive.close()

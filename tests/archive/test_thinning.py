"""Thinned repositories, against stock git and a model that takes its time."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from click.testing import CliRunner, Result

from roundsman.archive import damage
from roundsman.archive.command import Git
from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, VersionNotFoundError, Withdrawal
from roundsman.archive.remotes.follower import Follower
from roundsman.archive.thinning import Thinned, ThinningRefusedError, thin, thin_and_replace
from roundsman.archive.thinning_line import Fate
from roundsman.archive.thinning_policy import Policy, ThinningPolicyError
from roundsman.cli.archive import command
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, CommitPer, PointerSettings, RemoteSettings
from roundsman.testing.archive_conformance import Spool, content_of, store_all
from roundsman.testing.clock import ManualClock
from tests.archive.git_servers import bare, commit
from tests.archive.stock_git import StockGit
from tests.archive.test_crashes import file_size_limit

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
DAY = 86_400
POLICY = (
    "all for 30 days, then the last of each day for 6 months, "
    "then the last of each week for 1 year, then the last of each month"
)
ENDS = (
    datetime(2026, 2, 13, 12, tzinfo=UTC),
    datetime(2025, 8, 13, 12, tzinfo=UTC),
    datetime(2024, 8, 13, 12, tzinfo=UTC),
)
LARGE = b"large\n" * 1000
POINTERS = ArchiveSettings(pointers=PointerSettings(above_bytes=1024))


def thinned(folder: Path, new: Path, policy: str = POLICY) -> tuple[Thinned, list[Fate]]:
    """Thin as of `NOW`; what became of everything."""
    fates: list[Fate] = []
    now = NOW.timestamp()
    done = thin(Git(folder), new, Policy.parse(policy, now), now=now, report=fates.append)
    return done, fates


def clock_at(days: float) -> ManualClock:
    """A clock so many days before `NOW`."""
    return ManualClock(NOW.timestamp() - days * DAY)


async def opened(
    folder: Path, clock: ManualClock, settings: ArchiveSettings | None = None
) -> GitArchive:
    archive = GitArchive(folder, clock, settings or ArchiveSettings())
    await archive.open()
    return archive


class Version(NamedTuple):
    slot: tuple[str, str]
    at: int
    blob: str
    commit: str


def slot_of(path: str) -> tuple[str, str] | None:
    """Whose result is looked for at a path."""
    parts = path.split("/")
    return (parts[1], parts[2]) if parts[0] == "by_device" and len(parts) == 3 else None


def owner_of(path: str) -> tuple[str, str] | None:
    """Whose result stands at a path."""
    parts = path.split("/")
    if parts[0] == "by_tag" and len(parts) == 4 and "." not in parts[3]:
        return parts[2], parts[3]
    return slot_of(path) if not path.endswith((".gitattributes", "README.md")) else None


def line_of(stock: StockGit) -> list[str]:
    """The commits of the branch, oldest first."""
    return stock.run("rev-list", "--reverse", "--first-parent", "main").decode().split()


def tree_of(stock: StockGit, commit: str) -> dict[str, str]:
    """Path to mode and id of each file."""
    lines = stock.run("ls-tree", "-r", "--full-tree", "-z", commit).decode().split("\0")
    return {path: said for said, _, path in (line.partition("\t") for line in lines if line)}


def versions_of(stock: StockGit) -> list[Version]:
    """All versions, by comparing the tree of each commit with the one before."""
    found, blobs = [], dict[tuple[str, str], str]()
    for line in stock.run("log", "--first-parent", "--reverse", "--format=%H %ct").splitlines():
        name, date = line.decode().split()
        at = int(date)
        for path, said in tree_of(stock, name).items():
            slot, blob = owner_of(path) and slot_of(path), said.split()[2]
            if slot is not None and blobs.get(slot) != blob:
                blobs[slot] = blob
                found.append(Version(slot, at, blob, name))
    return found


def bucket_of(at: int) -> object:
    """What of `POLICY` a version falls under."""
    date = datetime.fromtimestamp(at, UTC)
    if date >= ENDS[0]:
        return object()
    if date >= ENDS[1]:
        return date.date()
    if date >= ENDS[2]:
        return "week", date.date() - timedelta(days=date.weekday())
    return "month", date.year, date.month


def staying(versions: list[Version]) -> list[Version]:
    """The versions that stay."""
    kept: list[Version] = []
    for slot in dict.fromkeys(version.slot for version in versions):
        own = [version for version in versions if version.slot == slot]
        stay = [
            version
            for number, version in enumerate(own)
            if number in (0, len(own) - 1) or bucket_of(version.at) != bucket_of(own[number + 1].at)
        ]
        kept += [
            version
            for number, version in enumerate(stay)
            if number == 0 or stay[number - 1].blob != version.blob
        ]
    return sorted(kept, key=versions.index)


def said_by(stock: StockGit, commit: str) -> bytes:
    """A commit without what it stands on and what it holds."""
    raw = stock.run("cat-file", "commit", commit)
    head, _, message = raw.partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if line.startswith((b"author", b"committer"))]
    return b"\n".join([*lines, b"", message])


async def history(folder: Path, spool: Spool, rng: random.Random, commit_per: CommitPer) -> None:
    """Some two years in which devices change, lose tags, and people push."""
    settings = ArchiveSettings(
        paths=("by_device/{device}/{job}", "by_tag/{tag}/{device}/{job}"),
        pointers=PointerSettings(above_bytes=1024),
        commit_per=commit_per,
        overviews=commit_per is CommitPer.BATCH,
    )
    clock = clock_at(800)
    archive = await opened(folder, clock, settings)
    stock = StockGit(folder)
    for number in range(45):
        entries = {}
        for _ in range(rng.randrange(1, 4)):
            device, job = f"d{rng.randrange(4)}", rng.choice(["a", "b"])
            content = LARGE + b"%d" % number if rng.random() < 0.1 else b"%d\n" % rng.randrange(9)
            entry = spool.entry(content, device=device, job=job)
            tags = tuple(sorted(rng.sample(["core", "edge"], rng.randrange(3))))
            entries[device, job] = msgspec.structs.replace(
                entry, tags=tags, due=int(clock.now()), ended_at=clock.now()
            )
        await store_all(archive, [*entries.values()])
        if rng.random() < 0.1:
            commit(stock, {f"notes/{number}": "by hand\n", "README.md": f"{number}\n"})
        if rng.random() < 0.1:
            stock.run("tag", f"light-{number}", "main")
        if rng.random() < 0.1:
            stock.run("-c", "user.name=t", "-c", "user.email=t@t", "tag", "-am", "x", f"t-{number}")
        # Mostly on, sometimes back; ends at the present.
        clock.step(rng.choice([0, 3600, 9 * 3600, DAY, 20 * DAY, 90 * DAY, -4 * 3600]))
        if clock.now() > NOW.timestamp():
            clock.step(NOW.timestamp() - clock.now())
    await archive.close()


@pytest.mark.parametrize("commit_per", [*CommitPer])
async def test_what_stays_is_what_a_model_says(
    folder: Path, stock: StockGit, spool: Spool, rng: random.Random, commit_per: CommitPer
) -> None:
    await history(folder, spool, rng, commit_per)
    before = stock.run("for-each-ref"), sorted(folder.rglob("*"))
    new = StockGit(folder.with_name("new.git"))
    done, fates = thinned(folder, new.folder)
    assert (stock.run("for-each-ref"), sorted(folder.rglob("*"))) == before
    new.fsck()
    versions = versions_of(stock)
    stay = staying(versions)
    assert [tuple(each)[:3] for each in versions_of(new)] == [tuple(each)[:3] for each in stay]
    assert 0 < len(stay) < len(versions)
    assert (done.versions, done.versions_kept) == (len(versions), len(stay))
    told = {(fate.pair, fate.old.hex()): fate.new for fate in fates}
    assert {key for key, made in told.items() if made} == {(v.slot, v.commit) for v in stay}
    assert len(told) == len(fates) == len(versions)

    # Every commit says what it said, and holds what the old one held, as of what stays.
    olds = iter(enumerate(line_of(stock)))
    order = {name: number for number, name in enumerate(line_of(stock))}
    place = {}
    for name in line_of(new):
        number, old = next(item for item in olds if said_by(stock, item[1]) == said_by(new, name))
        latest = {v.slot: v.blob for v in stay if order[v.commit] <= number}
        expected = {
            path: said if owner is None else f"{said[:12]}{latest[owner]}"
            for path, said in tree_of(stock, old).items()
            for owner in [owner_of(path)]
        }
        assert tree_of(new, name) == expected
        place[old] = name
    assert done.commits_kept == len(place)
    trees = [each.run("rev-parse", "main^{tree}") for each in (stock, new)]
    assert trees[0] == trees[1]

    # Tags name what stands in the place of what they named.
    assert not done.references_left
    for name in stock.run("tag", "--list").decode().split():
        old = stock.run("rev-parse", f"{name}^{{commit}}").decode().strip()
        made = new.run("rev-parse", f"{name}^{{commit}}").decode().strip()
        assert made == place[[each for each in place if order[each] <= order[old]][-1]]
        assert stock.run("cat-file", "-t", name) == new.run("cat-file", "-t", name)


async def test_what_others_did_stays(folder: Path, spool: Spool) -> None:
    """Merges, links, programs, folders in place of files, their branches and nested tags."""
    clock = ManualClock(1_700_000_000)  # all of it in one month
    archive = await opened(folder, clock)
    for number in range(3):
        await archive.store(spool.entry(b"%d\n" % number))
        clock.step(60)
    await archive.close()
    stock = StockGit(folder)
    feed = """commit refs/heads/main
committer Ada \303\211 <ada@example.org> 1700000100 +0230
data 8
by hand

from MAIN
M 120000 inline link
data 5
other
M 100755 inline bin/"run"
data 2
x

M 160000 1111111111111111111111111111111111111111 module
M 100644 inline place
data 2
y

commit refs/heads/side
committer Bob <bob@example.org> 1700000200 +0000
data 5
side

from refs/heads/main
D place
M 100644 inline place/below
data 2
z

commit refs/heads/main
committer Ada <ada@example.org> 1700000300 +0000
encoding ISO-8859-1
data 6
other

merge refs/heads/side
D place
M 100644 inline place/below
data 2
z

M 100644 inline by_device/edge1/show_run
data 2
3

"""
    stock.run(
        "fast-import", "--quiet", stdin=feed.replace("MAIN", line_of(stock)[-1]).encode("latin-1")
    )
    archive = await opened(folder, clock)
    clock.step(60)
    await archive.store(spool.entry(b"4\n"))
    clock.step(60)
    await archive.store(spool.entry(b"5\n"))
    await archive.close()
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    stock.run(*identity, "tag", "-am", "inner", "inner", "main")
    stock.run(*identity, "tag", "-am", "outer", "outer", "inner")
    stock.run("tag", "of-a-tree", "main^{tree}")
    new = StockGit(folder.with_name("new.git"))
    done, _ = thinned(folder, new.folder)
    new.fsck()
    assert done.references_left == ("refs/heads/side", "refs/tags/of-a-tree", "refs/tags/outer")
    assert new.run("rev-parse", "inner^{commit}") == new.run("rev-parse", "main")
    assert [new.show(name) for name in line_of(new)] == [b"0\n", b"0\n", b"0\n", b"5\n"]
    for name, old in zip(line_of(new), [0, 3, 4, 6], strict=True):
        was = line_of(stock)[old]
        assert said_by(new, name) == said_by(stock, was)
        theirs, ours = tree_of(stock, was), tree_of(new, name)
        assert {p: e for p, e in ours.items() if not slot_of(p)} == {
            p: e for p, e in theirs.items() if not slot_of(p)
        }
    assert line_of(new)[0] == line_of(stock)[0]
    assert not new.run("rev-list", "--merges", "main")
    assert b"encoding ISO-8859-1\n" in new.run("cat-file", "commit", line_of(new)[2])


async def test_contents_beside_git_come_along_while_they_are_named(
    folder: Path, spool: Spool
) -> None:
    clock = clock_at(100)
    archive = await opened(folder, clock, POINTERS)
    for number in range(3):
        await archive.store(spool.entry(LARGE + b"%d\n" % number))
        clock.step(60)
    await archive.close()
    new = folder.with_name("new.git")
    done, _ = thinned(folder, new)
    assert (done.versions_kept, done.contents_left) == (2, 1)
    assert CliRunner().invoke(command, ["verify", str(new)]).output == f"{new}: good\n"
    second = await opened(new, clock, POINTERS)
    versions = await second.versions("edge1", "show_run", limit=9)
    assert [version.number for version in versions] == [2, 1]
    contents = [await content_of(second, version=version.version) for version in versions]
    assert contents == [LARGE + b"2\n", LARGE + b"0\n"]
    await second.close()


async def test_what_was_refused_is_no_last_of_a_day_and_stays_withdrawn(
    folder: Path, spool: Spool
) -> None:
    clock = clock_at(100)
    archive = await opened(folder, clock)

    async def store(*contents: bytes) -> None:
        for content in contents:
            stored = await archive.store(spool.entry(content))
            clock.step(60)
            if content.startswith(b"refused"):
                clock.step(DAY)
                refused = Withdrawal(device="edge1", job="show_run", version=stored.version)
                await archive.withdraw([refused])
                clock.step(60)

    await store(b"first", b"second", b"refused", b"third")
    clock.step(90 * DAY)  # all of these stay
    await store(b"refused again", b"fourth")
    await archive.close()
    thinned(folder, folder.with_name("new.git"))
    again = await opened(folder.with_name("new.git"), clock)
    told = [
        (await content_of(again, version=each.version), each.withdrawn)
        for each in await again.versions("edge1", "show_run", limit=9)
    ]
    await again.close()
    assert told == [
        (b"fourth", False),
        (b"third", False),
        (b"refused again", True),
        (b"third", False),
        (b"second", False),
        (b"first", False),
    ]


async def test_an_archive_goes_on_in_it(folder: Path, spool: Spool, stock: StockGit) -> None:
    clock = clock_at(100)
    archive = await opened(folder, clock)
    for number in range(4):
        await archive.store(spool.entry(b"%d\n" % number))
        await archive.store(spool.entry(b"%d\n" % number, device="edge2"))
        clock.step(60)
    last = await archive.version("edge1", "show_run")
    dropped = (await archive.versions("edge1", "show_run", limit=9))[1]
    done, _ = thinned(folder, folder.with_name("new.git"))  # it is open here
    await archive.store(spool.entry(b"meanwhile\n"))
    await archive.close()
    assert done.tip != stock.run("rev-parse", "main").decode().strip()
    again = await opened(folder.with_name("new.git"), clock)
    now = await again.version("edge1", "show_run")
    assert (now.number, now.at, now.run_id, now.size) == (2, last.at, last.run_id, last.size)
    with pytest.raises(VersionNotFoundError):
        await again.version("edge1", "show_run", dropped.version)
    told = await again.origins("edge1", "show_run", None, limit=100)
    assert [line.number for line in told.lines] == [2]
    assert not (await again.store(spool.entry(b"3\n"))).changed
    assert (await again.store(spool.entry(b"4\n"))).changed
    await again.check()
    await again.close()
    StockGit(folder.with_name("new.git")).fsck()


async def test_where_nothing_goes_all_stays_as_it_is(
    folder: Path, spool: Spool, stock: StockGit
) -> None:
    archive = await opened(folder, clock_at(1))
    for number in range(4):
        await archive.store(spool.entry(b"%d\n" % number))
    await archive.close()
    new = StockGit(folder.with_name("new.git"))
    done, fates = thinned(folder, new.folder, "all")
    assert new.run("rev-parse", "main") == stock.run("rev-parse", "main")
    assert (done.tip, done.versions_kept) == (done.new_tip, 4)
    assert all(fate.new == fate.old for fate in fates)
    assert not (new.folder / "roundsman" / "thinned.json").exists()


async def test_a_remote_does_not_bring_the_old_history_back(
    folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = bare(folder.with_name("elsewhere.git"))
    clock = SystemClock()
    settings = ArchiveSettings(remotes={"far": RemoteSettings(url=str(remote.folder))})
    archive = GitArchive(folder, clock, settings)
    await archive.open()
    for number in range(3):
        await archive.store(spool.entry(b"%d\n" % number))
    await archive.close()
    remote.run("fetch", "--quiet", str(folder), "+main:main")
    old = remote.run("rev-parse", "main")
    new = StockGit(folder.with_name("new.git"))
    now = clock.now() + 100 * DAY
    thin(Git(folder), new.folder, Policy.parse("each day", now), now=now, report=lambda _: None)
    failed = asyncio.Event()
    fail = Follower._failed

    async def fail_and_say(follower: Follower, text: str) -> None:
        assert "before the archive was thinned" in text
        failed.set()
        await fail(follower, text)

    monkeypatch.setattr(Follower, "_failed", fail_and_say)
    again = GitArchive(new.folder, clock, settings)
    await again.open()
    try:
        await asyncio.wait_for(failed.wait(), 60)
        assert (await again.store(spool.entry(b"4\n"))).changed
        assert len(await again.versions("edge1", "show_run", limit=9)) == 3
    finally:
        await again.close()
    assert remote.run("rev-parse", "main") == old
    assert not new.run("for-each-ref", "refs/remotes")
    assert len(line_of(new)) == 3


async def test_the_new_one_takes_the_place_of_the_old_one(
    folder: Path, spool: Spool, stock: StockGit
) -> None:
    clock = clock_at(100)
    archive = await opened(folder, clock)
    for number in range(3):
        await archive.store(spool.entry(b"%d\n" % number))
    now = NOW.timestamp()
    policy = Policy.parse("each day", now)
    with pytest.raises(ArchiveUnavailableError, match="another process writes it"):
        thin_and_replace(Git(folder), policy, now=now, report=lambda _: None)
    await archive.close()
    old = line_of(stock)
    done = thin_and_replace(Git(folder), policy, now=now, report=lambda _: None)
    aside = StockGit(folder.with_name("archive.git.before-thinning-20260315T120000Z"))
    assert done.kept_as == str(aside.folder)
    assert line_of(aside) == old
    assert len(line_of(stock)) == 2
    again = await opened(folder, clock)
    assert len(await again.versions("edge1", "show_run", limit=9)) == 2
    await again.close()
    for each in (aside, stock):
        each.fsck()


class Stopping(Files):
    """Stops for good before the nth change of a name."""

    left = 0

    def rename(self, old: Path, new: Path) -> None:
        type(self).left -= 1
        if type(self).left < 0:
            raise KeyboardInterrupt
        super().rename(old, new)


@pytest.mark.parametrize("at", range(5))
async def test_cut_off_while_it_takes_the_place_there_is_one_or_the_other(
    folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    archive = await opened(folder, clock_at(100))
    for number in range(3):
        await archive.store(spool.entry(b"%d\n" % number))
    await archive.close()
    now = NOW.timestamp()
    policy = Policy.parse("each day", now)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nothing is cleared any more
    real_swap = damage.swap

    def swap(folder: Path, building: Path, aside: Path, _: Files) -> None:
        Stopping.left = at
        real_swap(folder, building, aside, Stopping())

    monkeypatch.setattr("roundsman.archive.thinning.swap", swap)
    if at < 3:
        with pytest.raises(KeyboardInterrupt):
            thin_and_replace(Git(folder), policy, now=now, report=lambda _: None)
    else:
        thin_and_replace(Git(folder), policy, now=now, report=lambda _: None)
    monkeypatch.undo()
    again = await opened(folder, clock_at(100))
    number = len(await again.versions("edge1", "show_run", limit=9))
    await again.close()
    assert number == (3 if at < 2 else 2)
    if at < 2:
        thin_and_replace(Git(folder), policy, now=now, report=lambda _: None)
    StockGit(folder).fsck()
    [aside] = folder.parent.glob("*.before-thinning-*")
    assert len(line_of(StockGit(aside))) == 3
    assert not [*folder.parent.glob("*.thinning"), *folder.parent.glob("*.rebuilt")]


async def test_killed_at_any_moment_it_can_be_run_again(
    folder: Path, spool: Spool, stock: StockGit, rng: random.Random
) -> None:
    clock = clock_at(300)
    archive = await opened(folder, clock)
    for number in range(30):
        await archive.store(spool.entry(b"%d\n" % number))
        clock.step(3600)
    await archive.close()
    tip, new = stock.run("rev-parse", "main"), folder.with_name("new.git")
    arguments = ["archive", "thin", str(folder), str(new), "--keep", "each day"]
    running = [sys.executable, "-m", "roundsman", *arguments]
    for _ in range(4):
        with subprocess.Popen(
            running, stdout=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                process.wait(rng.uniform(0.2, 1.5))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if new.exists():
            break
    else:
        subprocess.run(running, check=True, stdout=subprocess.DEVNULL)
    assert not folder.with_name("new.git.thinning").exists()
    StockGit(new).fsck()
    assert stock.run("rev-parse", "main") == tip


async def test_a_full_disk_leaves_nothing_of_it(
    folder: Path, spool: Spool, rng: random.Random
) -> None:
    archive = await opened(folder, clock_at(100))
    for _ in range(3):
        await archive.store(spool.entry(rng.randbytes(20_000)))
    await archive.close()
    new = folder.with_name("new.git")
    for size in (50, 2000, 20_000, 30_000):
        with file_size_limit(size), pytest.raises(ArchiveUnavailableError):
            thinned(folder, new)
        assert sorted(path.name for path in folder.parent.iterdir()) == ["archive.git", "spool"]
    thinned(folder, new)
    StockGit(new).fsck()


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["thin", *map(str, arguments)])


async def test_the_command(folder: Path, spool: Spool) -> None:
    clock = ManualClock(SystemClock().now() - 100 * DAY)
    archive = await opened(folder, clock)
    for number in range(3):
        await archive.store(spool.entry(b"%d\n" % number))
    await archive.close()
    keep = ("--keep", "all for 30 days, then the last of each day")
    said = asked(folder, "--dry-run", *keep).output.splitlines()
    assert said[0].startswith("all versions since 20")
    assert said[1:] == ["the last of each day", "2 of 3 versions of 1 results"]
    new, report = folder.with_name("new.git"), folder.with_name("report")
    assert "2 of 3 of 1 results" in asked(folder, new, *keep, "--report", report).output
    fates = [line.split("\t") for line in report.read_text().splitlines()]
    assert [fate[:3] for fate in fates] == [
        [what, "edge1", "show_run"] for what in ("kept", "dropped", "kept")
    ]
    assert [fate[5] for fate in fates if fate[5]] == line_of(StockGit(new))
    for arguments in ((folder, *keep), (folder, new, "--replace", *keep), (folder, new)):
        assert asked(*arguments).exit_code == 2
    assert isinstance(asked(folder, new, *keep).exception, ThinningRefusedError)
    assert isinstance(asked(folder, "x", "--keep", "some").exception, ThinningPolicyError)
    bare(folder.with_name("empty.git"))
    empty = asked(folder.with_name("empty.git"), "x", *keep).exception
    assert isinstance(empty, ThinningRefusedError)
    replaced = asked(folder, "--replace", *keep).output
    assert "is kept as" in replaced


@pytest.mark.parametrize(
    "text",
    [
        "", "all,", "none", "each", "each second", "all for 30", "all, then each day",
        "each day for 3 days ago", "all for ever, each day",
    ],
)  # fmt: skip
def test_a_policy_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ThinningPolicyError, match="such as: all for 30 days"):
        Policy.parse(text, NOW.timestamp())


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("all for 1 month", datetime(2026, 2, 28, tzinfo=UTC)),
        ("all for 13 months", datetime(2025, 2, 28, tzinfo=UTC)),
        ("all for 2 years", datetime(2024, 3, 31, tzinfo=UTC)),
        ("all for 2 weeks", datetime(2026, 3, 17, tzinfo=UTC)),
        ("all for 36 hours", datetime(2026, 3, 29, 12, tzinfo=UTC)),
        ("all for 99999 years", datetime(1, 1, 1, tzinfo=UTC)),
        ("each year for 999999 days, then all", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_rule_reaches_back_by_the_calendar(text: str, since: datetime) -> None:
    now = datetime(2026, 3, 31, tzinfo=UTC).timestamp()
    assert Policy.parse(text, now).rules[0].since == int(since.timestamp())


@pytest.mark.parametrize(
    ("text", "last", "first"),
    [
        ("each hour", "2026-01-01T09:59", "2026-01-01T10:00"),
        ("each day", "2026-01-01T23:59", "2026-01-02T00:00"),
        ("each week", "2026-01-04T23:59", "2026-01-05T00:00"),
        ("each month", "2026-01-31T23:59", "2026-02-01T00:00"),
        ("each year", "2025-12-31T23:59", "2026-01-01T00:00"),
    ],
)
def test_where_a_stretch_of_time_ends(text: str, last: str, first: str) -> None:
    policy = Policy.parse(text, NOW.timestamp())
    ends, begins = (int(datetime.fromisoformat(f"{t}+00:00").timestamp()) for t in (last, first))
    assert policy.bucket(ends - 3500) == policy.bucket(ends)
    assert policy.bucket(begins) == policy.bucket(begins + 3500)
    assert policy.bucket(ends) != policy.bucket(begins)

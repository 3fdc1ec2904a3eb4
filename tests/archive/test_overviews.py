"""The README.md of each folder: what it shows, when it changes, and what becomes of others' own."""

import asyncio
import errno
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roundsman.archive import layouts, overview, overviewing, overviews
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Stored
from roundsman.archive.overview import Overview
from roundsman.clock import SystemClock
from roundsman.config.records import Acknowledge, ArchiveSettings, CommitPer, RemoteSettings
from roundsman.testing.archive_conformance import Spool, store_all
from roundsman.wire.paths import PathTemplate, PathTemplateError, shard
from tests.archive.disks import FailingFiles
from tests.archive.git_servers import bare, commit
from tests.archive.stock_git import StockGit

NOON = 1_700_049_600  # 2023-11-15 12:00 UTC
MINUTE = 60
MANY = ("by_device/{device}/{job}", "by_job/{job}/{device}", "tags/{tag}/{device}/{job}")
ROW = re.compile(r"\| \[`([^`]*)`\]\(([^)]*)\) \| (.{16}) \|")

Opening = Callable[..., Any]


class SetClock(SystemClock):
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = float(NOON)

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def opened(folder: Path, clock: SetClock) -> AsyncIterator[Opening]:
    async with AsyncExitStack() as stack:

        async def open_archive(*paths: str, place: Path = folder, **said: Any) -> GitArchive:
            wanted = ArchiveSettings(**{"paths": paths, "overviews": True, **said})
            archive = GitArchive(place, clock, wanted)
            await archive.open()
            stack.push_async_callback(archive.close)
            return archive

        yield open_archive


def pages(stock: StockGit, commit: str = "main") -> dict[str, dict[str, str]]:
    """The overviews of a commit, by folder: what is listed, as its link says, and the time."""
    found = {}
    for path in paths(stock, commit):
        if path.rpartition("/")[2] == "README.md":
            text = stock.run("cat-file", "blob", f"{commit}:{path}").decode()
            rows = [ROW.fullmatch(line) for line in text.splitlines()]
            listed = {unquote(row[2]): row[3] for row in rows if row}
            assert [row[1] for row in rows if row] == [*listed]
            found[path.rpartition("/")[0]] = listed
    return found


def paths(stock: StockGit, commit: str = "main") -> list[str]:
    listed = stock.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
    return listed.decode().split("\0")[:-1]


def minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def expected(results: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """What the overviews are to be where results at these paths changed at these times."""
    found: dict[str, dict[str, str]] = {}
    for path, at in results.items():
        while path:
            path, _, name = path.rpartition("/")  # noqa: PLW2901 - up to the root
            before = found.setdefault(path, {}).get(name, "")
            found[path][name] = max(before, minute(at))
    return found


async def test_each_folder_lists_what_is_in_it(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    archive = await opened()
    first = await archive.store(spool.entry(b"1\n"))
    clock.time += MINUTE
    second = await archive.store(spool.entry(b"2\n", device="2001:db8::1", job="show 50"))
    assert pages(stock, first.version) == expected({"by_device/edge1/show_run": NOON})
    assert pages(stock) == expected(
        {"by_device/edge1/show_run": NOON, "by_device/2001:db8::1/show 50": NOON + MINUTE}
    )
    assert stock.commits() == [second.version, first.version]
    assert stock.run("show", "main:by_device/README.md").decode().splitlines()[1:] == [
        "# `by_device`",
        "",
        "| Device | Last change (UTC) |",
        "|---|---|",
        "| [`2001:db8::1`](2001%3Adb8%3A%3A1) | 2023-11-15 12:01 |",
        "| [`edge1`](edge1) | 2023-11-15 12:00 |",
    ]
    stock.fsck()


async def test_what_is_unchanged_changes_none(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    archive = await opened()
    await archive.store(spool.entry(b"1\n"))
    before = stock.run("ls-tree", "-r", "main")
    clock.time += 1  # within the minute: nothing that is shown changes
    changed = await archive.store(spool.entry(b"2\n"))
    assert stock.run("diff", "--name-only", "main~", "main").split() == [
        b"by_device/edge1/show_run"
    ]
    clock.time += 5 * MINUTE
    assert not (await archive.store(spool.entry(b"2\n"))).changed
    assert stock.commits()[0] == changed.version
    assert len(before.splitlines()) == 4


async def test_long_ones_are_written_once_for_each_batch(
    opened: Opening, stock: StockGit, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = await opened()
    entries = [spool.entry(b"1\n", device=f"edge{number}") for number in range(12)]
    await store_all(archive, entries[:6])
    own = {"README.md", "by_device/README.md"}
    places = {f"by_device/edge{number}" for number in range(6)}
    for commit_id in stock.commits():
        changed = {*stock.run("show", "--format=", "--name-only", commit_id).decode().split()}
        [place] = {str(PurePosixPath(path).parent) for path in changed - own} & places
        places.remove(place)
        assert changed - own == {f"{place}/README.md", f"{place}/show_run"}
        assert "by_device/README.md" in changed
    assert not places
    monkeypatch.setattr(overviews, "SHORT", 1)
    await store_all(archive, entries[6:])
    assert len(stock.commits()) == 12
    latest = stock.run("log", "-6", "--format=", "--name-only").decode().split()
    assert latest.count("by_device/README.md") <= 2
    assert pages(stock) == expected({f"by_device/edge{n}/show_run": NOON for n in range(12)})


PAIRS = st.tuples(st.sampled_from(["a", "a-b", "b"]), st.sampled_from(["x", "README.md"]))
RESULTS = st.tuples(
    PAIRS, st.sampled_from([b"1\n", b"2\n"]), st.sets(st.sampled_from(["core", "a/b"]))
)
STEPS = st.lists(st.one_of(st.lists(RESULTS, max_size=6), st.sampled_from(["reopen", "off"])))


@settings(max_examples=12, deadline=None)
@given(
    STEPS,
    st.sampled_from([CommitPer.RESULT, CommitPer.BATCH]),
    st.sampled_from([MANY, ("{device}/{job}",), ("{shard}/{device}/{job}", "{job}/{device}.md")]),
)
@example(  # what changed last leaves a folder that goes on: those above fall back with it
    steps=[
        [(("a", "x"), b"1\n", set[str]())],
        [(("a-b", "x"), b"1\n", {"core"})],
        [(("a", "x"), b"1\n", {"core"}), (("a-b", "x"), b"1\n", set[str]())],
    ],
    per=CommitPer.RESULT,
    templates=MANY,
)
def test_they_show_what_there_is(
    steps: list[Any], per: CommitPer, templates: tuple[str, ...]
) -> None:
    """Whatever is stored: every folder, right, and nothing but results makes commits."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_compare(Path(name), steps, per, templates))


async def _compare(
    folder: Path, steps: list[Any], per: CommitPer, templates: tuple[str, ...]
) -> None:
    stock, spool, clock = StockGit(folder / "archive.git"), Spool(folder), SetClock()
    wanted = ArchiveSettings(paths=templates, commit_per=per, overviews=True)
    archive = GitArchive(stock.folder, clock, wanted)
    await archive.open()
    changed: dict[tuple[str, str], float] = {}
    stands: dict[tuple[str, str], set[str]] = {}
    for step in steps:
        clock.time += MINUTE
        if isinstance(step, str):
            await archive.close()
            if step == "off":
                archive = GitArchive(
                    stock.folder, clock, msgspec.structs.replace(wanted, overviews=False)
                )
                await archive.open()
                await archive.close()
                assert not changed or pages(stock) == {}
            archive = GitArchive(stock.folder, clock, wanted)
            await archive.open()
            continue
        once = {pair: (content, tags) for pair, content, tags in step}
        entries = [
            msgspec.structs.replace(
                spool.entry(content, device=device, job=job), tags=tuple(sorted(tags))
            )
            for (device, job), (content, tags) in once.items()
        ]
        before = stock.commits()
        for entry, answer in zip(entries, await store_all(archive, entries), strict=True):
            assert isinstance(answer, Stored)
            pair = (entry.device, entry.job)
            if answer.changed:
                changed[pair] = clock.time
            stands[pair] = _places(templates, *pair, entry.tags)
        moved = len(stock.commits()) - len(before)
        assert moved <= len(entries)
    await archive.close()
    if changed:
        results = {path: changed[pair] for pair, places in stands.items() for path in places}
        assert {path for path in paths(stock) if not path.endswith("README.md")} == {*results}
        assert pages(stock) == expected(results)
        archive = GitArchive(stock.folder, clock, wanted)
        (stock.folder / "roundsman" / "versions.sqlite").unlink()
        await archive.open()
        versions = [
            version for pair in changed for version in await archive.versions(*pair, limit=99)
        ]
        await archive.close()
        assert len({(v.version, v.size) for v in versions}) <= len(stock.commits()) * 6
        assert pages(stock) == expected(results)
    stock.fsck()


def _places(templates: tuple[str, ...], device: str, job: str, tags: tuple[str, ...]) -> set[str]:
    found = set()
    for template in map(PathTemplate.parse, templates):
        found |= {
            template.path(device, job, tag)
            for tag in (tags if "tag" in template.variables else ("",))
        }
    return found


async def test_a_person_s_own_stays(opened: Opening, stock: StockGit, spool: Spool) -> None:
    off = await opened(overviews=False)
    await off.store(spool.entry(b"1\n"))
    await off.close()
    mine = {"README.md": "mine\n", "by_device/readme.MD": "mine too\n"}
    commit(stock, mine)
    archive = await opened()
    await archive.store(spool.entry(b"2\n"))
    await archive.store(spool.entry(b"2\n", device="edge2"))
    assert {**pages(stock), "": {}} == {
        "": {},
        "by_device/edge1": {"show_run": minute(NOON)},
        "by_device/edge2": {"show_run": minute(NOON)},
    }
    for path, text in mine.items():
        assert stock.run("show", f"main:{path}").decode() == text
    await archive.close()
    await opened(overviews=False)
    assert [path for path in paths(stock) if path.lower().endswith("readme.md")] == [*mine]


async def test_they_are_made_and_taken_away_in_one_commit(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    for wanted in (False, True, True, False, False, True):
        archive = await opened(*MANY, overviews=wanted)
        await archive.close()
    assert stock.commits() == []
    off = await opened(*MANY, overviews=False)
    for number in range(3):
        entry = spool.entry(b"1\n", device=f"edge{number}")
        await off.store(msgspec.structs.replace(entry, tags=("core",)))
        clock.time += MINUTE
    await off.close()
    clock.time += 100 * MINUTE
    results = {
        path: NOON + MINUTE * number
        for number in range(3)
        for path in _places(MANY, f"edge{number}", "show_run", ("core",))
    }
    for wanted, commits in ((True, 4), (True, 4), (False, 5), (False, 5), (True, 6)):
        archive = await opened(*MANY, overviews=wanted)
        await archive.close()
        assert pages(stock) == (expected(results) if wanted else {})
        assert len(stock.commits()) == commits
    stock.fsck()


async def test_they_are_made_some_thousand_at_a_time(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overviewing, "AT_ONCE", 2)
    off = await opened("{job}/{device}", overviews=False)
    results = {}
    for number in range(5):
        results[f"show_run/edge{number}"] = clock.time
        await off.store(spool.entry(b"1\n", device=f"edge{number}"))
        clock.time += MINUTE
    await off.close()
    for wanted, commits in ((True, 5 + 3), (False, 8 + 1), (True, 9 + 3)):
        archive = await opened("{job}/{device}", overviews=wanted)
        await archive.close()
        assert pages(stock) == (expected(results) if wanted else {})
        assert len(stock.commits()) == commits
    stock.fsck()


async def test_they_move_with_the_results(
    opened: Opening, stock: StockGit, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "CROWDED", 200)
    archive = await opened()
    results = {}
    for number in range(12):
        await archive.store(spool.entry(b"1\n", device=f"edge{number}"))
        results[f"by_device/{shard(f'edge{number}')}/edge{number}/show_run"] = NOON
    await archive.store(spool.entry(b"1\n", device="edge11"))
    assert pages(stock) == expected(results)
    shown = stock.run("show", f"main:by_device/{shard('edge1')}/README.md").decode()
    assert "changed last" in shown
    await archive.close()
    await opened("{job}/{device}")
    assert pages(stock) == expected({f"show_run/edge{number}": NOON for number in range(12)})
    stock.fsck()


async def test_a_large_folder_lists_what_changed_last(
    opened: Opening,
    stock: StockGit,
    spool: Spool,
    clock: SetClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overview, "MOST_ROWS", 6)
    monkeypatch.setattr(overview, "NEWEST_ROWS", 3)
    archive = await opened()
    for number in range(6):
        clock.time += MINUTE
        await archive.store(spool.entry(b"1\n", device=f"edge{number}"))
    assert len(pages(stock)["by_device"]) == 6
    clock.time += MINUTE
    await archive.store(spool.entry(b"1\n", device="edge6"))
    assert [*pages(stock)["by_device"]] == ["edge6", "edge5", "edge4"]
    clock.time += MINUTE
    await archive.store(spool.entry(b"2\n", device="edge1"))
    assert [*pages(stock)["by_device"]] == ["edge1", "edge6", "edge5"]
    await archive.close()
    for wanted in (False, True):
        archive = await opened(overviews=wanted)
        await archive.close()
    assert [*pages(stock)["by_device"]] == ["edge1", "edge6", "edge5"]


async def test_others_who_change_results_do_not_make_them_wrong(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    archive = await opened()
    for device in ("edge1", "edge2", "edge3"):
        await archive.store(spool.entry(b"1\n", device=device))
    for running in (True, False):
        if not running:
            await archive.close()
        commit(stock, {"by_device/edge1/show_run": f"by hand {running}\n"})
        if not running:
            archive = await opened()
        clock.time += 2 * MINUTE
        await archive.store(spool.entry(b"%d\n" % running, device="edge2"))
        [edited] = await archive.versions("edge1", "show_run", limit=1)
        assert pages(stock)["by_device/edge1"] == {"show_run": minute(edited.at)}
    head = stock.run("rev-parse", "main").decode().strip()
    stock.run(
        "fast-import", "--quiet",
        stdin=b"commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 3\nus\n"
        b"from %s\nD by_device/README.md\nD by_device/edge3/show_run\n\n" % head.encode(),
    )  # fmt: skip
    await archive.store(spool.entry(b"9\n", device="edge2"))
    shown = pages(stock)
    assert {*shown["by_device"]} == {"edge1", "edge2"}
    assert shown["by_device"]["edge2"] == minute(clock.time)
    assert "by_device/edge3" not in shown
    stock.fsck()


async def test_a_device_that_a_person_removes_is_shown_no_more(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    archive = await opened(*MANY)
    for device in ("edge1", "edge2"):
        entry = spool.entry(b"1\n", device=device)
        await archive.store(msgspec.structs.replace(entry, tags=("core",)))
    removed = "".join(
        f"D {folder}/edge2\n" for folder in ("by_device", "by_job/show_run", "tags/core")
    )
    told = "commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 3\nus\n"
    told += f"from refs/heads/main^0\n{removed}\n"
    stock.run("fast-import", "--quiet", stdin=told.encode())
    clock.time += MINUTE
    entry = spool.entry(b"2\n", device="edge1")
    await archive.store(msgspec.structs.replace(entry, tags=("core",)))
    results = ("by_device/edge1/show_run", "by_job/show_run/edge1", "tags/core/edge1/show_run")
    assert pages(stock) == expected(dict.fromkeys(results, clock.time))
    stock.fsck()


async def test_what_a_person_adds_to_one_stays(
    opened: Opening, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    archive = await opened()
    await archive.store(spool.entry(b"1\n"))
    text = stock.run("show", "main:by_device/README.md").decode()
    head, _, rest = text.partition("\n| Device")
    commit(stock, {"by_device/README.md": f"{head}\nAsk Ada.\n\n| Device{rest}\nBye.\n"})
    commit(stock, {"README.md": "no overview\n"})
    clock.time += MINUTE
    await archive.store(spool.entry(b"2\n"))
    text = stock.run("show", "main:by_device/README.md").decode()
    assert "\nAsk Ada.\n" in text
    assert text.endswith("12:01 |\n\nBye.\n")
    assert stock.run("show", "main:README.md") == b"no overview\n"


async def test_two_archives_on_one_remote_agree(
    opened: Opening, tmp_path: Path, spool: Spool, clock: SetClock
) -> None:
    remote = bare(tmp_path / "elsewhere.git")
    commit(remote, {"README.md": "hello\n"}, on=None)
    said = {
        "remotes": {"r": RemoteSettings(url=str(remote.folder))},
        "acknowledge": Acknowledge.PUSHED,
    }
    archives = [await opened(place=tmp_path / name, **said) for name in ("left.git", "right.git")]

    async def stream(archive: GitArchive, name: str) -> None:
        for number in range(6):
            clock.time += MINUTE
            await archive.store(spool.entry(b"%d\n" % number, device=f"{name}{number % 3}"))

    await asyncio.gather(
        *(stream(archive, name) for archive, name in zip(archives, ("l", "r"), strict=True))
    )
    shown = pages(remote)
    assert remote.run("show", "main:README.md") == b"hello\n"
    assert {*shown["by_device"]} == {f"{name}{number}" for name in "lr" for number in range(3)}
    for device, at in shown["by_device"].items():
        assert shown[f"by_device/{device}"] == {"show_run": at}
    for name in ("left.git", "right.git"):
        StockGit(tmp_path / name).fsck()
    remote.fsck()


def test_rows_that_both_sides_changed_are_put_together_alike() -> None:
    def page(**rows: int) -> Overview:
        made = Overview.begin(b"by_device", "device", newest=False)
        for name, at in rows.items():
            made.set(name.encode(), NOON + MINUTE * at)
        return made

    def joined(base: Overview | None, ours: dict[str, int], theirs: dict[str, int]) -> bytes:
        left, right = page(**ours), page(**theirs)
        left.join(base, page(**theirs))
        right.join(base, page(**ours))
        assert left.content() == right.content()
        return left.content()

    base = page(a=0, b=0, c=0)
    assert (
        joined(base, {"a": 3, "b": 0, "c": 0}, {"a": 2, "c": 5, "d": 1})
        == page(a=3, c=5, d=1).content()
    )
    assert joined(None, {"a": 1}, {"a": 2, "b": 1}) == page(a=2, b=1).content()


async def test_a_call_fails_and_they_are_right_all_the_same(
    folder: Path, stock: StockGit, spool: Spool, clock: SetClock
) -> None:
    files = FailingFiles(errno.EIO)
    wanted = ArchiveSettings(overviews=True)
    results = {}
    for number in range(60):
        archive = GitArchive(folder, clock, wanted, files=files)
        await archive.open()
        entry = spool.entry(b"%d\n" % number, device=f"edge{number % 3}")
        files.fail_at(number)
        clock.time += MINUTE
        [answer] = await store_all(archive, [entry])
        failed = files.failed
        files.heal()
        if not isinstance(answer, Stored):
            await archive.store(entry)
        results[f"by_device/edge{number % 3}/show_run"] = clock.time
        await archive.close()
        assert pages(stock) == expected(results)
        if not failed:
            break
    assert number > 8
    stock.fsck()


async def test_killed_at_any_moment_they_are_right(
    folder: Path, stock: StockGit, rng: random.Random
) -> None:
    program = Path(__file__).with_name("storing_process.py")
    for life in range(4):
        with subprocess.Popen(
            [sys.executable, program, folder, str(life), "overviews"], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, 150)):
                assert process.stdout.readline(), "it ended by itself"
            process.send_signal(signal.SIGKILL)
            process.stdout.read()
        left = stock.commits("main")
        archive = GitArchive(folder, SystemClock(), ArchiveSettings(overviews=True))
        await archive.open()
        shown, changed = pages(stock), {}
        for number in range(24):
            for version in await archive.versions(f"d{number}", "show_run", limit=1):
                changed[f"by_device/d{number}/show_run"] = version.at
        await archive.close()
        assert changed
        assert shown == expected(changed)
        assert stock.commits("main") == left  # nothing had to be mended
        stock.fsck()


def test_no_result_has_their_name() -> None:
    for template, device, job, path in (
        ("{device}/{job}", "edge1", "README.md", "edge1/%52EADME.md"),
        ("{device}/{job}.md", "readme.md", "ReadMe", "%72eadme.md/%52eadMe.md"),
        ("x/R{job}/{device}", "edge1", "eadme.MD", "x/R%65adme.MD/edge1"),
    ):
        parsed = PathTemplate.parse(template)
        assert parsed.path(device, job) == path
        assert parsed.match(path) == {"device": device, "job": job}
    with pytest.raises(PathTemplateError):
        PathTemplate.parse("README.md/{device}/{job}")

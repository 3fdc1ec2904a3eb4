"""Where results stand: several templates at once, tags, shards, and moving from one to another."""

import asyncio
import random
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundsman.archive import layouts
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Entry
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, CommitPer
from roundsman.testing.archive_conformance import Spool, content_of
from roundsman.wire.paths import PathTemplate, PathTemplateError, escape, find_clash, shard
from tests.archive.stock_git import StockGit

MANY = ("by_device/{device}/{job}", "by_job/{job}/{device}.txt", "tags/{tag}/{device}/{job}")


async def opened(folder: Path, *paths: str, per: CommitPer = CommitPer.RESULT) -> GitArchive:
    archive = GitArchive(folder, SystemClock(), ArchiveSettings(paths=paths, commit_per=per))
    await archive.open()
    return archive


def files(stock: StockGit, commit: str = "main") -> dict[str, bytes]:
    listed = stock.run("ls-tree", "-r", "-z", "--full-tree", commit).decode().split("\0")[:-1]
    paths = [line.partition("\t")[2] for line in listed]
    return {path: stock.run("cat-file", "blob", f"{commit}:{path}") for path in paths}


def tagged(entry: Entry, *tags: str) -> Entry:
    return msgspec.structs.replace(entry, tags=tags)


async def test_a_result_stands_in_every_place(folder: Path, stock: StockGit, spool: Spool) -> None:
    archive = await opened(folder, *MANY)
    first = await archive.store(tagged(spool.entry(b"1\n"), "core", "site/x", ".."))
    assert files(stock) == dict.fromkeys(
        [
            "by_device/edge1/show_run",
            "by_job/show_run/edge1.txt",
            "tags/core/edge1/show_run",
            "tags/site%2Fx/edge1/show_run",
            "tags/%2E%2E/edge1/show_run",
        ],
        b"1\n",
    )
    assert len(stock.commits()) == 1
    again = await archive.store(tagged(spool.entry(b"1\n"), "core", "site/x", ".."))
    assert (again.changed, again.version, len(stock.commits())) == (False, first.version, 1)
    await archive.close()
    stock.fsck()


async def test_a_device_leaves_the_folder_of_a_tag_that_it_lost(
    folder: Path, stock: StockGit, spool: Spool
) -> None:
    archive = await opened(folder, *MANY)
    first = await archive.store(tagged(spool.entry(b"1\n"), "core", "edge"))
    await archive.store(tagged(spool.entry(b"2\n", device="edge2"), "core"))
    for reopened in (False, True):
        if reopened:
            await archive.close()
            archive = await opened(folder, *MANY)
        tags = ("edge", "new") if reopened else ("edge",)
        moved = await archive.store(tagged(spool.entry(b"1\n"), *tags))
        assert (moved.changed, moved.version) == (False, first.version)
        assert {path for path in files(stock) if path.startswith("tags/")} == {
            *(f"tags/{tag}/edge1/show_run" for tag in tags),
            "tags/core/edge2/show_run",
        }
    assert len(await archive.versions("edge1", "show_run", limit=9)) == 1
    await archive.close()
    (folder / "roundsman" / "versions.sqlite").unlink()
    archive = await opened(folder, *MANY)
    assert len(await archive.versions("edge1", "show_run", limit=9)) == 1
    await archive.close()
    stock.fsck()


async def test_other_paths_move_what_is_there_in_one_commit(
    folder: Path, stock: StockGit, spool: Spool, tmp_path: Path
) -> None:
    archive = await opened(folder)
    for number in range(20):
        await archive.store(spool.entry(b"%d\n" % number * 9, device=f"edge{number}"))
    await archive.close()
    stock.run(
        "fast-import", "--quiet",
        stdin=b"commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 3\nus\n"
        b"from refs/heads/main^0\nM 100644 inline notes\ndata 2\nx\n\n",
    )  # fmt: skip
    before = len(stock.commits())
    archive = await opened(folder, "{shard}/{device}/{job}.cfg", "by_job/{job}/{device}")
    assert len(stock.commits()) == before + 1
    expected = {"notes": b"x\n"}
    for number in range(20):
        content = b"%d\n" % number * 9
        expected[f"{shard(f'edge{number}')}/edge{number}/show_run.cfg"] = content
        expected[f"by_job/show_run/edge{number}"] = content
    assert files(stock) == expected
    for number in range(20):
        device = f"edge{number}"
        versions = await archive.versions(device, "show_run", limit=9)
        assert len(versions) == 1
        assert await content_of(archive, device, version=versions[0].version)
        unchanged = await archive.store(spool.entry(b"%d\n" % number * 9, device=device))
        assert (unchanged.changed, unchanged.version) == (False, versions[0].version)
    await archive.store(spool.entry(b"new\n" * 9, device="edge7"))
    await archive.close()
    (folder / "roundsman" / "versions.sqlite").unlink()
    archive = await opened(folder, "{shard}/{device}/{job}.cfg", "by_job/{job}/{device}")
    assert len(stock.commits()) == before + 2
    assert len(await archive.versions("edge7", "show_run", limit=9)) == 2
    await archive.close()
    stock.fsck()
    path = f"{shard('edge7')}/edge7/show_run.cfg"
    log = stock.run("log", "--follow", "--format=%s", "main", "--", path).decode()
    assert "edge7 show_run" in log.splitlines()[-1]
    archive = await opened(folder)  # and back
    await archive.close()
    assert files(stock).keys() == {
        "notes",
        *(f"by_device/edge{number}/show_run" for number in range(20)),
    }
    stock.fsck()


async def test_a_crowded_folder_is_sharded(
    folder: Path, stock: StockGit, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "CROWDED", 2000)
    archive = await opened(folder)
    entries = [spool.entry(b"%d\n" % number, device=f"edge{number}") for number in range(700)]
    await asyncio.gather(*map(archive.store, entries))
    listed = files(stock)
    assert listed.keys() == {
        f"by_device/{shard(f'edge{number}')}/edge{number}/show_run" for number in range(700)
    }
    subjects = stock.run("log", "--format=%s", "main").decode().splitlines()
    assert subjects.count("Move results to their new paths") == 1
    assert len(subjects) == 701
    await archive.close()
    monkeypatch.undo()
    (folder / "roundsman" / "layout.json").unlink()  # as in a clone that was put in its place
    archive = await opened(folder)
    assert files(stock) == listed
    assert len(await archive.versions("edge699", "show_run", limit=9)) == 1
    await archive.close()
    stock.fsck()


async def test_a_commit_can_hold_a_batch(folder: Path, stock: StockGit, spool: Spool) -> None:
    archive = await opened(folder, per=CommitPer.BATCH)
    entries = [spool.entry(b"%d\n" % number, device=f"d{number}") for number in range(300)]
    stored = await asyncio.gather(*map(archive.store, entries))
    assert len({item.version for item in stored}) == len(stock.commits()) < 10
    twice = [spool.entry(b"a\n"), spool.entry(b"b\n"), spool.entry(b"a\n")]
    answers = await asyncio.gather(*map(archive.store, twice))
    assert all(item.changed for item in answers)
    assert [stock.show(item.version) for item in answers] == [b"a\n", b"b\n", b"a\n"]
    await archive.close()
    stock.fsck()


@pytest.mark.parametrize(
    "text",
    [
        "by_device/{device}", "{job}", "../{device}/{job}", ".git/{device}/{job}",
        "/{device}/{job}", "{device}/{job}/", "{device}-{job}", "a//{device}/{job}", "{}/{job}",
        "{device}/{job}/{what}", "{device", "{device}/{job}/x ", "{device}/{job}\n",
        "{device}/{job}/ä", "C:\\{device}/{job}", "{device}/{job}/a\0b", "~/{device}/{job}",
    ],
)  # fmt: skip
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(PathTemplateError, match="expected"):
        PathTemplate.parse(text)


@given(st.text(min_size=1, max_size=30))
def test_any_name_is_escaped_reversibly(name: str) -> None:
    template = PathTemplate.parse("a-{tag}/{device}/{job}")
    path = template.path("d", "j", name)
    assert template.match(path) == {"tag": name, "device": "d", "job": "j"}
    assert escape(name) not in ("", ".", "..")
    assert not escape(name).casefold().startswith(".git")


def test_git_takes_any_escaped_name(tmp_path: Path, rng: random.Random) -> None:
    hostile = [
        ".git",
        ".GIT",
        "git~1",
        "..",
        ".",
        "a/b",
        "CON",
        "a\\b",
        ".gitmodules",
        "\u200c.git",
    ]
    hostile += ["".join(chr(rng.randrange(1, 0x3000)) for _ in range(20)) for _ in range(50)]
    lines = [f"100644 blob {'1' * 40}\t{escape(name)}" for name in hostile]
    subprocess.run(["git", "init", "-q", "--bare", tmp_path], check=True)
    stock = StockGit(tmp_path)
    blob = stock.run("hash-object", "-w", "--stdin").decode().strip()
    tree = stock.run("mktree", stdin="\n".join(lines).replace("1" * 40, blob).encode())
    made = stock.run(
        "-c", "user.name=a", "-c", "user.email=b", "commit-tree", tree.decode().strip()
    )
    stock.run("update-ref", "refs/heads/main", made.decode().strip())
    stock.fsck()


def test_templates_that_can_meet_are_found() -> None:
    values = {"device": {"edge1", "show"}, "job": {"show"}, "tag": {"core", "By_Device"}}

    def clash(*texts: str, **changed: set[str]) -> str | None:
        return find_clash([PathTemplate.parse(text) for text in texts], {**values, **changed})

    assert clash(*MANY) is None
    assert clash("by_device/{device}/{job}", "{tag}/{device}/{job}")
    assert clash("by_device/{device}/{job}", "{tag}/{device}/{job}", tag={"core"}) is None
    assert clash("{device}/{job}", "{job}/{device}", device={"edge1"}) is None
    assert clash("{device}/{job}", "{job}/{device}")
    assert clash("x/{device}/{job}", "X/{device}/{job}")
    assert clash("x/{device}/{job}", "x/{device}/{job}/{job}")
    assert clash("x/{device}/{job}", "x/{device}/{job}.txt") is None

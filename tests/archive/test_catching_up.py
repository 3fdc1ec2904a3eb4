"""Archives that push to one remote, and tell the same of each other's results."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, OvertakenError, Search
from roundsman.clock import SystemClock
from roundsman.config.records import Acknowledge, ArchiveSettings, PointerSettings, RemoteSettings
from roundsman.testing.archive_conformance import Spool, content_of
from roundsman.testing.clock import ManualClock
from tests.archive.git_servers import bare, commit
from tests.archive.stock_git import StockGit

LARGE = 2048


@pytest.fixture
def remote(tmp_path: Path) -> StockGit:
    return bare(tmp_path / "elsewhere.git")


@pytest.fixture
async def three(tmp_path: Path, remote: StockGit) -> AsyncIterator[list[GitArchive]]:
    settings = ArchiveSettings(
        remotes={"shared": RemoteSettings(url=str(remote.folder))},
        acknowledge=Acknowledge.PUSHED,
        pointers=PointerSettings(above_bytes=LARGE),
    )
    async with AsyncExitStack() as stack:
        archives = []
        for number in range(3):
            archive = GitArchive(tmp_path / f"{number}.git", SystemClock(), settings)
            await archive.open()
            stack.push_async_callback(archive.close)
            archives.append(archive)
        yield archives


async def told(archive: GitArchive, device: str) -> list[tuple[str, bytes]]:
    """Each version of a device, newest first, and its content."""
    versions = await archive.versions(device, "show", limit=99)
    return [
        (each.version, await content_of(archive, device, "show", each.version)) for each in versions
    ]


async def test_what_one_acknowledged_another_reads_by_the_same_version(
    three: list[GitArchive], spool: Spool
) -> None:
    first, second, idle = three
    kept: dict[str, list[tuple[str, bytes]]] = {}
    for number in range(4):
        for name, archive in (("a", first), ("b", second)):
            content = f"{name} {number}\n".encode()
            stored = await archive.store(spool.entry(content, device=name, job="show"))
            kept.setdefault(name, []).insert(0, (stored.version, content))
    for archive in three:
        await archive.catch_up()
    for archive in three:
        assert await told(archive, "a") == kept["a"]
        assert await told(archive, "b") == kept["b"]
    old, new = kept["a"][3][0], kept["a"][0][0]
    difference = await idle.diff("a", "show", old, new, context=0)
    assert b"-a 0\n+a 3\n" in difference.unified
    found = await idle.search(Search(text="b 3", chosen=lambda *_: True))
    assert [(each.device, each.version) for each in found.items] == [("b", kept["b"][0][0])]


async def test_where_both_wrote_one_path_all_versions_are_told_everywhere(
    three: list[GitArchive], spool: Spool
) -> None:
    first, second, _ = three
    for number in range(3):
        for archive in (first, second):
            content = f"{id(archive)} {number}\n".encode()
            entry = spool.entry(content, device="a", job="show")
            try:
                await archive.store(entry)
            except OvertakenError:  # the other wrote it first: on top of that, then
                await archive.store(entry)
    for _ in range(2):
        for archive in three:
            await archive.catch_up()
    latest = {(await told(archive, "a"))[0][1] for archive in three}
    assert len(latest) == 1
    told_of = [{content for _, content in await told(archive, "a")} for archive in three]
    assert [len(contents) for contents in told_of] == [6, 6, 6]


async def test_catching_up_with_nothing_new_writes_nothing(
    three: list[GitArchive], spool: Spool, remote: StockGit
) -> None:
    first, second, _ = three
    for archive in three:
        await archive.catch_up()  # the remote has nothing at all
    await first.store(spool.entry(b"one\n", device="a", job="show"))
    for _ in range(3):
        for archive in three:
            await archive.catch_up()
    assert remote.run("rev-list", "--count", "main") == b"1\n"
    assert await told(second, "a") == await told(first, "a")


async def test_contents_beside_git_come_along_from_a_folder(
    three: list[GitArchive], spool: Spool
) -> None:
    first, second, _ = three
    content = b"x" * (LARGE + 1)
    await first.store(spool.entry(content, device="a", job="show"))
    await second.catch_up()
    assert [found for _, found in await told(second, "a")] == [content]


async def test_what_others_pushed_to_one_remote_comes_to_one_that_was_away_meanwhile(
    tmp_path: Path, spool: Spool
) -> None:
    one, other = bare(tmp_path / "one.git"), bare(tmp_path / "other.git")
    settings = ArchiveSettings(
        remotes={each.folder.stem: RemoteSettings(url=str(each.folder)) for each in (one, other)},
        acknowledge=Acknowledge.PUSHED,
    )
    clock = ManualClock()
    archive = GitArchive(tmp_path / "archive.git", clock, settings)
    await archive.open()
    await archive.store(spool.entry(b"ours\n", device="a", job="show"))
    away = other.folder.rename(other.folder.with_name("away"))
    theirs = commit(one, {"notes": "by hand"})
    with pytest.raises(ArchiveUnavailableError):
        await archive.catch_up()
    away.rename(other.folder)
    while other.run("rev-parse", "main").decode().strip() != theirs:
        clock.advance(60)
        await asyncio.sleep(0)
    await archive.close()


async def test_a_remote_that_is_away_is_an_error(three: list[GitArchive], remote: StockGit) -> None:
    remote.folder.rename(remote.folder.with_name("gone"))
    with pytest.raises(ArchiveUnavailableError):
        await three[0].catch_up()

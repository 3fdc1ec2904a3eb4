"""A result that one controller kept and could not push stands once, when another took it in."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, Entry, OvertakenError, Search
from roundsman.clock import SystemClock
from roundsman.config.records import Acknowledge, ArchiveSettings, RemoteSettings
from roundsman.testing.archive_conformance import Spool, content_of
from tests.archive.git_servers import bare, commit
from tests.archive.stock_git import StockGit

Opening = Callable[..., Awaitable[GitArchive]]


@pytest.fixture
def remote(tmp_path: Path) -> StockGit:
    return bare(tmp_path / "elsewhere.git")


@pytest.fixture
async def opened(tmp_path: Path, remote: StockGit) -> AsyncIterator[Opening]:
    async with AsyncExitStack() as stack:

        async def open_archive(
            name: str, acknowledge: Acknowledge = Acknowledge.PUSHED, *, apart: bool = False
        ) -> GitArchive:
            settings = ArchiveSettings(
                remotes={"shared": RemoteSettings(url=str(remote.folder))}, acknowledge=acknowledge
            )
            archive = GitArchive(tmp_path / name, SystemClock(), settings, apart=apart)
            await archive.open()
            stack.push_async_callback(archive.close)
            return archive

        yield open_archive


def runs_in(remote: StockGit) -> Counter[str]:
    """How many commits of the remote name each run."""
    told = remote.run(
        "log", "--no-merges", "--format=%(trailers:key=Roundsman-Run,valueonly,separator=%x20)"
    )
    return Counter(told.decode().split())


async def left(archive: GitArchive, remote: StockGit, *entries: Entry) -> None:
    """Have an archive keep what it cannot push, and end."""
    away = remote.folder.rename(remote.folder.with_name("away"))
    for entry in entries:
        with pytest.raises(ArchiveUnavailableError):
            await archive.store(entry)
    await archive.close()
    away.rename(remote.folder)


async def contents(archive: GitArchive, device: str) -> list[bytes]:
    return [
        await content_of(archive, device, "show", each.version)
        for each in await archive.versions(device, "show", limit=9)
    ]


async def test_what_one_kept_and_another_pushed_stands_once(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    entry = spool.entry(b"one\n", device="a", job="show")
    await left(await opened("first.git"), remote, entry)
    second = await opened("second.git")
    await second.store(spool.entry(b"else it is the same commit\n", device="c", job="show"))
    stored = await second.store(entry)
    first = await opened("first.git")
    await first.catch_up()
    await first.store(spool.entry(b"two\n", device="b", job="show"))
    await second.catch_up()
    assert set(runs_in(remote).values()) == {1}
    for archive in (first, second):
        assert (await archive.version("a", "show")).version == stored.version
        assert await contents(archive, "a") == [b"one\n"]


@pytest.mark.parametrize("apart", [False, True])
async def test_who_waits_for_what_was_overtaken_sends_it_again(
    opened: Opening, remote: StockGit, spool: Spool, apart: bool
) -> None:
    first, second = await opened("first.git", apart=apart), await opened("second.git")
    entry = spool.entry(b"one\n", device="a", job="show")
    await second.store(spool.entry(b"else it is the same commit\n", device="c", job="show"))
    there = await second.store(entry)
    with pytest.raises(OvertakenError):
        await first.store(entry)
    again = await first.store(entry)
    assert (again.version, again.changed) == (there.version, True)
    assert remote.run("rev-list", "--count", "main") == b"2\n"


async def test_a_result_that_another_overtook_does_not_stand_over_it(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    await left(
        await opened("first.git"), remote, spool.entry(b"of a lost lease\n", device="a", job="show")
    )
    second = await opened("second.git")
    await second.store(spool.entry(b"newer\n", device="a", job="show"))
    first = await opened("first.git")
    await first.catch_up()
    await first.store(spool.entry(b"x\n", device="b", job="show"))
    assert remote.run("show", "main:by_device/a/show") == b"newer\n"
    assert await contents(first, "a") == [b"newer\n"]


async def test_what_is_given_up_leaves_no_trace_in_lists_and_searches(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    first = await opened("first.git")
    await first.store(spool.entry(b"old\n", device="a", job="show"))
    await first.store(spool.entry(b"standing\n", device="b", job="show"))
    await left(
        first,
        remote,
        spool.entry(b"draft\n", device="a", job="show"),
        spool.entry(b"draft\n", device="b", job="show"),
        spool.entry(b"draft\n", device="c", job="show"),
    )
    second = await opened("second.git")
    await second.catch_up()
    await second.store(spool.entry(b"new\n", device="a", job="show"))
    first = await opened("first.git")
    await first.catch_up()
    assert await contents(first, "a") == [b"new\n", b"old\n"]
    assert await contents(first, "b") == [b"standing\n"]
    assert await contents(first, "c") == []
    for text, devices in (("draft", []), ("standing", ["b"]), ("new", ["a"])):
        found = await first.search(Search(text=text, chosen=lambda *_: True))
        assert [match.device for match in found.items] == devices, text
    kept = await first.store(spool.entry(b"at last\n", device="c", job="show"))
    assert (await first.version("c", "show")).version == kept.version
    remote.fsck()


async def test_what_may_have_been_acknowledged_is_never_given_up(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    first = await opened("first.git", Acknowledge.KEPT)
    away = remote.folder.rename(remote.folder.with_name("away"))
    stored = await first.store(spool.entry(b"acknowledged\n", device="a", job="show"))
    await first.close()
    away.rename(remote.folder)
    second = await opened("second.git")
    await second.store(spool.entry(b"theirs\n", device="a", job="show"))
    first = await opened("first.git")
    await first.store(spool.entry(b"x\n", device="b", job="show"))
    assert stored.version in remote.commits()
    assert set(await contents(first, "a")) == {b"acknowledged\n", b"theirs\n"}


async def test_what_a_person_changed_overtakes_nothing(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    first = await opened("first.git")
    await first.store(spool.entry(b"one\n", device="a", job="show"))
    edit = commit(remote, {"by_device/a/show": "edited by hand\n"})
    stored = await first.store(spool.entry(b"two\n", device="a", job="show"))
    assert remote.run("show", "main:by_device/a/show") == b"two\n"
    assert {edit, stored.version} <= set(remote.commits())

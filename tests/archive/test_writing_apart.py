"""The archive's writer as a process of its own: what becomes of it, and of what it was asked."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.writing_apart import PROGRAM
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings
from roundsman.testing.archive_conformance import Spool, content_of
from tests.archive.stock_git import StockGit


@pytest.fixture
async def archive(folder: Path) -> AsyncIterator[GitArchive]:
    archive = GitArchive(folder, SystemClock(), apart=True)
    await archive.open()
    yield archive
    await archive.close()


def writers() -> list[int]:
    """The writing processes that this one started."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            said = (process / "stat").read_text().rpartition(")")[2].split()
            named = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if PROGRAM in named and int(said[1]) == os.getpid():
            found.append(int(process.name))
    return found


async def test_a_writer_that_is_killed_is_followed_by_another(
    archive: GitArchive, stock: StockGit, spool: Spool
) -> None:
    first = await archive.store(spool.entry(b"one\n"))
    [writer] = writers()
    os.kill(writer, signal.SIGKILL)
    entry = spool.entry(b"two\n")
    try:
        second = await archive.store(entry)
    except ArchiveUnavailableError:  # it went to the one that was killed
        second = await archive.store(entry)
    assert stock.commits("main") == [second.version, first.version]
    assert [writer] != writers()
    stock.fsck()


async def test_signals_for_the_whole_program_leave_it_to_the_controller_when_it_ends(
    archive: GitArchive, spool: Spool
) -> None:
    [writer] = writers()
    os.kill(writer, signal.SIGINT)
    os.kill(writer, signal.SIGTERM)
    assert (await archive.store(spool.entry(b"one\n"))).changed
    assert writers() == [writer]
    await archive.close()
    assert writers() == []


async def test_what_it_finds_damaged_is_mended_and_what_waits_is_kept(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    await archive.store(spool.entry(b"one\n"))
    (folder / "refs" / "heads" / "main").unlink()
    waiting = [spool.entry(b"%d\n" % number, device=f"d{number}") for number in range(5)]
    stored = await asyncio.gather(*map(archive.store, waiting))
    assert all(each.changed for each in stored)
    assert len((await archive.state()).set_aside) == 1
    assert await content_of(archive) == b"one\n"
    assert len(stock.commits("main")) == 6
    stock.fsck()


async def test_an_opening_that_fails_says_why_and_leaves_no_process(
    archive: GitArchive, folder: Path, spool: Spool
) -> None:
    other = GitArchive(folder.with_name("other.git"), SystemClock(), apart=True)
    folder.with_name("other.git").mkdir()
    (folder.with_name("other.git") / "file").write_text("something else")
    with pytest.raises(ArchiveUnavailableError, match="expected a bare git repository"):
        await other.open()
    assert len(writers()) == 1  # the first archive's
    await other.close()
    assert (await archive.store(spool.entry(b"one\n"))).changed


async def test_a_result_whose_caller_gave_up_is_written_before_it_closes(
    folder: Path, stock: StockGit, spool: Spool
) -> None:
    archive = GitArchive(folder, SystemClock(), ArchiveSettings(), apart=True)
    await archive.open()
    entry = msgspec.structs.replace(spool.entry(b"one\n"), content=b"one\n")
    storing = asyncio.create_task(archive.store(entry))
    await asyncio.sleep(0)  # it is handed in
    storing.cancel()
    await archive.close()
    assert len(stock.commits("main")) == 1

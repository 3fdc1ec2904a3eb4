"""Every call that changes the disk fails in turn; and the power goes at any of them."""

import asyncio
import errno
import os
import random
import shutil
from pathlib import Path

import msgspec
import pytest

from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, Entry, Stored
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, PointerSettings
from roundsman.testing.archive_conformance import Spool, content_of, store_all
from tests.archive.disks import FailingFiles, RecordingFiles, after_power_loss
from tests.archive.stock_git import StockGit

LARGE = 300_000
LOSSES = 25
"""Moments at which the power goes; all of them with ROUNDSMAN_TORTURE=1."""


async def opened(
    folder: Path, files: Files | None = None, settings: ArchiveSettings | None = None
) -> GitArchive:
    archive = GitArchive(folder, SystemClock(), settings or ArchiveSettings(), files=files)
    await archive.open()
    return archive


def expect_runs_once(stock: StockGit, runs: set[str]) -> None:
    """These executions are in the history, none of them twice."""
    listed = stock.run("log", "--format=%(trailers:key=Roundsman-Run,valueonly)", "main")
    found = listed.decode().split()
    assert len(found) == len(set(found))
    assert runs <= set(found)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=os.strerror)
@pytest.mark.parametrize("torn", [False, True], ids=["clean", "torn"])
async def test_one_call_fails(
    folder: Path, stock: StockGit, spool: Spool, error: int, torn: bool
) -> None:
    """Fault 17: acknowledged results dropped when something could not be written."""
    files = FailingFiles(error, torn=torn)
    archive = await opened(folder, files)
    runs = set()
    for number in range(200):
        small = spool.entry(b"%d\n" % number)
        large = spool.entry(os.urandom(LARGE), device="large")
        files.fail_at(number)
        answers = await store_all(archive, [small, large])
        failed = files.failed
        files.heal()
        for entry, answer in zip([small, large], answers, strict=True):
            if not isinstance(answer, Stored):
                assert failed
                assert isinstance(answer, ArchiveUnavailableError)
                assert os.strerror(error) in answer.text
                assert (await archive.store(entry)).version
            runs.add(entry.run_id)
        if not failed:
            break
    else:
        pytest.fail("the calls never end")
    assert number > 12
    await archive.check()
    assert await content_of(archive) == b"%d\n" % number
    await archive.close()
    expect_runs_once(stock, runs)
    stock.fsck()


async def test_from_some_call_on_all_fail(folder: Path, stock: StockGit, spool: Spool) -> None:
    files = FailingFiles(errno.EROFS)
    archive = await opened(folder, files)
    runs = set()
    for number in range(40):
        entries = [spool.entry(b"%d\n" % number, device=f"d{device}") for device in range(3)]
        files.fail_at(number, lasting=True)
        answers = await store_all(archive, entries)
        if files.failed:
            with pytest.raises(ArchiveUnavailableError):
                await archive.check()
        files.heal()
        stock.fsck()
        runs |= {entry.run_id for entry, answer in zip(entries, answers, strict=True)
                 if isinstance(answer, Stored)}  # fmt: skip
        assert all(isinstance(answer, Stored) for answer in await store_all(archive, entries))
        runs |= {entry.run_id for entry in entries}
    await archive.close()
    expect_runs_once(stock, runs)
    stock.fsck()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
async def test_a_call_fails_while_it_opens(folder: Path, spool: Spool, error: int) -> None:
    stock = StockGit(folder)
    for number in range(100):
        files = FailingFiles(error)
        files.fail_at(number)
        archive = GitArchive(folder, SystemClock(), files=files)
        try:
            await archive.open()
        except ArchiveUnavailableError:
            files.heal()
            await archive.open()
        failed = files.failed
        files.heal()
        assert (await archive.store(spool.entry(b"%d\n" % number))).changed
        await archive.close()
        if not failed:
            break
    assert number > 2
    stock.fsck()


class _Acknowledged(msgspec.Struct, frozen=True):
    steps: int
    """How many there had been by then."""
    entry: Entry
    content: bytes
    version: str


@pytest.mark.parametrize("beside", [False, True], ids=["in git", "beside git"])
async def test_the_power_goes(
    folder: Path, spool: Spool, rng: random.Random, tmp_path: Path, beside: bool
) -> None:
    """Law 4: what was acknowledged was flushed, file by file and folder by folder."""
    settings = ArchiveSettings(pointers=PointerSettings(above_bytes=1000 if beside else 1 << 20))
    archive = await opened(folder, settings=settings)
    await archive.store(spool.entry(b"before\n", device="before"))
    await archive.close()
    before = tmp_path / "before"
    shutil.copytree(folder, before)
    files = RecordingFiles()
    archive = await opened(folder, files, settings)
    kept: list[_Acknowledged] = []

    async def device(name: str) -> None:
        for number in range(4):
            size = LARGE if (name, number) == ("d0", 2) else 20
            content = b"%d\n" % number + rng.randbytes(size)
            entry = spool.entry(content, device=name)
            answer = await archive.store(entry)
            kept.append(_Acknowledged(len(files.steps), entry, content, answer.version))

    await asyncio.gather(*(device(f"d{number}") for number in range(4)))
    await archive.close()
    moments = [*range(len(files.steps) + 1)]
    if not os.environ.get("ROUNDSMAN_TORTURE"):
        moments = sorted(rng.sample(moments, LOSSES))
    for moment in moments:
        made = tmp_path / f"after-{moment}"
        after_power_loss(files.steps[:moment], before, folder, made, rng)
        if rng.random() < 0.5:  # the list of versions may be older or newer than the branch
            shutil.rmtree(made / "roundsman", ignore_errors=True)
            shutil.copytree(folder / "roundsman", made / "roundsman")
        stock = StockGit(made)
        archive = await opened(made, settings=settings)
        stock.fsck()
        for item in kept:
            if item.steps <= moment:
                found = await content_of(archive, item.entry.device, version=item.version)
                assert found == item.content
        assert await content_of(archive, "before") == b"before\n"
        missing = [item for item in kept if item.steps > moment]
        for item in missing:  # sent again, in order
            await archive.store(item.entry)
        for name in {item.entry.device for item in kept}:
            last = [item for item in kept if item.entry.device == name][-1]
            assert await content_of(archive, name) == last.content
        await archive.close()
        expect_runs_once(stock, {item.entry.run_id for item in kept if item.steps <= moment})
        stock.fsck()
        shutil.rmtree(made)

"""Whatever happens while it writes, nothing kept is lost, nothing is half, and it serves on."""

import asyncio
import errno
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, Stored
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import Spool, content_of
from tests.archive.stock_git import StockGit

TORTURE = bool(os.environ.get("ROUNDSMAN_TORTURE"))
KILLS = int(os.environ.get("ROUNDSMAN_KILLS", "200" if TORTURE else "5"))


@pytest.mark.timeout(7200 if TORTURE else 300)
@pytest.mark.parametrize("how", [(), ("apart",)], ids=["thread", "apart"])
async def test_killed_at_any_moment_it_keeps_what_it_said_it_kept(
    folder: Path, stock: StockGit, spool: Spool, rng: random.Random, how: tuple[str, ...]
) -> None:
    """Faults 4, 7 and 17: 200 meant "in memory"; and what was left did not start again."""
    kept: list[tuple[str, str, str]] = []
    program = Path(__file__).with_name("storing_process.py")
    for life in range(KILLS):
        with subprocess.Popen(
            [sys.executable, program, folder, str(life), *how],
            stdout=subprocess.PIPE,
            text=True,
            pipesize=4096,  # it waits to be heard, so that there is no more to look at than that
        ) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, 150)):
                line = process.stdout.readline()
                assert line, "it ended by itself"
                device, count, version = line.split()
                kept.append((f"{life} {device} {count}\n", device, version))
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:  # what it had said before it died, but for a torn end
                if line.endswith("\n"):
                    device, count, version = line.split()
                    kept.append((f"{life} {device} {count}\n", device, version))
        archive = GitArchive(folder, SystemClock(), apart=bool(how))
        await archive.open()
        stock.fsck()
        for begin, device, version in kept[-5:]:
            content = await content_of(archive, device, version=version)
            assert content.startswith(begin.encode())
        assert (await archive.store(spool.entry(f"after {life}\n".encode()))).changed
        await archive.close()
    commits = stock.commits("main")
    assert len({*commits}) == len(commits)
    assert {version for _, _, version in kept} <= {*commits}
    asked = "".join(f"{version}:by_device/{device}/show_run\n" for _, device, version in kept)
    answers = stock.run("cat-file", "--batch-check=%(objecttype)", stdin=asked.encode())
    assert answers.split() == [b"blob"] * len(kept)
    runs = stock.run("log", "--format=%s %(trailers:key=Roundsman-Run)", "main").splitlines()
    assert len(runs) >= len(commits)


class FailingDisk:
    """Lets one system call after another fail, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
        self._error = error
        self._left: int | None = None
        for name in ("fsync", "rename", "chmod", "open"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))
        for name in ("rename", "open", "unlink"):
            monkeypatch.setattr(Path, name, self._failing(getattr(Path, name)))

    def fail_at(self, number: int) -> None:
        self._left = number

    @property
    def failed(self) -> bool:
        return self._left is None

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    self._left = None
                    raise OSError(self._error, os.strerror(self._error))
            return call(*args, **kwargs)

        return called


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=os.strerror)
async def test_when_any_call_fails_it_says_so_and_serves_on(
    archive: GitArchive,
    stock: StockGit,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    """Fault 17: a repository that could not be written, and acknowledged results dropped."""
    kept = [await archive.store(spool.entry(b"before\n"))]
    disk = FailingDisk(monkeypatch, error)
    for number in range(100):
        entry = spool.entry(b"%d\n" % number)
        disk.fail_at(number)
        try:
            kept.append(await archive.store(entry))
        except ArchiveUnavailableError:
            assert disk.failed
            again = await archive.store(entry)
            kept.append(again)
        if not disk.failed:
            break
    else:
        pytest.fail("the calls never end")
    assert number > 8
    disk.fail_at(10_000)
    await archive.check()
    assert stock.commits("main") == [item.version for item in reversed(kept)]
    assert await content_of(archive) == b"%d\n" % number
    stock.fsck()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_is_full_costs_nothing_that_was_kept(
    archive: GitArchive, stock: StockGit, spool: Spool, rng: random.Random
) -> None:
    kept: list[Stored] = []
    refused = 0
    for size in (0, 30, 41, 500, 1000, 1200, 3000, 20_000, 400_000):
        entries = [
            spool.entry(rng.randbytes(length), device=f"d{length}")
            for length in (50, 9000, 300_000)
        ]
        with file_size_limit(size):
            answers = await asyncio.gather(*map(archive.store, entries), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Stored):
                kept.append(answer)
            else:
                assert isinstance(answer, ArchiveUnavailableError)
                refused += 1
        stock.fsck()
    assert refused >= 9
    assert len(kept) >= 3
    kept.append(await archive.store(spool.entry(b"after\n")))
    assert {item.version for item in kept} <= {*stock.commits("main")}
    versions = await archive.versions("edge1", "show_run", limit=9)
    assert [item.version for item in versions] == [kept[-1].version]


async def test_a_full_disk_is_not_ready(archive: GitArchive) -> None:
    with file_size_limit(1000), pytest.raises(ArchiveUnavailableError):
        await archive.check()
    await archive.check()

"""`acknowledge: pushed` as a worker sees it: no 200 before the remote has the result."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.config.records import Acknowledge, ArchiveSettings, RemoteSettings
from roundsman.ledger.drivers import open_ledger
from roundsman.testing.clock import ManualClock
from tests.archive.git_servers import bare
from tests.archive.stock_git import StockGit
from tests.controller import multipart
from tests.controller.serving import PERIOD, START, Served, fleet, served

DEVICES = 40


@pytest.fixture
def remote(tmp_path: Path) -> StockGit:
    return bare(tmp_path / "elsewhere.git")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def running(tmp_path: Path, remote: StockGit, clock: ManualClock) -> AsyncIterator[Served]:
    settings = ArchiveSettings(
        remotes={"r": RemoteSettings(url=str(remote.folder))}, acknowledge=Acknowledge.PUSHED
    )
    data = tmp_path / "data"
    data.mkdir()
    ledger = await open_ledger(data)
    archive = GitArchive(data / "archive.git", clock, settings)
    async with served(
        fleet(DEVICES), data, ledger=ledger, archive=archive, clock=clock
    ) as controller:
        clock.advance(PERIOD)
        yield controller


async def post(running: Served, name: str) -> tuple[int, int]:
    """The status, and after how many seconds to come again."""
    body = multipart.completion(name, "show", START + PERIOD, name.encode() * 50)
    async with running.http.post(
        "/worker/complete", data=body, headers=multipart.HEADERS
    ) as answer:
        await answer.read()
        return answer.status, int(answer.headers.get("Retry-After", 0))


async def leased(running: Served) -> list[str]:
    async with running.http.get("/worker/next?max=1000") as response:
        return [item["device"]["name"] for item in await response.json()]


async def test_all_that_are_acknowledged_are_in_the_remote(
    running: Served, remote: StockGit
) -> None:
    names = await leased(running)
    answers = await asyncio.gather(*(post(running, name) for name in names))
    assert answers == [(200, 0)] * DEVICES
    listed = await asyncio.to_thread(remote.run, "ls-tree", "-r", "--name-only", "main")
    assert {f"by_device/{name}/show" for name in names} <= set(listed.decode().split())


async def test_while_the_remote_is_away_workers_are_told_to_come_again(
    running: Served, remote: StockGit, clock: ManualClock, tmp_path: Path
) -> None:
    name, *_ = await leased(running)
    away = tmp_path / "away"
    remote.folder.rename(away)
    status, seconds = await post(running, name)
    assert status == 503
    assert seconds >= 1
    kept = subprocess.check_output(
        ["git", "-C", str(tmp_path / "data" / "archive.git"), "log", "--format=%s"], text=True
    )
    assert kept.startswith(f"{name} show")
    async with running.http.get("/api/v1/remotes") as answer:
        (state,) = (await answer.json())["items"]
    assert (state["name"], state["behind"], state["failures"]) == ("r", 1, 1)
    assert "elsewhere.git" in state["failure"]

    away.rename(remote.folder)
    clock.advance(seconds + 1)
    while (status := (await post(running, name))[0]) == 503:
        clock.advance(60)
    assert status == 200
    assert len(remote.commits()) == 1

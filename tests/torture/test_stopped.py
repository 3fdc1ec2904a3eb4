"""A controller that stands still while it takes a result in, for longer than the lease lasts.

Its process and the one that writes for it are stopped for real, past the 60 seconds for which the
lease lasts; meanwhile another controller hands the execution out again and keeps what comes of it.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer
from tests.acceptance.controllers import ControllerProcess, controller_process
from tests.archive.git_servers import bare
from tests.archive.stock_git import StockGit
from tests.controller import multipart

TORTURE = bool(os.environ.get("ROUNDSMAN_TORTURE"))
LEASE_SECONDS = 60
PATIENCE_SECONDS = 300
PLACE = "/api/v1/devices/edge0/jobs/show"


def document(folder: Path, url: str, acknowledge: str) -> dict[str, object]:
    remotes = {name: {"url": str(folder.parent / f"{name}.git")} for name in ("one", "other")}
    return {
        "controller": {
            "data": str(folder / "data"),
            "listen": {"port": 0},
            "leases": {"seconds_without_heartbeat": LEASE_SECONDS},
            "ledger": {"url": url, "pass": f"file:{folder.parent / 'password'}"},
            "archive": {"remotes": remotes, "acknowledge": acknowledge},
        },
        "jobs": {
            "show": {
                "schedule": {"duration": "12 hours"},
                "command": {"inline": ["show running-config"]},
                "prompt": {"ends_with": "#"},
            }
        },
        "devices": {
            "edge0": {"jobs": ["show"], "credentials": {"user": "u", "pass": "p"}},
        },
    }


async def call(controller: ControllerProcess, method: str, path: str) -> Any:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, controller.url + path) as answer,
    ):
        assert answer.status < 300, await answer.text()
        return await answer.json() if answer.status == 200 else None


async def leased(controller: ControllerProcess) -> int | None:
    """The execution that is handed out now, by its due time."""
    told = await call(controller, "GET", "/worker/next?max=1&seconds=0")
    return told[0]["timestamp"] if told else None


async def expiry(controller: ControllerProcess) -> float:
    """Until when the one slot is leased."""
    [slot] = (await call(controller, "GET", "/api/v1/slots"))["items"]
    return float(slot["lease_expires_at"])


async def complete(controller: ControllerProcess, due: int, content: bytes) -> tuple[int, Any]:
    body = multipart.completion("edge0", "show", due, content)
    patience = aiohttp.ClientTimeout(PATIENCE_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=patience) as http,
        http.post(
            f"{controller.url}/worker/complete", data=body, headers=multipart.HEADERS
        ) as answer,
    ):
        return answer.status, await answer.json()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask over and over, since nobody tells from outside of a process."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.2)


def of_it(controller: ControllerProcess) -> Iterator[int]:
    """The process, and the one that writes its archive."""
    yield controller.pid
    for child in Path(f"/proc/{controller.pid}/task/{controller.pid}/children").read_text().split():
        if b"writing_program" in Path(f"/proc/{child}/cmdline").read_bytes():
            yield int(child)


@contextlib.asynccontextmanager
async def two(folder: Path, acknowledge: str) -> AsyncIterator[list[ControllerProcess]]:
    (folder / "password").write_text(PASSWORD.reveal())
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(PostgresqlServer())
        await server.run("CREATE DATABASE stopped")
        controllers = []
        for name in ("first", "second"):
            own = folder / name
            own.mkdir()
            said = document(own, server.url("stopped"), acknowledge)
            controllers.append(await stack.enter_async_context(controller_process(own, said)))
        for each in controllers:
            await each.start()
        yield controllers


@pytest.mark.skipif(not TORTURE, reason="make torture: some minutes")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("acknowledge", ["kept", "pushed"])
async def test_a_controller_that_stood_still_for_longer_than_its_lease(
    tmp_path: Path, acknowledge: str
) -> None:
    remotes = [bare(tmp_path / f"{name}.git") for name in ("one", "other")]
    async with two(tmp_path, acknowledge) as (first, second):
        archives = [StockGit(tmp_path / name / "data/archive.git") for name in ("first", "second")]
        repositories = [*remotes, *archives]
        await call(first, "POST", f"{PLACE}/run")
        due = await leased(first)
        assert due is not None
        status, before = await complete(first, due, b"before\n")
        assert status == 200
        await call(first, "POST", f"{PLACE}/run")
        due = await leased(first)
        assert due is not None
        until_then = await expiry(second)

        process, writer = of_it(first)
        os.kill(writer, signal.SIGSTOP)
        completing = asyncio.create_task(complete(first, due, b"late\n"))

        async def is_held() -> bool:
            """The lease was made longer: next the result goes to the one that writes."""
            return await expiry(second) > until_then

        await until(is_held)
        os.kill(process, signal.SIGSTOP)
        stopped = time.monotonic()
        again: list[int] = []

        async def is_taken_over() -> bool:
            again.extend([taken] if (taken := await leased(second)) is not None else [])
            return bool(again)

        await until(is_taken_over)
        assert again == [due]
        status, kept = await complete(second, due, b"kept\n")
        assert status == 200
        print(f"stood still for {time.monotonic() - stopped:.0f} s")
        for each in (writer, process):
            os.kill(each, signal.SIGCONT)
        status, said = await completing
        assert status == 409, said

        async def is_withdrawn() -> bool:
            tips = {each.run("rev-parse", "main") for each in repositories}
            said = remotes[0].run("log", "--format=%(trailers:key=Roundsman-Withdrawn,valueonly)")
            return len(tips) == 1 and bool(said.split())

        await until(is_withdrawn)
        for controller in (first, second):
            versions = (await call(controller, "GET", f"{PLACE}/versions"))["items"]
            # Beside it maybe the commit by which it came to stand where both lines were joined.
            withdrawn = [each for each in versions if each.get("withdrawn")]
            late = [each["run_id"] for each in withdrawn if each.get("run_id")]
            runs = (await call(controller, "GET", "/api/v1/runs?device=edge0"))["items"]
            outcomes = {each["run_id"]: (each["outcome"], each.get("version")) for each in runs}
            assert outcomes[before["run_id"]] == ("succeeded", before["version"])
            assert outcomes[kept["run_id"]] == ("succeeded", kept["version"])
            assert [outcomes[run_id][0] for run_id in late] == ["stale"]
            assert len(outcomes) == 3
            standing = {
                each["run_id"]: each["version"]
                for each in versions
                if not each.get("withdrawn") and each.get("run_id")
            }
            assert standing == {each["run_id"]: each["version"] for each in (before, kept)}
        for repository in repositories:
            repository.fsck()
            assert repository.show("main", "edge0", "show") == b"kept\n"
            for answer, content in ((before, b"before\n"), (kept, b"kept\n")):
                assert repository.show(answer["version"], "edge0", "show") == content

"""Three controllers on one database, as processes: one of them leads, and another when it dies."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from roundsman.testing.postgresql_server import PASSWORD
from roundsman.worker.service import WorkerService
from roundsman.worker.settings import WorkerSettings
from tests.acceptance.controllers import ControllerProcess, controller_process
from tests.controller import multipart

NUMBER = 3
SECONDS = 120


def document(folder: Path, url: str, devices: int) -> dict[str, object]:
    return {
        "controller": {
            "data": str(folder / "data"),
            "listen": {"port": 0},
            "ledger": {"url": url, "pass": f"file:{folder.parent / 'password'}"},
            "archive": {
                "remotes": {"shared": {"url": str(folder.parent / "shared.git")}},
                "acknowledge": "pushed",
            },
        },
        "jobs": {
            "show": {
                "schedule": {"duration": "1 hour"},
                "command": {"inline": ["show running-config"]},
                "prompt": {"ends_with": "#"},
            }
        },
        "device_generics": {"default": {"credentials": {"user": "u", "pass": "p"}}},
        "devices": {
            f"edge{number}": {
                "jobs": ["show"],
                "host": "127.0.0.1",
                "protocol": {"ssh": {"port": 1}},  # where nobody listens
            }
            for number in range(devices)
        },
    }


class Site:
    """Controllers with a folder each, and what they say."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url
        self.processes: list[ControllerProcess] = []

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator["Site"]:
        (self.folder / "password").write_text(PASSWORD.reveal())
        subprocess.run(
            ["git", "init", "--quiet", "--bare", str(self.folder / "shared.git")], check=True
        )
        async with contextlib.AsyncExitStack() as stack:
            for number in range(NUMBER):
                own = self.folder / str(number)
                own.mkdir()
                process = controller_process(own, document(own, self._url, 2))
                self.processes.append(await stack.enter_async_context(process))
            await asyncio.gather(*(process.start() for process in self.processes))
            yield self

    def configure(self, number: int, devices: int) -> None:
        own = self.folder / str(number)
        text = msgspec.json.encode(document(own, self._url, devices))
        (own / "roundsman.json").write_bytes(text)

    async def get(self, number: int, path: str) -> Any:
        url = f"{self.processes[number].url}/api/v1{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def read(self, number: int, path: str) -> bytes:
        url = f"{self.processes[number].url}/api/v1{path}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert response.status == 200, await response.text()
            return await response.read()

    async def call(self, number: int, method: str, path: str) -> Any:
        url = self.processes[number].url + path
        async with aiohttp.ClientSession() as http, http.request(method, url) as response:
            assert response.status in (200, 202), await response.text()
            return await response.json()

    async def complete(self, number: int, body: bytes) -> Any:
        url = self.processes[number].url + "/worker/complete"
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, data=body, headers=multipart.HEADERS) as response,
        ):
            assert response.status == 200, await response.text()
            return await response.json()

    async def reload(self, number: int) -> tuple[int, Any]:
        url = f"{self.processes[number].url}/api/v1/reload"
        async with aiohttp.ClientSession() as http, http.post(url) as response:
            return response.status, await response.json()

    async def controllers(self, number: int) -> dict[str, Any]:
        """By address, as one of them tells."""
        items = (await self.get(number, "/controllers"))["items"]
        return {item["address"]: item for item in items}

    async def leading(self, number: int) -> int | None:
        """Which of them leads, as one of them tells; none: one that is gone."""
        known = await self.controllers(number)
        urls = [process.url for process in self.processes]
        leaders = [url for url, item in known.items() if item["leading"]]
        return urls.index(leaders[0]) if leaders and leaders[0] in urls else None

    async def slots(self, number: int) -> int:
        return len((await self.get(number, "/slots"))["items"])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask over and over, since nobody tells from outside of a process."""
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110  # likewise
            await asyncio.sleep(0.05)


@pytest.fixture
async def site(tmp_path: Path, postgresql_url: str) -> AsyncIterator[Site]:
    async with Site(tmp_path, postgresql_url).started() as site:
        yield site


async def test_one_of_three_leads_whatever_becomes_of_it(site: Site) -> None:
    known = await site.controllers(0)
    assert len(known) == NUMBER
    assert {item["in_step"] for item in known.values()} == {True}
    assert len({item["configuration"] for item in known.values()}) == 1
    await until(lambda: all_name_one_leader(site))
    await what_one_keeps_is_read_at_the_others(site)
    await a_paused_leader_that_wakes_writes_nothing(site)
    await another_leads_when_the_leader_is_killed(site)
    await a_worker_goes_to_those_that_are_left(site)


async def all_name_one_leader(site: Site) -> bool:
    return len({await site.leading(number) for number in range(NUMBER)}) == 1


async def what_one_keeps_is_read_at_the_others(site: Site) -> None:
    place = "/devices/edge0/jobs/show"
    answers: list[Any] = []
    for number, taker in enumerate((0, 1, 2)):
        if answers:
            latest = await site.read(taker, f"{place}/latest")
            assert latest == b"line %d\n" % (number - 1)
        await site.call(0, "POST", f"/api/v1{place}/run")
        [execution] = await site.call(number, "GET", "/worker/next?max=1")
        body = multipart.completion("edge0", "show", execution["timestamp"], b"line %d\n" % number)
        answers.append(await site.complete(taker, body))
        # Whoever did not hear the answer asks another one, and is told the same.
        assert await site.complete((taker + 1) % NUMBER, body) == answers[-1]
    told = [answer["version"] for answer in reversed(answers)]
    assert len(set(told)) == NUMBER
    for number in range(NUMBER):
        versions = (await site.get(number, f"{place}/versions"))["items"]
        assert [each["version"] for each in versions] == told
        runs = (await site.get(number, "/runs?device=edge0"))["items"]
        assert [each["version"] for each in runs] == told  # none twice
        for version, content in zip(told, (b"line 2\n", b"line 1\n", b"line 0\n"), strict=True):
            assert await site.read(number, f"{place}/versions/{version}/content") == content
        assert await site.read(number, f"{place}/latest") == b"line 2\n"
        difference = await site.read(number, f"{place}/diff?from={told[2]}&to={told[0]}")
        assert b"-line 0\n+line 2\n" in difference
        [found] = (await site.get(number, "/archive/search?text=line"))["items"]
        assert found["version"] == told[0]


async def another_leads_when_the_leader_is_killed(site: Site) -> None:
    first = await site.leading(0)
    assert first is not None
    one, other = [number for number in range(NUMBER) if number != first]
    await site.processes[first].signal(signal.SIGKILL)
    site.configure(one, 5)
    site.configure(other, 5)

    async def another_leads() -> bool:
        return await site.leading(one) in (one, other)

    await until(another_leads)
    # Asked of one, the configuration is read anew by all that are left, and planned by the leader.
    status, answer = await site.reload(one)
    assert (status, answer["slots"]) == (200, 5), answer
    assert await site.slots(other) == 5

    async def in_step() -> bool:
        known = await site.controllers(one)
        alive = [item for item in known.values() if item["address"] != site.processes[first].url]
        return all(item["in_step"] for item in alive)

    await until(in_step)


async def a_worker_goes_to_those_that_are_left(site: Site) -> None:
    left = [number for number in range(NUMBER) if site.processes[number].is_running]
    worker = WorkerService(
        WorkerSettings(
            controller=tuple(process.url for process in site.processes),
            name="worker",
            state=site.folder / "worker",
        )
    )
    working = asyncio.create_task(worker.run())
    try:
        for number in left:
            await a_run_ends(site, at=number)
        await site.processes[left[0]].signal(signal.SIGKILL)
        await a_run_ends(site, at=left[1])
    finally:
        worker.cancel()
        await working
    [enrolled] = (await site.get(left[1], "/workers"))["items"]  # never anew
    assert enrolled["name"] == "worker"


async def a_run_ends(site: Site, *, at: int) -> None:
    """Ask for one, and wait until the worker has tried it, whoever it told."""

    async def ended() -> int:
        runs = (await site.get(at, "/runs?device=edge1"))["items"]
        return sum(run.get("worker_id") is not None for run in runs)

    before = await ended()
    await site.call(at, "POST", "/api/v1/devices/edge1/jobs/show/run")

    async def more() -> bool:
        return await ended() > before

    await until(more)


async def a_paused_leader_that_wakes_writes_nothing(site: Site) -> None:
    first = await site.leading(0)
    assert first is not None
    one, other = [number for number in range(NUMBER) if number != first]
    site.configure(first, 1)
    os.kill(site.processes[first].pid, signal.SIGSTOP)
    # Heard when it wakes, as the leader that it takes itself for.
    os.kill(site.processes[first].pid, signal.SIGHUP)

    async def another_leads() -> bool:
        return await site.leading(one) in (one, other)

    await until(another_leads)
    assert await site.slots(one) == 2
    os.kill(site.processes[first].pid, signal.SIGCONT)

    async def has_woken() -> bool:
        known = (await site.controllers(one))[site.processes[first].url]
        return known["alive"] and not known["in_step"]

    await until(has_woken)  # it has read its file, and others know that it is not theirs
    assert await site.slots(one) == 2
    assert await site.leading(first) in (one, other)
    status, answer = await site.reload(first)
    assert (status, answer["code"]) == (409, "configuration.out_of_step"), answer
    assert await site.slots(one) == 2

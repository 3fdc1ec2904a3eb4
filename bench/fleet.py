"""Commands started and queried on one worker, per second through HTTP; everything durable.

Controller, worker and clients are three processes on the same machine. The floors are what the
machine itself makes of the two halves: processes started by nobody's order, and HTTP answered
without a ledger or a worker.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from bench import site
from bench.report import Row

CLIENTS = (1, 32)

Call = Callable[[], Awaitable[None]]


@contextmanager
def _worker(url: str, where: Path) -> Iterator[None]:
    settings = where / "worker.yaml"
    settings.write_text(
        f"controller: {url}\nname: bench\nstate: {where}/worker\ntags: [none]\n"
        "policy: policy.yaml\n"
    )
    (where / "policy.yaml").write_text("commands: {'true': {}}\n")
    command = [sys.executable, "-m", "roundsman", "worker", str(settings)]
    process = subprocess.Popen([*command, "--log-level", "warning"])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


async def _connected(session: aiohttp.ClientSession) -> str:
    """The id of the one worker, once its control channel is open."""
    while True:
        async with session.get("/api/v1/workers") as answer:
            workers = (await answer.json())["items"]
        if workers and workers[0]["connected"]:
            return str(workers[0]["worker_id"])
        await asyncio.sleep(0.05)


async def _per_second(call: Call, clients: int, seconds: float) -> tuple[float, float]:
    """Calls per second of so many clients at once, and the median of one, in milliseconds."""
    times: list[float] = []
    began = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - began < seconds:
            started = time.perf_counter()
            await call()
            times.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return len(times) / (time.perf_counter() - began), statistics.median(times) * 1000


def _spawns_per_second(seconds: float) -> float:
    """The floor of a start: `true`, its pipes, its end awaited; one after the other."""
    spawned = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        process = subprocess.Popen(
            ["true", ""],
            executable="/bin/true",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(os.pidfd_open(process.pid))
        process.communicate()
        spawned += 1
    return spawned / (time.perf_counter() - began)


@asynccontextmanager
async def _calls(url: str) -> AsyncIterator[dict[str, Call]]:
    async with aiohttp.ClientSession(url) as session:
        worker_id = await _connected(session)

        async def post(path: str, body: dict[str, str], status: int) -> dict[str, str]:
            async with session.post(path, json=body) as answer:
                said: dict[str, str] = await answer.json()
                if answer.status != status:
                    raise RuntimeError(f"{path}: {answer.status}: {said}")
                return said

        async def start() -> None:
            await post("/start", {"worker_id": worker_id, "command": "true", "path": ""}, 201)

        one = await post("/start", {"worker_id": worker_id, "command": "true", "path": ""}, 201)
        named = {"worker_id": worker_id, **one}

        async def query() -> None:
            await post("/query", named, 200)

        async def bare() -> None:
            async with session.get("/healthz") as answer:
                await answer.read()

        yield {"bare": bare, "query": query, "start": start}


async def _measure(url: str, seconds: float) -> dict[tuple[str, int], tuple[float, float]]:
    async with _calls(url) as calls:
        return {
            (name, clients): await _per_second(call, clients, seconds)
            for name, call in calls.items()
            for clients in CLIENTS
        }


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, shorter."""
    seconds = 0.5 if quick else 2.5
    spawns = _spawns_per_second(seconds)
    with site.folder() as where:
        file = site.fleet_file(where, devices=1, jobs=1)
        with site.controller(file) as running, _worker(running.url, where):
            measured = asyncio.run(_measure(running.url, seconds))
    rows = [Row(name="bare spawns of true, one process", value=spawns, unit="starts/s")]
    for clients in CLIENTS:
        who = f"{clients} client{'s' if clients > 1 else ''}"
        (bare, _), (queries, query_ms), (starts, start_ms) = (
            measured[name, clients] for name in ("bare", "query", "start")
        )
        rows += [
            Row(name=f"bare HTTP answers, {who}", value=bare, unit="calls/s"),
            Row(
                name=f"/query, {who}",
                value=queries,
                unit="calls/s",
                compared_to="bare HTTP answers",
                ratio=queries / bare,
            ),
            Row(name=f"/query, {who}, median", value=query_ms, unit="ms"),
            Row(
                name=f"/start of true, {who}",
                value=starts,
                unit="calls/s",
                compared_to="bare spawns",
                ratio=starts / spawns,
            ),
            Row(name=f"/start of true, {who}, median", value=start_ms, unit="ms"),
        ]
    return rows

"""Commands started and queried on one worker, per second through HTTP; everything durable.

Controller, worker, its keeper and the clients are processes on the same machine. The floors are
what the machine itself makes of the two halves: processes started by nobody's order, plainly and
within the same bounds, and HTTP answered without a ledger or a worker.
"""

import asyncio
import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from bench import site
from bench.lean_client import LeanClient
from bench.report import Row

CLIENTS = (1, 32)
TICKS = 100
FIRST_BYTES = 20

Call = Callable[[], Awaitable[None]]


@contextmanager
def worker(url: str, where: Path) -> Iterator[int]:
    """Run one; its process id. Its keeper ends with it, and all that it keeps."""
    settings = where / "worker.yaml"
    settings.write_text(
        f"controller: {url}\nname: bench\nstate: {where}/worker\ntags: [none]\n"
        "policy: policy.yaml\n"
    )
    (where / "policy.yaml").write_text(
        "on_stop: stop\ncommands:\n  'true': {}\n  sleep: {arguments: ['[0-9]+']}\n"
        f"  sh: {{scripts: {where}/scripts}}\n"
    )
    (where / "scripts").mkdir()
    (where / "scripts" / "ticks.sh").write_text(
        f"i=0; while [ $i -lt {TICKS} ]; do echo tick; sleep 0.02; i=$((i+1)); done\n"
    )
    (where / "scripts" / "hello.sh").write_text("echo hello\n")
    command = [sys.executable, "-m", "roundsman", "worker", str(settings)]
    process = subprocess.Popen([*command, "--log-level", "warning"])
    try:
        yield process.pid
    finally:
        keepers = [os.pidfd_open(pid) for pid in _keepers_of(where)]
        process.terminate()
        process.wait(timeout=60)
        for keeper in keepers:
            select.select([keeper], [], [], 60)
            os.close(keeper)


async def connected(session: aiohttp.ClientSession) -> str:
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


def _isolated_starts(seconds: float) -> tuple[float, float]:
    """Starts per second within the same bounds, and milliseconds of processor time for each."""
    command = [sys.executable, "-m", "bench.isolated_starts", str(seconds)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), float(said[1])


def _keepers_of(where: Path) -> list[int]:
    """The process ids of the worker's keepers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if "process_server" in command and str(where) in command:
                    found.append(int(entry.name))
    return found


async def _processor_time(
    url: str, pids: dict[str, int], seconds: float
) -> tuple[dict[str, float], float]:
    """Milliseconds for each start, of 32 clients; those of `true` are in the last."""
    before = {name: site.cpu_seconds(pid) for name, pid in pids.items()}
    started = 0
    async with _calls(url) as calls:

        async def start() -> None:
            nonlocal started
            await calls["start"]()
            started += 1

        await _per_second(start, CLIENTS[-1], seconds)
        await asyncio.sleep(1)  # the last of them end
    after = {name: site.cpu_seconds(pid) for name, pid in pids.items()}
    used = {name: (after[name][0] - before[name][0]) * 1000 / started for name in pids}
    children = (after["keeper"][1] - before["keeper"][1]) * 1000 / started
    return used, children


@asynccontextmanager
async def _calls(url: str) -> AsyncIterator[dict[str, Call]]:
    async with aiohttp.ClientSession(url) as session:
        worker_id = await connected(session)
    async with LeanClient(url) as client:

        async def post(path: str, body: dict[str, str], status: int) -> dict[str, str]:
            answered, text = await client.call("POST", path, body)
            if answered != status:
                raise RuntimeError(f"{path}: {answered}: {text!r}")
            said: dict[str, str] = json.loads(text)
            return said

        async def start() -> None:
            await post("/start", {"worker_id": worker_id, "command": "true", "path": ""}, 201)

        one = await post("/start", {"worker_id": worker_id, "command": "true", "path": ""}, 201)
        ended = {"worker_id": worker_id, **one}
        body = {"worker_id": worker_id, "command": "sleep", "path": "600"}
        runs = {"worker_id": worker_id, **await post("/start", body, 201)}

        async def query() -> None:
            await post("/query", ended, 200)

        async def query_running() -> None:
            await post("/query", runs, 200)

        async def bare() -> None:
            await client.call("GET", "/healthz")

        yield {"bare": bare, "query": query, "running": query_running, "start": start}


async def output_delays(url: str) -> list[float]:
    """Milliseconds from when the worker read each line of a process to when a reader has it."""
    async with aiohttp.ClientSession(url) as session:
        body = {"worker_id": await connected(session), "command": "sh", "path": "ticks.sh"}
        async with session.post("/start", json=body) as answer:
            process_id = (await answer.json())["job_id"]
        path = f"/api/v1/processes/{process_id}/output?follow=true&format=events"
        delays = []
        async with session.get(path) as answer:
            async for line in answer.content:
                if line.startswith(b"data: ") and b'"stdout"' in line:
                    at = json.loads(line.removeprefix(b"data: "))["at"]
                    delays.append((time.time() - at) * 1000)
        return sorted(delays)


async def first_byte(url: str) -> tuple[float, float]:
    """Milliseconds to the first byte of a process' output: from the call, and from its answer."""
    from_call, from_answer = [], []
    async with aiohttp.ClientSession(url) as session:
        body = {"worker_id": await connected(session), "command": "sh", "path": "hello.sh"}
        for _ in range(FIRST_BYTES):
            called = time.perf_counter()
            async with session.post("/start", json=body) as answer:
                process_id = (await answer.json())["job_id"]
            answered = time.perf_counter()
            path = f"/api/v1/processes/{process_id}/output?follow=true"
            async with session.get(path) as answer:
                if not await answer.content.readany():
                    raise RuntimeError("it wrote nothing")
                came = time.perf_counter()
                await answer.read()
            from_call.append((came - called) * 1000)
            from_answer.append((came - answered) * 1000)
    return statistics.median(from_call), statistics.median(from_answer)


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
    isolated, isolated_ms = _isolated_starts(seconds)
    with site.folder() as where:
        file = site.fleet_file(where, devices=1, jobs=1)
        with site.controller(file) as running, worker(running.url, where) as worker_pid:
            delays = asyncio.run(output_delays(running.url))
            first_from_call, first_from_answer = asyncio.run(first_byte(running.url))
            measured = asyncio.run(_measure(running.url, seconds))
            [keeper] = _keepers_of(where)
            pids = {"controller": running.pid, "worker": worker_pid, "keeper": keeper}
            used, of_true = asyncio.run(_processor_time(running.url, pids, seconds))
    rows = [
        Row(name="output, worker to reader, median", value=statistics.median(delays), unit="ms"),
        Row(name=f"the same, slowest of {len(delays)}", value=delays[-1], unit="ms"),
        Row(
            name="first byte of output, from the answer to /start",
            value=first_from_answer,
            unit="ms",
        ),
        Row(name="the same, from the call of /start", value=first_from_call, unit="ms"),
        Row(name="bare spawns of true, one process", value=spawns, unit="starts/s"),
        Row(name="the same within a keeper's bounds", value=isolated, unit="starts/s"),
        Row(name="processor time of such a one, true included", value=isolated_ms, unit="ms"),
        *(
            Row(name=f"processor time of a /start, {name}", value=value, unit="ms")
            for name, value in (*used.items(), ("true itself", of_true))
        ),
    ]
    for clients in CLIENTS:
        who = f"{clients} client{'s' if clients > 1 else ''}"
        (bare, _), (queries, query_ms), (running_queries, _), (starts, start_ms) = (
            measured[name, clients] for name in ("bare", "query", "running", "start")
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
            Row(name=f"/query of a running one, {who}", value=running_queries, unit="calls/s"),
            Row(
                name=f"/start of true, {who}",
                value=starts,
                unit="calls/s",
                compared_to="starts within bounds by one process",
                ratio=starts / isolated,
            ),
            Row(name=f"/start of true, {who}, median", value=start_ms, unit="ms"),
        ]
    return rows

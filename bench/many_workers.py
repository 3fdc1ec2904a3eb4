"""Many workers on one controller: idle ones in memory, a command on a hundred, one that is silent.

The workers are control channels held by this process, which answer as a worker would: what is
measured is the controller. A command of theirs takes a second and writes nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench import site
from bench.report import Row
from roundsman.wire import codec
from roundsman.wire.control import Hello, ProcessChanged, StartProcess, to_worker
from roundsman.wire.process import ProcessState

IDLE = 2000
COMMANDED = 100
COMMAND_SECONDS = 1.0
WAITING = 20  # starts that wait for the silent worker at any time
OPENING = 50  # connections opened at once


class Worker:
    """One control channel, and what answers on it."""

    def __init__(
        self, worker_id: str, socket: aiohttp.ClientWebSocketResponse, *, silent: bool
    ) -> None:
        self.worker_id = worker_id
        self._socket = socket
        self._silent = silent
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving = asyncio.create_task(self._serve())

    async def close(self) -> None:
        for task in (self._serving, *self._tasks):
            task.cancel()
        await self._socket.close()

    async def _serve(self) -> None:
        await self._say(Hello(version="bench"))
        async for frame in self._socket:
            message = to_worker.decode(frame.data)
            if isinstance(message, StartProcess) and not self._silent:
                task = asyncio.create_task(self._work(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _work(self, start: StartProcess) -> None:
        began = ProcessChanged(
            process_id=start.process_id, state=ProcessState.RUNNING, at=time.time()
        )
        await self._say(began)
        if start.command == "second":
            await asyncio.sleep(COMMAND_SECONDS)
        ended = msgspec.structs.replace(
            began, state=ProcessState.ENDED, at=time.time(), exit_status=0
        )
        await self._say(ended)

    async def _say(self, message: Any) -> None:
        await self._socket.send_str(codec.encode(message).decode())


async def _worker(session: aiohttp.ClientSession, name: str, *, silent: bool = False) -> Worker:
    async with session.post("/api/v1/workers", json={"name": name, "tags": [name]}) as answer:
        said = await answer.json()
    socket = await session.ws_connect(
        f"/api/v1/workers/{said['worker_id']}/control",
        headers={"Authorization": f"Bearer {said['token']}"},
    )
    return Worker(said["worker_id"], socket, silent=silent)


@contextlib.asynccontextmanager
async def _fleet(
    session: aiohttp.ClientSession, count: int, name: str
) -> AsyncIterator[list[Worker]]:
    workers: list[Worker] = []
    for first in range(0, count, OPENING):
        workers += await asyncio.gather(
            *(
                _worker(session, f"{name}-{number}")
                for number in range(first, min(count, first + OPENING))
            )
        )
    try:
        yield workers
    finally:
        await asyncio.gather(*(worker.close() for worker in workers))


def _megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024 / 1e6


async def _everywhere(session: aiohttp.ClientSession, workers: list[Worker]) -> float:
    """Seconds from the request until all results are known."""
    began = time.perf_counter()
    body = {"command": "second", "workers": [worker.worker_id for worker in workers]}
    async with session.post("/api/v1/processes", json=body) as answer:
        said = await answer.json()
    async with session.get(f"/api/v1/batches/{said['batch_id']}/events") as answer:
        data = await answer.read()
    if b'"succeeded":true' not in data:
        raise RuntimeError("it did not succeed everywhere")
    return time.perf_counter() - began


async def _start(session: aiohttp.ClientSession, worker_id: str) -> None:
    body = {"worker_id": worker_id, "command": "true", "path": ""}
    async with session.post("/start", json=body) as answer:
        await answer.read()


async def _slowest_percent(session: aiohttp.ClientSession, worker_id: str, count: int) -> float:
    """The 99th percentile of `/start`, one after the other, in milliseconds."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await _start(session, worker_id)
        times.append(time.perf_counter() - began)
    return sorted(times)[int(count * 0.99)] * 1000


async def _measure(url: str, pid: int, quick: bool) -> list[Row]:
    idle, count = (200, 200) if quick else (IDLE, 1000)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        async with _fleet(session, COMMANDED, "commanded") as commanded:
            await _everywhere(session, commanded)
            seconds = min([await _everywhere(session, commanded) for _ in range(3)])
            alone = await _slowest_percent(session, commanded[0].worker_id, count)
            silent = await _worker(session, "silent", silent=True)

            async def bother() -> None:
                while True:
                    await _start(session, silent.worker_id)

            bothering = [asyncio.create_task(bother()) for _ in range(WAITING)]
            beside = await _slowest_percent(session, commanded[0].worker_id, count)
            for task in bothering:
                task.cancel()
            await asyncio.gather(*bothering, return_exceptions=True)
            await silent.close()
        before = _megabytes(pid)
        async with _fleet(session, idle, "idle"):
            memory = _megabytes(pid)
    return [
        Row(
            name=f"a command of {COMMAND_SECONDS:g} s on {COMMANDED} workers, to the last result",
            value=seconds,
            unit="s",
            compared_to="the command itself",
            ratio=seconds / COMMAND_SECONDS,
        ),
        Row(name="/start to one worker, 99th percentile", value=alone, unit="ms"),
        Row(
            name=f"the same while {WAITING} starts wait for a silent worker",
            value=beside,
            unit="ms",
            compared_to="without",
            ratio=beside / alone,
        ),
        Row(name=f"controller with {idle} idle workers", value=memory, unit="MB"),
        Row(
            name="of which each worker",
            value=(memory - before) * 1000 / idle,
            unit="kB",
        ),
    ]


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, shorter."""
    with site.folder() as where:
        file = site.fleet_file(where, devices=1, jobs=1)
        with site.controller(file) as running:
            return asyncio.run(_measure(running.url, running.pid, quick))

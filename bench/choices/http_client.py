"""Which HTTP client the worker and the command line use: docs/adr/0008-*.md.

    .venv/bin/python bench/choices/http_client.py [--seconds 3] [--megabytes 200]

Measures each library that is installed (aiohttp; httpx and niquests when present) against one
small server in a process of its own: GETs answered with 204 at 32 at once, and one upload of a file
as multipart/form-data, with this process' CPU time and how much memory it took; then how long a
message takes to the other end of a WebSocket and back, by two clients. Ratios count.
"""

import argparse
import asyncio
import importlib.metadata
import importlib.util
import multiprocessing
import os
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

AT_ONCE = 32

Get = Callable[[], Awaitable[None]]


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body to its end, answer 204; echo what comes over a WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def serve(listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(answer, http="httptools", lifespan="off", log_level="warning")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


async def gets(get: Get, seconds: float) -> tuple[int, float]:
    """GETs per second at `AT_ONCE`, and CPU in microseconds each."""
    until = time.perf_counter() + seconds
    count = 0

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await get()
            count += 1

    cpu = time.process_time()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return int(count / seconds), (time.process_time() - cpu) / count * 1e6


async def run_aiohttp(url: str, seconds: float, file: Path) -> dict[str, float]:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def get() -> None:
            async with session.get(url, allow_redirects=False) as response:
                await response.read()
                assert response.status == 204

        async def upload() -> None:
            form = aiohttp.FormData({"device": "edge1"})
            with file.open("rb") as body:
                form.add_field("file", body, filename="show_run")
                async with session.post(url, data=form) as response:
                    await response.read()

        return await measure(get, upload, seconds)


async def run_httpx(url: str, seconds: float, file: Path) -> dict[str, float]:
    import httpx

    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def get() -> None:
            assert (await client.get(url)).status_code == 204

        async def upload() -> None:
            with file.open("rb") as body:
                files = {"file": ("show_run", body)}
                await client.post(url, data={"device": "edge1"}, files=files)

        return await measure(get, upload, seconds)


async def run_niquests(url: str, seconds: float, file: Path) -> dict[str, float]:
    niquests: Any = importlib.import_module("niquests")

    async with niquests.AsyncSession(pool_maxsize=100) as session:

        async def get() -> None:
            assert (await session.get(url)).status_code == 204

        async def upload() -> None:
            with file.open("rb") as body:
                files = {"file": ("show_run", body)}
                await session.post(url, data={"device": "edge1"}, files=files)

        return await measure(get, upload, seconds)


async def measure(get: Get, upload: Get, seconds: float) -> dict[str, float]:
    await get()
    rate, microseconds = await gets(get, seconds)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    await upload()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "gets/s": rate,
        "µs CPU/get": microseconds,
        "upload s": time.perf_counter() - began,
        "upload CPU s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "upload MB memory": (after.ru_maxrss - before.ru_maxrss) / 1024,
    }


ROUND_TRIPS = 2000
MESSAGE = '{"type":"start_process","process_id":"00000000-0000-4000-8000-000000000001"}'


async def websocket_aiohttp(url: str) -> float:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(url) as websocket:

        async def trip() -> None:
            await websocket.send_str(MESSAGE)
            await websocket.receive_str()

        return await round_trip(trip)


async def websocket_websockets(url: str) -> float:
    from websockets.asyncio.client import connect

    async with connect(url.replace("http", "ws", 1)) as websocket:

        async def trip() -> None:
            await websocket.send(MESSAGE)
            await websocket.recv()

        return await round_trip(trip)


async def round_trip(trip: Get) -> float:
    """Microseconds to the other end and back, the median."""
    taken = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await trip()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


RUNS = {"aiohttp": run_aiohttp, "httpx": run_httpx, "niquests": run_niquests}


def in_process(name: str, url: str, seconds: float, file: Path, told: Any) -> None:
    """Each library in a fresh process, so that memory and imports are its own."""
    began = time.perf_counter()
    importlib.import_module(name)
    imported = time.perf_counter() - began
    told.send({"import ms": imported * 1e3, **asyncio.run(RUNS[name](url, seconds, file))})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--megabytes", type=int, default=200)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server = context.Process(target=serve, args=(listening,), daemon=True)
    server.start()
    with tempfile.NamedTemporaryFile() as written:
        for _ in range(arguments.megabytes):
            written.write(os.urandom(1 << 20))
        written.flush()
        for name in RUNS:
            if importlib.util.find_spec(name) is None:
                print(f"{name}: not installed")
                continue
            mine, theirs = context.Pipe()
            run = context.Process(
                target=in_process, args=(name, url, arguments.seconds, Path(written.name), theirs)
            )
            run.start()
            found = mine.recv()
            run.join()
            version = importlib.metadata.version(name)
            print(name, version, "  ".join(f"{what} {value:,.2f}" for what, value in found.items()))
    for name, websocket in (
        ("aiohttp", websocket_aiohttp),
        ("websockets", websocket_websockets),
    ):
        print(f"{name}: WebSocket round trip {asyncio.run(websocket(url)):,.0f} µs")
    server.terminate()


if __name__ == "__main__":
    main()

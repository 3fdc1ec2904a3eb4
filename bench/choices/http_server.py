"""Which HTTP framework and which server: docs/adr/0003-http-framework.md and 0004-server.md.

    uv venv choices && uv pip install -p choices litestar starlette fastapi aiohttp msgspec \
        uvicorn granian httptools uvloop
    choices/bin/python bench/choices/http_server.py

Each candidate answers `POST /start` (a small JSON body into a typed record, checked, a small JSON
answer) in one process; `wrk` asks with 32 connections for three seconds, after one to warm up. What
is not installed is left out. The time from the start of the process to the first connection is
printed beside it.
"""

import asyncio
import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

CONNECTIONS = 32
SECONDS = 3
ROUNDS = 3
CANDIDATES = [
    *(
        (framework, server)
        for framework in ("litestar", "fastapi", "starlette")
        for server in ("uvicorn", "granian")
    ),
    ("aiohttp", "aiohttp"),  # which brings its own server
]
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"worker_id": "d5feef60-3029-11e9-b210-d663bd873d93", "command": "sh", "path": "a"}'
"""


class Start(msgspec.Struct, frozen=True):
    worker_id: str
    command: str
    path: str


class Started(msgspec.Struct, frozen=True):
    job_id: str


JOB = "4c5ced1c-5ea9-40f8-90ce-63d09cea26f6"


def litestar_app() -> Any:
    from litestar import Litestar, post

    @post("/start")
    async def start(data: Start) -> Started:
        return Started(job_id=JOB if data.path else "")

    return Litestar([start])


@dataclass
class PlainStart:
    worker_id: str
    command: str
    path: str


@dataclass
class PlainStarted:
    job_id: str


def fastapi_app() -> Any:
    app = import_module("fastapi").FastAPI()

    async def start(data: PlainStart) -> PlainStarted:
        return PlainStarted(job_id=JOB if data.path else "")

    app.post("/start", status_code=201)(start)
    return app


def starlette_app() -> Any:
    response = import_module("starlette.responses").Response
    decode = msgspec.json.Decoder(Start).decode

    async def start(request: Any) -> Any:
        data = decode(await request.body())
        answer = msgspec.json.encode(Started(job_id=JOB if data.path else ""))
        return response(answer, 201, media_type="application/json")

    route = import_module("starlette.routing").Route("/start", start, methods=["POST"])
    return import_module("starlette.applications").Starlette(routes=[route])


def aiohttp_app() -> Any:
    from aiohttp import web

    decode = msgspec.json.Decoder(Start).decode

    async def start(request: web.Request) -> web.Response:
        data = decode(await request.read())
        answer = msgspec.json.encode(Started(job_id=JOB if data.path else ""))
        return web.Response(body=answer, status=201, content_type="application/json")

    app = web.Application()
    app.router.add_post("/start", start)
    return app


def serve(framework: str, server: str, port: int) -> None:
    """Serve one candidate until killed, in this process."""
    app = globals()[f"{framework}_app"]()
    if framework == "aiohttp":
        from aiohttp import web

        new_loop = import_module("uvloop").new_event_loop
        with asyncio.Runner(loop_factory=new_loop) as runner:
            web.run_app(app, host="127.0.0.1", port=port, access_log=None, loop=runner.get_loop())
    elif server == "uvicorn":
        import uvicorn

        uvicorn.run(app, port=port, log_level="error", access_log=False, http="httptools")
    else:
        asyncio.run(serve_with_granian(app, port))


async def serve_with_granian(app: Any, port: int) -> None:
    embedded = import_module("granian.server.embed").Server
    interface = import_module("granian.constants").Interfaces.ASGI
    await embedded(app, port=port, interface=interface, log_enabled=False).serve()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def running(framework: str, server: str) -> Iterator[tuple[int, float]]:
    """A served candidate: its port, and the seconds until it took its first connection."""
    port, began = free_port(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, "serve", framework, server, str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        while True:
            assert process.poll() is None, f"{framework} on {server} does not start"
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.01)
        yield port, time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def requests_per_second(port: int, script: str, seconds: int) -> float:
    url = f"http://127.0.0.1:{port}/start"
    said = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script, url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "Non-2xx" not in said, said
    rate = re.search(r"Requests/sec:\s*([\d.]+)", said)
    assert rate is not None, said
    return float(rate[1])


def main() -> None:
    installed = {name for name in {n for pair in CANDIDATES for n in pair} if find_spec(name)}
    print(f"{os.cpu_count()} cores, {CONNECTIONS} connections; median of {ROUNDS}")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "start.lua")
        script.write_text(SCRIPT)
        for framework, server in CANDIDATES:
            if framework not in installed or server not in installed:
                continue
            with running(framework, server) as (port, start):
                requests_per_second(port, str(script), 1)
                rates = [requests_per_second(port, str(script), SECONDS) for _ in range(ROUNDS)]
            rate = statistics.median(rates)
            print(f"{framework:10} on {server:8} {rate:8,.0f} requests/s, up in {start:.2f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()

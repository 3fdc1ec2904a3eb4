"""Commands through a controller that is not the one the worker is connected to.

Two controllers on one PostgreSQL ledger, every commit flushed, a worker at the second, and a client
of each: what it takes through the first, beside the same through the second.
"""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from bench import fleet, site
from bench.ledger_postgresql import server_on
from bench.report import Row
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer

HERE, THERE = "through the worker's controller", "through the other"


@contextmanager
def _controllers(server: PostgresqlServer, where: Path) -> Iterator[tuple[str, str]]:
    """The URLs of two controllers on one ledger."""
    secret = where / "password"
    secret.write_text(PASSWORD.reveal())
    secret.chmod(0o600)
    shared = where / "shared.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(shared)], check=True)
    files = []
    for name in ("one", "two"):
        (where / name).mkdir()
        file = site.fleet_file(where / name, devices=1, jobs=1)
        ledger = f"  ledger: {{url: '{server.url('crossing')}', pass: 'file:{secret}'}}\n"
        archive = f"  archive: {{remotes: {{shared: {{url: '{shared}'}}}}}}\n"
        file.write_text(file.read_text() + ledger + archive)
        files.append(file)
    with site.controller(files[0]) as one, site.controller(files[1]) as two:
        yield one.url, two.url


async def _measure(other: str, own: str, calls: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each call, by what it does and through which controller."""
    measured = {}
    async with aiohttp.ClientSession() as session:
        async with aiohttp.ClientSession(own) as near:
            worker_id = await fleet.connected(near)

        async def post(url: str, path: str, body: dict[str, str]) -> tuple[float, str]:
            began = time.perf_counter()
            async with session.post(url + path, json={"worker_id": worker_id, **body}) as answer:
                said = await answer.json()
                if answer.status >= 300:
                    raise RuntimeError(f"{path}: {answer.status}: {said}")
            return (time.perf_counter() - began) * 1000, said.get("job_id", "")

        async def start(url: str) -> tuple[float, str]:
            return await post(url, "/start", {"command": "sleep", "path": "600"})

        for who, url in ((HERE, own), (THERE, other)):
            starts, stops, queries = [], [], []
            for _ in range(calls):
                milliseconds, job_id = await start(url)
                starts.append(milliseconds)
                queries.append((await post(url, "/query", {"job_id": job_id}))[0])
                stops.append((await post(url, "/stop", {"job_id": job_id}))[0])
            measured["/start", who] = sorted(starts)
            measured["/query of a running one", who] = sorted(queries)
            measured["/stop", who] = sorted(stops)
            measured["output, worker to reader", who] = await fleet.output_delays(url)
    return measured


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, shorter."""
    calls = 50 if quick else 300
    rows = []
    with site.folder() as where, server_on(where) as server:
        asyncio.run(server.run("CREATE DATABASE crossing"))
        with _controllers(server, where) as (other, own), fleet.worker(own, where):
            measured = asyncio.run(_measure(other, own, calls))
    for (what, who), times in measured.items():
        beside = statistics.median(measured[what, HERE])
        rows += [
            Row(
                name=f"{what}, {who}, median",
                value=statistics.median(times),
                unit="ms",
                compared_to=HERE if who is THERE else None,
                ratio=statistics.median(times) / beside if who is THERE else None,
            ),
            Row(name=f"{what}, {who}, p99", value=_p99(times), unit="ms"),
        ]
    return rows

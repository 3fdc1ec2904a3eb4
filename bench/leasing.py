"""What `GET /worker/next?max=100` costs, and how many executions are leased per second.

Every slot is due. SQLite has one controller, PostgreSQL two, each a process of its own; callers and
database are on the same machine. A call is timed with one caller at a time; rates are those of some
at once. Small fleets are leased again and again, since their leases run out after a second. At the
end, what a transaction costs that is held open on the database, by the ledger alone.
"""

import asyncio
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from bench import site
from bench.ledger_postgresql import beside_a_transaction, server_on
from bench.report import Row
from roundsman.clock import SystemClock
from roundsman.config.load import load
from roundsman.controller.planner import planned_slots
from roundsman.ledger.interface import Ledger
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.testing.factories import write_fleet
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer

PER_CALL = 100
CALLERS = 8
CONTROLLERS = {"SQLite": 1, "PostgreSQL": 2}
SMALL = 10_000  # and less: leased again and again
LARGE = 100_000  # more: five jobs a device, so that the configuration is read sooner
OVERDUE_SECONDS = 7200  # the jobs of a device are due at minutes of their own, hourly


def _configuration(folder: Path, slots: int, ledger: str) -> Path:
    """The configuration of one controller, with a data folder of its own."""
    jobs = 5 if slots > LARGE else 1
    file = write_fleet(folder / "fleet.yaml", devices=slots // jobs, jobs=jobs, hourly=True)
    lease = 1 if slots <= SMALL else 3600
    settings = (
        "controller:\n  data: data\n  listen: {port: 0}\n  log: {level: warning}\n"
        f"  leases: {{seconds_without_heartbeat: {lease}}}\n{ledger}"
    )
    file.write_text(file.read_text() + settings)
    file.chmod(0o600)
    return file


async def _make_due(file: Path, ledger: Ledger) -> None:
    """Plan the slots as the controller would have some time ago."""
    then = time.time() - OVERDUE_SECONDS
    await ledger.open()
    await ledger.sync_slots(planned_slots(load(file, environ={}), then), then)
    await ledger.close()


@contextmanager
def _sites(database: str, slots: int) -> Iterator[list[site.Site]]:
    """Controllers that serve so many slots, all due."""
    with ExitStack() as stack:
        where = stack.enter_context(site.folder())
        folders = [where / str(number) for number in range(CONTROLLERS[database])]
        for folder in folders:
            folder.mkdir()
        if database == "PostgreSQL":
            server = stack.enter_context(server_on(where))
            settings, url = _on(server, where), server.url("leasing")
            files = [_configuration(folder, slots, settings) for folder in folders]
            filling: Ledger = PostgresqlLedger(
                url, PASSWORD, folder=where / "filling", clock=SystemClock()
            )
            asyncio.run(_make_due(files[0], filling))
            # What was filled in is not to be seen to meanwhile.
            asyncio.run(server.run("VACUUM ANALYZE", "leasing"))
            asyncio.run(server.run("CHECKPOINT"))
        else:
            files = [_configuration(folder, slots, "") for folder in folders]
            filling = SqliteLedger(folders[0] / "data" / "ledger.sqlite3")
            asyncio.run(_make_due(files[0], filling))
        yield [stack.enter_context(site.controller(file)) for file in files]


def _on(server: PostgresqlServer, where: Path) -> str:
    asyncio.run(server.run("CREATE DATABASE leasing"))
    secret = where / "password"
    secret.write_text(PASSWORD.reveal())
    secret.chmod(0o600)
    remote = where / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", remote], check=True)
    return (
        f"  ledger: {{url: '{server.url('leasing')}', pass: 'file:{secret}'}}\n"
        f"  archive: {{remotes: {{shared: {{url: '{remote}'}}}}}}\n"
    )


@asynccontextmanager
async def _sessions(urls: Sequence[str]) -> AsyncIterator[list[aiohttp.ClientSession]]:
    sessions = [aiohttp.ClientSession(url) for url in urls]
    try:
        for session in sessions:
            await _lease(session, "no-such-tag")  # connections, and what is read at first
        yield sessions
    finally:
        for session in sessions:
            await session.close()


async def _lease(session: aiohttp.ClientSession, tag: str | None = None) -> int:
    """One call; how many executions came."""
    query = f"max={PER_CALL}" if tag is None else f"max={PER_CALL}&tag={tag}"
    async with session.get(f"/worker/next?{query}") as answer:
        answer.raise_for_status()
        return (await answer.read()).count(b'"timestamp":')


async def _time_calls(urls: Sequence[str], number: int) -> list[float]:
    """How long each of so many calls takes, in milliseconds, one after the other."""
    calls: list[float] = []
    async with _sessions(urls) as sessions:
        while len(calls) < number:
            for session in sessions:
                started = time.perf_counter()
                leased = await _lease(session)
                if leased == PER_CALL:
                    calls.append((time.perf_counter() - started) * 1000)
                else:  # all are leased: go on when those leases have run out
                    await asyncio.sleep(1)
                    await _lease(session, "no-such-tag")
    return calls


async def _drain(urls: Sequence[str], most_seconds: float) -> tuple[int, float]:
    """Lease with all callers until nothing is left or the time is up: how many, in how long."""
    leased = 0
    async with _sessions(urls) as sessions:
        started = time.perf_counter()

        async def caller(session: aiohttp.ClientSession) -> None:
            nonlocal leased
            while time.perf_counter() - started < most_seconds:
                came = await _lease(session)
                leased += came
                if not came:
                    break

        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(caller(sessions[number % len(sessions)]))
        return leased, time.perf_counter() - started


def _costs(database: str, sizes: Sequence[int], calls: int) -> Iterator[Row]:
    first: dict[str, float] = {}
    for slots in sizes:
        with _sites(database, slots) as sites:
            urls = [one.url for one in sites]
            asyncio.run(_time_calls(urls, 20))
            times = asyncio.run(_time_calls(urls, calls))
        costs = {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[-1]}
        for what, value in costs.items():
            known = first.setdefault(what, value)
            yield Row(
                name=f"{database}: a call for {PER_CALL}, {slots:,} slots due, {what}",
                value=value,
                unit="ms",
                compared_to=None if slots == sizes[0] else f"{sizes[0]:,} slots",
                ratio=None if slots == sizes[0] else value / known,
            )


def _rate(database: str, slots: int) -> Iterator[Row]:
    with _sites(database, slots) as sites:
        before = sum(site.cpu_seconds(one.pid)[0] for one in sites)
        leased, seconds = asyncio.run(_drain([one.url for one in sites], 60))
        used = sum(site.cpu_seconds(one.pid)[0] for one in sites) - before
    number = CONTROLLERS[database]
    what = f"{database}, {number} controller{'s' if number > 1 else ''}, {CALLERS} callers"
    yield Row(name=f"{what}: {leased:,} due slots drained", value=seconds, unit="s")
    yield Row(name=f"{what}: leased", value=leased / seconds, unit="executions/s")
    yield Row(
        name=f"{what}: CPU of the controllers", value=used / leased * 1e6, unit="µs an execution"
    )


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, smaller fleets and fewer calls."""
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    rows: list[Row] = []
    for database in CONTROLLERS:
        rows += _costs(database, sizes, 60 if quick else 300)
        rows += _rate(database, 20_000 if quick else 100_000)
    slots, claims = (1_000, 40) if quick else (10_000, 300)
    rows += asyncio.run(beside_a_transaction(slots, claims))
    return rows

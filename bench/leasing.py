"""What `GET /worker/next?max=100` costs, and how many executions are leased per second.

Every slot is due. SQLite has one controller, PostgreSQL two, each a process of its own; callers and
database are on the same machine. Fleets of all sizes are served at once, and called in turns by one
caller, ten calls each, so that what else the machine does meets all of them; their leases run out
after a second, so that each turn leases the same oldest slots again, whatever the size. Beside them
the same disk is written and flushed. Then a turn is had while the leases of a whole small fleet run
out. Rates are those of some callers at once, each slot leased once. At the end, what a transaction
costs that is held open on the database, by the ledger alone.
"""

import asyncio
import gc
import os
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from bench import site
from bench.ledger_postgresql import beside_a_transaction, server_on
from bench.report import Row
from roundsman.clock import SystemClock
from roundsman.config.load import load
from roundsman.controller.planner import planned_slots
from roundsman.ledger.interface import Ledger, PlannedSlot
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.testing.factories import write_fleet
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer

PER_CALL: Final = 100
TURN: Final = 10  # calls: as many as 1,000 slots allow
CALLERS: Final = 8
CONTROLLERS: Final = {"SQLite": 1, "PostgreSQL": 2}
LARGE: Final = 100_000  # more: five jobs a device, so that the configuration is read sooner
OVERDUE_SECONDS: Final = 7200  # the jobs of a device are due at minutes of their own, hourly
SHORT: Final = 1  # s, leases of fleets that are leased again and again
LONG: Final = 3600
SETTLE_SECONDS: Final = 0.2  # what ran out is seen to
FLUSHED: Final = 1 << 16  # bytes, about what a call for 100 writes


class Fleet(NamedTuple):
    """So many slots, and the controllers that serve them."""

    slots: int
    sites: list[site.Site]


def _fleet_file(folder: Path, slots: int) -> Path:
    jobs = 5 if slots > LARGE else 1
    folder.mkdir(parents=True)
    return write_fleet(folder / "fleet.yaml", devices=slots // jobs, jobs=jobs, hourly=True)


@cache
def _planned(slots: int) -> tuple[float, list[PlannedSlot]]:
    """The slots, planned as a controller would have some time ago, and when."""
    then = time.time() - OVERDUE_SECONDS
    with site.folder() as folder:
        file = _fleet_file(folder / "planned", slots)
        planned = planned_slots(load(file, environ={}), then)
    gc.collect()
    gc.freeze()  # to go through so many takes as long as many calls
    return then, planned


async def _fill(ledger: Ledger, slots: int) -> None:
    then, planned = _planned(slots)
    await ledger.open()
    await ledger.sync_slots(planned, then)
    await ledger.close()


def _configuration(folder: Path, slots: int, ledger: str, lease: int) -> Path:
    """The configuration of one controller, with a data folder of its own."""
    file = _fleet_file(folder, slots)
    settings = (
        "controller:\n  data: data\n  listen: {port: 0}\n  log: {level: warning}\n"
        f"  leases: {{seconds_without_heartbeat: {lease}}}\n{ledger}"
    )
    file.write_text(file.read_text() + settings)
    file.chmod(0o600)
    return file


@contextmanager
def _served(database: str, sizes: Sequence[int], lease: int) -> Iterator[list[Fleet]]:
    """Fleets of these sizes, all due, and their controllers."""
    with ExitStack() as stack:
        where = stack.enter_context(site.folder())
        files: list[tuple[int, Path]] = []
        if database == "PostgreSQL":
            server = stack.enter_context(server_on(where))
            for slots in sizes:
                settings = _on(server, where, slots)
                for number in range(CONTROLLERS[database]):
                    folder = where / f"{slots}-{number}"
                    files.append((slots, _configuration(folder, slots, settings, lease)))
            asyncio.run(server.run("CHECKPOINT"))
        else:
            for slots in sizes:
                file = _configuration(where / str(slots), slots, "", lease)
                files.append((slots, file))
                asyncio.run(_fill(SqliteLedger(file.parent / "data" / "ledger.sqlite3"), slots))
        sites = _started(stack, [site.controller(file) for _, file in files])
        of_size = [slots for slots, _ in files]
        yield [
            Fleet(slots, [one for size, one in zip(of_size, sites, strict=True) if size == slots])
            for slots in sizes
        ]


def _started(
    stack: ExitStack, controllers: Sequence[AbstractContextManager[site.Site]]
) -> list[site.Site]:
    """Two at a time: most of it is to read the configuration."""

    def start(controller: AbstractContextManager[site.Site]) -> site.Site:
        started = controller.__enter__()
        stack.push(controller)
        return started

    with ThreadPoolExecutor(2) as threads:
        return [*threads.map(start, controllers)]


def _on(server: PostgresqlServer, where: Path, slots: int) -> str:
    """The settings for a database that is filled with so many slots, which are due."""
    name = f"leasing_{slots}"
    asyncio.run(server.run(f"CREATE DATABASE {name}"))
    secret = where / "password"
    secret.write_text(PASSWORD.reveal())
    secret.chmod(0o600)
    remote = where / f"{name}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", remote], check=True)
    filling = where / f"{name}.filling"
    ledger = PostgresqlLedger(server.url(name), PASSWORD, folder=filling, clock=SystemClock())
    asyncio.run(_fill(ledger, slots))
    # What the server does by itself some time after that much was written.
    asyncio.run(server.run("VACUUM ANALYZE", name))
    return (
        f"  ledger: {{url: '{server.url(name)}', pass: 'file:{secret}'}}\n"
        f"  archive: {{remotes: {{shared: {{url: '{remote}'}}}}}}\n"
    )


class Callers:
    """One caller of each controller of a fleet, over a connection that is kept."""

    def __init__(self, sessions: Sequence[aiohttp.ClientSession]) -> None:
        """Nothing was asked for yet."""
        self._sessions = sessions
        self._called_at = -1e9
        self._next = 0

    async def turn(self, calls: int = TURN) -> list[float]:
        """How long each of so many calls takes, one after the other, in milliseconds.

        They begin when the leases of the turn before have run out.
        """
        await asyncio.sleep(self._called_at + SHORT - time.perf_counter())
        for session in self._sessions:
            await _lease(session, "no-such-tag")
        await asyncio.sleep(SETTLE_SECONDS)
        return await self.calls(calls)

    async def calls(self, calls: int) -> list[float]:
        """The same without waiting."""
        times: list[float] = []
        while len(times) < calls:
            self._next = (self._next + 1) % len(self._sessions)
            started = time.perf_counter()
            leased = await _lease(self._sessions[self._next])
            self._called_at = time.perf_counter()
            if leased == PER_CALL:
                times.append((self._called_at - started) * 1000)
            else:  # on a slow machine, where a turn takes as long as its leases
                await asyncio.sleep(SHORT)
        return times

    async def drain(self, slots: int) -> tuple[int, float]:
        """Lease so many with some callers at once, or all that there are: how many, in how long."""
        leased = 0
        started = time.perf_counter()

        async def caller(session: aiohttp.ClientSession) -> None:
            nonlocal leased
            while leased < slots and (came := await _lease(session)):
                leased += came

        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(caller(self._sessions[number % len(self._sessions)]))
        self._called_at = time.perf_counter()
        return leased, self._called_at - started


async def _callers(stack: AsyncExitStack, fleet: Fleet) -> Callers:
    sessions = [
        await stack.enter_async_context(aiohttp.ClientSession(one.url)) for one in fleet.sites
    ]
    for session in sessions:
        await _lease(session, "no-such-tag")  # connections, and what is read at first
    return Callers(sessions)


async def _lease(session: aiohttp.ClientSession, tag: str | None = None) -> int:
    """One call; how many executions came."""
    query = f"max={PER_CALL}" if tag is None else f"max={PER_CALL}&tag={tag}"
    async with session.get(f"/worker/next?{query}") as answer:
        answer.raise_for_status()
        return (await answer.read()).count(b'"timestamp":')


def _flushed(file: int) -> float:
    """How long it takes to write and flush about what a call writes, in milliseconds."""
    content = os.urandom(FLUSHED)
    started = time.perf_counter()
    os.write(file, content)
    os.fdatasync(file)
    return (time.perf_counter() - started) * 1000


class Times(NamedTuple):
    """What was measured, in milliseconds."""

    calls: Mapping[int, list[float]]
    """By slots."""
    flushes: list[float]
    run_out: list[float]
    """Calls of the smallest fleet but one, while the leases of all its slots run out."""


async def _times(fleets: Sequence[Fleet], turns: int) -> Times:
    times = Times({fleet.slots: [] for fleet in fleets}, [], [])
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(site.folder())
        file = os.open(folder / "flushed", os.O_CREAT | os.O_WRONLY)
        stack.callback(os.close, file)
        callers = {fleet.slots: await _callers(stack, fleet) for fleet in fleets}
        for one in callers.values():  # once before it counts: connections, statements
            await one.turn()
        order = deque([None, *callers])
        for _ in range(turns):
            for slots in order:
                if slots is None:
                    times.flushes.extend(_flushed(file) for _ in range(TURN))
                else:
                    times.calls[slots].extend(await callers[slots].turn())
            order.rotate()  # each of them may be dearer after another one
        small = callers[fleets[1].slots]
        for _ in range(turns // 4):
            await small.drain(fleets[1].slots)
            await asyncio.sleep(SHORT)
            times.run_out.extend(await small.calls(TURN))
    return times


def _p99(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


def _costs(database: str, sizes: Sequence[int], turns: int) -> Iterator[Row]:
    with _served(database, sizes, SHORT) as fleets:
        times = asyncio.run(_times(fleets, turns))
        memory = {
            fleet.slots: max(site.peak_megabytes(one.pid) for one in fleet.sites)
            for fleet in fleets
        }
    smallest = times.calls[sizes[0]]
    what = f"{database}: a call for {PER_CALL}"
    for slots, calls in times.calls.items():
        for name, of in (("median", statistics.median), ("p99", _p99)):
            yield Row(
                name=f"{what}, {slots:,} slots due, {name} of {len(calls)}",
                value=of(calls),
                unit="ms",
                compared_to=None if calls is smallest else f"{sizes[0]:,} slots",
                ratio=None if calls is smallest else of(calls) / of(smallest),
            )
    for name, of in (("median", statistics.median), ("p99", _p99)):
        yield Row(
            name=f"{FLUSHED:,} bytes written and flushed meanwhile, {name}",
            value=of(times.flushes),
            unit="ms",
        )
    yield Row(
        name=f"{what}, all {sizes[1]:,} leases running out just then, p99 of {len(times.run_out)}",
        value=_p99(times.run_out),
        unit="ms",
        compared_to="a p99 without",
        ratio=_p99(times.run_out) / _p99(times.calls[sizes[1]]),
    )
    for slots, most in memory.items():
        yield Row(name=f"{database}: a controller at most, {slots:,} slots", value=most, unit="MB")


def _rate(database: str, slots: int) -> Iterator[Row]:
    with _served(database, [slots], LONG) as [fleet]:
        before = sum(site.cpu_seconds(one.pid)[0] for one in fleet.sites)
        leased, seconds = asyncio.run(_drained(fleet))
        used = sum(site.cpu_seconds(one.pid)[0] for one in fleet.sites) - before
    number = CONTROLLERS[database]
    what = f"{database}, {number} controller{'s' if number > 1 else ''}, {CALLERS} callers"
    yield Row(name=f"{what}: {leased:,} due slots drained", value=seconds, unit="s")
    yield Row(name=f"{what}: leased", value=leased / seconds, unit="executions/s")
    yield Row(
        name=f"{what}: CPU of the controllers", value=used / leased * 1e6, unit="µs an execution"
    )


async def _drained(fleet: Fleet) -> tuple[int, float]:
    async with AsyncExitStack() as stack:
        return await (await _callers(stack, fleet)).drain(fleet.slots)


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, smaller fleets and fewer calls."""
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    rows: list[Row] = []
    for database in CONTROLLERS:
        rows += _costs(database, sizes, 10 if quick else 40)
        rows += _rate(database, 20_000 if quick else 100_000)
    slots, claims = (1_000, 40) if quick else (10_000, 300)
    rows += asyncio.run(beside_a_transaction(slots, claims))
    return rows

"""PostgreSQL's primary dies under load, a streaming replica is promoted, and the count is right.

The servers are Debian's where they are installed, else those of the wheel; a controller serves real
HTTP on them, by a URL that names both.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from roundsman.archive.git import GitArchive
from roundsman.clock import SystemClock
from roundsman.config.records import Configuration
from roundsman.ledger.interface import RunQuery
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.schedules.build import build
from roundsman.testing.postgresql_server import (
    PASSWORD,
    USER,
    PostgresqlServer,
    programs_in_wheel,
)
from roundsman.wire.job import Schedule
from roundsman.wire.run import Outcome
from tests.controller import multipart
from tests.controller.serving import Served, configuration, device, job, served, slot

DEVICES = 24
WORKERS = 4
ENOUGH = 30  # completions before the primary dies, and again after it


def programs() -> Path:
    """Debian's latest server, or that of the wheel."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_basebackup"))
    return debian[-1].parent if debian else programs_in_wheel()[0]


class Pair(NamedTuple):
    """Two servers, the second of which follows the first."""

    primary: PostgresqlServer
    replica: PostgresqlServer

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self)
        return f"postgresql://{USER}@{hosts}/ledger"


@contextlib.asynccontextmanager
async def pair(*, synchronous: bool) -> AsyncIterator[Pair]:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(PostgresqlServer(programs()))
        print(f"PostgreSQL of {programs()}")
        await primary.run("CREATE DATABASE ledger")
        replica = stack.enter_context(PostgresqlServer(programs(), follows=primary))
        if synchronous:
            await primary.run("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
            await primary.run("SELECT pg_reload_conf()")
            await until(primary, "SELECT sync_state = 'sync' FROM pg_stat_replication")
        yield Pair(primary, replica)


async def until(server: PostgresqlServer, question: str) -> None:
    """Ask until the answer is yes."""
    connection = await server.connect()
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval(question):  # noqa: ASYNC110  # a server's state
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def cut_off(servers: Pair) -> None:
    """The replica has all that was written so far, and receives nothing more."""
    connection = await servers.primary.connect()
    written = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
    await connection.close()
    await until(servers.replica, f"SELECT pg_last_wal_replay_lsn() >= '{written}'")
    await servers.replica.run("ALTER SYSTEM SET primary_conninfo = ''")
    await servers.replica.run("SELECT pg_reload_conf()")
    await until(servers.replica, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")


def fleet() -> Configuration:
    """Devices that are due each second."""
    schedule = Schedule(duration="1 second")
    show = job("show", schedule=schedule)
    return configuration(
        slot(device(f"edge{number}"), show, build(schedule)) for number in range(DEVICES)
    )


@contextlib.asynccontextmanager
async def controller(servers: Pair, data: Path) -> AsyncIterator[Served]:
    ledger = PostgresqlLedger(servers.url, PASSWORD, folder=data, clock=SystemClock())
    await ledger.open()
    archive = GitArchive(data / "archive.git", ledger.clock)
    async with served(fleet(), data, ledger=ledger, archive=archive, clock=ledger.clock) as running:
        yield running


class Answer(NamedTuple):
    status: int
    retry_after: str | None
    says: Any


async def next_executions(running: Served, most: int) -> Answer:
    async with running.http.get("/worker/next", params={"max": most, "seconds": 1}) as response:
        says = await response.json() if response.status == 200 else await response.text()
        return Answer(response.status, response.headers.get("Retry-After"), says)


async def complete(running: Served, execution: dict[str, Any]) -> Answer:
    name, due = execution["device"]["name"], execution["timestamp"]
    body = multipart.completion(
        name, "show", due, content(name, due), epoch=str(execution["lease"]["epoch"])
    )
    async with running.http.post(
        "/worker/complete", data=body, headers=multipart.HEADERS
    ) as response:
        retry_after = response.headers.get("Retry-After")
        return Answer(response.status, retry_after, await response.text())


async def settled(running: Served, execution: dict[str, Any]) -> Answer:
    """The same, brought again until the ledger serves."""
    async with asyncio.timeout(60):
        while (answer := await complete(running, execution)).status == 503:  # noqa: ASYNC110  # it comes back
            await asyncio.sleep(0.02)
    return answer


def content(name: str, due: int) -> bytes:
    return f"hostname {name}\n! read for {due}\n".encode()


class Load:
    """Workers that lease and complete until they are told to stop."""

    def __init__(self, running: Served) -> None:
        self._running = running
        self.kept: list[tuple[str, int]] = []
        """What was answered 200."""
        self.refused: Counter[str] = Counter()
        self.reached = asyncio.Condition()
        self.enough = asyncio.Event()

    async def work(self) -> None:
        while not self.enough.is_set():
            answer = await next_executions(self._running, 3)
            if answer.status == 503:
                await self._refused("next", answer)
            for execution in answer.says if answer.status == 200 else ():
                await self.complete(execution)
            if answer.status == 204:
                await asyncio.sleep(0.05)

    async def complete(self, execution: dict[str, Any]) -> None:
        """Bring a result until it is taken, however long that takes."""
        while (answer := await complete(self._running, execution)).status == 503:
            await self._refused("complete", answer)
        assert answer.status == 200, answer.says
        async with self.reached:
            self.kept.append((execution["device"]["name"], execution["timestamp"]))
            self.reached.notify_all()

    async def _refused(self, what: str, answer: Answer) -> None:
        assert int(answer.retry_after or 0) > 0, answer
        self.refused[what] += 1
        await asyncio.sleep(0.02)

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(60), self.reached:
            await self.reached.wait_for(lambda: len(self.kept) >= count)


async def leases(running: Served, count: int) -> dict[str, dict[str, Any]]:
    """Leases of so many devices, by their names; asked for until so many were due."""
    leased: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(60):
        while len(leased) < count:
            answer = await next_executions(running, count - len(leased))
            if answer.status == 200:
                leased |= {execution["device"]["name"]: execution for execution in answer.says}
            await asyncio.sleep(0.02)
    return leased


async def differing(running: Served) -> list[Any]:
    """The slots whose planned times are not the sum of their outcomes."""
    query = {"differing": "true", "limit": "1000"}
    async with running.http.get("/api/v1/audit/slots", params=query) as response:
        assert response.status == 200, await response.text()
        return list((await response.json())["items"])


async def succeeded(running: Served) -> list[tuple[str, int]]:
    found, after = [], None
    while True:
        query = RunQuery(outcome=Outcome.SUCCEEDED, limit=500, after=after)
        page = await running.controller.ledger.runs(query)
        found += [(run.device, run.due) for run in page.items]
        after = page.next
        if after is None:
            return found


async def test_a_promotion_under_load_loses_and_doubles_nothing(
    tmp_path: Path, rng: random.Random
) -> None:
    async with pair(synchronous=True) as servers, controller(servers, tmp_path) as running:
        load = Load(running)
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(load.work())
            await load.reach(ENOUGH + rng.randrange(ENOUGH))
            (held,) = (await leases(running, 1)).values()
            await asyncio.to_thread(servers.primary.kill)
            for answer in (await next_executions(running, 1), await complete(running, held)):
                assert (answer.status, int(answer.retry_after or 0) > 0) == (503, True)
            await servers.replica.promote()
            await load.complete(held)
            await load.reach(len(load.kept) + ENOUGH)
            load.enough.set()
        print(f"kept {len(load.kept)}, refused meanwhile {dict(load.refused)}")
        assert len(set(load.kept)) == len(load.kept)
        assert sorted(await succeeded(running)) == sorted(load.kept)
        assert await differing(running) == []
        for name in {name for name, _ in load.kept}:
            newest = max(due for device, due in load.kept if device == name)
            stored = running.controller.archive.read(name, "show")
            assert b"".join([chunk async for chunk in stored]) == content(name, newest)


async def test_what_a_lossy_promotion_forgets_is_not_held_by_anyone(tmp_path: Path) -> None:
    """The replica had not received the last leases, nor the last run."""
    async with pair(synchronous=False) as servers, controller(servers, tmp_path) as running:
        await cut_off(servers)
        forgotten = await leases(running, DEVICES)  # on the primary alone
        kept, *_ = forgotten.values()
        assert (await settled(running, kept)).status == 200
        await asyncio.to_thread(servers.primary.kill)
        await servers.replica.promote()
        again = await leases(running, DEVICES)
        for name, old in forgotten.items():
            new = again[name]
            assert new["timestamp"] == old["timestamp"]
            assert new["lease"]["epoch"] > old["lease"]["epoch"] + 1_000_000
            late = await settled(running, old)
            assert (late.status, "lease.lost" in late.says) == (409, True)
            assert (await settled(running, new)).status == 200
        runs = Counter(await succeeded(running))
        assert all(runs[name, old["timestamp"]] == 1 for name, old in forgotten.items())
        assert await differing(running) == []

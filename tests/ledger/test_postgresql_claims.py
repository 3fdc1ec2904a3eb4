"""What a claim costs on PostgreSQL, in pages that are looked at: whatever waits beside it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from asyncpg import Record

from roundsman.ledger.fairness import Turns
from roundsman.ledger.interface import UNLIMITED, ClaimLimits, Finish, LeasedSlot, PlannedSlot
from roundsman.ledger.postgresql.claiming import Claim, claim_all, leased_by
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.ledger.postgresql.lines import Lines
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import Link
from roundsman.ledger.postgresql.sweeps import AT_ONCE, sweep
from roundsman.testing.ledger_conformance import (
    EVERYTHING,
    LEASE,
    NOW,
    claim,
    end_of,
    planned,
    run_of,
)
from roundsman.testing.postgresql_server import TEMPLATE, PostgresqlServer

ONE_EACH = ClaimLimits(sessions_per_device=1)
ROOM = 50
TABLES = ("slots", "queue", "leases", "waters")


class CountingLink:
    """A connection that has the server count the pages which each statement looks at."""

    def __init__(self, link: Link) -> None:
        """Count nothing yet."""
        self._link = link
        self.pages = 0
        self.walked: set[str] = set()
        """The tables that were walked through from one end to the other."""

    async def fetch(self, query: str, *args: object) -> list[Record]:
        """Do it twice: once for the count, which is undone."""
        await self._link.execute("SAVEPOINT counted")
        text = await self._link.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *args)
        await self._link.execute("ROLLBACK TO counted")
        [explained] = msgspec.json.decode(text)
        plan = explained["Plan"]
        self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self.walked |= walked(plan)
        return await self._link.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """As `fetch`."""
        return next(iter(await self.fetch(query, *args)), None)

    async def fetchval(self, query: str, *args: object) -> Any:
        """As `fetch`."""
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    async def execute(self, query: str, *args: object) -> str:
        """Not counted."""
        return await self._link.execute(query, *args)

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """The connection's own."""
        return self._link.transaction()


def walked(node: dict[str, Any]) -> set[str]:
    """The tables that this part of a plan walks through."""
    tables: set[str] = set().union(*map(walked, node.get("Plans", ())))
    if node["Node Type"].endswith("Scan") and "Index Cond" not in node:
        tables.add(node.get("Relation Name", ""))
    return tables


class Claims:
    """Claims one after the other, and what each of them costs."""

    def __init__(self, ledger: PostgresqlLedger) -> None:
        """Claim from this ledger."""
        self._ledger = ledger
        self._lines = Lines()
        self._turns = Turns()
        self.walked: set[str] = set()
        """The tables that the last claim walked through."""

    async def pages(self, limits: ClaimLimits = ONE_EACH) -> tuple[int, list[LeasedSlot]]:
        """How many pages one claim looks at, and what it gets."""
        asked = Claim(EVERYTHING, ROOM, NOW, NOW, LEASE, None, limits)

        async def counted(link: Link) -> tuple[int, list[LeasedSlot]]:
            counting = CountingLink(link)
            await alone(counting, Lock.CLAIMS)
            choices, starts = await claim_all(counting, self._lines, self._turns, [asked])
            self._lines.keep(starts)
            [leased] = leased_by(choices)
            self.walked = counting.walked
            return counting.pages, leased

        return await self._ledger._database.transact(counted)


def endings(leased: Sequence[LeasedSlot]) -> list[Finish]:
    return [end_of(slot, run_of(slot, f"{slot.device} {slot.epoch}")) for slot in leased]


def fleet(devices: int, jobs: int = 1) -> list[PlannedSlot]:
    return [
        planned(f"d{i:05}", f"j{job}", tags=[f"t{i % 10}"], due=NOW - 3600 + i % 3600)
        for i in range(devices)
        for job in range(jobs)
    ]


@pytest.fixture
async def undisturbed(
    postgresql_server: PostgresqlServer, postgresql_ledger: PostgresqlLedger
) -> AsyncIterator[None]:
    """Nothing dead lies there from before, and nobody makes statistics or keeps what dies."""
    for table in TABLES:
        await postgresql_server.run(
            f"ALTER TABLE {table} SET (autovacuum_enabled = false)", TEMPLATE
        )
    await postgresql_server.run("VACUUM ANALYZE", TEMPLATE)
    yield
    for table in TABLES:
        await postgresql_server.run(f"ALTER TABLE {table} RESET (autovacuum_enabled)", TEMPLATE)


@pytest.mark.usefixtures("undisturbed")
async def test_a_claim_looks_at_as_many_pages_whatever_the_fleet(
    postgresql_ledger: PostgresqlLedger,
) -> None:
    await postgresql_ledger.sync_slots(fleet(200), NOW)
    claims = Claims(postgresql_ledger)
    await claims.pages()
    small, leased = await claims.pages()
    assert len(leased) == ROOM
    await postgresql_ledger.sync_slots(fleet(8000), NOW)
    claims = Claims(postgresql_ledger)
    await claims.pages()
    large, leased = await claims.pages()
    print(f"{small} pages at 200 slots, {large} at 8,000")
    assert len(leased) == ROOM
    assert large <= 1.5 * small  # indexes are a level deeper


@pytest.mark.usefixtures("undisturbed")
async def test_plans_made_while_tables_are_empty_look_up_what_is_taken(
    postgresql_ledger: PostgresqlLedger,
) -> None:
    """Plans are kept: one that walks through a small table walks through the large one later."""
    await postgresql_ledger.sync_slots(fleet(1), NOW)
    claims = Claims(postgresql_ledger)
    _, leased = await claims.pages()
    assert len(leased) == 1
    assert not claims.walked & {"slots", "queue", "leases"}


@pytest.mark.usefixtures("undisturbed")
async def test_what_waits_for_its_device_is_looked_at_once(
    postgresql_ledger: PostgresqlLedger,
) -> None:
    """All slots of busy devices were looked at by each claim."""
    await postgresql_ledger.sync_slots(fleet(1000), NOW)
    alone, _ = await Claims(postgresql_ledger).pages()
    await postgresql_ledger.sync_slots(fleet(1000, jobs=8), NOW)
    taken = await claim(postgresql_ledger, 900, limits=ONE_EACH)
    claims = Claims(postgresql_ledger)
    await claims.pages()
    beside, leased = await claims.pages()
    print(f"{alone} pages when nothing waits, {beside} beside what waits")
    assert len({slot.device for slot in [*taken, *leased]}) == len(taken) + len(leased)
    assert leased == []
    assert beside <= alone
    await postgresql_ledger.finish(endings(taken[:ROOM]), NOW)
    _, leased = await claims.pages()
    assert {slot.device for slot in leased} == {slot.device for slot in taken[:ROOM]}


@pytest.mark.usefixtures("undisturbed")
async def test_statistics_of_another_fleet_have_no_claim_walk_through_leases(
    postgresql_server: PostgresqlServer, postgresql_ledger: PostgresqlLedger
) -> None:
    """Slots of two devices, and no lease: each slot set aside was held against all leases."""
    slots = [planned(f"d{n % 2}", f"j{n:04}", tags=["t0"], due=NOW) for n in range(1000)]
    await postgresql_ledger.sync_slots(slots, NOW)
    await postgresql_server.run("VACUUM ANALYZE", TEMPLATE)
    await postgresql_ledger.sync_slots(fleet(1000, jobs=2), NOW)
    taken = await claim(postgresql_ledger, 900, limits=ONE_EACH)
    assert len(taken) == 900
    pages, _ = await Claims(postgresql_ledger).pages()
    print(f"{pages} pages")
    assert pages < 20_000


async def counted_sweep(ledger: PostgresqlLedger, now: float) -> CountingLink:
    """What one look for leases that ran out costs."""

    async def counted(link: Link) -> CountingLink:
        counting = CountingLink(link)
        await sweep(counting, after=NOW, now=now, most=AT_ONCE)
        return counting

    return await ledger._database.transact(counted)


@pytest.mark.usefixtures("undisturbed")
async def test_a_look_for_leases_that_ran_out_costs_as_much_however_many_did(
    postgresql_ledger: PostgresqlLedger,
) -> None:
    """All of them were seen to at once, while a claim waited, and each was held against all."""
    after = NOW + LEASE + 1
    await postgresql_ledger.sync_slots(fleet(1), NOW)
    assert len(await claim(postgresql_ledger)) == 1
    counting = await counted_sweep(postgresql_ledger, after)
    assert not counting.walked & {"slots", "queue", "leases"}
    costs = []
    for number in (2 * AT_ONCE, 16 * AT_ONCE):
        await postgresql_ledger.sync_slots(fleet(number), NOW)
        assert len(await claim(postgresql_ledger, number)) > AT_ONCE
        costs.append((await counted_sweep(postgresql_ledger, after)).pages)
    print(f"{costs[0]} pages where {2 * AT_ONCE} leases ran out, {costs[1]} where {16 * AT_ONCE}")
    assert costs[1] <= 1.5 * costs[0]


async def test_all_leases_that_ran_out_at_once_are_offered_again(
    postgresql_ledger: PostgresqlLedger,
) -> None:
    number = 3 * AT_ONCE + 7
    await postgresql_ledger.sync_slots(fleet(number), NOW)
    first = await claim(postgresql_ledger, number)
    again = 0
    while again < number:  # the first has room for some, and the rest is seen to beside it
        again += len(await claim(postgresql_ledger, AT_ONCE, now=NOW + LEASE + 1))
    assert len(first) == again == number


@asynccontextmanager
async def held_open(server: PostgresqlServer, url: str) -> AsyncIterator[None]:
    """Nothing that is still seen by this transaction can be cleared away."""
    connection = await server.connect(url.rpartition("/")[2])
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queue")
    try:
        yield
    finally:
        await connection.close()


async def test_a_transaction_held_open_makes_claims_no_dearer(
    postgresql_server: PostgresqlServer, postgresql_url: str, postgresql_ledger: PostgresqlLedger
) -> None:
    """Each claim walked over what was claimed since the last look of the upkeep."""
    await postgresql_ledger.sync_slots(fleet(3000), NOW)
    claims = Claims(postgresql_ledger)
    await claims.pages(UNLIMITED)
    before, _ = await claims.pages(UNLIMITED)
    async with held_open(postgresql_server, postgresql_url):
        ended: Sequence[LeasedSlot] = []
        for _ in range(30):
            _, ended = await claims.pages(UNLIMITED)
            await postgresql_ledger.finish(endings(ended), NOW)
        after, leased = await claims.pages(UNLIMITED)
    print(f"{before} pages, {after} beside a transaction that is held open")
    assert len(leased) == len(ended) == ROOM
    assert after <= 2 * before

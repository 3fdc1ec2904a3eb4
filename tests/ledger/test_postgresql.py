"""What only PostgreSQL has to show: several controllers, servers that go away, and old ones."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGINT, SIGQUIT

import msgspec
import pytest

from roundsman.clock import SystemClock
from roundsman.config.records import LedgerSettings
from roundsman.ledger import drivers
from roundsman.ledger.drivers import DriverMissingError, migrate_configured, open_configured
from roundsman.ledger.interface import (
    FinishAnswer,
    LeasedSlot,
    LedgerUnavailableError,
    Pause,
    PauseKind,
    RunQuery,
    SlotQuery,
)
from roundsman.ledger.postgresql import database, queue
from roundsman.ledger.postgresql.clock import DatabaseClock
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.ledger.postgresql.hosts import Hosts
from roundsman.ledger.postgresql.migrations import LedgerInUseError, migrations
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.ledger.sql_files import LedgerTooNewError
from roundsman.ledger.sqlite.lock import LedgerLockedError
from roundsman.secret import Secret
from roundsman.testing.ledger_conformance import (
    LEASE,
    NOW,
    claim,
    end_of,
    key_of,
    names,
    planned,
    run_of,
    slot_of,
)
from roundsman.testing.ledger_conformance.controllers import controller
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer
from roundsman.wire.run import Outcome


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[PostgresqlLedger]:
    ledger = PostgresqlLedger(url, PASSWORD, folder=folder, clock=SystemClock())
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def empty_url(postgresql_server: PostgresqlServer) -> AsyncIterator[str]:
    """A database in which nothing is yet."""
    await postgresql_server.run("CREATE DATABASE empty")
    yield postgresql_server.url("empty")
    await postgresql_server.run("DROP DATABASE empty WITH (FORCE)")


async def test_two_controllers_share_nothing_and_know_the_same(
    postgresql_url: str, tmp_path: Path
) -> None:
    async with (
        opened(postgresql_url, tmp_path / "1") as one,
        opened(postgresql_url, tmp_path / "2") as two,
    ):
        slots = [planned(f"d{i:03}", tags=[f"t{i % 7}"]) for i in range(150)]
        await one.sync_slots(slots, NOW)
        batches = await asyncio.gather(
            *(claim(ledger, 9, worker_id="w") for _ in range(10) for ledger in (one, two))
        )
        taken = [slot for batch in batches for slot in batch]
        assert len({slot.device for slot in taken}) == len(taken) == 150
        assert await one.finish([end_of(taken[0])], NOW) == [FinishAnswer.KEPT]
        assert (await slot_of(two, taken[0].device)).due == NOW + 3600
        # What the first controller's workers hold runs out: the second sees it without being told.
        assert len(await claim(two, 200, now=NOW + LEASE)) == 149


async def test_two_that_start_at_once_migrate_once(empty_url: str, tmp_path: Path) -> None:
    settings = LedgerSettings(url=empty_url, password=PASSWORD)
    versions = await asyncio.gather(
        *(migrate_configured(settings, tmp_path, SystemClock()) for _ in range(4))
    )
    assert versions == [len(migrations())] * 4
    async with opened(empty_url, tmp_path) as ledger:
        await ledger.check()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


async def test_a_database_of_a_later_release_is_refused(
    postgresql_server: PostgresqlServer, postgresql_url: str, tmp_path: Path
) -> None:
    name = postgresql_url.rpartition("/")[2]
    await postgresql_server.run("UPDATE schema_version SET version = 9000, least = 9000", name)
    with pytest.raises(LedgerTooNewError, match="found schema 9000"):
        async with opened(postgresql_url, tmp_path):
            pass


async def test_a_migration_that_fails_changes_nothing(
    postgresql_server: PostgresqlServer,
    empty_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = [(1, "CREATE TABLE one (x int)"), (2, "CREATE TABLE two (x int); CREATE TABLE one ()")]
    monkeypatch.setattr("roundsman.ledger.postgresql.migrations.migrations", lambda: broken)
    settings = LedgerSettings(url=empty_url, password=PASSWORD)
    with pytest.raises(Exception, match="already exists"):
        await migrate_configured(settings, tmp_path, SystemClock())
    connection = await postgresql_server.connect("empty")
    assert await connection.fetch("SELECT FROM pg_tables WHERE schemaname = 'public'") == []
    await connection.close()


async def test_one_controller_has_a_data_folder(postgresql_url: str, tmp_path: Path) -> None:
    async with opened(postgresql_url, tmp_path):
        with pytest.raises(LedgerLockedError, match=f"process {os.getpid()}"):
            async with opened(postgresql_url, tmp_path):
                pass


async def test_what_keeps_it_from_opening_is_said(
    postgresql_server: PostgresqlServer, postgresql_url: str, tmp_path: Path
) -> None:
    clock = SystemClock()
    for url, password, said in [
        (postgresql_server.url("nowhere"), PASSWORD, "make the database"),
        (postgresql_url, Secret("guess"), "user and password"),
        (postgresql_url.replace("@", "@127.0.0.1:1,"), Secret("guess"), "user and password"),
        ("postgresql://roundsman@127.0.0.1:1/x", PASSWORD, "ledger.unavailable"),
    ]:
        ledger = PostgresqlLedger(url, password, folder=tmp_path, clock=clock)
        with pytest.raises(LedgerUnavailableError, match=said) as failed:
            await ledger.open()
        assert "guess" not in str(failed.value)
    async with opened(postgresql_url, tmp_path) as ledger:
        await ledger.check()


async def test_without_its_extra_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "find_spec", lambda name: None)
    settings = LedgerSettings(url="postgresql://u@h/d")
    with pytest.raises(DriverMissingError, match=r"roundsman\[postgresql\]"):
        await open_configured(settings, tmp_path, SystemClock())


async def test_a_restarted_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Claims and finishes from two controllers while the server is restarted, softly and hard."""
    with PostgresqlServer() as server:
        await server.run("CREATE DATABASE ledger")
        url = server.url("ledger")
        async with opened(url, tmp_path / "1") as one, opened(url, tmp_path / "2") as two:
            slots = [planned(f"d{i:03}", tags=[f"t{i % 5}"]) for i in range(120)]
            await one.sync_slots(slots, NOW)
            finished: dict[str, list[str]] = {}
            unavailable = 0
            restarted = asyncio.Event()
            ends = {number: asyncio.Event() for number in (20, 45, 75)}

            async def work(ledger: PostgresqlLedger, name: str) -> None:
                nonlocal unavailable
                while len(finished) < len(slots) or not restarted.is_set():
                    try:
                        # Claims whose answer was lost run out, as they do in service.
                        late = NOW + LEASE if restarted.is_set() else NOW
                        leased = await claim(ledger, 3, now=late, worker_id=name)
                    except LedgerUnavailableError:
                        unavailable += 1
                        await asyncio.sleep(0)
                        continue
                    for slot in leased:
                        ending = end_of(slot, run_of(slot, f"{name}-{slot.device}-{slot.epoch}"))
                        answers: list[FinishAnswer] = []
                        while not answers:
                            try:
                                answers = await ledger.finish([ending], late)
                            except LedgerUnavailableError:
                                unavailable += 1
                                await asyncio.sleep(0)
                        finished.setdefault(slot.device, []).extend(answers)
                        if len(finished) in ends:
                            ends[len(finished)].set()

            async def restart() -> None:
                for number, how in zip(ends, (SIGINT, SIGQUIT, SIGINT), strict=True):
                    await ends[number].wait()
                    await asyncio.to_thread(server.stop, how)
                    await asyncio.to_thread(server.start)
                restarted.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(restart())
                for number, ledger in enumerate((one, two, one, two)):
                    group.create_task(work(ledger, f"w{number}"))
            runs = (await one.runs(RunQuery(limit=10_000))).items
            kept = [run.device for run in runs if run.outcome is not Outcome.STALE]
            assert sorted(kept) == sorted(slot.device for slot in slots)
            assert unavailable > 0
            assert {answer for answers in finished.values() for answer in answers} <= {
                FinishAnswer.KEPT,
                FinishAnswer.REPEATED,
                FinishAnswer.STALE,
            }
            slots_now = (await two.slots(SlotQuery(limit=1000), NOW)).items
            assert {slot.due for slot in slots_now} == {NOW + 3600}


async def test_a_server_that_hangs_is_given_up_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "STATEMENT_SECONDS", 3.0)
    monkeypatch.setattr(database, "ACQUIRE_SECONDS", 2.0)
    with PostgresqlServer() as server:
        await server.run("CREATE DATABASE ledger")
        async with opened(server.url("ledger"), tmp_path) as ledger:
            await ledger.sync_slots([planned("d")], NOW)
            server.pause()
            with pytest.raises(LedgerUnavailableError):
                await claim(ledger)
            server.resume()
            leased = await patiently(ledger)
            assert names(leased) == ["d"]


async def patiently(ledger: PostgresqlLedger) -> list[LeasedSlot]:
    """A claim, as soon as the server is back."""
    while True:
        try:
            return await claim(ledger, now=NOW + LEASE)
        except LedgerUnavailableError:
            await asyncio.sleep(0.01)


async def test_after_a_failover_no_epoch_is_given_again(
    postgresql_server: PostgresqlServer, postgresql_url: str, tmp_path: Path
) -> None:
    """A replica that had not received the last leases goes on, under another timeline."""
    name = postgresql_url.rpartition("/")[2]
    async with opened(postgresql_url, tmp_path) as ledger:
        await ledger.sync_slots([planned("a"), planned("b")], NOW)
        a, b = await claim(ledger, worker_id="w1")
        assert (a.epoch, b.epoch) == (1, 1)
        # As if it were the replica: the lease of b never reached it.
        await postgresql_server.run(
            "UPDATE incarnation SET timeline = '00000000';"
            "INSERT INTO queue SELECT slot_id, lane_id * 4 + 2, ready, false FROM slots"
            " WHERE device = 'b';"
            "DELETE FROM leases USING slots WHERE slots.slot_id = leases.slot_id AND device = 'b'",
            name,
        )
    async with opened(postgresql_url, tmp_path) as ledger:
        (again,) = await claim(ledger, worker_id="w2")
        assert (again.device, again.epoch > 1_000_000) == ("b", True)
        assert await ledger.renew([key_of(a), key_of(b)], worker_id="w1", now=NOW, until=NOW) == [
            True,
            False,
        ]
        assert await ledger.finish([end_of(b, run_of(b, "late"))], NOW) == [FinishAnswer.STALE]
        endings = [end_of(slot, run_of(slot, slot.device)) for slot in (a, again)]
        assert await ledger.finish(endings, NOW) == [FinishAnswer.KEPT] * 2
        later = await claim(ledger, now=NOW + 3600)
        assert [slot.epoch - again.epoch for slot in later] == [0, 1]


async def test_a_host_that_does_not_answer_leaves_time_for_the_others(postgresql_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        hosts = Hosts(postgresql_url.replace("@", f"@127.0.0.1:{port},"), PASSWORD)
        for _ in range(2):
            connection = await hosts.connect()
            await connection.close()


async def test_a_standby_is_not_taken(postgresql_url: str, tmp_path: Path) -> None:
    url = f"{postgresql_url}?default_transaction_read_only=on"
    with pytest.raises(LedgerUnavailableError):
        async with opened(url, tmp_path):
            pass


async def test_claims_begin_at_the_water_and_nothing_stays_below(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Two controllers, each of which knows where it may begin, and puts something before that."""
    async with (
        opened(postgresql_url, tmp_path / "1") as one,
        opened(postgresql_url, tmp_path / "2") as two,
    ):
        await one.sync_slots([planned(f"d{i}", due=NOW - 100 + i) for i in range(12)], NOW)
        leased = await claim(one, 4)
        await two._database.transact(lambda link: queue.raise_water(link, NOW))
        assert names(await claim(two, 2)) == ["d4", "d5"]
        assert names(await claim(one, 2)) == ["d6", "d7"]
        # A lease runs out, an older due time is set, a pause ends: each is told to both.
        await two.finish([end_of(leased[0], next_due=NOW - 200)], NOW)
        assert names(await claim(one, 1)) == ["d0"]
        assert await two.pause(Pause(kind=PauseKind.DEVICE, name="d8", since=NOW, by="ann"))
        assert names(await claim(one, 1)) == ["d9"]
        assert await two.resume(PauseKind.DEVICE, "d8", [], NOW)
        assert names(await claim(one, 1)) == ["d8"]
        late = await claim(one, 4, now=NOW + LEASE)
        assert names(late) == ["d0", "d1", "d2", "d3"]


async def test_what_a_device_sent_may_hold_nul(postgresql_ledger: PostgresqlLedger) -> None:
    await postgresql_ledger.sync_slots([planned("d")], NOW)
    (leased,) = await claim(postgresql_ledger)
    failed = msgspec.structs.replace(run_of(leased), failure="expected a prompt, got \0x")
    assert await postgresql_ledger.finish([end_of(leased, failed)], NOW) == [FinishAnswer.KEPT]
    (kept,) = (await postgresql_ledger.runs(RunQuery())).items
    assert kept.failure == "expected a prompt, got \N{REPLACEMENT CHARACTER}x"


def test_the_databases_clock_does_not_follow_a_wall_clock_that_is_set() -> None:
    local = HandClock()
    clock = DatabaseClock(local)
    assert clock.now() == 1000.0
    clock.set(5000.0)
    local.wall, local.passed = 10.0, 7.0
    assert (clock.now(), clock.monotonic()) == (5007.0, 7.0)


class HandClock:
    wall, passed = 1000.0, 0.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


async def test_what_takes_long_here_is_not_ended_there(postgresql_ledger: PostgresqlLedger) -> None:
    """The comparison of a million slots, between two statements, was cut off after 8 s."""

    async def allowed(link: Link) -> str:
        return str(await link.fetchval("SHOW idle_in_transaction_session_timeout"))

    transact = postgresql_ledger._database.transact
    assert await transact(allowed, seconds=600) == "10min"
    assert await transact(allowed) == f"{database.STATEMENT_SECONDS:.0f}s"


async def test_its_clock_is_the_databases(postgresql_ledger: PostgresqlLedger) -> None:
    said = await postgresql_ledger._do(load("life")["clock"].value)
    assert abs(postgresql_ledger.clock.now() - said) < 5


async def test_a_release_goes_on_with_a_schema_that_only_adds_to_its_own(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controllers of two releases serve at once, and the older one may be started anew."""
    ahead = migrations()[-1][0] + 1
    adds = (ahead, "ALTER TABLE slots ADD COLUMN colour text NOT NULL DEFAULT 'blue'")
    takes = (ahead + 1, f"-- least: {ahead}\nALTER TABLE slots DROP COLUMN colour")
    async with opened(postgresql_url, tmp_path / "older") as older:
        await older.sync_slots([planned("d")], NOW)
        with monkeypatch.context() as later:
            known = [*migrations(), adds]
            later.setattr("roundsman.ledger.postgresql.migrations.migrations", lambda: known)
            async with opened(postgresql_url, tmp_path / "newer") as newer:
                await newer.sync_slots([planned("d"), planned("e")], NOW)
                assert names(await claim(older)) == ["d", "e"]
        async with opened(postgresql_url, tmp_path / "older again") as again:
            await again.sync_slots([planned("f")], NOW)
        now = older.clock.now()
        await older.note_controller(controller("older", started_at=now))
        with monkeypatch.context() as later:
            known = [*migrations(), adds, takes]
            later.setattr("roundsman.ledger.postgresql.migrations.migrations", lambda: known)
            with pytest.raises(LedgerInUseError, match=f"know schema {ahead}"):
                await PostgresqlLedger(
                    postgresql_url, PASSWORD, folder=tmp_path / "l", clock=SystemClock()
                ).open()
            assert names(await claim(older)) == ["f"]  # and nothing of it was done
            await older.remove_controller("older")
            async with opened(postgresql_url, tmp_path / "newest"):
                pass
    with pytest.raises(LedgerTooNewError, match=f"needs {ahead} or later"):
        await PostgresqlLedger(
            postgresql_url, PASSWORD, folder=tmp_path / "older", clock=SystemClock()
        ).open()

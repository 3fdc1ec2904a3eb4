"""What only a database has to show: that it keeps, groups, refuses, and serves on after trouble."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from random import Random

import msgspec
import pytest

from roundsman.ledger.drivers import LEDGER_FILE, open_ledger
from roundsman.ledger.fairness import Turns
from roundsman.ledger.interface import (
    UNLIMITED,
    ClaimLimits,
    FinishAnswer,
    LedgerUnavailableError,
    Pause,
    PauseKind,
    RunQuery,
    SlotQuery,
    TagFilter,
)
from roundsman.ledger.sql_files import LedgerTooNewError
from roundsman.ledger.sqlite import claims, database, holds, sync
from roundsman.ledger.sqlite.database import connect
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.lock import LOCK_FILE, LedgerLockedError
from roundsman.ledger.sqlite.migrations import migrate, migrations
from roundsman.testing.ledger_conformance import (
    EVERYTHING,
    LEASE,
    NOW,
    claim,
    end_of,
    lease_of,
    names,
    planned,
    process,
    repeat_of,
    run_of,
    slot_of,
    worker,
)
from roundsman.testing.ledger_conformance.controllers import controller
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome
from roundsman.wire.breaker import Breaker
from roundsman.wire.run import FailureClass

WRITES = Path(__file__).with_name("ledger_writer.py")


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / LEDGER_FILE)
    await ledger.open()
    yield ledger
    await ledger.close()


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Fault 13: the controller restarts, and workers are forgotten; fault 2: so are due times."""
    first = await open_ledger(tmp_path)
    await first.sync_slots([planned("a", tags=["x"], due=NOW - 9), planned("b"), planned("c")], NOW)
    a, b = await claim(first, 2, worker_id="w1")
    await first.finish([end_of(b)], NOW)
    await first.run_now("b", "backup", NOW)
    await first.pause(Pause(kind=PauseKind.DEVICE, name="c", since=NOW, by="alice"))
    await first.add_worker(worker(), "digest")
    await first.add_process(process())
    slots = await first.slots(SlotQuery(), NOW)
    runs = await first.runs(RunQuery())
    await first.close()

    second = await open_ledger(tmp_path)
    assert await second.slots(SlotQuery(), NOW) == slots
    assert await second.runs(RunQuery()) == runs
    assert await lease_of(second, "a", "backup") == a
    assert await second.worker_tokens() == {"digest": "w1"}
    assert await second.workers() == [worker()]
    assert await second.process("p1") == process()
    assert [pause.name for pause in await second.pauses()] == ["c"]
    assert names(await claim(second)) == ["b"]
    assert await second.finish([end_of(a, run_of(a, "run-2"))], NOW) == [FinishAnswer.KEPT]
    await second.close()


async def test_what_was_answered_survives_a_kill(tmp_path: Path, rng: Random) -> None:
    """Fault 4: what was answered as kept was in memory, and lost with the process."""
    kill_after = rng.randrange(1, 400)
    child = await asyncio.create_subprocess_exec(
        sys.executable, WRITES, tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    acknowledged = [await child.stdout.readline() for _ in range(kill_after)]
    child.kill()
    acknowledged += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()

    ledger = await open_ledger(tmp_path)
    epochs = {
        (slot.device, slot.job): slot.epoch
        for slot in (await ledger.slots(SlotQuery(limit=10_000), NOW)).items
    }
    told = 0
    for line in acknowledged:
        if not line.endswith(b"\n"):
            continue  # cut off by the kill
        match line.decode().split():
            case ["claimed", device, job, epoch]:
                assert epochs[device, job] >= int(epoch), line
            case ["finished", run_id]:
                assert await ledger.run(run_id) is not None, line
            case ["asked", process_id]:
                assert await ledger.process(process_id) is not None, line
            case other:
                pytest.fail(f"unexpected line {other}")
        told += 1
    assert told >= kill_after
    await ledger.close()
    with sqlite3.connect(tmp_path / LEDGER_FILE) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


async def test_a_second_controller_does_not_start_on_the_same_data(tmp_path: Path) -> None:
    first = await open_ledger(tmp_path)
    with pytest.raises(LedgerLockedError, match=f"process {os.getpid()} holds {LOCK_FILE}") as said:
        await open_ledger(tmp_path)
    assert said.value.remedy is not None
    other = subprocess.run(
        [sys.executable, WRITES, tmp_path], capture_output=True, text=True, check=False
    )
    assert other.returncode != 0
    assert f"ledger.locked: {tmp_path}" in other.stderr
    await first.check()
    await first.close()
    second = await open_ledger(tmp_path)
    await second.close()


async def test_calls_that_wait_together_share_a_commit(ledger: SqliteLedger) -> None:
    await ledger.sync_slots([planned(f"d{i:03}") for i in range(300)], NOW)
    leased = await claim(ledger, 300)
    before = ledger.commits
    answers = await asyncio.gather(
        *(
            ledger.finish([end_of(slot, run_of(slot, f"r{number}"))], NOW)
            for number, slot in enumerate(leased)
        )
    )
    assert answers == [[FinishAnswer.KEPT]] * 300
    assert ledger.commits - before <= 10


async def test_a_call_that_fails_takes_no_other_along(ledger: SqliteLedger) -> None:
    await ledger.add_worker(worker("w0"), "digest-0")
    before = ledger.commits
    outcomes = await asyncio.gather(
        *(ledger.add_worker(worker(f"w{i % 7}"), f"digest-{i}") for i in range(1, 20)),
        return_exceptions=True,
    )
    assert ledger.commits - before < 19
    assert [outcome for outcome in outcomes[:6] if outcome is not None] == []
    assert all(isinstance(outcome, sqlite3.IntegrityError) for outcome in outcomes[6:])
    assert sorted((await ledger.worker_tokens()).values()) == [f"w{i}" for i in range(7)]


async def test_a_rolled_back_call_leaves_nothing_half_done(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the writer remembers of lanes is undone with the rows."""
    await ledger.sync_slots([planned(f"d{i}", tags=[f"t{i}"]) for i in range(9)], NOW)
    real = claims._leased
    monkeypatch.setattr(claims, "_leased", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await claim(ledger)
    monkeypatch.setattr(claims, "_leased", real)
    taken = await claim(ledger)
    assert len(taken) == 9
    assert {slot.epoch for slot in taken} == {1}


async def test_a_cancelled_call_is_not_done(ledger: SqliteLedger) -> None:
    await ledger.sync_slots([planned("d")], NOW)
    task = asyncio.create_task(claim(ledger))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Done before it was cancelled or not at all; either way the ledger serves on.
    await ledger.check()
    assert (await slot_of(ledger, "d")).epoch in (0, 1)


async def test_closing_finishes_what_was_called(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / LEDGER_FILE)
    await ledger.open()
    calls = [asyncio.create_task(ledger.add_process(process(f"p{i}"))) for i in range(50)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*calls)
    await ledger.open()
    for i in range(50):
        assert await ledger.process(f"p{i}") is not None
    await ledger.close()


async def test_nothing_is_written_when_nothing_changed(ledger: SqliteLedger) -> None:
    slots = [planned(f"d{i}", tags=[f"t{i % 3}"]) for i in range(20)]
    await ledger.sync_slots(slots, NOW)
    before = ledger.commits
    await ledger.sync_slots(slots, NOW + 1)
    assert ledger.commits == before


async def test_the_first_claim_finds_the_queues_read(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads is as large as the fleet, and was gone through by Python's collector."""
    await ledger.sync_slots([planned("d1")], NOW)
    monkeypatch.setattr(Lanes, "_read", None)
    assert names(await claim(ledger)) == ["d1"]


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """In a process of its own, where no file may grow beyond a limit for a while."""
    told = subprocess.run(
        [sys.executable, WRITES, tmp_path, "--full-disk"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    outcome, kept, after = told.stdout.splitlines()
    assert outcome.startswith("ledger.unavailable: the ledger's database does not serve: ")
    assert kept == "0 half done"
    assert after == "serves on"


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"not a database, whatever its name" * 100)
    with pytest.raises(LedgerUnavailableError, match="not a database") as said:
        await open_ledger(tmp_path)
    assert "backup" in (said.value.remedy or "")
    # The lock was let go.
    (tmp_path / LEDGER_FILE).unlink()
    ledger = await open_ledger(tmp_path)
    await ledger.close()


async def claim_from(data: Path) -> None:
    ledger = await open_ledger(data)
    try:
        await claim(ledger)
    finally:
        await ledger.close()


async def test_a_damaged_database_is_said(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path)
    await ledger.sync_slots([planned(f"d{i:04}") for i in range(2000)], NOW)
    await ledger.close()
    with (tmp_path / LEDGER_FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 100_000)
    with pytest.raises(LedgerUnavailableError, match=r"malformed|not a database"):
        await claim_from(tmp_path)


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailableError, match="data folder"):
        await open_ledger(tmp_path / "file" / "data")


async def test_a_database_of_a_later_release_is_refused(tmp_path: Path) -> None:
    ledger = await open_ledger(tmp_path)
    await ledger.close()
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute("PRAGMA user_version = 9000")
    connection.close()
    with pytest.raises(LedgerTooNewError, match="found schema 9000"):
        await open_ledger(tmp_path)


def test_migrations_are_numbered_without_a_gap_and_done_once(tmp_path: Path) -> None:
    numbers = [number for number, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    connection = connect(tmp_path / LEDGER_FILE, cache_megabytes=1)
    migrate(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (numbers[-1],)
    migrate(connection)
    connection.close()


async def test_a_ledger_of_the_first_schema_goes_on(tmp_path: Path) -> None:
    connection = connect(tmp_path / LEDGER_FILE, cache_megabytes=1)
    number, text = migrations()[0]
    connection.executescript(f"{text}; PRAGMA user_version = {number};")
    connection.executescript("""
        INSERT INTO lanes VALUES (1, '[]');
        INSERT INTO slots (device, job, lane_id, plan, due, epoch, paused) VALUES
            ('a', 'backup', 1, 'hourly', 1699999995, 3, 0),
            ('b', 'backup', 1, 'hourly', 1700000005, 0, 0),
            ('c', 'backup', 1, 'once', NULL, 1, 0);
        INSERT INTO leases VALUES (1700000120, 1, 4, 'w1', 1700000000);
        INSERT INTO runs (run_id, device, job, due, outcome, recorded_at, count, digest, evidence,
            on_demand)
        VALUES ('r', 'c', 'backup', 1699999991, 'succeeded', 1700000000, 1, 'x', 0, 0);
    """)
    connection.close()

    ledger = await open_ledger(tmp_path)
    slots = (await ledger.slots(SlotQuery(), NOW)).items
    assert [(slot.device, slot.state.value, slot.ready) for slot in slots] == [
        ("a", "leased", NOW - 5),
        ("b", "waiting", NOW + 5),
        ("c", "ended", None),
    ]
    (leased,) = await claim(ledger, ahead=15)
    assert (leased.device, leased.due, leased.attempts) == ("b", NOW + 5, 0)
    held = await lease_of(ledger, "a", "backup")
    assert held is not None
    assert await ledger.finish([end_of(held)], NOW) == [FinishAnswer.KEPT]
    repeated = await repeat_of(ledger, "c", "backup", NOW - 9, "x")
    assert repeated is not None
    assert (repeated.run_id, repeated.attempt) == ("r", 1)
    await ledger.close()


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "roundsman.ledger.sqlite.migrations.migrations",
        lambda: [(1, "CREATE TABLE one (x);"), (2, "CREATE TABLE two (x); CREATE TABLE one (x);")],
    )
    connection = connect(tmp_path / LEDGER_FILE, cache_megabytes=1)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("one",)]
    connection.close()


async def test_another_programs_lock_is_said_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.0)
    ledger = await open_ledger(tmp_path)
    other = sqlite3.connect(tmp_path / LEDGER_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError, match="locked"):
        await ledger.check()
    assert await ledger.pauses() == []
    other.execute("ROLLBACK")
    other.close()
    await ledger.check()
    await ledger.close()


def steps_of_a_claim(
    folder: Path, slots: int, lanes: int = 10, held: int = 0, jobs: int = 1
) -> int:
    """How many instructions of SQLite's machine one claim takes when every slot is due.

    Of `held` devices that come first, each has one, and is held back. Where devices have several
    jobs, one of them may run at once.
    """
    connection = connect(folder / f"{slots}-{lanes}-{jobs}.sqlite3", cache_megabytes=32)
    migrate(connection)
    wanted = [
        planned(f"d{i // jobs:06}", f"j{i % jobs}", tags=[f"t{i // jobs % lanes:05}"], due=NOW - i)
        for i in range(slots)
    ]
    known, turns, steps = Lanes(), Turns(), 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.execute("BEGIN")
    differences = sync.compare(connection, wanted)
    sync.apply(connection, known, differences, now=NOW, new_id=lambda: "")
    known.matching(connection, EVERYTHING)
    for number in range(held):
        breaker = breaker_of(f"d{slots - 1 - number:06}")
        connection.execute(holds.SQL["keep_breaker"], msgspec.structs.asdict(breaker))
        holds.hold(connection, known, breaker.device, NOW)
    for number in range(3):
        connection.set_progress_handler(step if number == 2 else None, 1)
        taken = claims.claim(
            connection,
            known,
            turns,
            EVERYTHING,
            limit=15,
            horizon=NOW,
            now=NOW,
            lease_seconds=LEASE,
            worker_id=None,
            limits=ClaimLimits(sessions_per_device=1),
        )
        assert len(taken) == 15
    connection.close()
    return steps


def breaker_of(device: str) -> Breaker:
    return Breaker(
        device=device,
        failures=5,
        failure_class=FailureClass.UNREACHABLE,
        failure="no answer",
        failed_at=NOW,
        opened_at=NOW,
        probe_at=NOW + 300,
    )


def test_a_claim_costs_the_same_however_many_devices_are_held(tmp_path: Path) -> None:
    none = steps_of_a_claim(tmp_path, 2000, lanes=10)
    many = steps_of_a_claim(tmp_path, 4000, lanes=10, held=2000)
    assert many <= 1.1 * none


def test_a_claim_costs_the_same_however_many_jobs_wait_for_their_device(tmp_path: Path) -> None:
    """Each slot of a busy device that a claim met was read, one after the other."""
    alone = steps_of_a_claim(tmp_path, 2000)
    assert steps_of_a_claim(tmp_path, 2000, jobs=20) <= 1.1 * alone


def test_a_claim_costs_the_same_whatever_the_fleet(tmp_path: Path) -> None:
    """Fault 9: each claim scanned all pairs."""
    small, large = steps_of_a_claim(tmp_path, 200), steps_of_a_claim(tmp_path, 20_000)
    assert large <= 1.1 * small


PAGE = 4096
FRAME = PAGE + 24  # of the write-ahead log: a page and its header


def pages_per_claim(
    folder: Path, slots: int, filters: Sequence[TagFilter], limit: int, lanes: int = 48
) -> float:
    """How many pages a claim writes on average, when every slot is due and most get leased."""
    path = folder / f"{slots}-{limit}.sqlite3"
    connection = connect(path, cache_megabytes=32)
    migrate(connection)
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # so that the log only grows
    connection.execute("PRAGMA synchronous = OFF")  # pages are counted, not kept
    wanted = [
        planned(f"d{i:06}", tags=[f"t{i % lanes:05}"], due=NOW - i % 3600) for i in range(slots)
    ]
    known, turns, now = Lanes(), Turns(), float(NOW)
    connection.execute("BEGIN")
    differences = sync.compare(connection, wanted)
    sync.apply(connection, known, differences, now=now, new_id=lambda: "")
    connection.execute("COMMIT")
    log = path.with_name(f"{path.name}-wal")
    before, claimed = log.stat().st_size, 0
    for tags in islice(cycle(filters), 20_000 // limit):
        connection.execute("BEGIN IMMEDIATE")
        taken = claims.claim(
            connection,
            known,
            turns,
            tags,
            limit=limit,
            horizon=now,
            now=now,
            lease_seconds=LEASE,
            worker_id="0f8fad5b-d9cb-469f-a165-70867728950e",
            limits=UNLIMITED,
        )
        connection.execute("COMMIT")
        claimed += bool(taken)
        now += 0.01 if taken else LEASE  # all are leased: go on when those leases have run out
    pages = (log.stat().st_size - before) / FRAME
    connection.close()
    return pages / claimed


@pytest.mark.parametrize("limit", [15, 100])
def test_a_claim_writes_as_many_pages_whatever_the_fleet(tmp_path: Path, limit: int) -> None:
    """A claim of 100 wrote 15 pages at 1,000 slots and 113 at 50,000, each slot on its own."""
    small = pages_per_claim(tmp_path, 1000, [EVERYTHING], limit)
    large = pages_per_claim(tmp_path, 50_000, [EVERYTHING], limit)
    print(f"claims of {limit}: {small:.1f} pages at 1,000 slots, {large:.1f} at 50,000")
    assert large <= 1.5 * small


def test_a_claim_by_one_tag_of_many_writes_as_many_pages(tmp_path: Path) -> None:
    one_each = [TagFilter(any_of=frozenset({f"t{i:05}"})) for i in range(48)]
    small = pages_per_claim(tmp_path, 1000, one_each, 15)
    large = pages_per_claim(tmp_path, 50_000, one_each, 15)
    print(f"{small:.1f} pages at 1,000 slots, {large:.1f} at 50,000")
    assert large <= 1.5 * small


def test_a_claim_costs_the_same_however_many_lanes(tmp_path: Path) -> None:
    few = steps_of_a_claim(tmp_path, 2000, lanes=40)
    assert steps_of_a_claim(tmp_path, 2000, lanes=1000) <= 1.5 * few


async def test_nobody_changes_a_line_of_the_audit(tmp_path: Path) -> None:
    """Not by way of the driver, which has no method for it, nor past it."""
    ledger = await open_ledger(tmp_path)
    await ledger.add_audit(
        [AuditEntry(at=NOW, action=AuditAction.RELOAD, outcome=AuditOutcome.DONE)]
    )
    await ledger.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection:
        for statement in ("UPDATE audit SET at = 0", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="lines of the audit are never"):
                connection.execute(statement)


async def test_whoever_opens_it_is_the_only_controller(tmp_path: Path) -> None:
    """Also when a crash of the machine took the name of the data folder's last one with it."""
    path = tmp_path / "ledger.sqlite3"
    before = SqliteLedger(path)
    await before.open()
    await before.note_controller(controller("c1"))
    await before.lead("c1", term=None, now=NOW, until=NOW + 6)
    await before.close()
    ledger = SqliteLedger(path)
    await ledger.open()
    assert await ledger.controllers() == []
    assert (await ledger.lead("c2", term=None, now=NOW, until=NOW + 6)).controller_id == "c2"
    await ledger.close()

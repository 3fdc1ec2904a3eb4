"""A ledger of each earlier schema, with work under way, is brought to this one and goes on.

What stands in it was written as that schema had it. Afterwards every planned time is accounted for,
leases that were out are held, and history is whole.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roundsman.clock import SystemClock
from roundsman.controller.accounts import balance_of
from roundsman.controller.planner import after_pause, after_run
from roundsman.ledger.interface import (
    AccountQuery,
    FinishAnswer,
    LeasedSlot,
    Ledger,
    PauseKind,
    PlannedSlot,
    Resumption,
    RunQuery,
)
from roundsman.ledger.postgresql import migrations as postgresql_migrations
from roundsman.ledger.postgresql.database import prepare
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.ledger.sqlite.migrations import migrations as sqlite_migrations
from roundsman.schedules.plans import plan_of, times_of
from roundsman.testing.ledger_conformance import claim, end_of, key_of, lease_of, run_of
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer
from roundsman.wire.job import Job, Schedule
from roundsman.wire.run import Outcome

HOURLY = Schedule(duration="1 hour")
PLAN = plan_of(HOURLY)
FINGERPRINT = hashlib.sha256(PLAN[len('{"schedule":') : -1].encode()).hexdigest()[:16]
"""What stood in place of plans before they could be read again."""
FIRST_PLANS = 7
DEVICES = ("asked", "failed", "held", "leased", "paused", "waiting")

# What every schema has: `due` is an hour that has passed, `next` the one to come.
SLOTS = """
INSERT INTO lanes (lane_id, tags) {system} VALUES (1, '{tags}');
INSERT INTO slots (slot_id, device, job, lane_id, plan, due, epoch, paused, on_demand, resume_due{more}) {system} VALUES
    (1, 'leased', 'show', 1, '{plan}', {due}, 2, {no}, {no}, NULL{of_leased}),
    (2, 'waiting', 'show', 1, '{plan}', {next}, 7, {no}, {no}, NULL{of_waiting}),
    (3, 'paused', 'show', 1, '{plan}', {due}, 1, {yes}, {no}, NULL{of_paused}),
    (4, 'asked', 'show', 1, '{plan}', {now} - 5, 1, {no}, {yes}, {next}{of_asked}),
    (5, 'failed', 'show', 1, '{plan}', {due}, 4, {no}, {no}, NULL{of_failed}),
    (6, 'held', 'show', 1, '{plan}', {due}, 5, {no}, {no}, NULL{of_held});
INSERT INTO leases (expires_at, slot_id, epoch, worker_id, claimed_at) VALUES ({now} + 300, 1, 3, 'w', {now} - 9);
INSERT INTO retired (device, job, epoch) VALUES ('gone', 'show', 41);
INSERT INTO pauses (kind, name, since, "by") VALUES ('device', 'paused', {due} - 9, 'ada');
INSERT INTO workers VALUES ('w', 'digest', 'ams-1', '{tags}', '{tags}', '1.0', {due}, {now}, NULL);
INSERT INTO runs (run_id, device, job, due, outcome, recorded_at, count, epoch, digest, evidence, on_demand{attempt})
    VALUES ('kept', 'leased', 'show', {due} - 3600, 'succeeded', {due} - 3590, 1, 2, 'd', {no}, {no}{first});
"""  # noqa: E501 - SQL, a row a line
SINCE = {
    2: """
        UPDATE slots SET ready = due;
        UPDATE slots SET attempts = 1, ready = {now} + 30 WHERE device = 'failed';
        INSERT INTO runs (run_id, device, job, due, outcome, recorded_at, count, epoch, digest,
            evidence, on_demand, retry_at) VALUES ('attempt', 'failed', 'show', {due}, 'retried',
            {now} - 30, 1, 4, 'e', 1, 0, {now} + 30);
    """,
    4: """
        INSERT INTO breakers VALUES
            ('held', 5, 'unreachable', 'no answer', {now}, {now}, {now} + 40, 0);
        UPDATE slots SET ready = {now} + 40, was_held = 1 WHERE device = 'held';
    """,
    5: """UPDATE slots SET result = '{{"extent":{{"lines":2,"size":9}}}}' WHERE slot_id = 1""",
    6: """INSERT INTO audit (at, area, action, entry) VALUES ({now}, 'access', 'denied', '{{}}')""",
    7: """
        UPDATE slots SET planned_since = {due} - (device NOT IN ('asked', 'waiting'));
        INSERT INTO ended_plans (device, job, tags, plan, since, until)
            VALUES ('gone', 'show', '[]', '{plan}', {due} - 1, {due} + 1);
        INSERT INTO runs (run_id, device, job, due, outcome, recorded_at, count, evidence,
            on_demand, cause)
            VALUES ('missed', 'gone', 'show', {due}, 'missed', {due}, 1, 0, 0, 'removed');
    """,
    9: """UPDATE slots SET priority = 1 WHERE device = 'waiting'""",
}


def hours(now: float) -> dict[str, int]:
    """The instants in question."""
    due = int(now) // 3600 * 3600
    return {"now": int(now), "due": due, "next": due + 3600}


def sqlite_of(schema: int, path: Path, now: float) -> None:
    """A database as the release of that schema left it."""
    says = hours(now) | {"plan": PLAN if schema >= FIRST_PLANS else FINGERPRINT}
    none = dict.fromkeys((f"of_{device}" for device in DEVICES), "")
    words = {
        "system": "",
        "tags": '["x"]',
        "no": 0,
        "yes": 1,
        "more": "",
        "attempt": "",
        "first": "",
    }
    with closing(sqlite3.connect(path)) as connection:
        for number, text in sqlite_migrations()[:schema]:
            connection.executescript(f"{text};PRAGMA user_version = {number}")
        connection.executescript(SLOTS.format(**says, **words, **none))
        for number, text in SINCE.items():
            if number <= schema:
                connection.executescript(text.format(**says))


async def postgresql_of(
    schema: int, url: str, server: PostgresqlServer, now: float, patch: pytest.MonkeyPatch
) -> None:
    known = postgresql_migrations.migrations()
    with patch.context() as earlier:
        earlier.setattr(postgresql_migrations, "migrations", lambda: known[:schema])
        assert await prepare(url, PASSWORD, SystemClock()) == schema
    says = hours(now)
    slots = {
        "leased": (says["due"], 0, says["due"] - 1),
        "waiting": (says["next"], 0, says["due"]),
        "paused": (says["due"], 0, says["due"] - 1),
        "asked": (says["now"] - 5, 0, says["due"]),
        "failed": (says["now"] + 30, 1, says["due"] - 1),
        "held": (says["now"] + 40, 0, says["due"] - 1),
    }
    words: dict[str, Any] = {
        f"of_{device}": (
            f", {ready}, {attempts}, {since}, 2, {device == 'held'}, {device == 'held'}"
        )
        for device, (ready, attempts, since) in slots.items()
    }
    words |= {
        "system": "OVERRIDING SYSTEM VALUE",
        "tags": "{x}",
        "no": "false",
        "yes": "true",
        "plan": PLAN,
        "more": ", ready, attempts, planned_since, priority, watched, was_held",
        "attempt": ", attempt",
        "first": ", 1",
    }
    beside = """
        SELECT setval(pg_get_serial_sequence('slots', 'slot_id'), 100),
            setval(pg_get_serial_sequence('lanes', 'lane_id'), 100);
        INSERT INTO queue SELECT slot_id, lane_id * 4 + CASE WHEN on_demand THEN 0 ELSE 2 END,
            ready, ready > due FROM slots WHERE device IN ('waiting', 'asked', 'failed', 'held');
        INSERT INTO waters (line) VALUES (4), (6);
        UPDATE leases SET check_at = expires_at;
        INSERT INTO breakers VALUES
            ('held', 5, 'unreachable', 'no answer', {now}, {now}, {now} + 40, 0);
    """
    await server.run(SLOTS.format(**says, **words) + beside.format(**says), url.rpartition("/")[2])


@pytest.mark.parametrize("schema", range(1, len(sqlite_migrations()) + 1))
async def test_sqlite_of_each_schema_goes_on(schema: int, tmp_path: Path) -> None:
    now = SystemClock().now()
    path = tmp_path / "ledger.sqlite3"
    sqlite_of(schema, path, now)
    await goes_on(lambda: SqliteLedger(path), now, is_tried=schema >= 2, is_held=schema >= 4)


@pytest.mark.parametrize("schema", range(1, len(postgresql_migrations.migrations()) + 1))
async def test_postgresql_of_each_schema_goes_on(
    schema: int,
    postgresql_server: PostgresqlServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SystemClock().now()
    name = f"of_schema_{schema}"
    await postgresql_server.run(f"CREATE DATABASE {name}")
    url = postgresql_server.url(name)
    try:
        await postgresql_of(schema, url, postgresql_server, now, monkeypatch)
        await goes_on(
            lambda: PostgresqlLedger(url, PASSWORD, folder=tmp_path, clock=SystemClock()),
            now,
            is_tried=True,
            is_held=True,
        )
    finally:
        await postgresql_server.run(f"DROP DATABASE {name} WITH (FORCE)")


async def goes_on(make: Callable[[], Ledger], now: float, *, is_tried: bool, is_held: bool) -> None:
    ledger = make()
    await ledger.open()
    try:
        await with_the_same_configuration(ledger, now, is_tried=is_tried, is_held=is_held)
    finally:
        await ledger.close()
    ledger = make()  # and its second start finds nothing to do
    await ledger.open()
    await ledger.close()


async def with_the_same_configuration(
    ledger: Ledger, now: float, *, is_tried: bool, is_held: bool
) -> None:
    due, following = hours(now)["due"], hours(now)["next"]
    planned = [
        PlannedSlot(device=device, job="show", tags=("x",), plan=PLAN, first_due=following)
        for device in (*DEVICES, "gone")
    ]
    summary = await ledger.sync_slots(planned, now)
    assert (summary.added, summary.removed) == (1, 0)
    await all_accounted_for(ledger, now)

    leased = await lease_of(ledger, "leased", "show")
    assert leased is not None
    assert (leased.epoch, leased.due, leased.worker_id) == (3, due, "w")
    assert await ledger.renew([key_of(leased)], worker_id="w", now=now, until=now + 400) == [True]
    given = {slot.device: slot for slot in await claim(ledger, now=now + 60)}
    ready = {"asked", "failed", "held"}
    assert set(given) - {"waiting"} == ready  # an hour may begin meanwhile
    assert (given["failed"].attempts, given["asked"].on_demand) == (int(is_tried), True)
    assert given["held"].was_held is is_held
    for slot in (leased, *given.values()):
        assert await served(ledger, slot, now + 60) is FinishAnswer.KEPT
    await all_accounted_for(ledger, now)

    freed = await ledger.to_resume(PauseKind.DEVICE, "paused")
    assert freed is not None
    [held] = freed
    after = after_pause(held, times_of(held.plan), now)
    resumption = Resumption(
        device=held.device,
        job=held.job,
        epoch=held.epoch,
        plan=held.plan,
        next_due=after.due,
        spans=after.spans,
    )
    assert await ledger.resume(PauseKind.DEVICE, "paused", [resumption], now)
    await all_accounted_for(ledger, now)
    later = await claim(ledger, now=following + 3600)
    epochs = {slot.device: slot.epoch for slot in later}
    assert epochs["leased"] == 4
    assert epochs["gone"] == 42
    kept = (await ledger.runs(RunQuery(outcome=Outcome.SUCCEEDED, device="leased"))).items
    assert [run.due for run in kept] == [due, due - 3600]
    assert [worker.name for worker in await ledger.workers()] == ["ams-1"]


async def served(ledger: Ledger, slot: LeasedSlot, now: float) -> FinishAnswer:
    """It is run well."""
    after = after_run(slot, times_of(slot.plan), Job(name="show", schedule=HOURLY), now)
    run = run_of(slot, f"of-{slot.device}", at=int(now))
    run = msgspec.structs.replace(run, on_demand=slot.on_demand)
    ending = end_of(slot, run, next_due=after.due, spans=after.spans)
    [answer] = await ledger.finish([ending], now)
    return answer


async def all_accounted_for(ledger: Ledger, now: float) -> None:
    query = AccountQuery(since=hours(now)["due"], until=int(now) + 7200, limit=100)
    accounts = (await ledger.accounts(query, now)).items
    assert {account.device for account in accounts} >= set(DEVICES)
    for account in accounts:
        balance = balance_of(account, query, now)
        assert balance.difference == 0, (account, balance)

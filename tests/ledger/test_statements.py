"""The SQL itself: every statement is explained, compiles, and reads by an index."""

import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from roundsman.ledger.interface import AuditQuery, BatchQuery, ProcessQuery, RunQuery, SlotQuery
from roundsman.ledger.sqlite import audit, batches, lists
from roundsman.ledger.sqlite.database import connect
from roundsman.ledger.sqlite.migrations import migrate
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.batch import BatchState
from roundsman.wire.process import ProcessState
from roundsman.wire.run import Outcome, SlotState

FOLDER = files("roundsman.ledger.sqlite").joinpath("sql")
TOPICS = sorted(
    entry.name.removesuffix(".sql") for entry in FOLDER.iterdir() if entry.name.endswith(".sql")
)
STATEMENTS = [(topic, name) for topic in TOPICS for name in load(topic)]
UNFILTERED = {
    "list_slots": {"source": lists._slot_source(SlotQuery())},
    "list_runs": {"index": "runs_by_time"},
    "list_processes": {"index": "processes_by_time"},
    "list_batches": {"index": "batches_by_time"},
    "list_newest_first": {"index": "audit_by_time"},
    "list_oldest_first": {"index": "audit_by_time"},
    "accounted_slots": {"slot_filters": "TRUE", "plan_filters": "TRUE"},
}
# They are about every row there is.
WHOLE_TABLES = {"lanes", "remove_empty_lanes", "kept_slots", "tokens", "workers", "pauses"}
WHOLE_TABLES |= {"free_slots", "open_leases", "buckets", "kept_since", "keep_since"}
# They read an index for so many entries, or the one row of a table.
WHOLE_TABLES |= {"newest_recorded", "sum_oldest", "remove_ended_plans"}
WHOLE_TABLES |= {"open_breakers", "held_devices", "forget_breakers_without_slots"}
WHOLE_TABLES |= {"probe", "read_probe", "list_slots", "list_runs", "list_processes"}
WHOLE_TABLES |= {"list_batches", "list_newest_first", "list_oldest_first"}
WHOLE_TABLES |= {"controllers", "let_go", "go_on", "take_over", "leadership", "call_to_reload"}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(tmp_path / "ledger.sqlite3", cache_megabytes=1)
    migrate(connection)
    yield connection
    connection.close()


@pytest.mark.parametrize(("topic", "name"), STATEMENTS)
def test_each_is_explained_and_reads_by_an_index(
    connection: sqlite3.Connection, topic: str, name: str
) -> None:
    text = load(topic)[name]
    assert text.startswith("-- "), "a comment says what it is for"
    sql = text.format(**{"filters": "TRUE", **UNFILTERED[name]}) if name in UNFILTERED else text
    plan = plan_of(connection, sql, dict.fromkeys(re.findall(r":(\w+)", sql)))
    if name not in WHOLE_TABLES:
        assert [step for step in plan if step.startswith("SCAN") and "json_each" not in step] == []


def plan_of(connection: sqlite3.Connection, sql: str, values: dict[str, None]) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (SlotQuery(), "slots_by_device ((device,job)>(?,?))"),
        (SlotQuery(device="d", tag="x"), "slots_by_device (device=?)"),
        (SlotQuery(job="j", state=SlotState.DUE), "slots_by_job (job=?"),
        (SlotQuery(state=SlotState.PAUSED), "slots_paused ((device,job)>(?,?))"),
        (SlotQuery(state=SlotState.HELD), "slots_held ((device,job)>(?,?))"),
        (SlotQuery(state=SlotState.ENDED), "slots_ended ((device,job)>(?,?))"),
        (RunQuery(), "runs_by_time (recorded_at<?)"),
        (RunQuery(since=1, until=2), "runs_by_time (recorded_at>? AND recorded_at<?)"),
        (RunQuery(device="d", job="j"), "runs_by_device (device=? AND recorded_at<?)"),
        (RunQuery(job="j"), "runs_by_job (job=? AND recorded_at<?)"),
        (RunQuery(outcome=Outcome.FAILED), "runs_by_outcome (outcome=? AND recorded_at<?)"),
        (RunQuery(worker_id="w"), "runs_by_worker (worker_id=? AND recorded_at<?)"),
        (ProcessQuery(), "processes_by_time (requested_at<?)"),
        (ProcessQuery(worker_id="w"), "processes_by_worker (worker_id=? AND requested_at<?)"),
        (
            ProcessQuery(state=ProcessState.RUNNING),
            "processes_by_state (state=? AND requested_at<?)",
        ),
        (ProcessQuery(batch_id="b", state=ProcessState.RUNNING), "processes_by_batch (batch_id=?"),
        (BatchQuery(), "batches_by_time (requested_at<?)"),
        (BatchQuery(state=BatchState.RUNNING), "batches_by_state (state=? AND requested_at<?)"),
        (AuditQuery(), "audit_by_time (at<?)"),
        (AuditQuery(since=1, oldest_first=True), "audit_by_time (at>?)"),
        (AuditQuery(worker_id="w"), "audit_by_worker (worker_id=? AND at<?)"),
        (AuditQuery(process_id="p", worker_id="w"), "audit_by_process (process_id=? AND at<?)"),
    ],
)
def test_a_page_is_read_in_the_order_of_an_index(
    connection: sqlite3.Connection,
    query: SlotQuery | RunQuery | ProcessQuery | AuditQuery | BatchQuery,
    index: str,
) -> None:
    """So that a page costs a page, however long the list."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    match query:
        case SlotQuery():
            lists.slots(connection, query, 0.0)
        case RunQuery():
            lists.runs(connection, query)
        case ProcessQuery():
            lists.processes(connection, query)
        case AuditQuery():
            audit.page(connection, query)
        case BatchQuery():
            batches.page(connection, query)
    connection.set_trace_callback(None)
    plan = plan_of(connection, asked[0].replace("(Inf,", "(9e999,"), {})
    assert index in plan[0]
    assert not any("TEMP B-TREE" in step for step in plan)


@pytest.mark.parametrize("query", [SlotQuery(state=SlotState.LEASED), SlotQuery(worker_id="w")])
def test_leased_slots_are_found_by_their_leases(
    connection: sqlite3.Connection, query: SlotQuery
) -> None:
    """So that a page costs what is out, however large the fleet."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    lists.slots(connection, query, 0.0)
    connection.set_trace_callback(None)
    plan = plan_of(connection, asked[0], {})
    assert plan[0] == "SEARCH leases USING PRIMARY KEY (expires_at>?)"
    assert plan[1] == "SEARCH slots USING INTEGER PRIMARY KEY (rowid=?)"

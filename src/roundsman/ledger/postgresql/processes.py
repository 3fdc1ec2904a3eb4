"""Processes, whose states go one way only: waiting, requested, running, and one that is final."""

from collections.abc import Sequence
from typing import Any

import msgspec
from asyncpg import Record

from roundsman.ledger.interface import ProcessChange
from roundsman.ledger.postgresql import audit
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.audit import AuditEntry
from roundsman.wire.process import OPEN_STATES, Process, ProcessState, StopProof

SQL = load("processes")
CROSSING = load("crossing")


async def add(link: Link, process: Process, lines: Sequence[AuditEntry]) -> None:
    """Keep a process that was asked for, and the lines of the audit that say so."""
    await add_many(link, [process])
    await audit.add(link, lines)


async def add_many(link: Link, members: Sequence[Process]) -> None:
    """Keep processes."""
    await SQL["add_processes"].rows(link, processes=msgspec.json.encode(members).decode())


async def change(
    link: Link, told: ProcessChange, *, controller_id: str | None
) -> ProcessState | None:
    """Write what its worker told; how it stands then, none when that worker has no such process.

    Nor under a term that is not its connection's any more. Whoever else carries its batch is told.
    """
    fields = msgspec.structs.asdict(told)
    if told.term is not None and await CROSSING["holds_term"].value(link, **fields) is None:
        return None
    row = await SQL["process_state"].row(link, **fields)
    if row is None:
        return None
    before = ProcessState(row["state"])
    after = _after(before, told.state)
    if told.state is ProcessState.RUNNING:
        await SQL["start_process"].rows(link, **fields)
    elif after is not before:
        await SQL["end_process"].rows(link, **fields)
    if after is not before and row["carrier"] not in (None, controller_id):
        text = f"process {told.process_id}"
        await CROSSING["ring"].rows(link, controller_id=row["carrier"], text=text)
    return after


async def change_many(
    link: Link,
    told: Sequence[ProcessChange],
    lines: Sequence[AuditEntry],
    *,
    controller_id: str | None,
) -> list[ProcessState | None]:
    """Write what a worker told of several, and the lines of the audit that go with it.

    Each process' in their order; the processes in that of their ids, in which all lock their rows.
    """
    states: dict[int, ProcessState | None] = {}
    for at in sorted(range(len(told)), key=lambda at: told[at].process_id):
        states[at] = await change(link, told[at], controller_id=controller_id)
    await audit.add(link, lines)
    return [states[at] for at in range(len(told))]


def _after(before: ProcessState, told: ProcessState) -> ProcessState:
    if told is ProcessState.RUNNING and before is ProcessState.REQUESTED:
        return told
    may_skip = told is not ProcessState.SKIPPED or before is ProcessState.WAITING
    if told not in OPEN_STATES and before in OPEN_STATES and may_skip:
        return told
    return before


async def begin(
    link: Link,
    process_id: str,
    not_after: float,
    lines: Sequence[AuditEntry],
    *,
    carrier: str | None,
) -> bool:
    """Its turn has come; false when it does not wait any more, or another one gives the turns."""
    fields = {"process_id": process_id, "not_after": not_after, "carrier": carrier}
    if await SQL["begin_process"].row(link, **fields) is None:
        return False
    await audit.add(link, lines)
    return True


async def skip(link: Link, batch_id: str, error: str) -> None:
    """The turns of those that wait will not come."""
    await SQL["skip_processes"].rows(link, batch_id=batch_id, error=error)


async def keep_stop(link: Link, process_id: str, worker_id: str, proof: StopProof) -> None:
    """Write what a stop has proven."""
    text = msgspec.json.encode(proof).decode()
    await SQL["keep_stop"].rows(link, process_id=process_id, worker_id=worker_id, stop=text)


async def touch(link: Link, worker_id: str, now: float) -> None:
    """Its worker has said how each stands."""
    await SQL["touch_processes"].rows(link, worker_id=worker_id, now=now)


async def by_id(link: Link, process_id: str) -> Process | None:
    """One process."""
    row = await SQL["process"].row(link, process_id=process_id)
    return None if row is None else from_row(row)


def from_row(row: Record) -> Process:
    """A row with all columns as a record."""
    columns: dict[str, Any] = dict(row)
    columns["arguments"] = msgspec.json.decode(columns["arguments"])
    if columns["stop"] is not None:
        columns["stop"] = msgspec.json.decode(columns["stop"])
    return msgspec.convert(columns, Process)

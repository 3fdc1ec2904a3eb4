"""Rows of history, written and read."""

from collections.abc import Sequence
from typing import Any

import msgspec
from asyncpg import Record

from roundsman.ledger.interface import ResultKey, RunEnd
from roundsman.ledger.postgresql.statements import Link, load
from roundsman.wire.run import Outcome, Run

SQL = load("runs")


async def add(link: Link, written: Sequence[Run]) -> None:
    """Write runs."""
    if written:
        await SQL["add_runs"].rows(link, runs=as_json(written))


async def add_stale(link: Link, run: Run) -> None:
    """Write a run as stale, unless it is known."""
    await add(link, [msgspec.structs.replace(run, outcome=Outcome.STALE)])


async def repeats(link: Link, asked: Sequence[ResultKey]) -> list[list[Run]]:
    """For each result the kept runs of its slot and due time with its digest, first kept first."""
    rows = await SQL["find_repeats"].rows(
        link,
        devices=[key.device for key in asked],
        jobs=[key.job for key in asked],
        dues=[key.due for key in asked],
        digests=[key.digest for key in asked],
    )
    found: list[list[Run]] = [[] for _ in asked]
    for row in rows:
        found[row["place"] - 1].append(from_row(row))
    return found


async def by_id(link: Link, run_id: str) -> Run | None:
    """One run."""
    row = await SQL["run"].row(link, run_id=run_id)
    return None if row is None else from_row(row)


async def ends_of(link: Link, run_ids: Sequence[str]) -> list[RunEnd | None]:
    """How each of these runs ended; none where there is no such run."""
    rows = await SQL["ends_of"].rows(link, run_ids=[*run_ids])
    ends = {row[0]: RunEnd(Outcome(row[1]), row[2]) for row in rows}
    return [ends.get(run_id) for run_id in run_ids]


def as_json(runs: Sequence[Run]) -> str:
    """Records as rows of the table, which have their names."""
    return msgspec.json.encode([_without_nul(run) for run in runs]).decode()


def _without_nul(run: Run) -> Run:
    """PostgreSQL keeps any text but NUL; what a device sent may have one."""
    if run.failure is None or "\0" not in run.failure:
        return run
    return msgspec.structs.replace(
        run, failure=run.failure.replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def from_row(row: Record) -> Run:
    """A row with all columns as a record."""
    columns: dict[str, Any] = dict(row)
    columns["detected_secrets"] = msgspec.json.decode(columns["detected_secrets"] or "[]")
    return msgspec.convert(columns, Run)

"""Rows of history, written and read."""

from collections.abc import Iterator, Sequence

import msgspec

from roundsman.ledger.interface import Page, RunEnd, RunQuery, Span
from roundsman.ledger.memory.pages import newest_first
from roundsman.ledger.memory.tables import Tables
from roundsman.ledger.spans import span_run
from roundsman.wire.run import Outcome, Run


class Runs(Tables):
    """Runs are written, and listed."""

    async def record_stale(self, run: Run) -> None:
        self._must_be_open()
        self._add_stale(run)

    async def runs(self, query: RunQuery) -> Page[Run]:
        self._must_be_open()
        wanted = [
            ((run.recorded_at, number), run)
            for number, run in enumerate(self._runs)
            if _wanted_run(query, run)
        ]
        return newest_first(wanted, query.after, query.limit)

    async def run(self, run_id: str) -> Run | None:
        self._must_be_open()
        return next((run for run in self._runs if run.run_id == run_id), None)

    async def ends_of(self, run_ids: Sequence[str]) -> list[RunEnd | None]:
        self._must_be_open()
        ends = {run.run_id: RunEnd(run.outcome, run.version) for run in self._runs}
        return [ends.get(run_id) for run_id in run_ids]

    def _write_spans(
        self, device: str, job: str, spans: Sequence[Span], run: Run | None, now: float
    ) -> None:
        into = None if run is None else run.run_id
        self._runs += [
            span_run(self._new_id(), device, job, span, into=into, now=now) for span in spans
        ]

    def _kept(self, device: str, job: str, due: int, digest: str | None) -> Iterator[Run]:
        return (
            run
            for run in self._runs
            if digest is not None
            and run.outcome is not Outcome.STALE
            and (run.device, run.job, run.due, run.digest) == (device, job, due, digest)
        )

    def _add_stale(self, run: Run) -> None:
        if all(known.run_id != run.run_id for known in self._runs):
            self._runs.append(msgspec.structs.replace(run, outcome=Outcome.STALE))


def _wanted_run(query: RunQuery, run: Run) -> bool:
    return (
        query.device in (None, run.device)
        and query.job in (None, run.job)
        and query.outcome in (None, run.outcome)
        and query.worker_id in (None, run.worker_id)
        and (query.since is None or run.recorded_at >= query.since)
        and (query.until is None or run.recorded_at < query.until)
    )

"""How a lease ends, and whether it stood until then."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import Finish, FinishAnswer, ResultKey, Standing
from roundsman.ledger.memory.holds import Holds
from roundsman.ledger.memory.rows import leased_slot
from roundsman.ledger.memory.runs import Runs
from roundsman.schedules.plans import times_of


class Finishes(Holds, Runs):
    """Leases end."""

    async def standings(self, results: Sequence[ResultKey]) -> list[Standing]:
        self._must_be_open()
        return [self._standing(result) for result in results]

    def _standing(self, result: ResultKey) -> Standing:
        row = self._slots.get((result.device, result.job))
        kept = reversed(list(self._kept(result.device, result.job, result.due, result.digest)))
        breaker = self._breakers.get(result.device)
        held = breaker is not None and breaker.open
        lease = None if row is None or row.lease_expires_at is None else leased_slot(row)
        return Standing(
            repeated=next((run for run in kept if result.epoch in (None, run.epoch)), None),
            lease=lease
            and msgspec.structs.replace(lease, device_held=held, result=row and row.result),
        )

    async def finish(self, finishes: Sequence[Finish], now: float) -> list[FinishAnswer]:
        self._must_be_open()
        return [self._finish(finish, now) for finish in finishes]

    def _finish(self, finish: Finish, now: float) -> FinishAnswer:
        row = self._lease_for(finish.key)
        run = finish.run
        if row is not None:
            if run is not None:
                self._runs.append(run)
            spans, next_due = finish.spans, finish.next_due
            if finish.plan != row.plan:  # replaced meanwhile, when its times were accounted for
                spans, next_due = (), times_of(row.plan).next_after(row.planned_since)
            self._write_spans(finish.key.device, finish.key.job, spans, run, now)
            row.end_lease()
            if finish.answered:
                self._close(row.device, now)
            elif finish.breaker is not None:
                self._breakers[row.device] = finish.breaker
            if finish.retry_at is None:
                row.set_due(next_due)
            else:
                row.try_again(finish.retry_at, tried=run is not None)
            row.result = finish.result or row.result
            self._hold({row.device}, now)
            return FinishAnswer.KEPT
        if run is not None:
            kept = self._kept(run.device, run.job, run.due, run.digest)
            if any(same.epoch == finish.key.epoch for same in kept):
                return FinishAnswer.REPEATED
            self._add_stale(run)
        return FinishAnswer.STALE

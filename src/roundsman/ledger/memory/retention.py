"""Runs that are kept no longer: added to the sums of their days, and taken away."""

import math

from roundsman.ledger.memory.controllers import Controllers
from roundsman.wire.accounts import DaySum


class Retention(Controllers):
    """Runs go; sums stay."""

    async def recorded_beyond(self, most: int) -> float | None:
        self._must_be_open()
        times = sorted(run.recorded_at for run in self._runs)
        return math.nextafter(times[-most - 1], math.inf) if len(times) > most else None

    async def prune(self, *, before: float, limit: int, term: int | None = None) -> int:
        self._must_be_term(term)
        self._must_be_open()
        ordered = sorted(self._runs, key=lambda run: run.recorded_at)
        gone = [run for run in ordered if run.recorded_at < before][:limit]
        for run in gone:
            day = run.due // 86_400 * 86_400
            self._daily[day, run.job, run.outcome, run.cause, run.on_demand] += run.count
            last = run.due if run.last_due is None else run.last_due
            self._accounted_since = max(self._accounted_since, last + 1)
        taken = {run.run_id for run in gone}
        self._runs = [run for run in self._runs if run.run_id not in taken]
        self._ended_plans = {
            pair: [each for each in plans if (each.epoch.until or 0) >= self._accounted_since]
            for pair, plans in self._ended_plans.items()
        }
        self._presences = {
            key: each for key, each in self._presences.items() if each.until >= before
        }
        return len(gone)

    async def accounted_since(self) -> int:
        self._must_be_open()
        return self._accounted_since

    async def daily(self, since: int, until: int, job: str | None) -> list[DaySum]:
        self._must_be_open()
        found = [
            DaySum(day=day, job=name, outcome=outcome, cause=cause, on_demand=asked, count=count)
            for (day, name, outcome, cause, asked), count in self._daily.items()
            if since <= day < until and job in (None, name)
        ]
        return sorted(found, key=lambda s: (s.day, s.job, s.outcome, s.cause or "", s.on_demand))

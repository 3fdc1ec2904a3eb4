"""What was planned and what became of it, and when somebody was there."""

from collections import Counter
from collections.abc import Sequence

from roundsman.ledger import cursors
from roundsman.ledger.interface import (
    AccountQuery,
    Page,
    PlanEpoch,
    Presence,
    SlotAccount,
    Span,
    Tally,
)
from roundsman.ledger.memory.pages import by_slot
from roundsman.ledger.memory.rows import KeptPlan, Pair
from roundsman.ledger.memory.tables import Tables
from roundsman.ledger.spans import as_span, in_order
from roundsman.wire.run import Cause, Outcome


class Accounts(Tables):
    """Plans and runs are counted; presences are noted."""

    async def accounts(self, query: AccountQuery, now: float) -> Page[SlotAccount]:
        self._must_be_open()
        after = cursors.slot_place(query.after) if query.after else ("", "")
        known = {*self._slots, *self._ended_plans}
        found = [
            account
            for pair in sorted(known)
            if pair > after
            and query.device in (None, pair[0])
            and query.job in (None, pair[1])
            and (account := self._account(pair, query, now)) is not None
        ]
        return by_slot(found, query.limit)

    def _account(self, pair: Pair, query: AccountQuery, now: float) -> SlotAccount | None:
        row = self._slots.get(pair)
        plans = [
            plan
            for plan in self._ended_plans.get(pair, ())
            if plan.epoch.since < query.until and (plan.epoch.until or 0) >= query.since
        ]
        plans.sort(key=lambda plan: plan.epoch.since)
        if row is not None and row.planned_since < query.until:
            epoch = PlanEpoch(plan=row.plan, since=row.planned_since, until=None)
            plans.append(KeptPlan(row.tags, epoch))
        if not any(query.tag is None or query.tag in plan.tags for plan in plans):
            return None
        tallies, cut = self._tallied(pair, query)
        return SlotAccount(
            device=pair[0],
            job=pair[1],
            tags=row.tags if row is not None else plans[-1].tags,
            plans=tuple(plan.epoch for plan in plans),
            tallies=tallies,
            cut=cut,
            open_due=None if row is None else row.scheduled_due,
            state=None if row is None else self._state(row, now),
            attempts=0 if row is None or row.on_demand else row.attempts,
        )

    def _tallied(
        self, pair: Pair, query: AccountQuery
    ) -> tuple[tuple[Tally, ...], tuple[Span, ...]]:
        counts: Counter[tuple[Outcome, Cause | None, bool]] = Counter()
        cut = []
        for run in self._runs:
            last = run.due if run.last_due is None else run.last_due
            if (run.device, run.job) != pair or run.due >= query.until or last < query.since:
                continue
            if query.since <= run.due and last < query.until:
                counts[run.outcome, run.cause, run.on_demand] += run.count
            else:
                cut.append(as_span(run))
        return (
            in_order(
                Tally(outcome=outcome, cause=cause, on_demand=on_demand, count=count)
                for (outcome, cause, on_demand), count in counts.items()
            ),
            tuple(sorted(cut, key=lambda span: span.first_due)),
        )

    async def note_presences(self, presences: Sequence[Presence]) -> None:
        self._must_be_open()
        for presence in presences:
            self._presences[presence.session, presence.asked, presence.since] = presence

    async def presences(self, since: float, until: float) -> list[Presence]:
        self._must_be_open()
        found = (p for p in self._presences.values() if p.since <= until and p.until >= since)
        return sorted(found, key=lambda presence: presence.since)

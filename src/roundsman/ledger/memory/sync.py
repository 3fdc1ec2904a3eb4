"""Makes the slots those of the configuration."""

from collections.abc import Sequence

from roundsman.ledger.fairness import due_order
from roundsman.ledger.interface import PlanEpoch, PlannedSlot, SyncSummary
from roundsman.ledger.memory.controllers import Controllers
from roundsman.ledger.memory.holds import Holds
from roundsman.ledger.memory.rows import KeptPlan, Pair, Row
from roundsman.ledger.memory.runs import Runs
from roundsman.ledger.plans import begins, end_of_plan, first_of
from roundsman.ledger.spans import asked_in_vain
from roundsman.schedules.plans import is_same


class Sync(Controllers, Holds, Runs):
    """Slots come, change and go."""

    async def sync_slots(
        self, planned: Sequence[PlannedSlot], now: float, *, term: int | None = None
    ) -> SyncSummary:
        self._must_be_open()
        self._must_be_term(term)
        wanted = {(slot.device, slot.job): slot for slot in planned}
        removed = [pair for pair in self._slots if pair not in wanted]
        for pair in removed:
            self._remove(pair, now)
        added = [plan for pair, plan in wanted.items() if pair not in self._slots]
        changed: list[str] = []
        for pair, row in self._slots.items():
            plan = wanted[pair]
            if (row.plan, row.tags, row.priority) != (plan.plan, plan.tags, plan.priority):
                self._change(row, plan, now)
                changed.append(row.device)
        for plan in sorted(added, key=due_order):
            self._add(plan, now)
        devices = {device for device, _ in wanted}
        self._breakers = {name: b for name, b in self._breakers.items() if name in devices}
        touched = {device for device, _ in removed} | set(changed)
        self._hold(touched | {plan.device for plan in added}, now)
        return SyncSummary(
            added=len(added),
            changed=len(changed),
            removed=len(removed),
            kept=len(wanted) - len(added) - len(changed),
        )

    def _add(self, plan: PlannedSlot, now: float) -> None:
        pair = (plan.device, plan.job)
        ended = max(
            (each.epoch.until or 0 for each in self._ended_plans.get(pair, ())), default=None
        )
        since = begins(plan, now, ended)
        first = first_of(plan, since, now)
        self._slots[pair] = Row(
            number=self._next_number,
            device=plan.device,
            job=plan.job,
            tags=plan.tags,
            plan=plan.plan,
            planned_since=since,
            due=first,
            ready=first,
            epoch=self._retired.pop(pair, 0),
            priority=plan.priority,
        )
        self._next_number += 1

    def _change(self, row: Row, plan: PlannedSlot, now: float) -> None:
        if not is_same(row.plan, plan.plan):
            row.planned_since = self._end_plan(row, now, removed=False)
            first = first_of(plan, row.planned_since, now)
            if row.on_demand:
                row.resume_due = first
            elif row.lease_expires_at is None and row.due != first:
                row.set_due(first)
        row.plan, row.tags, row.priority = plan.plan, plan.tags, plan.priority

    def _remove(self, pair: Pair, now: float) -> None:
        row = self._slots.pop(pair)
        if row.epoch:
            self._retired[pair] = row.epoch
        if row.on_demand and ((row.due or 0) <= now or row.lease_expires_at is not None):
            self._runs.append(
                asked_in_vain(
                    self._new_id(),
                    row.device,
                    row.job,
                    due=row.due or 0,
                    attempts=row.attempts,
                    now=now,
                )
            )
        self._end_plan(row, now, removed=True)

    def _end_plan(self, row: Row, now: float, *, removed: bool) -> float:
        until, missed = end_of_plan(row.planned, now, removed=removed)
        self._write_spans(row.device, row.job, missed, None, now)
        if until > row.planned_since:
            epoch = PlanEpoch(plan=row.plan, since=row.planned_since, until=until)
            ended = self._ended_plans.setdefault((row.device, row.job), [])
            ended.append(KeptPlan(row.tags, epoch))
        return until

"""What is kept of a slot."""

import math
from dataclasses import dataclass

from roundsman.ledger.fairness import Rank, Tags
from roundsman.ledger.interface import KeptResult, LeasedSlot, LostLease, PlanEpoch, Priority
from roundsman.ledger.plans import Standing as Planned

Pair = tuple[str, str]


@dataclass(slots=True)
class Row:
    """A slot as it is kept. `worker_id` and `claimed_at` mean something under a lease only."""

    number: int
    device: str
    job: str
    tags: Tags
    plan: str
    planned_since: float
    due: int | None
    ready: int | None
    epoch: int
    priority: Priority = Priority.NORMAL
    attempts: int = 0
    was_held: bool = False
    result: KeptResult | None = None
    lease_expires_at: float | None = None
    """None: no lease is open. One that expired stays open until claim or finish."""
    worker_id: str | None = None
    claimed_at: float = 0.0
    lost: LostLease | None = None
    on_demand: bool = False
    resume_due: int | None = None

    def end_lease(self) -> None:
        self.lease_expires_at, self.worker_id, self.lost = None, None, None

    def set_due(self, due: int | None) -> None:
        self.due, self.on_demand, self.resume_due = due, False, None
        self.ready, self.attempts, self.was_held = due, 0, False

    def try_again(self, at: int, *, tried: bool) -> None:
        self.ready, self.attempts = at, self.attempts + tried

    def offered_at(self, now: float, horizon: float) -> bool:
        if self.due is None or self.ready is None:
            return False
        return self.ready <= (now if self.ready > self.due else horizon)

    def leased_at(self, now: float) -> bool:
        return self.lease_expires_at is not None and self.lease_expires_at > now

    @property
    def rank(self) -> Rank:
        return self.ready or 0, self.number

    @property
    def lane(self) -> tuple[Tags, Priority]:
        return self.tags, Priority.ON_DEMAND if self.on_demand else self.priority

    @property
    def scheduled_due(self) -> int | None:
        return self.resume_due if self.on_demand else self.due

    @property
    def planned(self) -> Planned:
        return Planned(
            self.plan,
            self.planned_since,
            self.scheduled_due,
            self.lease_expires_at is not None and not self.on_demand,
            0 if self.on_demand else self.attempts,
        )


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A plan that a slot had, and the tags that it had with it."""

    tags: Tags
    epoch: PlanEpoch


def leased_slot(row: Row) -> LeasedSlot:
    """A slot under a lease, as who holds that is told."""
    due = row.due or 0
    return LeasedSlot(
        device=row.device,
        job=row.job,
        tags=row.tags,
        due=due,
        epoch=row.epoch,
        expires_at=row.lease_expires_at or 0.0,
        covered_until=max(due, math.floor(row.claimed_at)),
        on_demand=row.on_demand,
        resume_due=row.resume_due,
        worker_id=row.worker_id,
        claimed_at=row.claimed_at,
        ready=row.ready or 0,
        attempts=row.attempts,
        was_held=row.was_held,
        plan=row.plan,
        planned_since=row.planned_since,
        lost=row.lost,
    )

"""What the laws are told in: slots, runs and ends of leases, in short."""

from collections.abc import Sequence

from roundsman.ledger.interface import (
    UNLIMITED,
    ClaimLimits,
    Finish,
    KeptResult,
    LeasedSlot,
    Ledger,
    PlannedSlot,
    Priority,
    ResultKey,
    RunQuery,
    SlotQuery,
    Span,
    TagFilter,
)
from roundsman.schedules.plans import plan_of
from roundsman.wire.execution import LeaseKey
from roundsman.wire.job import Schedule
from roundsman.wire.process import Process, ProcessState
from roundsman.wire.run import Outcome, Run, Slot
from roundsman.wire.worker import Worker

NOW = 1_700_000_000
LEASE = 120
HOURLY = plan_of(Schedule(iso_8601="R/2023-11-01T22:13:20Z/PT1H"))
"""Due at `NOW`, and each hour before and after it."""
OTHER = plan_of(Schedule(iso_8601="R/2023-11-01T22:13:20Z/PT7M"))
"""Due each seven minutes, not at `NOW`."""
EVERYTHING = TagFilter()
EVERY_RUN = RunQuery(limit=1000)


def planned(
    device: str,
    job: str = "backup",
    *,
    tags: Sequence[str] = (),
    plan: str = HOURLY,
    due: int | None = NOW,
    priority: Priority = Priority.NORMAL,
) -> PlannedSlot:
    """A slot of the configuration, due now."""
    return PlannedSlot(
        device=device, job=job, tags=tuple(tags), plan=plan, first_due=due, priority=priority
    )


async def claim(
    ledger: Ledger,
    limit: int = 100,
    *,
    tags: TagFilter = EVERYTHING,
    now: float = NOW,
    ahead: float = 0,
    worker_id: str | None = None,
    limits: ClaimLimits = UNLIMITED,
) -> list[LeasedSlot]:
    """Claim what is due up to `ahead` seconds from now."""
    return await ledger.claim(
        tags,
        limit=limit,
        horizon=now + ahead,
        now=now,
        lease_seconds=LEASE,
        worker_id=worker_id,
        limits=limits,
    )


def key_of(leased: LeasedSlot) -> LeaseKey:
    """What names its lease."""
    return LeaseKey(device=leased.device, job=leased.job, epoch=leased.epoch)


def run_of(
    leased: LeasedSlot,
    run_id: str = "run-1",
    *,
    digest: str | None = "digest-1",
    outcome: Outcome = Outcome.SUCCEEDED,
    at: float = NOW,
) -> Run:
    """The run that ends a lease."""
    return Run(
        run_id=run_id,
        device=leased.device,
        job=leased.job,
        due=leased.due,
        outcome=outcome,
        recorded_at=at,
        epoch=leased.epoch,
        worker_id=leased.worker_id,
        digest=digest,
    )


def end_of(
    leased: LeasedSlot,
    run: Run | None = None,
    *,
    next_due: int | None = NOW + 3600,
    spans: tuple[Span, ...] = (),
) -> Finish:
    """The end of a lease, with its usual run."""
    return Finish(
        run=run or run_of(leased),
        key=key_of(leased),
        next_due=next_due,
        plan=leased.plan,
        spans=spans,
    )


def retry_of(leased: LeasedSlot, at: int, run: Run, *, result: KeptResult | None = None) -> Finish:
    """The end of an attempt that another follows."""
    return Finish(
        run=run,
        key=key_of(leased),
        next_due=None,
        plan=leased.plan,
        retry_at=at,
        result=result,
    )


async def slot_of(ledger: Ledger, device: str, job: str = "backup", now: float = NOW) -> Slot:
    """One slot, as the list has it."""
    page = await ledger.slots(SlotQuery(device=device, job=job), now)
    (slot,) = page.items
    return slot


async def lease_of(ledger: Ledger, device: str, job: str) -> LeasedSlot | None:
    """The open lease of a slot."""
    key = ResultKey(device=device, job=job, due=0, digest="")
    [standing] = await ledger.standings([key])
    return standing.lease


async def repeat_of(ledger: Ledger, device: str, job: str, due: int, digest: str) -> Run | None:
    """The kept run that such a result would repeat."""
    key = ResultKey(device=device, job=job, due=due, digest=digest)
    [standing] = await ledger.standings([key])
    return standing.repeated


async def history(ledger: Ledger, query: RunQuery = EVERY_RUN) -> list[Run]:
    """Every run, newest first."""
    return list((await ledger.runs(query)).items)


def names(leased: Sequence[LeasedSlot]) -> list[str]:
    """The devices, in order."""
    return [slot.device for slot in leased]


def process(process_id: str = "p1", *, worker_id: str = "w1", at: float = NOW) -> Process:
    """A process that was asked for."""
    return Process(
        process_id=process_id,
        worker_id=worker_id,
        command="sh",
        path="count.sh",
        state=ProcessState.REQUESTED,
        requested_at=at,
        requested_by="alice",
    )


def worker(worker_id: str = "w1", name: str = "ams-1") -> Worker:
    """A worker that has just enrolled."""
    return Worker(
        worker_id=worker_id,
        name=name,
        tags=("dmz",),
        version="1.0",
        enrolled_at=NOW,
        seen_at=NOW,
        address="192.0.2.1",
        allowed_tags=("dmz", "lab"),
    )

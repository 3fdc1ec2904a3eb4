"""The runs that a ledger writes by itself: due times that no worker ran."""

from collections.abc import Callable, Iterable
from typing import Final

from roundsman.ledger.interface import LostLease, Span, Tally
from roundsman.wire.run import Cause, Outcome, Run

NewId = Callable[[], str]
"""Makes the ids of these runs."""

REMOVED: Final = "the job was taken off the device, or the device away, before it was done"
REPLANNED: Final = "its schedule was changed before it was run"


def given_up(reason: str, attempts: int) -> str:
    """Why a due time was missed, where attempts at it had failed before.

    >>> given_up("paused", 0), given_up("paused", 2)
    ('paused', 'paused; failed attempts before: 2')
    """
    return f"{reason}; failed attempts before: {attempts}" if attempts else reason


def span_run(
    run_id: str, device: str, job: str, span: Span, *, into: str | None, now: float
) -> Run:
    """A span as a row of history; `into` names the run that stands for coalesced ones."""
    return Run(
        run_id=run_id,
        device=device,
        job=job,
        due=span.first_due,
        last_due=span.last_due,
        count=span.count,
        outcome=span.outcome,
        cause=span.cause,
        recorded_at=now,
        into=into if span.outcome is Outcome.COALESCED else None,
        failure=span.reason,
    )


def as_span(run: Run) -> Span:
    """A row of history as the due times that it stands for."""
    return Span(
        outcome=run.outcome,
        first_due=run.due,
        last_due=run.due if run.last_due is None else run.last_due,
        count=run.count,
        reason=run.failure,
        cause=run.cause,
    )


def in_order(tallies: Iterable[Tally]) -> tuple[Tally, ...]:
    """Tallies in an order of their own, the same from every driver."""
    return tuple(sorted(tallies, key=lambda each: (each.outcome, each.cause or "", each.on_demand)))


def lost_with(
    before: LostLease | None, claimed_at: float, expires_at: float | None, worker_id: str | None
) -> LostLease | None:
    """The leases that ran out, with the one that a claim takes the place of, if there is one."""
    if expires_at is None:
        return None
    return LostLease(
        since=before.since if before else claimed_at,
        until=expires_at,
        worker_id=worker_id,
        count=before.count + 1 if before else 1,
    )


def asked_in_vain(
    run_id: str, device: str, job: str, *, due: int, attempts: int, now: float
) -> Run:
    """What a person asked for on a slot that was taken away before it was run."""
    return Run(
        run_id=run_id,
        device=device,
        job=job,
        due=due,
        outcome=Outcome.MISSED,
        recorded_at=now,
        cause=Cause.REMOVED,
        failure=given_up(REMOVED, attempts),
        on_demand=True,
    )

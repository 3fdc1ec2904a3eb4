"""The runs that a ledger writes by itself: due times that no worker ran."""

from collections.abc import Callable
from typing import Final

from roundsman.ledger.interface import Span
from roundsman.wire.run import Outcome, Run

NewId = Callable[[], str]
"""Makes the ids of these runs."""

REMOVED: Final = "the job was taken off the device, or the device away, before it was done"
REPLANNED: Final = "its schedule was changed before a worker asked for it"


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
        recorded_at=now,
        into=into if span.outcome is Outcome.COALESCED else None,
        failure=span.reason,
    )


def missed_run(
    run_id: str, device: str, job: str, *, due: int, reason: str, now: float, on_demand: bool
) -> Run:
    """One due time that passed, or was given up, without a run."""
    return Run(
        run_id=run_id,
        device=device,
        job=job,
        due=due,
        outcome=Outcome.MISSED,
        recorded_at=now,
        failure=reason,
        on_demand=on_demand,
    )

"""What becomes of planned times when a plan is passed over, replaced or taken away."""

from typing import NamedTuple

from roundsman.ledger.interface import PlannedSlot, Span
from roundsman.ledger.spans import REMOVED, REPLANNED, given_up
from roundsman.schedules.bounds import LAST
from roundsman.schedules.interface import Schedule, newest_due_times
from roundsman.schedules.plans import times_of
from roundsman.wire.run import Cause, Outcome


def span_from(times: Schedule, first: int, until: float, kind: Span) -> Span:
    """The due time `first` and all of these times after it up to `until`, as one span."""
    later = newest_due_times(times, first, int(until), 1)
    return Span(
        outcome=kind.outcome,
        first_due=first,
        last_due=later[-1] if later else first,
        count=1 + times.count(first, until),
        reason=kind.reason,
        cause=kind.cause,
    )


def passed_over(
    times: Schedule, since: float, due: int, until: float, kind: Span
) -> tuple[Span, ...]:
    """The open due time, and all times of its plan up to `until`, as spans of a kind.

    A due time that is not later than `since` belongs to a plan of before, and stands alone.
    """
    if due > since:
        return (span_from(times, due, until, kind),)
    alone = span_from(times, due, due, kind)
    first = times.next_after(since)
    if first is None or first > until:
        return (alone,)
    return alone, span_from(times, first, until, kind)


def kind_of(outcome: Outcome, reason: str | None = None, cause: Cause | None = None) -> Span:
    """What spans of due times have in common."""
    return Span(outcome=outcome, first_due=0, last_due=0, count=0, reason=reason, cause=cause)


class Standing(NamedTuple):
    """How a slot stands with its plan."""

    plan: str
    since: float
    """Later than this its plan counts."""
    due: int | None
    """Its first due time without an outcome."""
    is_leased: bool
    """Whether a lease for that is open. A lease for what was asked for on demand is none."""
    attempts: int


class EndOfPlan(NamedTuple):
    """What is written when a plan ends."""

    until: float
    """All of its times up to then are accounted for, or leased; later ones are planned no more."""
    missed: tuple[Span, ...]


def end_of_plan(slot: Standing, now: float, *, removed: bool) -> EndOfPlan:
    """End a slot's plan at `now`: what had passed without a run was missed.

    A lease goes on for what it was given, unless the slot is taken away; what passed after it was
    missed too. Where times ahead were run before their time already, the plan ends after them.
    """
    cause, text = (Cause.REMOVED, REMOVED) if removed else (Cause.REPLANNED, REPLANNED)
    kind = kind_of(Outcome.MISSED, given_up(text, slot.attempts), cause)
    until = _accounted_until(slot, now)
    times = times_of(slot.plan)
    due = slot.due
    if due is None:
        return EndOfPlan(until, ())
    if not slot.is_leased:
        is_past = due <= max(now, slot.since)
        missed = passed_over(times, slot.since, due, until, kind) if is_past else ()
        return EndOfPlan(until, missed)
    until = max(until, due)
    if removed:
        return EndOfPlan(until, passed_over(times, slot.since, due, until, kind))
    first = times.next_after(max(due, slot.since))
    if first is None or first > until:
        return EndOfPlan(until, ())
    return EndOfPlan(until, (span_from(times, first, until, kind),))


def _accounted_until(slot: Standing, now: float) -> float:
    """The end of the plan: now, or the last of its times that was run before its time."""
    until = max(now, slot.since)
    times = times_of(slot.plan)
    following = times.next_after(until)
    if following is None or (slot.due is not None and following >= slot.due):
        return until
    end = LAST if slot.due is None else slot.due - 1
    return float(newest_due_times(times, following - 1, end, 1)[-1])


def begins(plan: PlannedSlot, now: float, ended: float | None) -> float:
    """Later than when the plan of a new slot counts: from now on, and for its first due time.

    Not before the plan ended that the pair had before: its end lies ahead where an execution was
    out ahead of time, or where the clock was set back.
    """
    if ended is not None and ended > now:
        return ended
    return now if plan.first_due is None else min(now, plan.first_due - 1)


def first_of(plan: PlannedSlot, since: float, now: float) -> int | None:
    """The first due time of a plan that counts later than `since`."""
    return plan.first_due if since <= now else times_of(plan.plan).next_after(since)

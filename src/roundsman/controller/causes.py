"""Why due times were not run by themselves: what was so at each of them, from what is known.

Pure functions of a span and of facts: when controllers were up, when workers asked and for what,
which leases ran out, since when a pause holds.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from roundsman.ledger.interface import LeasedSlot, LostLease, Presence, Span
from roundsman.schedules.interface import Schedule, newest_due_times
from roundsman.schedules.windows import ALWAYS, Windows
from roundsman.wire.run import Cause

WORDS: Final = {
    Cause.CONTROLLER_DOWN: "controller down",
    Cause.NO_WORKER: "no worker for these tags",
    Cause.WORKER_LOST: "worker lost",
    Cause.BREAKER_OPEN: "breaker open",
    Cause.BUSY: "workers busy",
    Cause.PAUSED: "paused",
    Cause.OUTSIDE_WINDOW: "outside its window",
}
"""How a reason begins, for people."""


class Facts(NamedTuple):
    """What is known of the time in which due times of a slot passed."""

    tags: tuple[str, ...]
    """Of the device."""
    presences: Sequence[Presence]
    lost: LostLease | None = None
    was_held: bool = False
    """Whether the device's breaker had the slot offered late."""
    paused_since: float | None = None
    windows: Windows = ALWAYS
    """When the slot's scheduled runs may be started."""


def facts_of(lease: LeasedSlot, presences: Sequence[Presence], windows: Windows) -> Facts:
    """What a lease, beside who was there, tells of the time before it."""
    return Facts(lease.tags, presences, lost=lease.lost, was_held=lease.was_held, windows=windows)


def cause_at(instant: float, facts: Facts) -> Cause:
    """Why a slot that was due then was not run."""
    if facts.paused_since is not None and instant >= facts.paused_since:
        return Cause.PAUSED
    if facts.windows.closed_by(instant):
        return Cause.OUTSIDE_WINDOW
    there = [each for each in facts.presences if each.since <= instant <= each.until]
    if not any(each.asked is None for each in there):
        return Cause.CONTROLLER_DOWN
    if facts.was_held:
        return Cause.BREAKER_OPEN
    if facts.lost is not None and facts.lost.since <= instant <= facts.lost.until:
        return Cause.WORKER_LOST
    # Who came at that very instant was not there when it fell due.
    before = (each.asked for each in there if each.since < instant)
    if any(asked is not None and asked.matches(facts.tags) for asked in before):
        return Cause.BUSY
    return Cause.NO_WORKER


def explained(span: Span, schedule: Schedule, facts: Facts) -> Iterator[Span]:
    """The span with its cause; in parts, where different times of it have different ones."""
    if span.count == 1:
        yield _with_cause(span, cause_at(span.first_due, facts))
        return
    parts: list[tuple[Cause, int]] = []
    for begin in _stretches(span, facts):
        cause = cause_at(begin, facts)
        if not parts or parts[-1][0] is not cause:
            parts.append((cause, begin))
    ends = [*(begin - 1 for _, begin in parts[1:]), span.last_due]
    for (cause, begin), end in zip(parts, ends, strict=True):
        part = _part(span, schedule, begin, end)
        if part is not None:
            yield _with_cause(part, cause)


def _stretches(span: Span, facts: Facts) -> list[int]:
    """The first seconds of stretches in which nothing changes, the first of all included."""
    changes: set[float] = set()
    for each in facts.presences:
        changes |= {math.ceil(each.since), math.floor(each.since) + 1, math.floor(each.until) + 1}
    if facts.lost is not None:
        changes |= {math.ceil(facts.lost.since), math.floor(facts.lost.until) + 1}
    if facts.paused_since is not None:
        changes.add(math.ceil(facts.paused_since))
    changes.update(facts.windows.changes(span.first_due, span.last_due))
    inside = (int(at) for at in changes if span.first_due < at <= span.last_due)
    return [span.first_due, *sorted(inside)]


def _part(span: Span, schedule: Schedule, begin: int, end: int) -> Span | None:
    """What of the span's due times lies from `begin` to `end`; none: nothing."""
    count = schedule.count(begin - 1, end)
    if not count:
        return None
    first = schedule.next_after(begin - 1)
    [last] = newest_due_times(schedule, begin - 1, end, 1)
    return msgspec.structs.replace(span, first_due=first, last_due=last, count=count)


def _with_cause(span: Span, cause: Cause) -> Span:
    reason = WORDS[cause] if span.reason is None else f"{WORDS[cause]}; {span.reason}"
    return msgspec.structs.replace(span, cause=cause, reason=reason)


def all_explained(spans: Iterable[Span], schedule: Schedule, facts: Facts) -> tuple[Span, ...]:
    """Every span with its cause."""
    return tuple(part for span in spans for part in explained(span, schedule, facts))

"""Holds what was planned against what became of it: `GET /api/v1/audit/slots`."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from roundsman.clock import Clock
from roundsman.controller.attendance import Attendance
from roundsman.controller.causes import Facts, cause_at
from roundsman.controller.paging import page_of
from roundsman.controller.planner import Planner
from roundsman.errors import InvalidError
from roundsman.ledger.interface import AccountQuery, Ledger, Presence, SlotAccount
from roundsman.schedules.plans import times_of
from roundsman.schedules.windows import ALWAYS
from roundsman.wire.accounts import (
    Balance,
    DaySum,
    OpenCount,
    OpenState,
    OutcomeCount,
    SlotAudit,
    SlotTotals,
)
from roundsman.wire.page import Page
from roundsman.wire.run import Cause, Outcome, SlotState

DAY: Final = 86_400
AT_ONCE: Final = 1000
"""Slots read from the ledger in one go, for totals."""
_APART: Final = (Outcome.RETRIED, Outcome.STALE)


class SpanOfTimeError(InvalidError):
    """A time that ends before it begins."""

    code = "audit.span"


class PrunedError(InvalidError):
    """A time of which some runs are kept no longer."""

    code = "audit.pruned"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which due times of which slots."""

    since: int | None = None
    """From this instant on; none: a day before `until`."""
    until: int | None = None
    """Before this instant; none: now."""
    device: str | None = None
    job: str | None = None
    tag: str | None = None


class Accounts:
    """Reads the ledger's accounts and adds them up; nothing is changed."""

    def __init__(
        self, *, planner: Planner, ledger: Ledger, attendance: Attendance, clock: Clock
    ) -> None:
        """Nothing is read yet."""
        self._planner = planner
        self._ledger = ledger
        self._attendance = attendance
        self._clock = clock

    async def slots(
        self, wanted: Wanted, *, differing: bool, after: str | None, limit: int
    ) -> Page[SlotAudit]:
        """The balance of each slot, by device and job; those alone that have a difference, if so.

        Raises `SpanOfTimeError`, `PrunedError`.
        """
        query = await self._query(wanted, after, limit)
        found: list[SlotAudit] = []
        while True:
            page = await self._page(query)
            found += [each for each in page.items if each.balance.difference or not differing]
            if page.next is None or not differing or len(found) >= limit:
                return Page(items=tuple(found), next=page.next)
            query = msgspec.structs.replace(query, after=page.next, limit=limit - len(found))

    async def totals(self, wanted: Wanted) -> SlotTotals:
        """The balance of all these slots together. Raises `SpanOfTimeError`, `PrunedError`."""
        query = await self._query(wanted, None, AT_ONCE)
        balance = total(())
        slots = differing = 0
        while True:
            page = await self._page(query)
            slots += len(page.items)
            differing += sum(each.balance.difference != 0 for each in page.items)
            balance = total([balance, *(each.balance for each in page.items)])
            if page.next is None:
                break
            query = msgspec.structs.replace(query, after=page.next)
        return SlotTotals(
            since=query.since,
            until=query.until,
            slots=slots,
            differing=differing,
            balance=balance,
        )

    async def days(
        self,
        since: int | None,
        until: int | None,
        job: str | None,
        *,
        after: str | None,
        limit: int,
    ) -> Page[DaySum]:
        """The sums of the days of which runs are kept no longer, by day and job."""
        end = math.floor(self._clock.now()) + 1 if until is None else until
        sums = await self._ledger.daily(since or 0, end, job)
        return page_of(sums, place=_place, after=after, limit=limit)

    async def _query(self, wanted: Wanted, after: str | None, limit: int) -> AccountQuery:
        until = math.floor(self._clock.now()) + 1 if wanted.until is None else wanted.until
        since = max(0, until - DAY) if wanted.since is None else wanted.since
        if since >= until:
            raise SpanOfTimeError(f"from={since}, to={until}: expected from before to")
        kept = await self._ledger.accounted_since()
        if since < kept:
            raise PrunedError(
                f"from={since}: runs of before {kept} are kept no longer, but for sums by day",
                remedy=f"ask from {kept} on, and /api/v1/audit/days for what was before",
            )
        return AccountQuery(
            since=since,
            until=until,
            device=wanted.device,
            job=wanted.job,
            tag=wanted.tag,
            after=after,
            limit=limit,
        )

    async def _page(self, query: AccountQuery) -> Page[SlotAudit]:
        now = self._clock.now()
        page = await self._ledger.accounts(query, now)
        presences = await self._attendance.between(now, now)
        # In a thread: there are thousands of schedules to count.
        items = await asyncio.to_thread(
            lambda: tuple(self._audit(each, query, now, presences) for each in page.items)
        )
        return Page(items=items, next=page.next)

    def _audit(
        self, account: SlotAccount, query: AccountQuery, now: float, presences: list[Presence]
    ) -> SlotAudit:
        slot = self._planner.find(account.device, account.job)
        windows = ALWAYS if slot is None else slot.windows
        return SlotAudit(
            device=account.device,
            job=account.job,
            tags=account.tags,
            balance=balance_of(account, query, now),
            waits_for=_waits_for(account, now, Facts(account.tags, presences, windows=windows)),
        )


def _place(each: DaySum) -> tuple[str, str]:
    kind = f"{each.job}\n{each.outcome}\n{each.cause or ''}\n{each.on_demand:d}"
    return f"{each.day:012}", kind


def balance_of(account: SlotAccount, query: AccountQuery, now: float) -> Balance:
    """What was planned of one slot, by its plans alone, beside what is told of it."""
    outcomes: Counter[tuple[Outcome, Cause | None]] = Counter()
    for tally in account.tallies:
        if not tally.on_demand and tally.outcome not in _APART:
            outcomes[tally.outcome, tally.cause] += tally.count
    for span in account.cut:
        first, last = max(span.first_due, query.since), min(span.last_due, query.until - 1)
        outcomes[span.outcome, span.cause] += _planned(account, first, last)
    apart = Counter(
        {
            outcome: sum(tally.count for tally in account.tallies if tally.outcome is outcome)
            for outcome in _APART
        }
    )
    waiting = _open(account, query, now)
    planned = _planned(account, query.since, query.until - 1)
    return Balance(
        planned=planned,
        outcomes=_outcome_counts(outcomes),
        open=_open_counts(waiting),
        difference=planned - outcomes.total() - waiting.total(),
        retried=apart[Outcome.RETRIED],
        stale=apart[Outcome.STALE],
        on_demand=sum(
            tally.count
            for tally in account.tallies
            if tally.on_demand and tally.outcome not in _APART
        ),
    )


def _planned(account: SlotAccount, first: int, last: int) -> int:
    """How many due times there were from one instant to another, by the plans of that time."""
    return sum(
        times_of(each.plan).count(
            max(each.since, first - 1), last if each.until is None else min(each.until, last)
        )
        for each in account.plans
    )


def _open(account: SlotAccount, query: AccountQuery, now: float) -> Counter[OpenState]:
    """Where the due times stand that have no outcome: the slot's own, and those after it."""
    due, found = account.open_due, Counter[OpenState]()
    if due is None or account.state is None:
        return found
    state = _state(account, due, now)
    if query.since <= due < query.until:
        found[state] += 1
    if not account.plans or account.plans[-1].until is not None:
        return found
    current = account.plans[-1]
    times = times_of(current.plan)
    after = max(current.since, due, query.since - 1)
    passed = times.count(after, min(query.until - 1, now))
    ahead = times.count(max(after, now), query.until - 1)
    later = state if state in (OpenState.PAUSED, OpenState.HELD) else OpenState.DUE
    found[later] += passed
    found[OpenState.WAITING] += ahead
    return +found


def _state(account: SlotAccount, due: int, now: float) -> OpenState:
    if account.state is SlotState.LEASED:
        return OpenState.LEASED
    if account.attempts:
        return OpenState.RETRYING
    if due > now:
        return OpenState.WAITING
    if account.state is SlotState.PAUSED:
        return OpenState.PAUSED
    return OpenState.HELD if account.state is SlotState.HELD else OpenState.DUE


def _waits_for(account: SlotAccount, now: float, facts: Facts) -> Cause | None:
    if account.open_due is None or account.open_due > now:
        return None
    if account.state is SlotState.PAUSED:
        return Cause.PAUSED
    if account.state is SlotState.HELD:
        return Cause.BREAKER_OPEN
    if account.state is SlotState.DUE:
        return cause_at(now, facts)
    if account.state is SlotState.WAITING and facts.windows.closed_by(now):
        return Cause.OUTSIDE_WINDOW
    return None


def total(balances: Iterable[Balance]) -> Balance:
    """The sums of several balances; a difference is not set off against its opposite."""
    outcomes: Counter[tuple[Outcome, Cause | None]] = Counter()
    waiting: Counter[OpenState] = Counter()
    sums: Counter[str] = Counter()
    for each in balances:
        for ended in each.outcomes:
            outcomes[ended.outcome, ended.cause] += ended.count
        for standing in each.open:
            waiting[standing.state] += standing.count
        sums["difference"] += abs(each.difference)
        for name in ("planned", "retried", "stale", "on_demand"):
            sums[name] += getattr(each, name)
    return Balance(
        planned=sums["planned"],
        outcomes=_outcome_counts(outcomes),
        open=_open_counts(waiting),
        difference=sums["difference"],
        retried=sums["retried"],
        stale=sums["stale"],
        on_demand=sums["on_demand"],
    )


def _outcome_counts(
    outcomes: Counter[tuple[Outcome, Cause | None]],
) -> tuple[OutcomeCount, ...]:
    ordered = sorted(outcomes.items(), key=lambda item: (item[0][0], item[0][1] or ""))
    return tuple(
        OutcomeCount(outcome=outcome, cause=cause, count=count)
        for (outcome, cause), count in ordered
        if count
    )


def _open_counts(waiting: Counter[OpenState]) -> tuple[OpenCount, ...]:
    return tuple(
        OpenCount(state=state, count=count) for state, count in sorted(waiting.items()) if count
    )

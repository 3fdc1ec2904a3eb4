"""A ledger that keeps every law but durability, for tests and for trying things out.

Each method does its work without awaiting, so that nothing comes in between. Its costs grow with
the fleet, unlike those of the drivers that are meant for service.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import msgspec

from roundsman.errors import NotFoundError
from roundsman.ledger import cursors
from roundsman.ledger.fairness import NEVER, Rank, Tags, Turns, due_order
from roundsman.ledger.holds import Holdable, arrange
from roundsman.ledger.interface import (
    UNLIMITED,
    AccountQuery,
    AuditQuery,
    BatchQuery,
    ClaimLimits,
    Finish,
    FinishAnswer,
    IdempotencyKey,
    KeptBatch,
    KeptResult,
    Leadership,
    LeasedSlot,
    Ledger,
    LedgerUnavailableError,
    LostLease,
    NotLeadingError,
    Page,
    Pause,
    PauseKind,
    PlanEpoch,
    PlannedSlot,
    Presence,
    Priority,
    ProcessChange,
    ProcessQuery,
    RegisteredController,
    ResultKey,
    ResumedSlot,
    Resumption,
    RunEnd,
    RunNow,
    RunQuery,
    SlotAccount,
    SlotQuery,
    Span,
    Standing,
    SyncSummary,
    TagFilter,
    Tally,
    batch_after,
)
from roundsman.ledger.limits import Bucket, Gate, Running
from roundsman.ledger.plans import Standing as Planned
from roundsman.ledger.plans import begins, end_of_plan, first_of
from roundsman.ledger.spans import NewId, as_span, asked_in_vain, in_order, lost_with, span_run
from roundsman.schedules.plans import is_same, times_of
from roundsman.wire.accounts import DaySum
from roundsman.wire.audit import AuditEntry
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.process import OPEN_STATES, Process, ProcessState, StopProof
from roundsman.wire.run import Cause, Outcome, Run, Slot, SlotState
from roundsman.wire.worker import Worker

Pair = tuple[str, str]
ItemType = TypeVar("ItemType")


@dataclass(slots=True)
class _Row:
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
class _KeptPlan:
    tags: Tags
    epoch: PlanEpoch


@dataclass(frozen=True, slots=True)
class _Lane:
    tags: Tags
    priority: Priority
    ranks: list[Rank]
    """Last first, so that the oldest can be popped."""

    @property
    def bound(self) -> Rank:
        return self.ranks[-1] if self.ranks else NEVER


class _Offers:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def head(self, lane: _Lane) -> Rank:
        return lane.bound if self._gate.lets(lane.tags) else NEVER

    def pop(self, lane: _Lane) -> Rank:
        self._gate.take(lane.tags)
        return lane.ranks.pop()


class MemoryLedger(Ledger):
    """Everything in dictionaries; a new instance knows nothing."""

    def __init__(self, new_id: NewId = lambda: str(uuid4())) -> None:
        """Take what makes the ids of runs that the ledger writes by itself."""
        self._new_id = new_id
        self._open = False
        self._slots: dict[Pair, _Row] = {}
        self._next_number = 1
        self._retired: dict[Pair, int] = {}
        self._turns = Turns()
        self._daily: Counter[tuple[int, str, Outcome, Cause | None, bool]] = Counter()
        self._accounted_since = 0
        self._buckets: dict[str, Bucket] = {}
        self._runs: list[Run] = []
        self._ended_plans: dict[Pair, list[_KeptPlan]] = {}
        self._presences: dict[tuple[str, TagFilter | None, float], Presence] = {}
        self._pauses: dict[tuple[PauseKind, str], Pause] = {}
        self._breakers: dict[str, Breaker] = {}
        self._workers: dict[str, Worker] = {}
        self._tokens: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._batches: dict[str, Batch] = {}
        self._batch_work: dict[str, BatchWork] = {}
        self._batch_keys: dict[tuple[str, str], KeptBatch] = {}  # by credential and key
        self._audit: list[AuditEntry] = []
        self._controllers: dict[str, RegisteredController] = {}
        self._leadership = Leadership(term=0, controller_id="", until=0, calls=0, salt=str(uuid4()))

    # life

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def check(self) -> None:
        self._must_be_open()

    def _must_be_open(self) -> None:
        if not self._open:
            raise LedgerUnavailableError("the ledger is not open")

    # slots and leases

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
        self._slots[pair] = _Row(
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

    def _change(self, row: _Row, plan: PlannedSlot, now: float) -> None:
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

    def _end_plan(self, row: _Row, now: float, *, removed: bool) -> float:
        until, missed = end_of_plan(row.planned, now, removed=removed)
        self._write_spans(row.device, row.job, missed, None, now)
        if until > row.planned_since:
            epoch = PlanEpoch(plan=row.plan, since=row.planned_since, until=until)
            ended = self._ended_plans.setdefault((row.device, row.job), [])
            ended.append(_KeptPlan(row.tags, epoch))
        return until

    async def claim(
        self,
        tags: TagFilter,
        *,
        limit: int,
        horizon: float,
        now: float,
        lease_seconds: float,
        worker_id: str | None,
        limits: ClaimLimits = UNLIMITED,
    ) -> list[LeasedSlot]:
        self._must_be_open()
        running = self._running(now)
        gate = Gate(limits, running, self._buckets, now=now)
        lanes: dict[tuple[Tags, Priority], _Lane] = {}
        free = {
            row.rank: row
            for row in self._slots.values()
            if row.offered_at(now, horizon)
            and not row.leased_at(now)
            and not self._paused(row)
            and tags.matches(row.tags)
        }
        for rank in sorted(free, reverse=True):
            row = free[rank]
            lanes.setdefault(row.lane, _Lane(*row.lane, [])).ranks.append(rank)
        by_tags = [lanes[key] for key in sorted(lanes)]
        taken: list[_Row] = []
        room = gate.room(limit, worker_id)
        while chosen := self._turns.choose(tags, by_tags, _Offers(gate), room - len(taken)):
            for rank in chosen:
                row = free[int(rank[0]), rank[1]]
                if gate.lets_device(row.device):
                    running.count(row.device, row.tags, worker_id)
                    taken.append(row)
                else:
                    gate.take(row.tags, -1)
        self._buckets.update(gate.spent())
        return [
            self._lease(row, now, lease_seconds, worker_id)
            for row in sorted(taken, key=lambda row: row.rank)
        ]

    def _running(self, now: float) -> Running:
        running = Running()
        for row in self._slots.values():
            if row.leased_at(now):
                running.count(row.device, row.tags, row.worker_id)
        return running

    def _lease(
        self, row: _Row, now: float, lease_seconds: float, worker_id: str | None
    ) -> LeasedSlot:
        row.epoch += 1
        row.lost = lost_with(row.lost, row.claimed_at, row.lease_expires_at, row.worker_id)
        row.lease_expires_at = max(now, row.due or 0) + lease_seconds
        row.worker_id = worker_id
        row.claimed_at = now
        return _leased(row)

    async def renew(
        self, keys: Sequence[LeaseKey], *, worker_id: str | None, now: float, until: float
    ) -> list[bool]:
        self._must_be_open()
        return [self._renew(key, worker_id, until) for key in keys]

    def _renew(self, key: LeaseKey, worker_id: str | None, until: float) -> bool:
        row = self._lease_for(key)
        if row is None or worker_id not in (None, row.worker_id):
            return False
        row.lease_expires_at = max(row.lease_expires_at or 0.0, until)
        return True

    def _lease_for(self, key: LeaseKey) -> _Row | None:
        row = self._slots.get((key.device, key.job))
        if row is None or row.epoch != key.epoch or row.lease_expires_at is None:
            return None
        return row

    async def standings(self, results: Sequence[ResultKey]) -> list[Standing]:
        self._must_be_open()
        return [self._standing(result) for result in results]

    def _standing(self, result: ResultKey) -> Standing:
        row = self._slots.get((result.device, result.job))
        kept = reversed(list(self._kept(result.device, result.job, result.due, result.digest)))
        breaker = self._breakers.get(result.device)
        held = breaker is not None and breaker.open
        lease = None if row is None or row.lease_expires_at is None else _leased(row)
        return Standing(
            repeated=next((run for run in kept if result.epoch in (None, run.epoch)), None),
            lease=lease
            and msgspec.structs.replace(lease, device_held=held, result=row and row.result),
        )

    async def finish(self, finishes: Sequence[Finish], now: float) -> list[FinishAnswer]:
        self._must_be_open()
        return [self._finish(finish, now) for finish in finishes]

    def _finish(self, finish: Finish, now: float) -> FinishAnswer:
        row = self._lease_for(finish.key)
        run = finish.run
        if row is not None:
            if run is not None:
                self._runs.append(run)
            spans, next_due = finish.spans, finish.next_due
            if finish.plan != row.plan:  # replaced meanwhile, when its times were accounted for
                spans, next_due = (), times_of(row.plan).next_after(row.planned_since)
            self._write_spans(finish.key.device, finish.key.job, spans, run, now)
            row.end_lease()
            if finish.answered:
                self._close(row.device, now)
            elif finish.breaker is not None:
                self._breakers[row.device] = finish.breaker
            if finish.retry_at is None:
                row.set_due(next_due)
            else:
                row.try_again(finish.retry_at, tried=run is not None)
            row.result = finish.result or row.result
            self._hold({row.device}, now)
            return FinishAnswer.KEPT
        if run is not None:
            kept = self._kept(run.device, run.job, run.due, run.digest)
            if any(same.epoch == finish.key.epoch for same in kept):
                return FinishAnswer.REPEATED
            self._add_stale(run)
        return FinishAnswer.STALE

    def _write_spans(
        self, device: str, job: str, spans: Sequence[Span], run: Run | None, now: float
    ) -> None:
        into = None if run is None else run.run_id
        self._runs += [
            span_run(self._new_id(), device, job, span, into=into, now=now) for span in spans
        ]

    def _kept(self, device: str, job: str, due: int, digest: str | None) -> Iterator[Run]:
        return (
            run
            for run in self._runs
            if digest is not None
            and run.outcome is not Outcome.STALE
            and (run.device, run.job, run.due, run.digest) == (device, job, due, digest)
        )

    def _add_stale(self, run: Run) -> None:
        if all(known.run_id != run.run_id for known in self._runs):
            self._runs.append(msgspec.structs.replace(run, outcome=Outcome.STALE))

    async def record_stale(self, run: Run) -> None:
        self._must_be_open()
        self._add_stale(run)

    async def result_of(self, device: str, job: str) -> KeptResult | None:
        self._must_be_open()
        row = self._slots.get((device, job))
        return None if row is None else row.result

    async def accept(
        self, run_id: str, *, version: str, changed: bool, by: str, now: float
    ) -> bool:
        self._must_be_open()
        for row in self._slots.values():
            waiting = row.result.quarantined if row.result is not None else None
            if waiting is not None and waiting.run_id == run_id:
                row.result = KeptResult(extent=waiting.extent)
                self._runs = [
                    msgspec.structs.replace(
                        run, version=version, changed=changed, accepted_by=by, accepted_at=now
                    )
                    if run.run_id == run_id
                    else run
                    for run in self._runs
                ]
                return True
        return False

    async def run_now(self, device: str, job: str, now: int, *, beside: bool = False) -> RunNow:
        self._must_be_open()
        row = self._slots.get((device, job))
        if row is None:
            raise NotFoundError(f"job {job} on device {device} is not configured")
        if row.leased_at(now):
            return RunNow.RUNNING
        if self._paused(row):
            return RunNow.PAUSED
        if row.due is not None and row.due <= now and (row.on_demand or not beside):
            if row.ready is not None and row.ready <= now:
                return RunNow.ALREADY_DUE
            row.ready = now
            return RunNow.QUEUED
        if not row.on_demand:
            row.on_demand, row.resume_due = True, row.due
        row.due = row.ready = now
        return RunNow.QUEUED

    # pauses

    def _paused(self, row: _Row) -> bool:
        return (PauseKind.DEVICE, row.device) in self._pauses or (
            PauseKind.JOB,
            row.job,
        ) in self._pauses

    async def pause(self, pause: Pause) -> bool:
        self._must_be_open()
        if (pause.kind, pause.name) in self._pauses:
            return False
        self._pauses[pause.kind, pause.name] = pause
        self._hold(self._touched(pause.kind, pause.name), pause.since)
        return True

    def _touched(self, kind: PauseKind, name: str) -> set[str]:
        if kind is PauseKind.DEVICE:
            return {name}
        return {row.device for row in self._slots.values() if row.job == name}

    async def to_resume(self, kind: PauseKind, name: str) -> list[ResumedSlot] | None:
        self._must_be_open()
        if (kind, name) not in self._pauses:
            return None
        return [
            ResumedSlot(
                device=row.device,
                job=row.job,
                due=row.scheduled_due,
                epoch=row.epoch,
                plan=row.plan,
                planned_since=row.planned_since,
                ready=row.resume_due if row.on_demand else row.ready,
            )
            for _, row in sorted(self._slots.items())
            if row.lease_expires_at is None and self._frees(kind, name, row)
        ]

    def _frees(self, kind: PauseKind, name: str, row: _Row) -> bool:
        """Whether this pause holds the slot back, and no other does."""
        if kind is PauseKind.DEVICE:
            return row.device == name and (PauseKind.JOB, row.job) not in self._pauses
        return row.job == name and (PauseKind.DEVICE, row.device) not in self._pauses

    async def resume(
        self, kind: PauseKind, name: str, resumptions: Sequence[Resumption], now: float
    ) -> bool:
        self._must_be_open()
        if (kind, name) not in self._pauses:
            return False
        for resumption in resumptions:
            row = self._slots.get((resumption.device, resumption.job))
            if (
                row is not None
                and (row.epoch, row.plan) == (resumption.epoch, resumption.plan)
                and row.lease_expires_at is None
                and self._frees(kind, name, row)
            ):
                if row.on_demand:
                    row.resume_due = resumption.next_due
                elif row.due != resumption.next_due:
                    row.set_due(resumption.next_due)
                self._write_spans(row.device, row.job, resumption.spans, None, now)
        del self._pauses[kind, name]
        self._hold(self._touched(kind, name), now)
        return True

    async def pauses(self) -> list[Pause]:
        self._must_be_open()
        return [self._pauses[key] for key in sorted(self._pauses)]

    # devices held back

    async def breaker(self, device: str) -> Breaker | None:
        self._must_be_open()
        return self._breakers.get(device)

    async def open_breakers(self) -> list[Breaker]:
        self._must_be_open()
        return [breaker for _, breaker in sorted(self._breakers.items()) if breaker.open]

    async def close_breaker(self, device: str, now: float) -> bool:
        self._must_be_open()
        return self._close(device, now)

    def _close(self, device: str, now: float) -> bool:
        breaker = self._breakers.pop(device, None)
        if breaker is None or not breaker.open:
            return False
        for row in self._slots.values():
            if row.device == device and row.due is not None:
                row.was_held = row.was_held or (row.ready is None and row.due <= now)
                row.ready = row.due
        return True

    def _hold(self, devices: set[str], now: float) -> None:
        for device in devices:
            breaker = self._breakers.get(device)
            if breaker is None or breaker.probe_at is None:
                continue
            rows = {
                row.number: row
                for row in self._slots.values()
                if row.device == device and row.due is not None and not row.on_demand
            }
            slots = [
                Holdable(
                    row.number,
                    row.due or 0,
                    row.ready,
                    self._paused(row),
                    row.claimed_at if row.leased_at(now) else None,
                )
                for row in rows.values()
            ]
            for slot in arrange(slots, breaker.probe_at):
                row = rows[slot.number]
                row.ready, row.was_held = slot.ready, row.was_held or slot.was_held

    # accounts

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
        following = None
        if len(found) > query.limit:
            last = found[query.limit - 1]
            following = cursors.encode((last.device, last.job))
        return Page(items=tuple(found[: query.limit]), next=following)

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
            plans.append(_KeptPlan(row.tags, epoch))
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

    # what is kept no longer

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

    # lists

    async def slots(self, query: SlotQuery, now: float) -> Page[Slot]:
        self._must_be_open()
        after = cursors.slot_place(query.after) if query.after else ("", "")
        found = [
            slot
            for pair, row in sorted(self._slots.items())
            if pair > after and _wanted_slot(query, slot := self._slot(row, now))
        ]
        following = None
        if len(found) > query.limit:
            last = found[query.limit - 1]
            following = cursors.encode((last.device, last.job))
        return Page(items=tuple(found[: query.limit]), next=following)

    def _slot(self, row: _Row, now: float) -> Slot:
        state = self._state(row, now)
        held = state is SlotState.LEASED
        return Slot(
            device=row.device,
            job=row.job,
            tags=row.tags,
            due=row.due,
            ready=row.ready,
            attempts=row.attempts,
            quarantined=row.result.quarantined.run_id
            if row.result is not None and row.result.quarantined is not None
            else None,
            state=state,
            epoch=row.epoch,
            on_demand=row.on_demand,
            worker_id=row.worker_id if held else None,
            lease_expires_at=row.lease_expires_at if held else None,
        )

    def _state(self, row: _Row, now: float) -> SlotState:
        if row.leased_at(now):
            return SlotState.LEASED
        if self._paused(row):
            return SlotState.PAUSED
        if row.due is None:
            return SlotState.ENDED
        if row.ready is None:
            return SlotState.HELD
        return SlotState.DUE if row.ready <= now else SlotState.WAITING

    async def runs(self, query: RunQuery) -> Page[Run]:
        self._must_be_open()
        wanted = [
            ((run.recorded_at, number), run)
            for number, run in enumerate(self._runs)
            if _wanted_run(query, run)
        ]
        return _newest_first(wanted, query.after, query.limit)

    async def run(self, run_id: str) -> Run | None:
        self._must_be_open()
        return next((run for run in self._runs if run.run_id == run_id), None)

    async def ends_of(self, run_ids: Sequence[str]) -> list[RunEnd | None]:
        self._must_be_open()
        ends = {run.run_id: RunEnd(run.outcome, run.version) for run in self._runs}
        return [ends.get(run_id) for run_id in run_ids]

    # workers

    async def add_worker(self, worker: Worker, token_digest: str) -> None:
        self._must_be_open()
        self._workers[worker.worker_id] = msgspec.structs.replace(worker, connected=False)
        self._tokens[token_digest] = worker.worker_id

    async def worker_tokens(self) -> dict[str, str]:
        self._must_be_open()
        return dict(self._tokens)

    async def touch_worker(
        self,
        worker_id: str,
        *,
        now: float,
        address: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> bool:
        self._must_be_open()
        worker = self._workers.get(worker_id)
        if worker is None:
            return False
        self._workers[worker_id] = msgspec.structs.replace(
            worker,
            seen_at=now,
            address=worker.address if address is None else address,
            version=worker.version if version is None else version,
            tags=worker.tags if tags is None else tuple(tags),
        )
        return True

    async def workers(self) -> list[Worker]:
        self._must_be_open()
        return sorted(self._workers.values(), key=lambda worker: (worker.name, worker.worker_id))

    async def worker(self, worker_id: str) -> Worker | None:
        self._must_be_open()
        return self._workers.get(worker_id)

    async def remove_worker(self, worker_id: str) -> bool:
        self._must_be_open()
        self._tokens = {
            digest: owner for digest, owner in self._tokens.items() if owner != worker_id
        }
        return self._workers.pop(worker_id, None) is not None

    # controllers

    async def note_controller(self, controller: RegisteredController) -> None:
        self._must_be_open()
        self._controllers[controller.controller_id] = controller

    async def controllers(self) -> list[RegisteredController]:
        self._must_be_open()
        return sorted(
            self._controllers.values(), key=lambda each: (each.started_at, each.controller_id)
        )

    async def remove_controller(self, controller_id: str) -> None:
        self._must_be_open()
        self._controllers.pop(controller_id, None)
        if self._leadership.controller_id == controller_id:
            self._leadership = msgspec.structs.replace(self._leadership, until=0)

    async def lead(
        self, controller_id: str, *, term: int | None, now: float, until: float
    ) -> Leadership:
        self._must_be_open()
        before = self._leadership
        if (before.controller_id, before.term) == (controller_id, term):
            self._leadership = msgspec.structs.replace(before, until=max(before.until, until))
        elif before.until <= now:
            self._leadership = msgspec.structs.replace(
                before, term=before.term + 1, controller_id=controller_id, until=until
            )
        return self._leadership

    def _must_be_term(self, term: int | None) -> None:
        if term is not None and term != self._leadership.term:
            raise NotLeadingError(f"expected to lead in term {term}, and another controller does")

    async def call_to_reload(self) -> int:
        self._must_be_open()
        self._leadership = msgspec.structs.replace(
            self._leadership, calls=self._leadership.calls + 1
        )
        return self._leadership.calls

    # processes

    async def add_process(self, process: Process, audit: Sequence[AuditEntry] = ()) -> None:
        self._must_be_open()
        self._processes[process.process_id] = process
        self._write_audit(audit)

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        self._must_be_open()
        states = [self._change_process(change) for change in changes]
        self._write_audit(audit)
        return states

    def _change_process(self, change: ProcessChange) -> ProcessState | None:
        process = self._processes.get(change.process_id)
        if process is None or process.worker_id != change.worker_id:
            return None
        seen = process.last_seen_at if change.seen_at is None else change.seen_at
        if change.state is ProcessState.RUNNING and process.state is ProcessState.REQUESTED:
            process = msgspec.structs.replace(
                process, state=change.state, started_at=change.at, last_seen_at=seen
            )
        elif change.state is ProcessState.RUNNING and process.state is ProcessState.ENDED:
            process = msgspec.structs.replace(
                process, started_at=process.started_at or change.at, last_seen_at=seen
            )
        elif (
            not process.done
            and change.state not in OPEN_STATES
            and (change.state is not ProcessState.SKIPPED or process.state is ProcessState.WAITING)
        ):
            process = msgspec.structs.replace(
                process,
                state=change.state,
                ended_at=change.at if change.state is ProcessState.ENDED else None,
                exit_status=change.exit_status,
                signal=change.signal,
                error=change.error,
                cause=change.cause,
                last_seen_at=seen,
            )
        self._processes[change.process_id] = process
        return process.state

    async def begin_process(
        self, process_id: str, *, not_after: float, audit: Sequence[AuditEntry] = ()
    ) -> bool:
        self._must_be_open()
        process = self._processes.get(process_id)
        if process is None or process.state is not ProcessState.WAITING:
            return False
        self._processes[process_id] = msgspec.structs.replace(
            process, state=ProcessState.REQUESTED, not_after=not_after
        )
        self._write_audit(audit)
        return True

    async def keep_stop(self, process_id: str, worker_id: str, proof: StopProof) -> None:
        self._must_be_open()
        process = self._processes.get(process_id)
        if process is not None and process.worker_id == worker_id:
            self._processes[process_id] = msgspec.structs.replace(process, stop=proof)

    async def touch_processes(self, worker_id: str, now: float) -> None:
        self._must_be_open()
        for process in self._processes.values():
            if process.worker_id == worker_id and process.state in (
                ProcessState.REQUESTED,
                ProcessState.RUNNING,
            ):
                self._processes[process.process_id] = msgspec.structs.replace(
                    process, last_seen_at=now
                )

    async def process(self, process_id: str) -> Process | None:
        self._must_be_open()
        return self._processes.get(process_id)

    async def processes(self, query: ProcessQuery) -> Page[Process]:
        self._must_be_open()
        wanted = [
            ((process.requested_at, number), process)
            for number, process in enumerate(self._processes.values())
            if query.worker_id in (None, process.worker_id)
            and query.state in (None, process.state)
            and query.batch_id in (None, process.batch_id)
        ]
        return _newest_first(wanted, query.after, query.limit)

    # batches

    async def add_batch(
        self,
        batch: Batch,
        work: BatchWork,
        processes: Sequence[Process],
        *,
        key: IdempotencyKey | None,
    ) -> KeptBatch:
        self._must_be_open()
        kept = KeptBatch(batch_id=batch.batch_id, digest="" if key is None else key.digest)
        if key is not None:
            earlier = await self.kept_batch(batch.requested_by, key)
            if earlier is not None:
                return earlier
            self._batch_keys[batch.requested_by, key.key] = kept
        self._batches[batch.batch_id] = batch
        self._batch_work[batch.batch_id] = work
        self._processes.update((process.process_id, process) for process in processes)
        return kept

    async def kept_batch(self, requested_by: str, key: IdempotencyKey) -> KeptBatch | None:
        self._must_be_open()
        kept = self._batch_keys.get((requested_by, key.key))
        if kept is None or self._batches[kept.batch_id].requested_at < key.since:
            return None
        return kept

    async def batch(self, batch_id: str) -> Batch | None:
        self._must_be_open()
        return self._batches.get(batch_id)

    async def batch_work(self, batch_id: str) -> BatchWork | None:
        self._must_be_open()
        return self._batch_work.get(batch_id)

    async def batch_processes(self, batch_id: str) -> list[Process]:
        self._must_be_open()
        return [each for each in self._processes.values() if each.batch_id == batch_id]

    async def change_batch(
        self, batch_id: str, state: BatchState, *, now: float, reason: str | None = None
    ) -> Batch | None:
        self._must_be_open()
        batch = self._batches.get(batch_id)
        if batch is None:
            return None
        batch = self._batches[batch_id] = batch_after(batch, state, now=now, reason=reason)
        if batch.state is BatchState.ENDED:
            self._batch_work.pop(batch_id, None)
        return batch

    async def skip_processes(self, batch_id: str, error: str) -> None:
        self._must_be_open()
        for process in self._processes.values():
            if process.batch_id == batch_id and process.state is ProcessState.WAITING:
                self._processes[process.process_id] = msgspec.structs.replace(
                    process, state=ProcessState.SKIPPED, error=error
                )

    async def batches(self, query: BatchQuery) -> Page[Batch]:
        self._must_be_open()
        wanted = [
            ((batch.requested_at, number), batch)
            for number, batch in enumerate(self._batches.values())
            if query.state in (None, batch.state)
        ]
        return _newest_first(wanted, query.after, query.limit)

    # the audit

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        self._must_be_open()
        self._write_audit(entries)

    def _write_audit(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            number = len(self._audit) + 1
            self._audit.append(msgspec.structs.replace(entry, number=number))

    async def audit(self, query: AuditQuery) -> Page[AuditEntry]:
        self._must_be_open()
        wanted = [
            ((entry.at, entry.number), entry)
            for entry in self._audit
            if _wanted_entry(query, entry)
        ]
        if query.oldest_first:
            return _oldest_first(wanted, query.after, query.limit)
        return _newest_first(wanted, query.after, query.limit)


def _leased(row: _Row) -> LeasedSlot:
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


def _wanted_slot(query: SlotQuery, slot: Slot) -> bool:
    return (
        query.device in (None, slot.device)
        and query.job in (None, slot.job)
        and (query.tag is None or query.tag in slot.tags)
        and query.state in (None, slot.state)
        and query.worker_id in (None, slot.worker_id)
    )


def _wanted_run(query: RunQuery, run: Run) -> bool:
    return (
        query.device in (None, run.device)
        and query.job in (None, run.job)
        and query.outcome in (None, run.outcome)
        and query.worker_id in (None, run.worker_id)
        and (query.since is None or run.recorded_at >= query.since)
        and (query.until is None or run.recorded_at < query.until)
    )


def _wanted_entry(query: AuditQuery, entry: AuditEntry) -> bool:
    return (
        query.area in (None, entry.action.area)
        and query.action in (None, entry.action)
        and query.by in (None, entry.by)
        and query.worker_id in (None, entry.worker_id)
        and query.process_id in (None, entry.process_id)
        and query.batch_id in (None, entry.batch_id)
        and (query.since is None or entry.at >= query.since)
        and (query.until is None or entry.at < query.until)
    )


def _oldest_first(
    found: list[tuple[cursors.TimePlace, ItemType]], after: str | None, limit: int
) -> Page[ItemType]:
    place = cursors.time_place(after) if after else (-math.inf, 0)
    found = sorted((entry for entry in found if entry[0] > place), key=_place)
    following = cursors.encode(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=tuple(item for _, item in found[:limit]), next=following)


def _newest_first(
    found: list[tuple[cursors.TimePlace, ItemType]], after: str | None, limit: int
) -> Page[ItemType]:
    place = cursors.time_place(after) if after else (math.inf, 0)
    found = sorted((entry for entry in found if entry[0] < place), key=_place, reverse=True)
    following = cursors.encode(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=tuple(item for _, item in found[:limit]), next=following)


def _place(entry: tuple[cursors.TimePlace, object]) -> cursors.TimePlace:
    return entry[0]

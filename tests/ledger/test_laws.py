"""The ledger's laws under anything that may happen, in any order, for every driver.

Schedules, policies and what comes after a run are the controller's own. After each step planned due
times are the sum of outcomes and of what is open; no claim gives what somebody holds, or a second
job of a device. In the suite a short form; `make torture` runs the long one. The seed is
printed with each run.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from roundsman.clock import SystemClock
from roundsman.controller.accounts import balance_of
from roundsman.controller.planner import after_pause, after_run, after_too_late, is_too_late
from roundsman.errors import NotFoundError
from roundsman.ledger.interface import (
    AccountQuery,
    ClaimLimits,
    Finish,
    FinishAnswer,
    LeasedSlot,
    Ledger,
    Pause,
    PauseKind,
    PlannedSlot,
    Priority,
    ResultKey,
    ResumedSlot,
    Resumption,
    TagFilter,
)
from roundsman.ledger.memory import MemoryLedger
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.schedules.plans import plan_of, times_of
from roundsman.testing.postgresql_server import PASSWORD, TEMPLATE, PostgresqlServer
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.job import Job, MissedPolicy, Schedule
from roundsman.wire.run import FailureClass, Outcome, Run
from tests.ledger.conftest import EMPTIED, MEMORY

T = TypeVar("T")

TORTURE = bool(os.environ.get("ROUNDSMAN_TORTURE"))
EXAMPLES, STEPS = (3000, 120) if TORTURE else (25, 50)
EXAMPLES_OVER_A_WIRE, STEPS_OVER_A_WIRE = (600, 60) if TORTURE else (5, 30)
START = 1_700_000_000
LEASE = 120
ONE_EACH = ClaimLimits(sessions_per_device=1)
DEVICES = st.sampled_from(["d0", "d1", "d2"])
SCHEDULES = [
    Schedule(duration="1 minute"),
    Schedule(duration="7 minutes", splay="5 minutes"),
    Schedule(cron="*/3 * * * *", timezone="Europe/Berlin"),
    Schedule(iso_8601="R5/2023-11-14T22:14:00Z/PT2M"),
    Schedule(fixed=START + 400),
]
JOBS = {
    policy.value: Job(
        name=policy.value,
        schedule=SCHEDULES[0],
        missed=policy,
        missed_cap=2,
        missed_grace_seconds=90,
    )
    for policy in MissedPolicy
}
NAMES = st.sampled_from(sorted(JOBS))
PAUSED = st.tuples(st.just(PauseKind.DEVICE), DEVICES) | st.tuples(st.just(PauseKind.JOB), NAMES)
WANTED = st.dictionaries(
    st.tuples(DEVICES, NAMES),
    st.tuples(
        st.sampled_from(SCHEDULES),
        st.integers(0, 299),
        st.sampled_from([(), ("x",), ("x", "y")]),
        st.sampled_from([Priority.HIGH, Priority.NORMAL, Priority.LOW]),
    ),
    max_size=6,
)


class Held(NamedTuple):
    """A lease as its worker knows it."""

    lease: LeasedSlot
    worker: str


class Laws(RuleBasedStateMachine):
    """One ledger, some workers, and people who interfere."""

    make: Callable[[Path], Ledger]

    @initialize(wanted=WANTED)
    def begin(self, wanted: dict[Any, Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory(dir=MEMORY)
        self.now = START
        self.ids = count()
        self.held: list[Held] = []
        self.until: dict[tuple[str, str], tuple[int, float]] = {}
        self.freed: list[tuple[PauseKind, str, list[ResumedSlot]]] = []
        self.ledger = type(self).make(Path(self.folder.name))
        self.do(self.ledger.open())
        self.configure(wanted)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.do(self.ledger.close())
            self.folder.cleanup()
            self.loop.close()

    def do(self, call: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(call)

    @rule(seconds=st.sampled_from([-300, -70, -1, 1, 5, 30, 61, 119, 120, 200, 500]))
    def turn_the_clock(self, seconds: int) -> None:
        self.now += seconds

    @rule(wanted=WANTED)
    def configure(self, wanted: dict[Any, Any]) -> None:
        planned = []
        for (device, job), (schedule, share, tags, priority) in wanted.items():
            plan = plan_of(schedule, share if schedule.splay else 0)
            first = times_of(plan).next_after(self.now)
            planned.append(
                PlannedSlot(
                    device=device,
                    job=job,
                    tags=tags,
                    plan=plan,
                    first_due=first,
                    priority=priority,
                )
            )
        self.do(self.ledger.sync_slots(planned, self.now))
        self.until = {pair: lease for pair, lease in self.until.items() if pair in wanted}

    @rule(
        tags=st.sampled_from([None, frozenset("x"), frozenset("y")]),
        limit=st.integers(0, 4),
        ahead=st.sampled_from([0, 5, 100]),
        worker=st.sampled_from(["w1", "w2"]),
    )
    def claim(self, tags: frozenset[str] | None, limit: int, ahead: int, worker: str) -> None:
        leased = self.do(
            self.ledger.claim(
                TagFilter(any_of=tags),
                limit=limit,
                horizon=self.now + ahead,
                now=self.now,
                lease_seconds=LEASE,
                worker_id=worker,
                limits=ONE_EACH,
            )
        )
        assert len(leased) <= limit
        assert len({lease.device for lease in leased}) == len(leased)
        for lease in leased:
            assert tags is None or not tags.isdisjoint(lease.tags)
            epoch, until = self.until.get((lease.device, lease.job), (0, 0.0))
            assert lease.epoch > epoch
            assert until <= self.now
            running = [pair for pair, (_, until) in self.until.items() if until > self.now]
            assert all(device != lease.device for device, _ in running)
        for lease in leased:
            self.until[lease.device, lease.job] = (lease.epoch, lease.expires_at)
            if is_too_late(lease, JOBS[lease.job], self.now):
                times = times_of(lease.plan)
                following = after_too_late(lease, times, JOBS[lease.job], self.now)
                self.finish(lease, None, following.due, following.spans)
            else:
                self.held.append(Held(lease, worker))

    def finish(self, lease: LeasedSlot, run: Run | None, due: int | None, spans: Any) -> None:
        ending = Finish(run=run, key=key_of(lease), plan=lease.plan, next_due=due, spans=spans)
        self.end(ending)

    def end(self, ending: Finish) -> None:
        [answer] = self.do(self.ledger.finish([ending], self.now))
        pair = (ending.key.device, ending.key.job)
        if answer is FinishAnswer.KEPT:
            assert self.until.pop(pair)[0] == ending.key.epoch
        else:
            assert self.until.get(pair, (None, 0))[0] != ending.key.epoch

    @precondition(lambda self: self.held)
    @rule(picks=st.lists(st.integers(0, 99), max_size=3))
    def heartbeat(self, picks: list[int]) -> None:
        for pick in picks:
            lease, worker = self.held[pick % len(self.held)]
            until = self.now + LEASE
            renewing = self.ledger.renew(
                [key_of(lease)], worker_id=worker, now=self.now, until=until
            )
            [holds] = self.do(renewing)
            pair = (lease.device, lease.job)
            assert holds == (self.until.get(pair, (None, 0))[0] == lease.epoch)
            if holds:
                epoch, before = self.until[pair]
                self.until[pair] = (epoch, max(before, until))

    @precondition(lambda self: self.held)
    @rule(
        pick=st.integers(0, 99),
        how=st.sampled_from(["well", "failed", "retried", "opened"]),
        knows=st.booleans(),
        stays=st.booleans(),
    )
    def complete(self, *, pick: int, how: str, knows: bool, stays: bool) -> None:
        """By what the ledger says now, or by what it said when it was claimed; perhaps again."""
        position = pick % len(self.held)
        lease = self.held[position].lease
        if not stays:
            del self.held[position]
        if knows:
            key = ResultKey(device=lease.device, job=lease.job, due=lease.due, digest="")
            [standing] = self.do(self.ledger.standings([key]))
            if standing.lease is None or standing.lease.epoch != lease.epoch:
                return
            assert standing.lease.due == lease.due
            lease = standing.lease
        following = after_run(lease, times_of(lease.plan), JOBS[lease.job], self.now)
        retry = how == "retried" and not lease.on_demand
        run = Run(
            run_id=f"run-{next(self.ids)}",
            device=lease.device,
            job=lease.job,
            due=lease.due,
            outcome=Outcome.RETRIED
            if retry
            else Outcome.SUCCEEDED
            if how == "well"
            else Outcome.FAILED,
            recorded_at=self.now,
            epoch=lease.epoch,
            on_demand=lease.on_demand,
        )
        opened = Breaker(
            device=lease.device,
            failures=5,
            failure_class=FailureClass.UNREACHABLE,
            failure="no answer",
            failed_at=self.now,
            opened_at=self.now,
            probe_at=self.now + 100,
        )
        self.end(
            Finish(
                run=run,
                key=key_of(lease),
                plan=lease.plan,
                next_due=following.due,
                spans=() if retry else following.spans,
                retry_at=self.now + 45 if retry else None,
                breaker=opened if how == "opened" else None,
                answered=how == "well",
            )
        )

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 99), seconds=st.sampled_from([1, 60, 900]))
    def postpone(self, pick: int, seconds: int) -> None:
        """As what a window keeps from starting."""
        lease = self.held.pop(pick % len(self.held)).lease
        again = max(self.now, lease.due) + seconds
        self.end(
            Finish(run=None, key=key_of(lease), next_due=None, plan=lease.plan, retry_at=again)
        )

    @rule(device=DEVICES)
    def release(self, device: str) -> None:
        self.do(self.ledger.close_breaker(device, self.now))

    @rule(device=DEVICES, job=NAMES, beside=st.booleans())
    def run_now(self, *, device: str, job: str, beside: bool) -> None:
        try:
            self.do(self.ledger.run_now(device, job, self.now, beside=beside))
        except NotFoundError:
            return

    @rule(paused=PAUSED)
    def pause(self, paused: tuple[PauseKind, str]) -> None:
        kind, name = paused
        self.do(self.ledger.pause(Pause(kind=kind, name=name, since=self.now, by="alice")))

    @rule(paused=PAUSED)
    def look_what_a_resume_would_free(self, paused: tuple[PauseKind, str]) -> None:
        kind, name = paused
        found = self.do(self.ledger.to_resume(kind, name))
        if found is not None:
            self.freed.append((kind, name, found))

    @precondition(lambda self: self.freed)
    @rule(pick=st.integers(0, 99))
    def resume(self, pick: int) -> None:
        """By what was found a moment ago: other things may have happened since."""
        kind, name, found = self.freed.pop(pick % len(self.freed))
        moved = []
        for slot in found:
            following = after_pause(slot, times_of(slot.plan), self.now)
            moved.append(
                Resumption(
                    device=slot.device,
                    job=slot.job,
                    epoch=slot.epoch,
                    plan=slot.plan,
                    next_due=following.due,
                    spans=following.spans,
                )
            )
        self.do(self.ledger.resume(kind, name, moved, self.now))

    @rule()
    def restart(self) -> None:
        self.do(self.ledger.close())
        self.do(self.ledger.open())

    @invariant()
    def planned_is_the_sum_of_outcomes(self) -> None:
        if not hasattr(self, "loop"):
            return
        for since, until in ((START - 900, self.now + 900), (START + 100, START + 333)):
            query = AccountQuery(since=since, until=max(until, since + 1), limit=100)
            for account in self.do(self.ledger.accounts(query, self.now)).items:
                balance = balance_of(account, query, self.now)
                assert balance.difference == 0, (account, balance)


def key_of(lease: LeasedSlot) -> LeaseKey:
    return LeaseKey(device=lease.device, job=lease.job, epoch=lease.epoch)


def memory(_: Path) -> Ledger:
    return MemoryLedger()


def sqlite(folder: Path) -> Ledger:
    return SqliteLedger(folder / "ledger.sqlite3")


@pytest.mark.timeout(7200 if TORTURE else 300)
@pytest.mark.parametrize("make", [memory, sqlite])
def test_the_laws_hold_whatever_happens(make: Callable[[Path], Ledger], rng: random.Random) -> None:
    run(make, rng, EXAMPLES, STEPS)


@pytest.mark.timeout(7200 if TORTURE else 400)
def test_the_laws_hold_on_postgresql(
    postgresql_server: PostgresqlServer, rng: random.Random
) -> None:
    def postgresql(folder: Path) -> Ledger:
        asyncio.run(postgresql_server.run(EMPTIED, TEMPLATE))
        url = postgresql_server.url(TEMPLATE)
        return PostgresqlLedger(url, PASSWORD, folder=folder, clock=SystemClock())

    run(postgresql, rng, EXAMPLES_OVER_A_WIRE, STEPS_OVER_A_WIRE)


def run(make: Callable[[Path], Ledger], rng: random.Random, examples: int, steps: int) -> None:
    machine = type("LawsOfOne", (Laws,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        seed(rng.randrange(2**32))(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if TORTURE else [Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )

"""Planned due times = the sum of outcomes, with attempts, held devices, quarantine and people."""

import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from roundsman.archive.git import GitArchive
from roundsman.config.records import (
    BreakerSettings,
    Configuration,
    ControllerSettings,
    Retries,
)
from roundsman.ledger.drivers import open_ledger
from roundsman.ledger.interface import RunQuery, SlotQuery
from roundsman.testing.clock import ManualClock
from roundsman.wire.accounts import SlotAudit
from roundsman.wire.job import MissedPolicy
from roundsman.wire.page import Page
from roundsman.wire.run import FailureClass, Outcome, Run, Slot
from tests.controller import multipart
from tests.controller.serving import (
    PERIOD,
    START,
    Served,
    configuration,
    device,
    job,
    served,
    slot,
)

DEVICES: Final = ("edge0", "edge1")
JOBS: Final = ("backup", "check")
LATE: Final = 2000  # beyond every lease, delay and hold
RAN: Final = (Outcome.SUCCEEDED, Outcome.FAILED)
NO_OUTCOME: Final = {Outcome.RETRIED, Outcome.STALE}


def site(policy: MissedPolicy) -> Configuration:
    """Two devices, each with two jobs, all due every `PERIOD`."""
    breaker = BreakerSettings(failures=3, login_failures=1, seconds=60, longest_seconds=200)
    jobs = [job(name, missed=policy, missed_cap=3, missed_grace_seconds=150) for name in JOBS]
    return configuration(
        (
            slot(device(name), task, retries=Retries(attempts=2, delay=15))
            for name in DEVICES
            for task in jobs
        ),
        ControllerSettings(breaker=breaker),
    )


class Fates:
    """What workers, devices and people do, by chance."""

    def __init__(self, running: Served, clock: ManualClock, rng: random.Random) -> None:
        self._running = running
        self._clock = clock
        self._rng = rng

    async def round(self) -> None:
        """Some time passes, somebody interferes, and what is handed out comes to some end."""
        self._clock.advance(self._rng.randrange(1, 300))
        await self._interfere()
        for execution in await self._lease():
            fate = self._rng.random()
            if fate < 0.1:
                continue  # the worker died
            failure_class = self._rng.choice([*FailureClass]) if fate < 0.6 else None
            await self._complete(execution, failure_class, lines=self._rng.choice([5, 30, 100]))

    async def drain(self) -> None:
        """Everything that is due ends well."""
        for name in DEVICES:
            await self._call(f"/devices/{name}/resume")
        while leased := await self._lease():
            for execution in leased:
                await self._complete(execution, None, lines=100)

    async def _complete(
        self, execution: dict[str, Any], failure_class: FailureClass | None, *, lines: int
    ) -> None:
        """Say how it ended, perhaps twice."""
        said = {"failure": "no", "failure_class": failure_class.value} if failure_class else {}
        epoch = str(execution["lease"]["epoch"])
        body = multipart.completion(
            execution["device"]["name"],
            execution["job"]["name"],
            execution["timestamp"],
            b"line\n" * lines,
            epoch=epoch,
            **said,
        )
        for _ in range(self._rng.choice([1, 1, 2])):
            async with self._running.http.post(
                "/worker/complete", data=body, headers=multipart.HEADERS
            ) as answer:
                assert answer.status == 200, await answer.text()

    async def _lease(self) -> list[dict[str, Any]]:
        async with self._running.http.get("/worker/next?max=100&seconds=0") as answer:
            leased: list[dict[str, Any]] = await answer.json() if answer.status == 200 else []
            return leased

    async def _interfere(self) -> None:
        name, task = self._rng.choice(DEVICES), self._rng.choice(JOBS)
        match self._rng.randrange(8):
            case 0:
                await self._call(f"/devices/{name}/jobs/{task}/run")
            case 1:
                await self._call(f"/devices/{name}/release")
            case 2:
                await self._call(f"/devices/{name}/pause")
            case 3 | 4:
                await self._call(f"/devices/{name}/resume")
            case 5:
                await self._accept()

    async def _accept(self) -> None:
        for standing in await slots_of(self._running, self._clock):
            if standing.quarantined is not None:
                await self._call(f"/runs/{standing.quarantined}/accept")

    async def _call(self, path: str) -> None:
        async with self._running.http.post(f"/api/v1{path}") as answer:
            assert answer.status in (200, 202, 409), await answer.text()


async def slots_of(running: Served, clock: ManualClock) -> tuple[Slot, ...]:
    return (await running.controller.ledger.slots(SlotQuery(), clock.now())).items


async def runs_of(running: Served) -> list[Run]:
    found: list[Run] = []
    after: str | None = None
    while True:
        page = await running.controller.ledger.runs(RunQuery(limit=500, after=after))
        found += page.items
        after = page.next
        if after is None:
            return found


async def audit_of(running: Served) -> tuple[SlotAudit, ...]:
    async with running.http.get("/api/v1/audit/slots?from=0") as answer:
        return msgspec.json.decode(await answer.read(), type=Page[SlotAudit]).items


@pytest.mark.parametrize("policy", MissedPolicy)
async def test_every_due_time_has_one_outcome_whatever_happens(
    tmp_path: Path, policy: MissedPolicy, rng: random.Random
) -> None:
    clock = ManualClock(START)
    runs: list[Run] = []
    slots: tuple[Slot, ...] = ()
    audited: tuple[SlotAudit, ...] = ()
    for last in (False, False, True):  # with a restart between
        ledger = await open_ledger(tmp_path)
        archive = GitArchive(tmp_path / "archive.git", clock)
        async with served(
            site(policy), tmp_path, ledger=ledger, archive=archive, clock=clock
        ) as running:
            fates = Fates(running, clock, rng)
            for _ in range(12):
                await fates.round()
            if not last:
                continue
            clock.advance(LATE)
            await fates.drain()
            runs = await runs_of(running)
            slots = await slots_of(running, clock)
            audited = await audit_of(running)
    print(Counter(run.outcome.value for run in runs))
    assert [each.balance.difference for each in audited] == [0] * len(slots)
    for each in audited:  # the same, told by the audit
        outcomes = [(count.outcome, count.cause) for count in each.balance.outcomes]
        assert all((cause is None) == (outcome in RAN) for outcome, cause in outcomes)
    assert all(standing.due is not None and standing.due > clock.now() for standing in slots)
    for standing in slots:
        ended = [
            run
            for run in runs
            if (run.device, run.job) == (standing.device, standing.job)
            and run.outcome not in NO_OUTCOME
            and not run.on_demand
        ]
        assert standing.due is not None
        assert sum(run.count for run in ended) == (standing.due - START - PERIOD) // PERIOD

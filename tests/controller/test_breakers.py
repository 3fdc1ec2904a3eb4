"""Devices that fail again and again are held back: when, how long, and what is seen of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from roundsman.config.records import BreakerSettings
from roundsman.controller.judgement import Health, health_after
from roundsman.wire.breaker import Breaker
from roundsman.wire.run import FailureClass, Outcome, Run
from tests.controller import multipart
from tests.controller import site as sites
from tests.controller.site import Site, bearer, open_real_site

START: Final = 1_700_002_800
HOUR: Final = 3600
SETTINGS: Final = BreakerSettings()
CONFIGURATION: Final = sites.CONFIGURATION.replace(
    "1 day", "7 hours"
)  # due first at START + 4 hours


def failed(failure_class: FailureClass | None, *, size: int | None = None) -> Run:
    return Run(
        run_id="r",
        device="edge0",
        job="show",
        due=START,
        outcome=Outcome.FAILED,
        recorded_at=START,
        failure="no",
        failure_class=failure_class,
        size=size,
    )


def after(
    run: Run, before: Breaker | None = None, *, now: float = START, **settings: Any
) -> Health:
    changed = msgspec.structs.replace(SETTINGS, **settings)
    return health_after(run, before, changed, now=now, jitter=0)


@pytest.mark.parametrize("failure_class", FailureClass)
def test_a_failure_is_of_the_device_of_the_job_or_uncertain(failure_class: FailureClass) -> None:
    said = after(failed(failure_class, size=100))
    of_the_device = {"unreachable", "refused", "host_key", "authentication", "enable"}
    uncertain = {"prompt", "closed_early", "timed_out", "internal", "invalid", "other"}
    assert (said.breaker is not None) is (failure_class in of_the_device)
    assert said.answered is (failure_class not in of_the_device | uncertain)


def test_time_that_ran_out_before_a_word_was_said_ran_out_at_the_login() -> None:
    assert after(failed(FailureClass.TIMED_OUT)).breaker is not None
    assert after(failed(FailureClass.TIMED_OUT, size=9)).breaker is None


def test_it_opens_after_so_many_in_a_row_and_sooner_at_the_login() -> None:
    breaker = None
    for number in range(1, 6):
        breaker = after(failed(FailureClass.UNREACHABLE), breaker).breaker
        assert breaker is not None
        assert (breaker.failures, breaker.open) == (number, number == 5)
    first = after(failed(FailureClass.AUTHENTICATION)).breaker
    second = after(failed(FailureClass.AUTHENTICATION), first).breaker
    assert first is not None
    assert second is not None
    assert (first.open, second.open) == (False, True)


def test_a_failed_probe_widens_it_up_to_the_longest() -> None:
    run = failed(FailureClass.UNREACHABLE)
    breaker = after(run, failures=1).breaker
    waits = []
    for _ in range(5):
        assert breaker is not None
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - int(breaker.failed_at))
        assert after(run, breaker, now=breaker.probe_at - 1).breaker == msgspec.structs.replace(
            breaker, failures=breaker.failures + 1, failed_at=breaker.probe_at - 1
        )
        breaker = after(run, breaker, now=breaker.probe_at).breaker
    assert waits == [300, 600, 1200, 2400, 3600]
    assert health_after(run, None, BreakerSettings(failures=1), now=0, jitter=1).breaker == Breaker(
        device="edge0",
        failures=1,
        failure_class=FailureClass.UNREACHABLE,
        failure="no",
        failed_at=0,
        opened_at=0,
        probe_at=375,
    )


def test_an_uncertain_failure_leaves_it_as_it_is_and_any_other_run_closes_it() -> None:
    before = after(failed(FailureClass.UNREACHABLE)).breaker
    assert after(failed(None), before) == Health(answered=False, breaker=before)
    assert after(failed(FailureClass.REJECTED), before) == Health(answered=True)
    assert after(failed(FailureClass.UNREACHABLE), before, enabled=False) == Health(answered=True)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_real_site(tmp_path, CONFIGURATION) as site:
        yield site


async def lease(site: Site) -> list[tuple[str, str, int]]:
    answer = await site.client.get("/worker/next?tag=core&tag=fra", headers=bearer("walter"))
    items = answer.json() if answer.status_code == 200 else []
    return [(item["device"]["name"], item["job"]["name"], item["timestamp"]) for item in items]


async def complete(
    site: Site, execution: tuple[str, str, int], failure_class: str | None = None
) -> str:
    device, job, due = execution
    said = {"failure": "no", "failure_class": failure_class} if failure_class else {}
    content = None if failure_class else b"version %d\n" % due
    answer = await site.client.post(
        "/worker/complete",
        content=multipart.completion(device, job, due, content, **said),
        headers={**multipart.HEADERS, **bearer("walter")},
    )
    assert answer.status_code == 200, answer.text
    outcome: str = answer.json()["outcome"]
    return outcome


async def device(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await site.get(f"/devices/{name}")).json()
    return found


async def held(site: Site) -> list[str]:
    listed = (await site.get("/devices", held=True)).json()["items"]
    assert all(item["breaker"]["opened_at"] for item in listed)
    return [item["name"] for item in listed]


async def open_breaker(site: Site) -> int:
    """Two wrong passwords on core1; the time of its probe."""
    for number in (1, 2):
        site.clock.step(START + number * HOUR - site.clock.now())
        for execution in await lease(site):
            wrong = execution[0] == "core1"
            outcome = await complete(site, execution, "authentication" if wrong else None)
            assert outcome == ("failed" if wrong else "succeeded")
    breaker = (await device(site, "core1"))["breaker"]
    assert (breaker["failures"], breaker["failure_class"]) == (2, "authentication")
    probe_at: int = breaker["probe_at"]
    return probe_at


async def test_a_held_device_is_seen_probed_and_let_go(site: Site) -> None:
    assert await held(site) == []
    probe_at = await open_breaker(site)
    assert START + 2 * HOUR + 300 <= probe_at <= START + 2 * HOUR + 375
    assert await held(site) == ["core1"]
    assert "core1" not in [
        item["name"] for item in (await site.get("/devices", held=False)).json()["items"]
    ]
    states = {job["slot"]["state"] for job in (await device(site, "core1"))["jobs"]}
    assert states == {"waiting", "held"}

    site.clock.step(START + 3 * HOUR - site.clock.now())
    [probe, other] = await lease(site)
    assert (probe, other[0]) == (("core1", "show", START + 3 * HOUR), "edge2")
    assert await complete(site, other) == "succeeded"
    assert await complete(site, probe, "authentication") == "failed"
    wider = (await device(site, "core1"))["breaker"]
    assert wider["probes"] == 1
    assert wider["probe_at"] >= START + 3 * HOUR + 600

    site.clock.step(START + 6 * HOUR - site.clock.now())
    by_device = {execution[0]: execution for execution in await lease(site)}
    assert await complete(site, by_device["core1"]) == "succeeded"
    assert await held(site) == []
    assert (await device(site, "core1"))["breaker"] is None


async def test_due_times_that_pass_meanwhile_say_so(site: Site) -> None:
    """By hand, hours later: what became of those in between is known."""
    await open_breaker(site)
    site.clock.step(START + 2 * HOUR + 60 - site.clock.now())
    assert (await site.post("/devices/core1/jobs/show/run")).json()["result"] == "queued"
    assert await complete(site, (await lease(site))[0], "host_key") == "failed"
    site.clock.step(START + 30 * HOUR - site.clock.now())
    # Only one of its two jobs, both of which are overdue.
    [execution] = [item for item in await lease(site) if item[0] == "core1"]
    assert await complete(site, execution) == "succeeded"
    [rest] = [item for item in await lease(site) if item[0] == "core1"]
    assert await complete(site, rest) == "succeeded"
    coalesced = (await site.get("/runs", device="core1", outcome="coalesced")).json()["items"]
    overdue = "one run stands for all that were overdue"
    # The one was to be the probe, and nobody came for it; the other was held back.
    assert {(run["job"], run["cause"], run["failure"]) for run in coalesced} == {
        ("show", "no_worker", f"no worker for these tags; {overdue}"),
        ("backup", "breaker_open", f"breaker open; {overdue}"),
    }
    outcomes = (await site.get("/runs", device="core1", job="show")).json()["items"]
    asked_for = sum(run["on_demand"] for run in outcomes)
    assert sum(run["count"] for run in outcomes) - asked_for == 30


async def test_a_person_closes_it(site: Site) -> None:
    await open_breaker(site)
    site.clock.step(START + 3 * HOUR - site.clock.now())
    assert (await site.post("/devices/core1/release", by="rita")).status_code == 403
    assert (await site.post("/devices/core1/release")).json() == {"changed": True}
    assert (await site.post("/devices/core1/release")).json() == {"changed": False}
    assert (await site.post("/devices/none/release")).status_code == 404
    assert await held(site) == []
    assert ("core1", "show", START + 3 * HOUR) in await lease(site)


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with open_real_site(tmp_path, CONFIGURATION) as site:
        await open_breaker(site)
        before = (await device(site, "core1"))["breaker"]
    async with open_real_site(tmp_path, CONFIGURATION) as site:
        site.clock.step(2 * HOUR + 200)
        assert (await device(site, "core1"))["breaker"] == before
        assert "core1" not in {item[0] for item in await lease(site)}

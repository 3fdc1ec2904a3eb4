"""Whatever dies: each planned time has one outcome, each success one result, no two have one lease.

In the suite a small site is put through each fault once; `make torture` has three controllers and
twenty workers rage for ten minutes. The seed is printed with each run.
"""

import asyncio
import contextlib
import dataclasses
import os
import random
import time
from pathlib import Path

import pytest

from roundsman.client import ControllerClient
from roundsman.testing.postgresql_server import PostgresqlServer
from roundsman.wire.run import Outcome
from tests.torture.fire import checker
from tests.torture.fire.devices import touches
from tests.torture.fire.faults import Faults
from tests.torture.fire.site import POLL_SECONDS, Site, Size

TORTURE = bool(os.environ.get("ROUNDSMAN_TORTURE"))
SECONDS = float(os.environ.get("ROUNDSMAN_FIRE_SECONDS", "600"))
SMALL = Size(controllers=2, workers=2, slots=20, period=4, lease=2, acknowledge="pushed")
KEPT = Size(controllers=3, workers=4, slots=40, period=6, lease=3, acknowledge="kept")
LARGE = Size(controllers=3, workers=20, slots=2000, period=180, lease=20, acknowledge="pushed")
AGREED_SECONDS = 120.0


async def recovered(site: Site) -> None:
    """Until something succeeds again: what is whole has to work again by itself."""
    since = time.time()
    async with ControllerClient(site.controllers[0].url) as client:
        while not (await client.manage.runs(outcome=Outcome.SUCCEEDED, since=since)).items:  # noqa: ASYNC110 - another process writes them
            await asyncio.sleep(POLL_SECONDS)


async def agreed(site: Site, history: checker.History) -> None:
    """Until what the controllers acknowledged before is pushed, and what they refused withdrawn.

    What is not by then is for the checker to say.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AGREED_SECONDS):
            while not await asyncio.to_thread(checker.is_agreed, history, site.repositories):  # noqa: ASYNC110 - other processes write it
                await asyncio.sleep(POLL_SECONDS)


async def judge(site: Site, faults: Faults) -> None:
    """End it in order, and hold everything against everything."""
    await recovered(site)
    statuses = await asyncio.gather(*(worker.drain() for worker in site.workers))
    findings = checker.Findings()
    findings.hold(set().union(*statuses) == {0}, f"workers ended with {statuses}")
    history = await checker.read_history(site.controllers[0].url)
    if site.size.is_settled_later:
        await agreed(site, history)
        findings.hold(checker.is_agreed(history, site.repositories), "archives do not agree")
    for controller in site.controllers:
        findings.hold(await controller.stop() == 0, f"{controller.name} did not end well")
    checker.check_accounts(history, site.size.period, findings)
    for remote in site.remotes:
        checker.check_archive(history, remote, findings)
    if site.size.is_settled_later:
        for controller in site.controllers:
            checker.check_versions(history, controller.archive, findings)
    checker.check_devices(history, touches(site.trace), findings)
    checker.check_left_over(history, [worker.state for worker in site.workers], findings)
    checker.check_logs([process.log for process in site.processes], findings)
    print("faults:", dict(faults.done))
    print("found:", dict(findings.counts))
    assert not findings.faults, "\n".join([f"{len(findings.faults)} faults", *findings.faults[:40]])
    assert findings.counts["succeeded"]


@pytest.mark.skipif(TORTURE, reason="the long form does all of this, and more")
async def test_a_small_site_is_put_through_each_fault(tmp_path: Path, rng: random.Random) -> None:
    with PostgresqlServer() as server:
        site = Site(tmp_path, SMALL, server, str(rng.random()))
        async with site.running("fire"):
            faults = Faults(site, rng, longest=1.25 * SMALL.lease)
            await faults.each_once()
            await judge(site, faults)


async def rage_and_judge(folder: Path, rng: random.Random, size: Size) -> None:
    with PostgresqlServer() as server:
        site = Site(folder, size, server, str(rng.random()))
        async with site.running("fire"):
            faults = Faults(site, rng, longest=2 * size.lease)
            await faults.rage(SECONDS * 0.15, pause=0.7)
            await judge(site, faults)


@pytest.mark.skipif(not TORTURE, reason="make torture: some minutes")
@pytest.mark.timeout(1200)
async def test_a_site_that_acknowledges_before_it_has_pushed_rages(
    tmp_path: Path, rng: random.Random
) -> None:
    await rage_and_judge(tmp_path, rng, KEPT)


@pytest.mark.skipif(not TORTURE, reason="make torture: some minutes")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("acknowledge", ["kept", "pushed"])
async def test_a_site_with_two_remotes_rages(
    tmp_path: Path, rng: random.Random, acknowledge: str
) -> None:
    size = dataclasses.replace(KEPT, remotes=2, acknowledge=acknowledge)
    await rage_and_judge(tmp_path, rng, size)


@pytest.mark.skipif(not TORTURE, reason="make torture: ten minutes")
@pytest.mark.timeout(SECONDS + 2400)
async def test_a_large_site_rages(tmp_path: Path, rng: random.Random) -> None:
    with PostgresqlServer() as server:
        site = Site(tmp_path, LARGE, server, str(rng.random()))
        async with site.running("fire"):
            faults = Faults(site, rng, longest=2 * LARGE.lease)
            await faults.rage(SECONDS, pause=1)
            await judge(site, faults)

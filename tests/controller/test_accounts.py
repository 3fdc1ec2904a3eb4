"""The audit of slots, as a client sees it: planned beside outcomes, with causes that are so."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from roundsman.controller.accounts import balance_of
from roundsman.controller.attendance import EVERY_SECONDS
from roundsman.ledger.interface import AccountQuery, PlanEpoch, SlotAccount, Tally
from roundsman.ledger.memory import MemoryLedger
from roundsman.schedules.plans import plan_of
from roundsman.wire.accounts import OpenState
from roundsman.wire.job import Schedule
from roundsman.wire.run import Outcome, SlotState
from tests.controller import multipart
from tests.controller.site import CONFIGURATION, START, Site, bearer, open_real_site, open_site

HOUR = 3600
EVER: dict[str, Any] = {"from": 0}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


async def lease(site: Site, tag: str | None = None) -> list[dict[str, Any]]:
    """What a worker with this tag is handed, and gives back well."""
    answer = await site.client.get(
        "/worker/next",
        params={"max": 100, "seconds": 0, **({"tag": tag} if tag else {})},
        headers=bearer("walter"),
    )
    return answer.json() if answer.status_code == 200 else []


async def serve(site: Site, tag: str | None = None) -> None:
    for execution in await lease(site, tag):
        answer = await site.client.post(
            "/worker/complete",
            content=multipart.completion(
                execution["device"]["name"],
                execution["job"]["name"],
                execution["timestamp"],
                b"hostname x\n",
                epoch=str(execution["lease"]["epoch"]),
            ),
            headers={**multipart.HEADERS, **bearer("walter")},
        )
        assert answer.status_code == 200, answer.text


async def told(site: Site, device: str, job: str = "show", **asked: Any) -> dict[str, Any]:
    answer = await site.get("/audit/slots", device=device, job=job, **{**EVER, **asked})
    [slot] = answer.json()["items"]
    return cast("dict[str, Any]", slot)


def outcomes(slot: dict[str, Any]) -> dict[tuple[str, str | None], int]:
    return {(each["outcome"], each["cause"]): each["count"] for each in slot["balance"]["outcomes"]}


def waiting(slot: dict[str, Any]) -> dict[str, int]:
    return {each["state"]: each["count"] for each in slot["balance"]["open"]}


async def test_what_is_open_is_said_as_such(site: Site) -> None:
    site.clock.step(2 * HOUR + 60)
    slot = await told(site, "edge1", to=START + 5 * HOUR + 1)
    assert slot["balance"]["planned"] == 5
    assert waiting(slot) == {"due": 2, "waiting": 3}
    assert (slot["balance"]["difference"], slot["waits_for"]) == (0, "no_worker")
    await lease(site, "ams")
    slot = await told(site, "edge1")
    assert (waiting(slot), slot["waits_for"]) == ({"leased": 1, "due": 1}, None)
    assert (await told(site, "edge2"))["waits_for"] == "no_worker"  # it asked for another tag
    await site.post("/devices/edge2/pause")
    slot = await told(site, "edge2")
    assert (waiting(slot), slot["waits_for"]) == ({"paused": 2}, "paused")


async def test_causes_are_those_that_were(site: Site) -> None:
    site.clock.step(3 * HOUR + 60)  # nobody asks
    await serve(site, "ams")
    site.clock.step(HOUR)
    await lease(site, "ams")  # a worker that dies with it
    site.clock.step(30)
    for _ in range(40):  # another is there, and is given other things
        site.clock.step(50)
        await lease(site, "fra")
    site.clock.step(3 * HOUR)
    await serve(site, "ams")
    slot = await told(site, "edge1")
    assert slot["balance"]["difference"] == 0
    assert outcomes(slot) == {
        ("succeeded", None): 2,
        ("coalesced", "no_worker"): 5,
    }
    runs = (await site.get("/runs", device="edge1", outcome="coalesced")).json()["items"]
    assert {run["failure"] for run in runs} == {
        "no worker for these tags; one run stands for all that were overdue"
    }


async def test_a_lost_worker_is_named_as_the_cause(tmp_path: Path) -> None:
    text = CONFIGURATION.replace('cron: "0 * * * *"', "duration: 60 seconds")
    async with open_site(tmp_path, text) as site:
        site.clock.step(61)
        await lease(site, "ams")  # without a heartbeat it lasts 900 s
        for _ in range(17):
            site.clock.step(50)
            assert await lease(site, "ams") == []
        site.clock.step(60)
        await serve(site, "ams")
        slot = await told(site, "edge1")
        assert outcomes(slot) == {("succeeded", None): 1, ("coalesced", "worker_lost"): 15}


async def test_a_controller_that_was_down_is_the_cause(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    async with open_site(tmp_path, ledger=ledger) as site:
        site.clock.step(HOUR + 60)
        await serve(site)
        site.clock.step(EVERY_SECONDS)
    # The clock of a site begins anew: the second one comes up three hours later.
    async with open_site(tmp_path, ledger=ledger) as site:
        site.clock.step(4 * HOUR - 60)
        await site.controller.attendance.open()
        site.clock.step(HOUR + 120)
        await serve(site)
        slot = await told(site, "edge1")
        assert outcomes(slot) == {
            ("succeeded", None): 2,
            ("coalesced", "controller_down"): 1,
            ("coalesced", "no_worker"): 2,
        }


async def test_changed_schedules_and_slots_that_are_gone(tmp_path: Path) -> None:
    async with open_real_site(tmp_path) as site:
        site.clock.step(3 * HOUR + 60)
        changed = CONFIGURATION.replace('cron: "0 * * * *"', "duration: 2 hours")
        site.file.write_text(changed.replace("edge2: {tags: [fra], jobs: [show]}", ""))
        assert (await site.post("/reload")).status_code == 200
        site.clock.step(4 * HOUR)
        slot = await told(site, "edge1", to=START + 9 * HOUR + 1)
        assert outcomes(slot) == {("missed", "replanned"): 3}
        assert waiting(slot) == {"due": 2, "waiting": 1}
        assert slot["balance"]["planned"] == 6
        gone = await told(site, "edge2")
        assert (outcomes(gone), gone["balance"]["planned"]) == ({("missed", "removed"): 3}, 3)
        totals = (await site.get("/audit/slots/totals", tag="fra", **EVER)).json()
        assert (totals["slots"], totals["differing"], totals["balance"]["planned"]) == (1, 0, 3)
        everything = (await site.get("/audit/slots/totals", **EVER)).json()
        assert (everything["slots"], everything["balance"]["difference"]) == (5, 0)


async def test_a_difference_is_told_and_found(site: Site) -> None:
    """As if a row of the history had been lost, or written twice."""
    ledger = site.ledger
    assert isinstance(ledger, MemoryLedger)
    site.clock.step(2 * HOUR + 60)
    await serve(site)
    assert (await site.get("/audit/slots", differing=True)).json()["items"] == []
    lost = ledger._runs.pop()
    [slot] = (await site.get("/audit/slots", differing=True, **EVER)).json()["items"]
    assert (slot["device"], slot["balance"]["difference"]) == (lost.device, lost.count)
    ledger._runs += [lost, lost]
    [slot] = (await site.get("/audit/slots", differing=True, **EVER)).json()["items"]
    assert slot["balance"]["difference"] == -lost.count
    totals = (await site.get("/audit/slots/totals", **EVER)).json()
    assert (totals["differing"], totals["balance"]["difference"]) == (1, lost.count)


async def test_of_long_ago_sums_are_left(site: Site) -> None:
    site.clock.step(HOUR + 60)
    await serve(site)
    site.clock.step(500 * 86_400)
    await site.controller.retention.prune_history()
    assert (await site.get("/runs")).json()["items"] == []
    sums = (await site.get("/audit/days", job="show", limit=1)).json()
    assert [(each["job"], each["outcome"], each["count"]) for each in sums["items"]] == [
        ("show", "succeeded", 4)
    ]
    assert sums["next"] is None
    asked = await site.get("/audit/slots", **EVER)
    assert (asked.status_code, asked.json()["code"]) == (400, "audit.pruned")
    assert "/api/v1/audit/days" in asked.json()["error"]
    later: dict[str, Any] = {"from": START + HOUR + 1}
    slot = await told(site, "edge1", **later)
    assert slot["balance"]["difference"] == 0


async def test_pages_and_wrong_times(site: Site) -> None:
    site.clock.step(60)
    first = (await site.get("/audit/slots", limit=2)).json()
    rest = (await site.get("/audit/slots", limit=9, after=first["next"])).json()
    names = [(each["device"], each["job"]) for each in [*first["items"], *rest["items"]]]
    assert names == sorted(names)
    assert len(names) == 5
    wrong = await site.get("/audit/slots", to=0)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "audit.span")


def test_a_balance_says_what_is_missing() -> None:
    hourly = plan_of(Schedule(duration="1 hour"))
    account = SlotAccount(
        device="d",
        job="j",
        tags=(),
        plans=(PlanEpoch(plan=hourly, since=0, until=None),),
        tallies=(Tally(outcome=Outcome.STALE, cause=None, on_demand=False, count=1),),
        cut=(),
        open_due=4 * HOUR,
        state=SlotState.WAITING,
        attempts=1,
    )
    query = AccountQuery(since=HOUR, until=6 * HOUR)
    balance = balance_of(account, query, 4 * HOUR + 5)
    assert (balance.planned, balance.difference, balance.stale) == (5, 3, 1)
    states = {each.state: each.count for each in balance.open}
    assert states == {OpenState.RETRYING: 1, OpenState.WAITING: 1}

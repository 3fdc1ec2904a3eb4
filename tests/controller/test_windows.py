"""Windows in which no scheduled run is started, as workers and people see them."""

from pathlib import Path

import msgspec
import pytest

from roundsman.controller.dispatch import POSTPONED_SECONDS
from roundsman.ledger.interface import FinishAnswer, TagFilter
from roundsman.testing.ledger_conformance import end_of, run_of
from roundsman.wire.breaker import Breaker
from roundsman.wire.run import FailureClass, Outcome
from tests.controller.site import CONFIGURATION, START, Site, open_real_site, open_site
from tests.controller.test_accounts import lease, outcomes, serve, told

MIDNIGHT = START + 3600  # of a Wednesday; `show` is due each hour
OPENS = MIDNIGHT + 9000
NIGHT = """
windows:
  night:
    weekly: [{days: [wed], start: "00:00", end: "02:30"}]
    tags: [core]
"""
MISSED = CONFIGURATION.replace("  show:\n", "  show:\n    missed: none\n")


def turn(site: Site, instant: int) -> None:
    """Turn the clock to an instant."""
    site.clock.advance(instant - site.clock.now())


async def given(site: Site) -> set[str]:
    """Whose `show` a worker is handed."""
    leased = await lease(site)
    return {each["device"]["name"] for each in leased if each["job"]["name"] == "show"}


async def test_what_falls_due_in_it_waits_until_it_opens(tmp_path: Path) -> None:
    async with open_real_site(tmp_path, CONFIGURATION + NIGHT) as site:
        turn(site, MIDNIGHT + 1)
        await serve(site)
        slot = (await site.get("/slots/core1/show")).json()
        assert (slot["state"], slot["due"], slot["attempts"]) == ("waiting", MIDNIGHT, 0)
        assert (slot["closed_by"], slot["opens_at"]) == (["night"], OPENS)
        assert slot["ready"] == MIDNIGHT + 1 + POSTPONED_SECONDS
        assert (await site.get("/slots/edge1/show")).json()["closed_by"] == []
        assert (await told(site, "core1"))["waits_for"] == "outside_window"
        detail = (await site.get("/devices/core1")).json()
        assert {job["slot"]["opens_at"] for job in detail["jobs"]} == {OPENS}
        while site.clock.now() + POSTPONED_SECONDS < OPENS:
            site.clock.advance(POSTPONED_SECONDS)
            assert "core1" not in await given(site)
        turn(site, OPENS)
        await serve(site)
        slot = await told(site, "core1")
        assert outcomes(slot) == {("succeeded", None): 1, ("coalesced", "outside_window"): 2}
        assert slot["balance"]["difference"] == 0


async def test_what_a_person_asks_for_goes_through(tmp_path: Path) -> None:
    async with open_site(tmp_path, CONFIGURATION + NIGHT) as site:
        turn(site, MIDNIGHT + 1)
        for _ in range(2):  # before and after it was found closed
            answer = await site.post("/devices/core1/jobs/show/run")
            assert answer.json() == {"result": "queued"}
            assert (await site.post("/devices/core1/jobs/show/run")).json() == {
                "result": "already_due"
            }
            await serve(site, "core")
            assert await given(site) <= {"edge1", "edge2", "2001:db8::1"}
        slot = await told(site, "core1")
        assert slot["balance"]["on_demand"] == 2
        assert outcomes(slot) == {}
        turn(site, OPENS)
        await serve(site)
        assert outcomes(await told(site, "core1"))["succeeded", None] == 1


async def test_by_the_policy_none_it_is_missed(tmp_path: Path) -> None:
    async with open_site(tmp_path, MISSED + NIGHT) as site:
        turn(site, MIDNIGHT + 1)
        await serve(site)
        slot = await told(site, "core1")
        assert outcomes(slot) == {("missed", "outside_window"): 1}
        [run] = (await site.get("/runs", device="core1", outcome="missed")).json()["items"]
        assert run["failure"] == "outside its window; closed by night"
        assert (await site.get("/slots/core1/show")).json()["due"] == MIDNIGHT + 3600


async def test_out_of_those_that_allow_nothing_is_started(tmp_path: Path) -> None:
    text = (
        CONFIGURATION
        + """
windows:
  nights: {kind: allowed, timezone: Europe/Berlin, weekly: [{start: "02:00", end: "03:00"}]}
"""
    )
    async with open_site(tmp_path, text) as site:
        turn(site, MIDNIGHT + 1)  # 01:00 in Berlin
        assert await lease(site) == []
        turn(site, MIDNIGHT + 3600)
        assert await given(site) == {"core1", "edge1", "edge2", "2001:db8::1"}


async def test_it_takes_effect_soon_when_it_is_lifted(tmp_path: Path) -> None:
    async with open_site(tmp_path, CONFIGURATION + NIGHT) as site:
        turn(site, MIDNIGHT + 1)
        await serve(site)
        site.file.write_text(CONFIGURATION)
        assert (await site.post("/reload")).status_code == 200
        site.clock.advance(POSTPONED_SECONDS)
        assert await given(site) == {"core1"}


async def test_the_probe_of_a_device_that_is_held_back_waits_too(tmp_path: Path) -> None:
    """And workers that ask do not go from one of its jobs to the other for ever."""
    text = CONFIGURATION.replace("1 day", "1 hour") + NIGHT
    async with open_site(tmp_path, text) as site:
        turn(site, MIDNIGHT + 1)
        await hold_back(site, "core")
        site.clock.advance(700)  # both of its jobs are overdue, one is to be the probe
        for _ in range(5):
            assert await lease(site, "core") == []
        detail = (await site.get("/devices/core1")).json()
        assert sum(job["slot"]["epoch"] for job in detail["jobs"]) == 2
        assert detail["breaker"]["probe_at"] == site.clock.now() + POSTPONED_SECONDS


async def hold_back(site: Site, tag: str) -> None:
    """The device's job fails, and that was once too often."""
    now = int(site.clock.now())
    [leased] = await site.ledger.claim(
        TagFilter(any_of=frozenset({tag})),
        limit=1,
        horizon=now,
        now=now,
        lease_seconds=100,
        worker_id=None,
    )
    failed = run_of(leased, outcome=Outcome.FAILED, at=now)
    breaker = Breaker(
        device=leased.device,
        failures=5,
        failure_class=FailureClass.UNREACHABLE,
        failure="no answer",
        failed_at=now,
        opened_at=now,
        probe_at=now + 60,
    )
    ending = end_of(leased, failed, next_due=now + 600)
    ending = msgspec.structs.replace(ending, breaker=breaker)
    assert await site.ledger.finish([ending], now) == [FinishAnswer.KEPT]


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("{}", "weekly or once is needed"),
        ("{weekly: [{start: '25:00'}]}", '"25:00": expected a time of the day such as 06:30'),
        ("{weekly: [{days: [monday]}]}", "monday"),
        ("{once: [{start: 2026-12-20T18:00, end: 2026-12-20T17:00}]}", "end later than it starts"),
        ("{once: [{start: tomorrow, end: 2026-12-20T17:00}]}", '"tomorrow": expected a date'),
        ("{weekly: [{}], timezone: Mars}", 'timezone "Mars"'),
        ("{weekly: [{end: 25:00}], timezone: Mars}", '"25:00": expected'),
    ],
)
async def test_what_is_wrong_with_it_is_said(tmp_path: Path, window: str, said: str) -> None:
    with pytest.raises(Exception, match=r"windows\.w") as failed:
        async with open_site(tmp_path, CONFIGURATION + f"\nwindows: {{w: {window}}}\n"):
            pass
    assert said in str(failed.value)


async def test_one_that_is_for_nobody_is_warned_of(tmp_path: Path) -> None:
    text = CONFIGURATION + "\nwindows: {w: {weekly: [{}], tags: [cores]}}\n"
    async with open_site(tmp_path, text) as site:
        warnings = site.controller.planner.configuration.warnings
        assert sum("windows.w" in warning for warning in warnings) == 1

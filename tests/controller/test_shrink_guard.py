"""A result that lost much of what was there waits in quarantine, until it is confirmed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from roundsman.config.load import load
from roundsman.config.records import ShrinkGuard
from roundsman.controller.shrinkage import confirms, has_shrunk
from roundsman.ledger.interface import Extent, KeptResult, Quarantined
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.memory_archive import MemoryArchive
from tests.controller import multipart
from tests.controller.site import CONFIGURATION, Site, bearer, open_real_site, open_site

START: Final = 1_700_002_800
HOUR: Final = 3600
PATH: Final = "/devices/edge2/jobs/show"


def lines(count: int, *, last: str = "end") -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count - 1)) + f"{last}\n".encode()


def text(count: int) -> Extent:
    return Extent(lines=count, size=20 * count)


def binary(size: int) -> Extent:
    return Extent(lines=None, size=size)


@pytest.mark.parametrize(
    ("before", "now", "shrunk"),
    [
        (text(100), text(50), False),
        (text(100), text(49), True),
        (text(100), text(500), False),
        (text(10), text(4), True),
        (text(9), text(0), False),
        (binary(5000), binary(2500), False),
        (binary(5000), binary(2499), True),
        (binary(1000), binary(1), False),
        (text(1000), binary(900), True),
        (binary(5000), text(300), False),
    ],
)
def test_what_lost_more_than_the_share_has_shrunk(
    before: Extent, now: Extent, *, shrunk: bool
) -> None:
    assert has_shrunk(before, now, ShrinkGuard()) is shrunk
    assert not has_shrunk(before, now, ShrinkGuard(percent=100))


@pytest.mark.parametrize(
    ("waiting", "digest", "now", "confirmed"),
    [
        (text(50), "same", text(5), True),
        (text(50), "other", text(55), True),
        (text(50), "other", text(56), False),
        (text(50), "other", text(45), True),
        (text(3), "other", text(4), True),
        (text(3), "other", text(5), False),
        (binary(2000), "other", binary(2200), True),
        (binary(2000), "other", binary(2201), False),
    ],
)
def test_the_same_or_about_as_much_confirms(
    waiting: Extent, digest: str, now: Extent, *, confirmed: bool
) -> None:
    quarantined = Quarantined(run_id="r", digest="same", extent=waiting)
    assert confirms(quarantined, digest, now) is confirmed


@pytest.fixture(params=["memory", "real"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    opened = open_site(tmp_path) if request.param == "memory" else open_real_site(tmp_path)
    async with opened as site:
        yield site


async def bring(site: Site, content: bytes) -> dict[str, Any]:
    """What came of a result of what is due on edge2; as a client of the contract sends it."""
    leased = await site.client.get("/worker/next?tag=fra", headers=bearer("walter"))
    [execution] = leased.json()
    form = multipart.completion("edge2", "show", execution["timestamp"], content)
    done = await site.client.post(
        "/worker/complete", content=form, headers={**multipart.HEADERS, **bearer("walter")}
    )
    assert done.status_code == 200, done.text
    answer: dict[str, Any] = done.json()
    assert (answer["outcome"] == "succeeded") is ("version" in answer)
    return answer


async def bring_later(site: Site, content: bytes) -> dict[str, Any]:
    """The same an hour later."""
    site.clock.advance(HOUR)
    return await bring(site, content)


async def latest(site: Site) -> bytes:
    return (await site.get(f"{PATH}/latest")).content


async def versions(site: Site) -> int:
    return len((await site.get(f"{PATH}/versions")).json()["items"])


async def quarantined(site: Site) -> str | None:
    found: str | None = (await site.get("/slots/edge2/show")).json()["quarantined"]
    return found


async def test_what_shrank_is_kept_aside_and_run_again_soon(site: Site) -> None:
    await bring_later(site, lines(100))
    answer = await bring_later(site, lines(40))
    assert answer["outcome"] == "retried"
    assert await latest(site) == lines(100)
    assert await quarantined(site) == answer["run_id"]
    run = (await site.get(f"/runs/{answer['run_id']}")).json()
    assert (run["failure_class"], run["evidence"]) == ("shrunk", True)
    assert run["failure"].startswith("40 lines where 100 lines were before, a loss of more than 50")
    site.clock.step(answer["retry_at"] - site.clock.now())
    assert (await bring(site, lines(99)))["outcome"] == "succeeded"
    assert await latest(site) == lines(99)
    assert await quarantined(site) is None


@pytest.mark.parametrize("second", [lines(40), lines(43, last="another end")])
async def test_the_next_run_confirms_it(site: Site, second: bytes) -> None:
    await bring_later(site, lines(100))
    answer = await bring_later(site, lines(40))
    site.clock.step(answer["retry_at"] - site.clock.now())
    assert (await bring(site, second))["outcome"] == "succeeded"
    assert await latest(site) == second
    assert await quarantined(site) is None
    assert (await bring_later(site, lines(40)))["outcome"] == "succeeded"


async def test_another_that_shrank_takes_its_place(site: Site) -> None:
    await bring_later(site, lines(100))
    first = await bring_later(site, lines(40))
    second = await bring_later(site, lines(20))
    assert await quarantined(site) == second["run_id"]
    refused = await site.post(f"/runs/{first['run_id']}/accept")
    assert (refused.status_code, refused.json()["code"]) == (409, "run.not_in_quarantine")
    assert await latest(site) == lines(100)


async def test_a_person_accepts_it_with_the_times_of_its_run(site: Site) -> None:
    await bring_later(site, lines(100))
    answer = await bring_later(site, lines(40))
    site.clock.advance(60)
    path = f"/runs/{answer['run_id']}/accept"
    assert (await site.post(path, by="rita")).status_code == 403
    accepted = await site.post(path)
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["changed"]
    assert (await site.post(path)).json() == accepted.json()
    assert await latest(site) == lines(40)
    assert await versions(site) == 2
    run = (await site.get(f"/runs/{answer['run_id']}")).json()
    assert (run["version"], run["accepted_by"]) == (accepted.json()["version"], "ada")
    assert run["accepted_at"] == START + 2 * HOUR + 60
    assert run["outcome"] == "retried"
    if isinstance(site.archive, MemoryArchive):
        entry = site.archive.kept["edge2", "show"][-1].entry
        due = START + 2 * HOUR
        assert (entry.due, entry.started_at, entry.ended_at) == (due, due + 1, due + 3)
    assert (await bring_later(site, lines(38)))["outcome"] == "succeeded"


async def test_what_cannot_be_accepted_is_refused(site: Site) -> None:
    answer = await bring_later(site, lines(100))
    assert (await site.post("/runs/none/accept")).status_code == 404
    assert (await site.post(f"/runs/{answer['run_id']}/accept")).status_code == 409
    answer = await bring_later(site, lines(40))
    site.controller.evidence.path(answer["run_id"]).unlink()
    gone = await site.post(f"/runs/{answer['run_id']}/accept")
    assert (gone.status_code, "no longer kept" in gone.json()["error"]) == (409, True)


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with open_real_site(tmp_path) as site:
        await bring_later(site, lines(100))
        first = await bring_later(site, lines(40))
    async with open_real_site(tmp_path) as site:
        site.clock.step(first["retry_at"] - site.clock.now())
        assert await quarantined(site) == first["run_id"]
        assert (await bring(site, lines(40)))["outcome"] == "succeeded"


async def test_where_the_ledger_knows_nothing_the_archive_is_asked(tmp_path: Path) -> None:
    async with open_real_site(tmp_path) as site:
        await bring_later(site, lines(100))
    async with open_site(tmp_path, ledger=MemoryLedger()) as empty:
        assert (await bring_later(empty, lines(40)))["outcome"] == "succeeded"
    (tmp_path / "data" / "ledger.sqlite3").unlink()
    async with open_real_site(tmp_path) as site:
        assert (await bring_later(site, lines(40)))["outcome"] == "retried"
        known = await site.ledger.result_of("edge2", "show")
        assert known is not None
        assert known.extent == Extent(lines=100, size=len(lines(100)))


async def test_a_result_that_is_no_text_is_told_by_its_bytes(site: Site) -> None:
    await bring_later(site, b"\0" * 5000)
    assert (await bring_later(site, b"\0" + b"\n" * 2000))["outcome"] == "retried"
    assert (await bring_later(site, b"\0" + b"\n" * 2600))["outcome"] == "succeeded"


async def test_what_was_told_once_is_told_again(site: Site) -> None:
    """The same completion again: 200, and the same answer."""
    await bring_later(site, lines(100))
    site.clock.advance(HOUR)
    await site.client.get("/worker/next?tag=fra", headers=bearer("walter"))
    form = multipart.completion("edge2", "show", START + 2 * HOUR, lines(40))
    answers = [
        await site.client.post(
            "/worker/complete", content=form, headers={**multipart.HEADERS, **bearer("walter")}
        )
        for _ in range(3)
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


async def test_without_a_guard_whatever_comes_is_stored(tmp_path: Path) -> None:
    without = CONFIGURATION.replace('"#"}', '"#"}\n    shrink_guard: {percent: 100}', 1)
    async with open_site(tmp_path, without) as site:
        await bring_later(site, lines(100))
        assert (await bring_later(site, b"x\n"))["outcome"] == "succeeded"
        assert await site.ledger.result_of("edge2", "show") == KeptResult(
            extent=Extent(lines=1, size=2)
        )


def test_it_is_configured_by_job_and_by_device(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(
        """
        jobs:
          show:
            schedule: {duration: 1 hour}
            command: {inline: [show]}
            shrink_guard: {percent: 20}
        devices:
          edge0: {jobs: [show]}
          edge1: {jobs: {show: {shrink_guard: {least_lines: 3}}}}
        """
    )
    slots = load(file, environ={}).slots
    assert slots["edge0", "show"].shrink_guard == ShrinkGuard(percent=20)
    assert slots["edge1", "show"].shrink_guard == ShrinkGuard(percent=20, least_lines=3)

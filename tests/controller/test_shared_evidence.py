"""What a run left behind is read through any controller, not only the one that took it in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.controller.evidence import Evidence
from roundsman.wire.run import Outcome, Run
from tests.controller.crossing_site import controllers
from tests.controller.fleet_site import ADMINISTRATOR, FleetSite

RUN = "5b1f6d0c-0000-4000-8000-00000000000{}"
LARGE = b"what the device said\n" * 50_000


@pytest.fixture
async def sites(postgresql_url: str, tmp_path: Path) -> AsyncIterator[list[FleetSite]]:
    async with controllers(postgresql_url, tmp_path, 2) as sites:
        for site in sites:
            await site.controller.membership.round()
        yield sites


def put(evidence: Evidence, run_id: str) -> None:
    for path, content in (
        (evidence.path(run_id), LARGE),
        (evidence.recording_path(run_id), b"a recording"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


async def failed(site: FleetSite, number: int) -> str:
    """A run that left something behind, as the ledger has it."""
    run = Run(
        run_id=RUN.format(number),
        device="edge1",
        job="show",
        due=1,
        outcome=Outcome.STALE,
        recorded_at=1.0,
        evidence=True,
    )
    await site.controller.ledger.record_stale(run)
    return run.run_id


async def test_a_transcript_and_a_recording_are_had_from_where_they_are(
    sites: list[FleetSite],
) -> None:
    one, two = sites
    run_id = await failed(one, 1)
    put(one.controller.evidence, run_id)
    for part, content in (("transcript", LARGE), ("recording", b"a recording")):
        async with two.served.http.get(
            f"/api/v1/runs/{run_id}/{part}", headers=ADMINISTRATOR
        ) as answer:
            assert (answer.status, await answer.read()) == (200, content), part
    one.controller.evidence.drop(run_id)  # from here on it is read at the other one
    async with two.served.http.get(
        f"/api/v1/runs/{run_id}/transcript", headers=ADMINISTRATOR
    ) as answer:
        assert (answer.status, await answer.read()) == (200, LARGE)


async def test_what_nobody_has_any_more_is_not_found(sites: list[FleetSite]) -> None:
    one, two = sites
    run_id = await failed(one, 2)
    for part in ("transcript", "recording"):
        answer = await two.call(f"/api/v1/runs/{run_id}/{part}", method="GET")
        assert (answer.status, answer.body["code"]) == (404, f"{part}.not_found")


async def test_a_controller_that_may_have_it_and_cannot_be_asked_is_an_error_that_passes(
    sites: list[FleetSite],
) -> None:
    one, two = sites
    run_id = await failed(one, 3)
    put(one.controller.evidence, run_id)
    await one.controller.membership.open("http://127.0.0.1:1")  # where nobody is
    await two.controller.membership.round()
    answer = await two.call(f"/api/v1/runs/{run_id}/transcript", method="GET")
    assert (answer.status, answer.body["code"]) == (503, "evidence.elsewhere")

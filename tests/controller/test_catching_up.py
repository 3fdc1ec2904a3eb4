"""What another controller took in is fetched before it is read here."""

from pathlib import Path

import msgspec
import pytest

from roundsman.archive.interface import Entry
from roundsman.clock import Clock
from roundsman.controller.catching_up import ElsewhereError
from roundsman.controller.service import NoRemoteError
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.clock import ManualClock
from roundsman.testing.ledger_conformance import claim, end_of, run_of
from roundsman.testing.ledger_conformance.controllers import controller
from roundsman.testing.memory_archive import MemoryArchive
from roundsman.wire.controller import ALIVE_SECONDS
from tests.controller import multipart, serving
from tests.controller.serving import PERIOD, fleet, served
from tests.controller.site import START, Site, open_site

PLACE = "/devices/edge1/jobs/show"
HOUR = 3600


def entry(content: bytes) -> Entry:
    return Entry(
        device="edge1",
        job="show",
        content=content,
        due=START + HOUR,
        started_at=START + HOUR,
        ended_at=START + HOUR,
        run_id=f"run of {content!r}",
    )


class Elsewhere(MemoryArchive):
    """An archive that finds at its remote what is put there."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.there: list[Entry] = []
        self.fetched = 0

    async def catch_up(self) -> None:
        self.fetched += 1
        for each in self.there:
            await self.store(each)
        self.there.clear()


async def took_in(site: Site, version: str) -> None:
    """Have the ledger say that another controller kept a version."""
    [leased] = [
        each
        for each in await claim(site.ledger, now=site.clock.now())
        if (each.device, each.job) == ("edge1", "show")
    ]
    run = msgspec.structs.replace(run_of(leased, at=site.clock.now()), version=version)
    await site.ledger.finish([end_of(leased, run)], site.clock.now())


async def test_it_is_fetched_when_the_ledger_names_it(tmp_path: Path) -> None:
    async with open_site(tmp_path, archive=Elsewhere) as site:
        archive = site.archive
        assert isinstance(archive, Elsewhere)
        await archive.store(entry(b"old"))
        before = (await site.get(f"{PLACE}/versions")).json()["items"][0]["version"]
        site.clock.advance(HOUR)
        await took_in(site, "0" * 40)
        # A controller that is alone has all that there is.
        assert (await site.get(f"{PLACE}/latest")).text == "old"
        await site.ledger.note_controller(controller("other", started_at=site.clock.now()))
        await site.controller.membership.round()
        refused = await site.get(f"{PLACE}/latest")
        assert (refused.status_code, refused.json()["code"]) == (503, ElsewhereError.code)
        assert int(refused.headers["retry-after"]) > 0
        for path in ("versions", "diff", f"versions/{before}"):
            assert (await site.get(f"{PLACE}/{path}")).status_code == 503, path
        archive.there.append(entry(b"new"))
        fetched = archive.fetched
        await site.get("/archive/versions")
        assert archive.fetched == fetched + 1
        assert (await site.get(f"{PLACE}/versions/{before}")).status_code == 503  # not that one


async def test_without_a_remote_a_second_controller_does_not_start(
    tmp_path: Path,
) -> None:
    ledger = MemoryLedger()
    await ledger.open()
    await ledger.note_controller(controller("other", started_at=START - ALIVE_SECONDS + 1))
    with pytest.raises(NoRemoteError):
        async with open_site(tmp_path, ledger=ledger):
            pass
    await ledger.open()
    await ledger.note_controller(controller("other", started_at=START - ALIVE_SECONDS))
    async with open_site(tmp_path, ledger=ledger):  # it is dead
        pass


async def test_a_result_of_what_only_another_has_configured_is_not_thrown_away(
    tmp_path: Path,
) -> None:
    """404 has a worker set it aside for good."""
    clock = ManualClock(serving.START)
    whole, smaller = fleet(2), fleet(1)
    async with served(whole, tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        async with running.http.get("/worker/next?max=9") as response:
            [due] = [
                each["timestamp"]
                for each in await response.json()
                if each["device"]["name"] == "edge1"
            ]
        body = multipart.completion("edge1", "show", due, b"one")

        async def complete() -> int:
            async with running.http.post(
                "/worker/complete", data=body, headers=multipart.HEADERS
            ) as response:
                return response.status

        running.controller.planner.replace(smaller)  # as long as the leader has not followed
        assert await complete() == 503
        running.controller.planner.replace(whole)
        assert await complete() == 200
        running.controller.planner.replace(smaller)
        assert await complete() == 404  # it is leased to nobody

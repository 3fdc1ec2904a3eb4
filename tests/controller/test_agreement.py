"""What the archive says of a run is what the ledger says of it, whoever died in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Archive, Entry, Stored, Withdrawal
from roundsman.config.records import Acknowledge, ArchiveSettings, RemoteSettings
from roundsman.controller.agreement import EVERY_SECONDS, Agreement
from roundsman.controller.intake import Turns
from roundsman.controller.planner import Planner
from roundsman.ledger.interface import LeasedSlot, Ledger
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.archive_conformance import content_of
from roundsman.testing.clock import ManualClock
from roundsman.testing.ledger_conformance import claim, end_of, run_of
from roundsman.testing.ledger_conformance.helpers import LEASE, NOW, planned
from roundsman.wire.run import Outcome
from tests.archive.git_servers import bare
from tests.archive.stock_git import StockGit
from tests.controller import multipart
from tests.controller.serving import PERIOD, START, fleet, served

HOUR = 3600


class Two(NamedTuple):
    """Two archives that meet at a remote, and one ledger."""

    ledger: Ledger
    first: GitArchive
    second: GitArchive
    remote: StockGit
    clock: ManualClock

    async def meet(self) -> None:
        """Have each fetch what the other has pushed, until both have all."""
        for archive in (self.first, self.second, self.first):
            await archive.catch_up()
            await archive.store(entry_of(NOW, b"%d" % id(archive), "other", f"of {id(archive)}"))
            await self.pushed(archive)
        await self.second.catch_up()

    async def pushed(self, archive: GitArchive) -> None:
        """Wait until the remote has all; after each push, and each that failed, there is a rest."""
        while any(each.behind for each in await archive.remotes()):
            await self.clock.sleepers()
            self.clock.advance(5)

    async def agree(self) -> None:
        for archive in (self.first, self.second):
            await agreement(self, archive).run_once()
        await self.meet()


def agreement(two: Two, archive: Archive) -> Agreement:
    return Agreement(
        planner=Planner(fleet(1)),
        ledger=two.ledger,
        archive=archive,
        clock=two.clock,
        turns=Turns(),
    )


def entry_of(due: int, content: bytes, device: str = "d", run_id: str = "run-1") -> Entry:
    return Entry(
        device=device,
        job="backup",
        content=content,
        due=due,
        started_at=due,
        ended_at=due,
        worker_id="w",
        run_id=run_id,
    )


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    clock = ManualClock(NOW)
    remote = bare(tmp_path / "elsewhere.git")
    settings = ArchiveSettings(
        remotes={"shared": RemoteSettings(url=str(remote.folder))}, acknowledge=Acknowledge.KEPT
    )
    first, second = (
        GitArchive(tmp_path / f"{name}.git", clock, settings) for name in ("first", "second")
    )
    ledger = MemoryLedger()
    await ledger.open()
    await ledger.sync_slots([planned("d")], NOW)
    await first.open()
    await second.open()
    yield Two(ledger, first, second, remote, clock)
    await first.close()
    await second.close()


async def ended(two: Two, leased: LeasedSlot, stored: Stored, run_id: str = "run-1") -> None:
    """The ledger takes a result that an archive has kept."""
    run = msgspec.structs.replace(run_of(leased, run_id), version=stored.version, changed=True)
    await two.ledger.finish([end_of(leased, run)], two.clock.now())


def standing(remote: StockGit) -> Counter[str]:
    """How many commits name each run, those aside that are withdrawn."""
    rows = remote.run(
        "log", "--no-merges", "--format=%H %(trailers:key=Roundsman-Run,valueonly,separator=%x20)"
    )
    withdrawn = remote.run("log", "--format=%(trailers:key=Roundsman-Withdrawn,valueonly)").split()
    commits = [row.split() for row in rows.decode().splitlines()]
    return Counter(
        run for commit, *runs in commits for run in runs if commit.encode() not in withdrawn
    )


async def test_a_result_that_two_controllers_kept_stands_once(two: Two) -> None:
    """The first wrote it, and did not live to end its run; the second one did."""
    [leased] = await claim(two.ledger)
    away = two.remote.folder.rename(two.remote.folder.with_name("away"))
    await two.first.store(entry_of(NOW, b"one\n"))
    await two.second.store(entry_of(NOW, b"else it is the same commit", "other", "other"))
    stored = await two.second.store(entry_of(NOW, b"one\n"))
    await ended(two, leased, stored)
    away.rename(two.remote.folder)
    await two.meet()
    assert standing(two.remote)["run-1"] == 2
    await two.agree()
    assert standing(two.remote)["run-1"] == 1
    for archive in (two.first, two.second):
        assert not (await archive.version("d", "backup", stored.version)).withdrawn
        assert (await archive.version("d", "backup")).version == stored.version
        told = await archive.versions("d", "backup", limit=9)
        assert {each.version for each in told if not each.withdrawn} == {stored.version}
        again = await archive.store(entry_of(NOW + HOUR, b"one\n", run_id="run-2"))
        assert (again.version, again.changed) == (stored.version, False)
    await two.agree()
    two.remote.fsck()


async def test_what_was_written_without_an_end_is_refused_when_another_run_ended_its_time(
    two: Two,
) -> None:
    await two.first.store(entry_of(NOW - HOUR, b"before\n", run_id="unknown-there"))
    [_] = await claim(two.ledger)
    lost = await two.first.store(entry_of(NOW, b"lost\n", run_id="lost"))
    seen = agreement(two, two.first)
    await seen.run_once()
    assert await two.ledger.run("lost") is None  # it may still be ended
    [leased] = await claim(two.ledger, now=NOW + LEASE + 1)
    await two.second.store(entry_of(NOW, b"else it is the same commit", "other", "other"))
    kept = await two.second.store(entry_of(NOW, b"kept\n", run_id="kept"))
    await ended(two, leased, kept, "kept")
    await seen.run_once()
    stale = await two.ledger.run("lost")
    assert stale is not None
    assert (stale.outcome, stale.version) == (Outcome.STALE, lost.version)
    await seen.run_once()
    await two.meet()
    versions = await two.first.versions("d", "backup", limit=9)
    assert {each.run_id for each in versions if each.withdrawn} == {"lost"}
    assert standing(two.remote)["lost"] == 0
    assert standing(two.remote)["unknown-there"] == 1
    assert two.remote.run("show", "main:by_device/d/backup") == b"kept\n"


class Held(GitArchive):
    """Its controller is stopped when a result is written."""

    written: asyncio.Event
    go_on: asyncio.Event

    async def store(self, entry: Entry) -> Stored:
        stored = await super().store(entry)
        self.written.set()
        await self.go_on.wait()
        return stored


async def test_a_result_whose_lease_was_lost_while_its_controller_stood_still_is_withdrawn(
    tmp_path: Path,
) -> None:
    clock, ledger = ManualClock(START), MemoryLedger()
    archive = Held(tmp_path / "archive.git", clock)
    archive.written, archive.go_on = asyncio.Event(), asyncio.Event()
    async with served(fleet(1), tmp_path, ledger=ledger, archive=archive, clock=clock) as running:
        clock.advance(PERIOD)
        async with running.http.get("/worker/next?max=9") as response:
            [told] = await response.json()
        due = told["timestamp"]

        async def complete() -> int:
            body = multipart.completion("edge0", "show", due, b"lost\n")
            async with running.http.post(
                "/worker/complete", data=body, headers=multipart.HEADERS
            ) as answer:
                return answer.status

        completing = asyncio.create_task(complete())
        await archive.written.wait()
        clock.advance(HOUR)
        [leased] = await claim(ledger, now=clock.now())
        await ledger.finish(
            [end_of(leased, run_of(leased, "failed", outcome=Outcome.FAILED))], clock.now()
        )
        archive.go_on.set()
        assert await completing == 409
        await running.controller.agreement.run_once()
        [version] = await archive.versions("edge0", "show", limit=9)
        assert version.withdrawn
        run = await ledger.run(version.run_id or "")
        assert run is not None
        assert (run.outcome, run.version) == (Outcome.STALE, version.version)
        assert StockGit(tmp_path / "archive.git").run("ls-tree", "main") == b""


async def test_it_is_looked_at_every_few_seconds(two: Two) -> None:
    [leased] = await claim(two.ledger)
    lost = await two.first.store(entry_of(NOW, b"lost\n"))
    await ended(two, leased, Stored(version="0" * 40, changed=True))  # and not here
    await two.ledger.record_stale(run_of(leased, "run-2", outcome=Outcome.STALE))
    stale = await two.first.store(entry_of(NOW, b"stale\n", run_id="run-2"))
    looking = asyncio.create_task(agreement(two, two.first).run())
    await two.clock.sleeper(EVERY_SECONDS)
    assert not (await two.first.version("d", "backup", stale.version)).withdrawn
    two.clock.advance(EVERY_SECONDS)
    await two.clock.sleeper(EVERY_SECONDS)  # it has looked
    looking.cancel()
    assert (await two.first.version("d", "backup", stale.version)).withdrawn
    assert not (await two.first.version("d", "backup", lost.version)).withdrawn
    assert await content_of(two.first, "d", "backup") == b"lost\n"


async def test_a_result_that_others_were_joined_over_before_it_was_sent_again_stays(
    two: Two,
) -> None:
    """A joining commit stands for the content then, and names no run."""
    [leased] = await claim(two.ledger)
    await two.second.store(entry_of(NOW - HOUR, b"theirs\n", run_id="theirs"))
    first = await two.first.store(entry_of(NOW, b"ours\n"))
    await two.meet()
    again = await two.first.store(entry_of(NOW, b"ours\n"))
    assert (again.version, again.changed) == (first.version, True)
    joined = (await two.first.version("d", "backup")).version
    assert joined != first.version
    await ended(two, leased, Stored(version=joined, changed=False))  # as a release before had it
    await agreement(two, two.first).run_once()
    assert not (await two.first.version("d", "backup", first.version)).withdrawn


async def test_what_a_run_found_unchanged_before_it_heard_that_it_is_withdrawn_is_kept_again(
    two: Two,
) -> None:
    await two.first.store(entry_of(NOW - HOUR, b"before\n", run_id="before"))
    [lost] = await claim(two.ledger)
    await two.first.store(entry_of(NOW, b"found\n", run_id="lost"))
    await two.meet()
    [leased] = await claim(two.ledger, now=NOW + LEASE + 1)
    await two.ledger.record_stale(run_of(lost, "lost", outcome=Outcome.STALE))
    seen = agreement(two, two.first)
    await seen.run_once()
    found = await two.second.store(entry_of(NOW, b"found\n", run_id="found"))
    assert not found.changed
    await ended(two, leased, found, "found")
    for _ in range(2):
        await seen.run_once()
    await two.agree()
    assert two.remote.run("show", "main:by_device/d/backup") == b"found\n"
    assert (standing(two.remote)["lost"], standing(two.remote)["found"]) == (0, 1)
    for archive in (two.first, two.second):
        assert await content_of(archive, "d", "backup") == b"found\n"


async def test_what_is_put_back_gives_way_to_a_result_that_another_controller_has_kept(
    two: Two,
) -> None:
    """Both had the version that one withdraws, when the lines of the two parted."""
    await two.first.store(entry_of(NOW, b"before\n", run_id="run-1"))
    refused = await two.first.store(entry_of(NOW + HOUR, b"refused\n", run_id="run-2"))
    await two.meet()
    await two.second.store(entry_of(NOW + HOUR, b"kept\n", run_id="run-3"))
    await two.pushed(two.second)
    await two.first.withdraw([Withdrawal(device="d", job="backup", version=refused.version)])
    await two.meet()
    assert two.remote.run("show", "main:by_device/d/backup") == b"kept\n"
    for archive in (two.first, two.second):
        assert await content_of(archive, "d", "backup") == b"kept\n"

"""Controllers beside each other on one ledger: who leads, and which configuration is in force."""

from collections.abc import Callable
from pathlib import Path

import pytest

from roundsman.config.load import load
from roundsman.config.records import Configuration
from roundsman.controller import membership, reloading
from roundsman.controller.access import Access
from roundsman.controller.digests import digest_of
from roundsman.controller.membership import LEAD_SECONDS, Membership
from roundsman.controller.planner import Planner
from roundsman.controller.reloading import NotFollowedError, OutOfStepError, Reloading
from roundsman.documents.problems import ConfigurationError
from roundsman.ledger.interface import SlotQuery
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.clock import ManualClock
from roundsman.wire.controller import ALIVE_SECONDS
from tests.controller.site import CONFIGURATION, START

OTHER = CONFIGURATION.replace("edge2:", "edge3:")


class One:
    """A controller as far as these things go."""

    def __init__(self, folder: Path, ledger: MemoryLedger, clock: ManualClock) -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "roundsman.yaml"
        self.file.write_text(CONFIGURATION)
        read: Callable[[], Configuration] = lambda: load(self.file, environ={})  # noqa: E731 - with its type
        self.planner = Planner(read())
        self.membership = Membership(ledger=ledger, clock=clock, data=folder / "data")
        self.reloading = Reloading(
            planner=self.planner,
            ledger=ledger,
            membership=self.membership,
            access=Access(self.planner.configuration.controller.tokens),
            clock=clock,
            load=read,
        )

    async def open(self) -> None:
        await self.membership.open(f"http://{self.file.parent.name}.example.net")
        await self.reloading.open()

    async def round(self) -> None:
        """What its loops do."""
        await self.membership.round()
        await self.reloading.follow()

    async def says(self) -> dict[str, tuple[bool, bool, bool]]:
        """Who is alive, leads, and is in step, by name."""
        return {
            (each.address or "").removeprefix("http://").removesuffix(".example.net"): (
                each.alive,
                each.leading,
                each.in_step,
            )
            for each in (await self.membership.list()).items
        }


@pytest.fixture
async def ledger() -> MemoryLedger:
    ledger = MemoryLedger()
    await ledger.open()
    return ledger


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def two(tmp_path: Path, ledger: MemoryLedger, clock: ManualClock) -> tuple[One, One]:
    """Two of them, the first of which leads."""
    both = One(tmp_path / "a", ledger, clock), One(tmp_path / "b", ledger, clock)
    for one in both:
        await one.open()
        clock.advance(0.5)
    return both


async def test_the_first_leads_and_the_second_when_it_is_gone(
    two: tuple[One, One], clock: ManualClock
) -> None:
    first, second = two
    assert await second.says() == {"a": (True, True, True), "b": (True, False, True)}
    assert [each.address for each in second.membership.others()] == ["http://a.example.net"]
    clock.advance(LEAD_SECONDS - 2)
    await second.round()
    assert [one.membership.term for one in two] == [1, None]
    clock.advance(2)
    await second.round()
    assert [one.membership.term for one in two] == [1, 2]  # as far as they know
    clock.advance(ALIVE_SECONDS)
    await second.round()
    assert await second.says() == {"a": (False, False, True), "b": (True, True, True)}
    assert second.membership.others() == []
    await first.round()
    assert [one.membership.term for one in two] == [None, 2]
    await second.membership.close()
    await first.round()
    assert [one.membership.term for one in two] == [3, None]
    assert await first.says() == {"a": (True, True, True)}


async def test_one_started_anew_takes_the_place_of_its_last_start(
    two: tuple[One, One], tmp_path: Path, ledger: MemoryLedger, clock: ManualClock
) -> None:
    again = One(tmp_path / "a", ledger, clock)
    await again.open()
    assert again.membership.term == 2
    assert len((await again.membership.list()).items) == 2


async def test_a_reload_of_one_is_a_reload_of_all(
    two: tuple[One, One], ledger: MemoryLedger
) -> None:
    first, second = two
    for one in two:
        one.file.write_text(OTHER)
    answer = await first.reloading.reload()
    assert (answer.added, answer.removed) == (1, 1)
    assert "edge2" in second.planner.configuration.devices
    await second.round()
    assert "edge3" in second.planner.configuration.devices
    assert await second.says() == {"a": (True, True, True), "b": (True, False, True)}


async def test_a_bad_file_elsewhere_is_known(two: tuple[One, One]) -> None:
    first, second = two
    first.file.write_text(OTHER)
    second.file.write_text("devices: 5")
    await first.reloading.reload()
    await second.round()
    assert "edge2" in second.planner.configuration.devices
    [_, told] = (await first.membership.list()).items
    assert told.problem is not None
    assert "roundsman.yaml" in told.problem
    assert not told.in_step
    with pytest.raises(ConfigurationError):
        await second.reloading.reload()


async def test_one_that_does_not_lead_waits_for_the_one_that_does(
    two: tuple[One, One], monkeypatch: pytest.MonkeyPatch, ledger: MemoryLedger
) -> None:
    first, second = two

    class Followed(ManualClock):
        async def sleep(self, _: float) -> None:
            await first.round()

    monkeypatch.setattr(second.reloading, "_clock", Followed(START))
    second.file.write_text(OTHER)
    with pytest.raises(OutOfStepError, match=r"http://a\.example\.net"):
        await second.reloading.reload()
    first.file.write_text(OTHER)
    answer = await second.reloading.reload()
    assert (answer.added, answer.removed) == (1, 1)
    assert await second.says() == {"a": (True, True, True), "b": (True, False, True)}


async def test_one_of_the_next_release_is_not_out_of_step(
    two: tuple[One, One],
    tmp_path: Path,
    ledger: MemoryLedger,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says the same configuration in other words: a reload of it was 409, and had been done."""
    monkeypatch.setattr(membership, "__version__", "99.0.0")
    monkeypatch.setattr(reloading, "digest_of", lambda *_: "other words")
    later = One(tmp_path / "later", ledger, clock)
    await later.open()
    await later.round()
    assert (await later.says())["later"] == (True, False, True)
    first, _ = two

    class Followed(ManualClock):
        async def sleep(self, _: float) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(reloading, "digest_of", digest_of)
                await first.round()

    monkeypatch.setattr(later.reloading, "_clock", Followed(START))
    for one in (first, later):
        one.file.write_text(OTHER)
    answer = await later.reloading.reload()
    assert (answer.added, answer.removed) == (1, 1)


async def test_one_whose_leader_does_not_follow_says_so(
    two: tuple[One, One], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "FOLLOW_SECONDS", 0)
    with pytest.raises(NotFollowedError):
        await two[1].reloading.reload()


async def test_a_leader_that_was_away_learns_it_when_it_writes(
    two: tuple[One, One], clock: ManualClock, monkeypatch: pytest.MonkeyPatch, ledger: MemoryLedger
) -> None:
    first, second = two
    clock.advance(LEAD_SECONDS)
    await second.round()
    terms = [one.membership.term for one in two]
    assert terms == [1, 2]  # as far as they know
    first.file.write_text(OTHER)
    monkeypatch.setattr(reloading, "FOLLOW_SECONDS", 0)
    with pytest.raises(NotFollowedError):
        await first.reloading.reload()
    assert first.membership.term is None
    assert {slot.device for slot in (await ledger.slots(SlotQuery(), START)).items} >= {"edge2"}


def test_digests_tell_configurations_apart_and_where_they_serve_is_no_part(tmp_path: Path) -> None:
    file = tmp_path / "roundsman.yaml"

    def digest(text: str, salt: str = "salt") -> str:
        file.write_text(text)
        return digest_of(load(file, environ={}), salt)

    same = digest(CONFIGURATION)
    assert digest(CONFIGURATION) == same
    assert digest(CONFIGURATION.replace("controller:", "controller:\n  data: there")) == same
    assert digest(CONFIGURATION, "other salt") != same
    for old, new in [
        ("hunter2", "hunter3"),
        ("0 * * * *", "1 * * * *"),
        ("tags: [ams, core]", "tags: [ams]"),
        ("sessions_per_device: 2", "sessions_per_device: 3"),
        ("running-config", "startup-config"),
    ]:
        assert digest(CONFIGURATION.replace(old, new)) != same, new

"""Law 7: a device that is held back, but for one slot at a time."""

from typing import Any

from roundsman.ledger.interface import (
    Finish,
    FinishAnswer,
    LeasedSlot,
    Ledger,
    Pause,
    PauseKind,
    Resumption,
    RunNow,
    SlotQuery,
)
from roundsman.testing.ledger_conformance.helpers import (
    HOURLY,
    LEASE,
    NOW,
    claim,
    key_of,
    lease_of,
    planned,
    run_of,
)
from roundsman.wire.breaker import Breaker
from roundsman.wire.run import FailureClass, Outcome, SlotState


class Breakers:
    """Law 7: a device that is held back, but for one slot at a time."""

    JOBS = ("backup", "check", "probe")
    PROBE = NOW + 300

    def _breaker(self, *, opened: bool = True, probe_at: int = PROBE) -> Breaker:
        return Breaker(
            device="d",
            failures=5,
            failure_class=FailureClass.UNREACHABLE,
            failure="no answer",
            failed_at=NOW,
            opened_at=NOW if opened else None,
            probe_at=probe_at if opened else None,
        )

    def _failed(
        self, leased: LeasedSlot, breaker: Breaker | None, *, next_due: int = NOW + 3600
    ) -> Finish:
        run = run_of(leased, f"run-{leased.job}-{leased.epoch}", outcome=Outcome.FAILED)
        return Finish(
            run=run, key=key_of(leased), plan=leased.plan, next_due=next_due, breaker=breaker
        )

    async def _open(self, ledger: Ledger, **changes: Any) -> None:
        """Three jobs are due; the first fails, and the device is held back."""
        slots = [planned("d", job, due=NOW - 3 + i) for i, job in enumerate(self.JOBS)]
        await ledger.sync_slots(slots, NOW)
        (first,) = await claim(ledger, 1)
        assert first.job == "backup"
        failed = self._failed(first, self._breaker(**changes))
        assert await ledger.finish([failed], NOW) == [FinishAnswer.KEPT]

    async def _ready(self, ledger: Ledger) -> dict[str, int | None]:
        slots = (await ledger.slots(SlotQuery(device="d"), NOW)).items
        return {slot.job: slot.ready for slot in slots}

    async def test_failures_are_counted_and_forgotten_when_the_device_answers(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger, opened=False)
        assert await ledger.breaker("d") == self._breaker(opened=False)
        assert await ledger.breaker("e") is None
        assert await ledger.open_breakers() == []
        (second,) = await claim(ledger, 1)
        answered = Finish(
            run=run_of(second),
            key=key_of(second),
            plan=second.plan,
            next_due=NOW + 3600,
            answered=True,
        )
        await ledger.finish([answered], NOW)
        assert await ledger.breaker("d") is None

    async def test_a_held_device_is_not_offered_but_once_from_its_probe_time_on(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger)
        assert await ledger.open_breakers() == [self._breaker()]
        assert await self._ready(ledger) == {
            "backup": None,
            "check": self.PROBE,
            "probe": None,
        }
        states = {
            slot.job: slot.state for slot in (await ledger.slots(SlotQuery(device="d"), NOW)).items
        }
        assert states["probe"] is SlotState.HELD
        held = await ledger.slots(SlotQuery(state=SlotState.HELD), NOW)
        assert [slot.job for slot in held.items] == ["backup", "probe"]
        assert await claim(ledger, now=self.PROBE - 1, ahead=1999) == []
        (probe,) = await claim(ledger, now=self.PROBE, ahead=1999)
        assert (probe.job, probe.due, probe.was_held) == ("check", NOW - 2, True)
        assert await claim(ledger, now=self.PROBE + 60, ahead=1999) == []
        lease = await lease_of(ledger, "d", "check")
        assert lease is not None
        assert lease.device_held

    async def test_a_probe_that_failed_is_followed_by_another_later(self, ledger: Ledger) -> None:
        await self._open(ledger)
        (probe,) = await claim(ledger, now=self.PROBE)
        wider = self._breaker(probe_at=self.PROBE + 600)
        await ledger.finish([self._failed(probe, wider)], self.PROBE)
        assert await self._ready(ledger) == {
            "backup": None,
            "check": None,
            "probe": self.PROBE + 600,
        }

    async def test_a_probe_that_was_well_sets_all_free(self, ledger: Ledger) -> None:
        await self._open(ledger)
        (probe,) = await claim(ledger, now=self.PROBE)
        well = Finish(
            run=run_of(probe),
            key=key_of(probe),
            plan=probe.plan,
            next_due=NOW + 3600,
            answered=True,
        )
        await ledger.finish([well], self.PROBE + 1)
        assert await ledger.open_breakers() == []
        (other,) = await claim(ledger, now=self.PROBE + 2)
        assert (other.job, other.due, other.was_held) == ("probe", NOW - 1, True)
        assert await self._ready(ledger) == {
            "backup": NOW + 3600,
            "check": NOW + 3600,
            "probe": NOW - 1,
        }

    async def test_a_run_that_says_nothing_of_the_device_passes_the_probe_on(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger)
        (probe,) = await claim(ledger, now=self.PROBE)
        await ledger.finish([self._failed(probe, None)], self.PROBE + 1)
        (following,) = await claim(ledger, now=self.PROBE + 2)
        assert following.job == "probe"

    async def test_a_probe_whose_worker_died_is_offered_again(self, ledger: Ledger) -> None:
        await self._open(ledger)
        await claim(ledger, now=self.PROBE)
        (again,) = await claim(ledger, now=self.PROBE + LEASE)
        assert (again.job, again.epoch) == ("check", 2)

    async def test_leases_of_before_run_to_their_end(self, ledger: Ledger) -> None:
        slots = [planned("d", job, due=NOW - 3 + i) for i, job in enumerate(self.JOBS)]
        await ledger.sync_slots(slots, NOW)
        first, second = await claim(ledger, 2)
        await ledger.finish([self._failed(first, self._breaker())], NOW)
        assert await ledger.finish([self._failed(second, None)], NOW + 1) == [FinishAnswer.KEPT]
        assert await self._ready(ledger) == {"backup": None, "check": None, "probe": self.PROBE}

    async def test_it_is_closed_by_hand(self, ledger: Ledger) -> None:
        await self._open(ledger)
        assert await ledger.close_breaker("d", NOW + 9)
        assert not await ledger.close_breaker("d", NOW + 9)
        assert await ledger.breaker("d") is None
        taken = await claim(ledger, now=NOW + 9)
        assert [slot.job for slot in taken] == ["check", "probe"]

    async def test_what_a_person_asks_for_passes(self, ledger: Ledger) -> None:
        await self._open(ledger)
        assert await ledger.run_now("d", "probe", NOW + 1) is RunNow.QUEUED
        assert await ledger.run_now("d", "probe", NOW + 2) is RunNow.ALREADY_DUE
        assert await ledger.run_now("d", "backup", NOW + 3) is RunNow.QUEUED
        taken = await claim(ledger, now=NOW + 4)
        assert [(slot.job, slot.due, slot.on_demand) for slot in taken] == [
            ("probe", NOW - 1, False),
            ("backup", NOW + 3, True),
        ]

    async def test_a_pause_passes_the_probe_on_and_its_end_does_not_set_free(
        self, ledger: Ledger
    ) -> None:
        await self._open(ledger)
        await ledger.pause(Pause(kind=PauseKind.JOB, name="check", since=NOW, by="alice"))
        assert await self._ready(ledger) == {"backup": None, "check": None, "probe": self.PROBE}
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        assert set((await self._ready(ledger)).values()) == {None}
        await ledger.resume(PauseKind.JOB, "check", [], NOW)
        await ledger.resume(PauseKind.DEVICE, "d", [], NOW)
        assert await self._ready(ledger) == {"backup": None, "check": self.PROBE, "probe": None}
        moved = [Resumption(device="d", job="check", epoch=0, plan=HOURLY, next_due=NOW + 900)]
        await ledger.pause(Pause(kind=PauseKind.JOB, name="check", since=NOW, by="alice"))
        await ledger.resume(PauseKind.JOB, "check", moved, NOW)
        assert await self._ready(ledger) == {"backup": None, "check": None, "probe": self.PROBE}

    async def test_a_sync_passes_the_probe_on_and_holds_what_is_new(self, ledger: Ledger) -> None:
        await self._open(ledger)
        await ledger.sync_slots([planned("d", job) for job in ("backup", "probe", "new")], NOW)
        assert await self._ready(ledger) == {"backup": None, "probe": self.PROBE, "new": None}
        assert await claim(ledger, now=self.PROBE - 1) == []
        await ledger.sync_slots([planned("e")], NOW)
        assert await ledger.breaker("d") is None

"""Several attempts at one due time."""

import msgspec

from roundsman.ledger.interface import (
    FinishAnswer,
    LeasedSlot,
    Ledger,
    Pause,
    PauseKind,
    ResumedSlot,
    Resumption,
    RunNow,
)
from roundsman.testing.ledger_conformance.helpers import (
    HOURLY,
    LEASE,
    NOW,
    OTHER,
    claim,
    end_of,
    history,
    names,
    planned,
    repeat_of,
    retry_of,
    run_of,
    slot_of,
)
from roundsman.wire.run import Outcome, SlotState


class Attempts:
    """Several attempts at one due time."""

    async def _retried(self, ledger: Ledger, at: int, *, device: str = "d") -> LeasedSlot:
        """A first attempt, which failed; the next is to follow at an instant."""
        (leased,) = await claim(ledger, 1)
        assert leased.device == device
        run = run_of(leased, outcome=Outcome.RETRIED)
        assert await ledger.finish([retry_of(leased, at, run)], NOW) == [FinishAnswer.KEPT]
        return leased

    async def test_a_due_time_stays_until_its_last_attempt(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 9)], NOW)
        first = await self._retried(ledger, NOW + 60)
        assert (first.attempts, first.ready) == (0, NOW - 9)
        slot = await slot_of(ledger, "d")
        assert (slot.state, slot.due, slot.ready) == (SlotState.WAITING, NOW - 9, NOW + 60)
        assert (slot.epoch, slot.attempts) == (1, 1)
        (second,) = await claim(ledger, now=NOW + 60)
        assert (second.due, second.epoch) == (NOW - 9, 2)
        assert (second.attempts, second.ready) == (1, NOW + 60)
        run = run_of(second, "run-2", outcome=Outcome.FAILED, digest="digest-2")
        assert await ledger.finish([end_of(second, run)], NOW + 61) == [FinishAnswer.KEPT]
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.ready, slot.attempts) == (NOW + 3600, NOW + 3600, 0)
        assert [run.outcome for run in await history(ledger)] == [Outcome.FAILED, Outcome.RETRIED]

    async def test_an_attempt_waits_for_its_time_however_far_a_claim_looks(
        self, ledger: Ledger
    ) -> None:
        """Its due time has passed: whoever is given it runs it at once."""
        await ledger.sync_slots([planned("d"), planned("e", due=NOW + 300)], NOW)
        await self._retried(ledger, NOW + 60)
        assert names(await claim(ledger, now=NOW + 59, ahead=3600)) == ["e"]
        assert names(await claim(ledger, now=NOW + 60)) == ["d"]

    async def test_what_was_postponed_waits_and_was_not_tried(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 9)], NOW)
        (leased,) = await claim(ledger)
        later = msgspec.structs.replace(end_of(leased), run=None, retry_at=NOW + 60)
        assert await ledger.finish([later], NOW) == [FinishAnswer.KEPT]
        assert await claim(ledger, now=NOW + 59, ahead=3600) == []
        (leased,) = await claim(ledger, now=NOW + 60)
        assert (leased.due, leased.epoch, leased.attempts) == (NOW - 9, 2, 0)
        assert await history(ledger) == []

    async def test_an_attempt_waits_again_when_the_clock_is_set_back(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        assert await claim(ledger, 0, now=NOW + 60) == []
        assert await claim(ledger, now=NOW + 50, ahead=60) == []
        assert names(await claim(ledger, now=NOW + 60)) == ["d"]

    async def test_attempts_take_their_turn_by_their_own_times(self, ledger: Ledger) -> None:
        """So that what fails again and again is not always first in the queue."""
        await ledger.sync_slots([planned("d", due=NOW - 999)], NOW)
        await self._retried(ledger, NOW + 60)
        new = [planned("x", due=NOW + 59), planned("y", due=NOW + 61)]
        await ledger.sync_slots([planned("d", due=None), *new], NOW)
        assert names(await claim(ledger, now=NOW + 62)) == ["x", "d", "y"]

    async def test_an_attempt_whose_worker_died_is_offered_again(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await claim(ledger, now=NOW + 60)
        (again,) = await claim(ledger, now=NOW + 60 + LEASE)
        assert (again.due, again.epoch, again.attempts) == (NOW, 3, 1)

    async def test_a_repeat_of_a_failed_attempt_changes_nothing(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        first = await self._retried(ledger, NOW + 60)
        again = retry_of(first, NOW + 90, run_of(first, "run-2", outcome=Outcome.RETRIED))
        assert await ledger.finish([again], NOW + 1) == [FinishAnswer.REPEATED]
        assert (await slot_of(ledger, "d")).ready == NOW + 60
        repeated = await repeat_of(ledger, "d", "backup", NOW, "digest-1")
        assert repeated is not None
        assert repeated.run_id == "run-1"

    async def test_run_now_hastens_a_waiting_attempt(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 9)], NOW)
        await self._retried(ledger, NOW + 60)
        assert await ledger.run_now("d", "backup", NOW + 1) is RunNow.QUEUED
        assert await ledger.run_now("d", "backup", NOW + 2) is RunNow.ALREADY_DUE
        (leased,) = await claim(ledger, now=NOW + 3)
        assert (leased.due, leased.attempts, leased.on_demand) == (NOW - 9, 1, False)

    async def test_what_was_asked_for_is_tried_again_beside_the_schedule(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 3600)], NOW)
        await ledger.run_now("d", "backup", NOW)
        await self._retried(ledger, NOW + 60)
        (again,) = await claim(ledger, now=NOW + 60)
        assert (again.due, again.on_demand, again.resume_due) == (NOW, True, NOW + 3600)

    async def test_a_pause_holds_a_waiting_attempt_and_says_so_when_lifted(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        assert await claim(ledger, now=NOW + 90) == []
        held = ResumedSlot(
            device="d",
            job="backup",
            due=NOW,
            epoch=1,
            plan=HOURLY,
            planned_since=NOW - 1,
            ready=NOW + 60,
        )
        assert await ledger.to_resume(PauseKind.DEVICE, "d") == [held]
        kept = Resumption(device="d", job="backup", epoch=1, plan=HOURLY, next_due=NOW)
        await ledger.resume(PauseKind.DEVICE, "d", [kept], NOW + 30)
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.ready, slot.attempts) == (NOW, NOW + 60, 1)
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="d", since=NOW, by="alice"))
        moved = Resumption(device="d", job="backup", epoch=1, plan=HOURLY, next_due=NOW + 3600)
        await ledger.resume(PauseKind.DEVICE, "d", [moved], NOW + 90)
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.ready, slot.attempts) == (NOW + 3600, NOW + 3600, 0)

    async def test_a_sync_leaves_a_waiting_attempt_alone(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.sync_slots([planned("d", due=NOW + 3600, tags=["x"])], NOW)
        assert await claim(ledger, now=NOW + 59) == []
        (leased,) = await claim(ledger, now=NOW + 60)
        assert (leased.due, leased.attempts, leased.tags) == (NOW, 1, ("x",))

    async def test_another_schedule_ends_what_waits_for_an_attempt(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.sync_slots([planned("d", due=NOW + 30, plan=OTHER)], NOW)
        missed, _ = await history(ledger)
        assert (missed.outcome, missed.due) == (Outcome.MISSED, NOW)
        assert "failed attempts before: 1" in (missed.failure or "")
        (leased,) = await claim(ledger, now=NOW + 30)
        assert (leased.due, leased.attempts) == (NOW + 30, 0)

    async def test_what_is_taken_away_between_two_attempts_is_missed(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d")], NOW)
        await self._retried(ledger, NOW + 60)
        await ledger.sync_slots([], NOW)
        missed, _ = await history(ledger)
        assert (missed.outcome, missed.due) == (Outcome.MISSED, NOW)
        assert "failed attempts before: 1" in (missed.failure or "")
        assert await claim(ledger, now=NOW + 60) == []

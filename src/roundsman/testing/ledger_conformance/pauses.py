"""What is held back, and how it goes on."""

from roundsman.ledger.interface import (
    FinishAnswer,
    Ledger,
    Pause,
    PauseKind,
    ResumedSlot,
    Resumption,
    SlotQuery,
    Span,
)
from roundsman.testing.ledger_conformance.helpers import (
    HOURLY,
    NOW,
    OTHER,
    claim,
    end_of,
    history,
    key_of,
    planned,
    slot_of,
)
from roundsman.wire.run import Outcome, SlotState


class Pauses:
    """What is held back, and how it goes on."""

    DEVICE = Pause(kind=PauseKind.DEVICE, name="a", since=NOW, by="alice")
    JOB = Pause(kind=PauseKind.JOB, name="backup", since=NOW + 1.5, by="bob")
    SLOTS = (planned("a"), planned("a", "check"), planned("b"), planned("b", "check"))

    async def test_a_pause_is_kept_once(self, ledger: Ledger) -> None:
        assert await ledger.pauses() == []
        assert await ledger.pause(self.JOB)
        assert await ledger.pause(self.DEVICE)
        assert not await ledger.pause(Pause(kind=PauseKind.JOB, name="backup", since=1, by="x"))
        assert await ledger.pauses() == [self.DEVICE, self.JOB]
        assert await ledger.resume(PauseKind.JOB, "backup", [], NOW)
        assert not await ledger.resume(PauseKind.JOB, "backup", [], NOW)
        assert await ledger.pauses() == [self.DEVICE]

    async def test_a_slot_is_free_when_neither_its_device_nor_its_job_is_paused(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(self.SLOTS, NOW)
        await ledger.pause(self.DEVICE)
        await ledger.pause(self.JOB)
        taken = await claim(ledger)
        assert [(slot.device, slot.job) for slot in taken] == [("b", "check")]
        await ledger.resume(PauseKind.DEVICE, "a", [], NOW)
        taken = await claim(ledger)
        assert [(slot.device, slot.job) for slot in taken] == [("a", "check")]
        await ledger.resume(PauseKind.JOB, "backup", [], NOW)
        taken = await claim(ledger)
        assert sorted((slot.device, slot.job) for slot in taken) == [
            ("a", "backup"),
            ("b", "backup"),
        ]

    async def test_a_sync_keeps_pauses_also_for_what_is_new(self, ledger: Ledger) -> None:
        await ledger.pause(self.DEVICE)
        await ledger.sync_slots(self.SLOTS, NOW)
        changed = [planned("a", plan=OTHER, tags=["x"]), planned("a", "third")]
        await ledger.sync_slots(changed, NOW)
        assert await claim(ledger) == []
        assert {slot.state for slot in (await ledger.slots(SlotQuery(), NOW)).items} == {
            SlotState.PAUSED
        }

    async def test_a_lease_runs_to_its_end_and_is_then_held_back(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("a", due=NOW - 1), planned("b")], NOW)
        a, _ = await claim(ledger, worker_id="w1")
        await ledger.pause(self.JOB)
        assert (await slot_of(ledger, "a")).state is SlotState.LEASED
        assert await ledger.renew([key_of(a)], worker_id="w1", now=NOW, until=NOW + 130) == [True]
        assert await ledger.finish([end_of(a, next_due=NOW + 60)], NOW) == [FinishAnswer.KEPT]
        assert await claim(ledger, now=NOW + 1000) == []
        assert await ledger.to_resume(PauseKind.JOB, "backup") == [
            ResumedSlot(
                device="a",
                job="backup",
                due=NOW + 60,
                ready=NOW + 60,
                epoch=1,
                plan=HOURLY,
                planned_since=NOW - 2,
            )
        ]
        await ledger.resume(PauseKind.JOB, "backup", [], NOW + 1000)
        again = await claim(ledger, now=NOW + 1000)
        assert [(slot.device, slot.epoch) for slot in again] == [("b", 2), ("a", 2)]

    async def test_to_resume_names_what_would_be_free(self, ledger: Ledger) -> None:
        await ledger.sync_slots([*self.SLOTS, planned("a", "ended", due=None)], NOW)
        assert await ledger.to_resume(PauseKind.DEVICE, "a") is None
        await ledger.pause(self.DEVICE)
        await ledger.pause(self.JOB)
        assert await ledger.to_resume(PauseKind.DEVICE, "a") == [
            ResumedSlot(
                device="a",
                job="check",
                due=NOW,
                ready=NOW,
                epoch=0,
                plan=HOURLY,
                planned_since=NOW - 1,
            ),
            ResumedSlot(device="a", job="ended", due=None, epoch=0, plan=HOURLY, planned_since=NOW),
        ]

    async def test_resuming_moves_slots_on_with_what_became_of_their_times(
        self, ledger: Ledger
    ) -> None:
        await ledger.sync_slots(self.SLOTS, NOW)
        await ledger.pause(self.DEVICE)
        spans = (
            Span(
                outcome=Outcome.MISSED, first_due=NOW, last_due=NOW + 50, count=2, reason="paused"
            ),
        )
        moved = [
            Resumption(
                device="a", job="backup", epoch=0, plan=HOURLY, next_due=NOW + 100, spans=spans
            ),
            Resumption(
                device="a", job="check", epoch=7, plan=HOURLY, next_due=NOW + 100, spans=spans
            ),
            Resumption(
                device="b", job="check", epoch=0, plan=HOURLY, next_due=NOW + 100, spans=spans
            ),
            Resumption(
                device="c", job="check", epoch=0, plan=HOURLY, next_due=NOW + 100, spans=spans
            ),
        ]
        assert await ledger.resume(PauseKind.DEVICE, "a", moved, NOW + 60)
        (missed,) = await history(ledger)
        assert (missed.device, missed.job, missed.count) == ("a", "backup", 2)
        assert (missed.failure, missed.last_due) == ("paused", NOW + 50)
        dues = {
            (slot.device, slot.job): slot.due
            for slot in (await ledger.slots(SlotQuery(), NOW)).items
        }
        assert dues == {
            ("a", "backup"): NOW + 100,
            ("a", "check"): NOW,
            ("b", "backup"): NOW,
            ("b", "check"): NOW,
        }

    async def test_resuming_one_leaves_what_another_holds(self, ledger: Ledger) -> None:
        await ledger.sync_slots(self.SLOTS, NOW)
        await ledger.pause(self.DEVICE)
        await ledger.pause(self.JOB)
        moved = [Resumption(device="a", job="backup", epoch=0, plan=HOURLY, next_due=NOW + 100)]
        await ledger.resume(PauseKind.DEVICE, "a", moved, NOW)
        slot = await slot_of(ledger, "a")
        assert (slot.state, slot.due) == (SlotState.PAUSED, NOW)

"""On demand, beside the schedule."""

import pytest

from roundsman.errors import NotFoundError
from roundsman.ledger.interface import (
    Ledger,
    Pause,
    PauseKind,
    RunNow,
)
from roundsman.testing.ledger_conformance.helpers import (
    LEASE,
    NOW,
    claim,
    end_of,
    planned,
    slot_of,
)
from roundsman.wire.run import SlotState


class OnDemand:
    """On demand, beside the schedule."""

    async def test_a_waiting_slot_is_due_now_and_resumes_its_schedule(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 3600)], NOW)
        assert await ledger.run_now("d", "backup", NOW) is RunNow.QUEUED
        assert await ledger.run_now("d", "backup", NOW + 1) is RunNow.ALREADY_DUE
        slot = await slot_of(ledger, "d")
        assert (slot.state, slot.due, slot.on_demand) == (SlotState.DUE, NOW, True)
        (leased,) = await claim(ledger, now=NOW + 2)
        assert (leased.due, leased.on_demand, leased.resume_due) == (NOW, True, NOW + 3600)
        assert await ledger.run_now("d", "backup", NOW + 3) is RunNow.RUNNING
        await ledger.finish([end_of(leased, next_due=leased.resume_due)], NOW + 4)
        slot = await slot_of(ledger, "d")
        assert (slot.due, slot.on_demand) == (NOW + 3600, False)

    async def test_a_slot_whose_schedule_ended_can_be_run(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=None)], NOW)
        assert await ledger.run_now("d", "backup", NOW) is RunNow.QUEUED
        (leased,) = await claim(ledger)
        assert (leased.on_demand, leased.resume_due) == (True, None)

    async def test_what_is_due_or_whose_lease_expired_is_due_already(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 5)], NOW)
        assert await ledger.run_now("d", "backup", NOW) is RunNow.ALREADY_DUE
        await claim(ledger)
        assert await ledger.run_now("d", "backup", NOW + LEASE) is RunNow.ALREADY_DUE
        assert (await slot_of(ledger, "d")).on_demand is False

    async def test_what_has_come_may_be_left_for_later(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW - 5)], NOW)
        assert await ledger.run_now("d", "backup", NOW, beside=True) is RunNow.QUEUED
        assert await ledger.run_now("d", "backup", NOW, beside=True) is RunNow.ALREADY_DUE
        (leased,) = await claim(ledger)
        assert (leased.due, leased.on_demand, leased.resume_due) == (NOW, True, NOW - 5)
        await ledger.finish([end_of(leased, next_due=leased.resume_due)], NOW)
        (leased,) = await claim(ledger)
        assert (leased.due, leased.on_demand) == (NOW - 5, False)

    async def test_a_paused_slot_is_left_alone(self, ledger: Ledger) -> None:
        await ledger.sync_slots([planned("d", due=NOW + 60)], NOW)
        await ledger.pause(Pause(kind=PauseKind.JOB, name="backup", since=NOW, by="alice"))
        assert await ledger.run_now("d", "backup", NOW) is RunNow.PAUSED
        assert (await slot_of(ledger, "d")).due == NOW + 60

    async def test_an_unknown_slot_is_not_found(self, ledger: Ledger) -> None:
        with pytest.raises(NotFoundError, match="job backup on device d "):
            await ledger.run_now("d", "backup", NOW)

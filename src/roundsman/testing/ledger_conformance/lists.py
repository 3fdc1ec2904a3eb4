"""Pages and filters."""

import pytest

from roundsman.errors import RoundsmanError
from roundsman.ledger.interface import (
    Finish,
    Ledger,
    Pause,
    PauseKind,
    ProcessQuery,
    RunQuery,
    SlotQuery,
)
from roundsman.testing.ledger_conformance.helpers import (
    LEASE,
    NOW,
    claim,
    key_of,
    planned,
    slot_of,
)
from roundsman.wire.run import Outcome, Run, Slot, SlotState


class Lists:
    """Pages and filters."""

    async def test_the_state_of_a_slot_says_where_it_stands(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [
                planned("leased", due=NOW - 9, tags=["x", "y"]),
                planned("due"),
                planned("waiting", due=NOW + 1),
                planned("ended", due=None),
                planned("paused", due=None),
            ],
            NOW,
        )
        await claim(ledger, 1, worker_id="w1")
        await ledger.pause(Pause(kind=PauseKind.DEVICE, name="paused", since=NOW, by="alice"))
        slots = (await ledger.slots(SlotQuery(), NOW)).items
        assert {slot.device: slot.state.value for slot in slots} == {
            slot.device: slot.device for slot in slots
        }
        assert await slot_of(ledger, "leased") == Slot(
            device="leased",
            job="backup",
            tags=("x", "y"),
            due=NOW - 9,
            ready=NOW - 9,
            state=SlotState.LEASED,
            epoch=1,
            worker_id="w1",
            lease_expires_at=NOW + LEASE,
        )
        expired = await slot_of(ledger, "leased", now=NOW + LEASE)
        assert (expired.state, expired.worker_id) == (SlotState.DUE, None)
        assert expired.lease_expires_at is None

    async def test_slots_are_filtered(self, ledger: Ledger) -> None:
        await ledger.sync_slots(
            [
                planned(device, job, tags=tags, due=due)
                for device, tags, due in (
                    ("a", ["x"], NOW - 1),
                    ("b", ["x", "y"], NOW + 50),
                    ("c", [], None),
                )
                for job in ("backup", "check")
            ],
            NOW,
        )
        await claim(ledger, 1, worker_id="w1")

        async def found(query: SlotQuery) -> list[str]:
            page = await ledger.slots(query, NOW)
            return [f"{slot.device} {slot.job}" for slot in page.items]

        assert await found(SlotQuery(device="a")) == ["a backup", "a check"]
        assert await found(SlotQuery(job="check")) == ["a check", "b check", "c check"]
        assert await found(SlotQuery(tag="x", job="check")) == ["a check", "b check"]
        assert await found(SlotQuery(tag="y")) == ["b backup", "b check"]
        assert await found(SlotQuery(tag="nowhere")) == []
        assert await found(SlotQuery(worker_id="w1")) == ["a backup"]
        assert await found(SlotQuery(worker_id="w2")) == []
        assert await found(SlotQuery(state=SlotState.LEASED)) == ["a backup"]
        assert await found(SlotQuery(state=SlotState.DUE)) == ["a check"]
        assert await found(SlotQuery(state=SlotState.WAITING)) == ["b backup", "b check"]
        assert await found(SlotQuery(state=SlotState.ENDED)) == ["c backup", "c check"]
        assert await found(SlotQuery(state=SlotState.PAUSED)) == []
        await ledger.pause(Pause(kind=PauseKind.JOB, name="check", since=NOW, by="alice"))
        assert await found(SlotQuery(state=SlotState.PAUSED)) == ["a check", "b check", "c check"]
        assert await found(SlotQuery(state=SlotState.PAUSED, device="b", tag="y")) == ["b check"]

    async def test_slots_come_in_pages(self, ledger: Ledger) -> None:
        wanted = [(f"d{i}", job) for i in range(5) for job in ("backup", "check")]
        await ledger.sync_slots([planned(device, job) for device, job in wanted], NOW)
        for limit in (1, 3, 5, 10, 11):
            seen: list[tuple[str, str]] = []
            after: str | None = None
            while True:
                page = await ledger.slots(SlotQuery(after=after, limit=limit), NOW)
                assert len(page.items) <= limit
                seen += [(slot.device, slot.job) for slot in page.items]
                after = page.next
                if after is None:
                    break
            assert seen == wanted

    async def test_runs_are_filtered_newest_first(self, ledger: Ledger) -> None:
        runs = [
            Run(
                run_id=f"r{i}",
                device=f"d{i % 2}",
                job=f"j{i % 3}",
                due=NOW,
                outcome=Outcome.FAILED if i % 4 == 0 else Outcome.STALE,
                recorded_at=NOW + i,
                worker_id=f"w{i % 5}",
            )
            for i in range(10)
        ]
        await ledger.sync_slots([planned(run.device, run.job) for run in runs[:6]], NOW)
        for run in runs:
            await self._record(ledger, run)

        async def found(query: RunQuery) -> list[int]:
            return [int(run.run_id[1:]) for run in (await ledger.runs(query)).items]

        assert await found(RunQuery()) == list(range(9, -1, -1))
        assert await found(RunQuery(device="d1")) == [9, 7, 5, 3, 1]
        assert await found(RunQuery(job="j0")) == [9, 6, 3, 0]
        assert await found(RunQuery(device="d0", job="j0")) == [6, 0]
        assert await found(RunQuery(outcome=Outcome.FAILED)) == [8, 4, 0]
        assert await found(RunQuery(worker_id="w2")) == [7, 2]
        assert await found(RunQuery(since=NOW + 3, until=NOW + 6)) == [5, 4, 3]
        assert await found(RunQuery(outcome=Outcome.FAILED, since=NOW + 1, job="j2")) == [8]

    async def _record(self, ledger: Ledger, run: Run) -> None:
        """Write a run as it comes about: refused, or at the end of a lease."""
        if run.outcome is Outcome.STALE:
            await ledger.record_stale(run)
            return
        await ledger.run_now(run.device, run.job, NOW)
        for leased in await claim(ledger):
            mine = (leased.device, leased.job) == (run.device, run.job)
            ending = Finish(
                run=run if mine else None, key=key_of(leased), plan=leased.plan, next_due=NOW
            )
            await ledger.finish([ending], NOW)

    async def test_runs_come_in_pages_also_those_of_one_instant(self, ledger: Ledger) -> None:
        for i in range(9):
            run = Run(
                run_id=f"r{i}",
                device="d",
                job="j",
                due=NOW,
                outcome=Outcome.STALE,
                recorded_at=NOW + 0.125 * (i // 4),
            )
            await ledger.record_stale(run)
        for limit in (1, 2, 4, 9, 10):
            seen: list[str] = []
            after: str | None = None
            while True:
                page = await ledger.runs(RunQuery(device="d", after=after, limit=limit))
                seen += [run.run_id for run in page.items]
                after = page.next
                if after is None:
                    break
            assert seen == [f"r{i}" for i in range(8, -1, -1)]

    @pytest.mark.parametrize(
        "after", ["x", "%%%", "bm90IGpzb24", "é", "WzEsMl0=x", "e30", "WyJhIl0", "WzEsLTFd" * 9]
    )
    async def test_a_malformed_cursor_is_named(self, ledger: Ledger, after: str) -> None:
        with pytest.raises(RoundsmanError) as raised:
            await ledger.slots(SlotQuery(after=after), NOW)
        assert raised.value.code == "page.cursor"
        with pytest.raises(RoundsmanError) as raised:
            await ledger.runs(RunQuery(after=after))
        assert raised.value.code == "page.cursor"
        with pytest.raises(RoundsmanError) as raised:
            await ledger.processes(ProcessQuery(after=after))
        assert raised.value.code == "page.cursor"

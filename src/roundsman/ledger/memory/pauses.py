"""Pauses: which slots are held back, and what becomes of them afterwards."""

from collections.abc import Sequence

from roundsman.ledger.interface import Pause, PauseKind, ResumedSlot, Resumption
from roundsman.ledger.memory.holds import Holds
from roundsman.ledger.memory.rows import Row
from roundsman.ledger.memory.runs import Runs


class Pauses(Holds, Runs):
    """Slots are held back by people."""

    async def pause(self, pause: Pause) -> bool:
        self._must_be_open()
        if (pause.kind, pause.name) in self._pauses:
            return False
        self._pauses[pause.kind, pause.name] = pause
        self._hold(self._touched(pause.kind, pause.name), pause.since)
        return True

    def _touched(self, kind: PauseKind, name: str) -> set[str]:
        if kind is PauseKind.DEVICE:
            return {name}
        return {row.device for row in self._slots.values() if row.job == name}

    async def to_resume(self, kind: PauseKind, name: str) -> list[ResumedSlot] | None:
        self._must_be_open()
        if (kind, name) not in self._pauses:
            return None
        return [
            ResumedSlot(
                device=row.device,
                job=row.job,
                due=row.scheduled_due,
                epoch=row.epoch,
                plan=row.plan,
                planned_since=row.planned_since,
                ready=row.resume_due if row.on_demand else row.ready,
            )
            for _, row in sorted(self._slots.items())
            if row.lease_expires_at is None and self._frees(kind, name, row)
        ]

    def _frees(self, kind: PauseKind, name: str, row: Row) -> bool:
        """Whether this pause holds the slot back, and no other does."""
        if kind is PauseKind.DEVICE:
            return row.device == name and (PauseKind.JOB, row.job) not in self._pauses
        return row.job == name and (PauseKind.DEVICE, row.device) not in self._pauses

    async def resume(
        self, kind: PauseKind, name: str, resumptions: Sequence[Resumption], now: float
    ) -> bool:
        self._must_be_open()
        if (kind, name) not in self._pauses:
            return False
        for resumption in resumptions:
            row = self._slots.get((resumption.device, resumption.job))
            if (
                row is not None
                and (row.epoch, row.plan) == (resumption.epoch, resumption.plan)
                and row.lease_expires_at is None
                and self._frees(kind, name, row)
            ):
                if row.on_demand:
                    row.resume_due = resumption.next_due
                elif row.due != resumption.next_due:
                    row.set_due(resumption.next_due)
                self._write_spans(row.device, row.job, resumption.spans, None, now)
        del self._pauses[kind, name]
        self._hold(self._touched(kind, name), now)
        return True

    async def pauses(self) -> list[Pause]:
        self._must_be_open()
        return [self._pauses[key] for key in sorted(self._pauses)]

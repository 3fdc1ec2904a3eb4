"""The slots, by pages."""

from roundsman.ledger import cursors
from roundsman.ledger.interface import Page, SlotQuery
from roundsman.ledger.memory.pages import by_slot
from roundsman.ledger.memory.rows import Row
from roundsman.ledger.memory.tables import Tables
from roundsman.wire.run import Slot, SlotState


class Lists(Tables):
    """Slots are listed."""

    async def slots(self, query: SlotQuery, now: float) -> Page[Slot]:
        self._must_be_open()
        after = cursors.slot_place(query.after) if query.after else ("", "")
        found = [
            slot
            for pair, row in sorted(self._slots.items())
            if pair > after and _wanted_slot(query, slot := self._slot(row, now))
        ]
        return by_slot(found, query.limit)

    def _slot(self, row: Row, now: float) -> Slot:
        state = self._state(row, now)
        held = state is SlotState.LEASED
        return Slot(
            device=row.device,
            job=row.job,
            tags=row.tags,
            due=row.due,
            ready=row.ready,
            attempts=row.attempts,
            quarantined=row.result.quarantined.run_id
            if row.result is not None and row.result.quarantined is not None
            else None,
            state=state,
            epoch=row.epoch,
            on_demand=row.on_demand,
            worker_id=row.worker_id if held else None,
            lease_expires_at=row.lease_expires_at if held else None,
        )


def _wanted_slot(query: SlotQuery, slot: Slot) -> bool:
    return (
        query.device in (None, slot.device)
        and query.job in (None, slot.job)
        and (query.tag is None or query.tag in slot.tags)
        and query.state in (None, slot.state)
        and query.worker_id in (None, slot.worker_id)
    )

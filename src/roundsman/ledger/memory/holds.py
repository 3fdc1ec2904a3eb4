"""Breakers, and the slots that they hold back."""

from roundsman.ledger.holds import Holdable, arrange
from roundsman.ledger.memory.tables import Tables
from roundsman.wire.breaker import Breaker


class Holds(Tables):
    """Slots are held back since their device does not answer."""

    async def breaker(self, device: str) -> Breaker | None:
        self._must_be_open()
        return self._breakers.get(device)

    async def open_breakers(self) -> list[Breaker]:
        self._must_be_open()
        return [breaker for _, breaker in sorted(self._breakers.items()) if breaker.open]

    async def close_breaker(self, device: str, now: float) -> bool:
        self._must_be_open()
        return self._close(device, now)

    def _close(self, device: str, now: float) -> bool:
        breaker = self._breakers.pop(device, None)
        if breaker is None or not breaker.open:
            return False
        for row in self._slots.values():
            if row.device == device and row.due is not None:
                row.was_held = row.was_held or (row.ready is None and row.due <= now)
                row.ready = row.due
        return True

    def _hold(self, devices: set[str], now: float) -> None:
        for device in devices:
            breaker = self._breakers.get(device)
            if breaker is None or breaker.probe_at is None:
                continue
            rows = {
                row.number: row
                for row in self._slots.values()
                if row.device == device and row.due is not None and not row.on_demand
            }
            slots = [
                Holdable(
                    row.number,
                    row.due or 0,
                    row.ready,
                    self._paused(row),
                    row.claimed_at if row.leased_at(now) else None,
                )
                for row in rows.values()
            ]
            for slot in arrange(slots, breaker.probe_at):
                row = rows[slot.number]
                row.ready, row.was_held = slot.ready, row.was_held or slot.was_held

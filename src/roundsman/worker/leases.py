"""Which leases this worker holds, from the answer that gave them until they are settled."""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from roundsman.wire.execution import LeaseKey
from roundsman.worker.deadline import LeaseDeadline


class _Held(NamedTuple):
    seconds: float
    deadline: LeaseDeadline | None
    on_lost: Callable[[], object] | None


class HeldLeases:
    """Every lease that the heartbeat has to renew: waiting, running, or with its result on disk."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._held: dict[LeaseKey, _Held] = {}
        self.changed = asyncio.Event()
        """Set whenever a lease was added; the heartbeat clears it."""

    def __contains__(self, key: LeaseKey) -> bool:
        return key in self._held

    def hold(
        self,
        key: LeaseKey,
        *,
        seconds: float,
        deadline: LeaseDeadline | None = None,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        """Hold a lease of that length; `on_lost` is called once if it turns out to be lost.

        `deadline` is moved when it is renewed.
        """
        self._held[key] = _Held(seconds, deadline, on_lost)
        self.changed.set()

    def outlive_run(self, key: LeaseKey) -> None:
        """Its run is over, its result on disk: losing it from now on ends nothing here."""
        if key in self._held:
            self._held[key] = _Held(self._held[key].seconds, None, None)

    def settle(self, key: LeaseKey) -> None:
        """Hold it no longer: its result is kept, refused or given up. Harmless when not held."""
        self._held.pop(key, None)

    def renewed(self, keys: Iterable[LeaseKey], until: float) -> None:
        """The controller says that these hold until then, by the monotonic clock here."""
        for key in keys:
            held = self._held.get(key)
            if held is not None and held.deadline is not None:
                held.deadline.move(until)

    def lose(self, keys: Iterable[LeaseKey]) -> list[LeaseKey]:
        """The controller says that these are lost; those which were still held here."""
        lost = []
        for key in keys:
            held = self._held.pop(key, None)
            if held is not None:
                lost.append(key)
                if held.on_lost is not None:
                    held.on_lost()
        return lost

    def keys(self) -> tuple[LeaseKey, ...]:
        """All that are held."""
        return tuple(self._held)

    def shortest(self) -> float | None:
        """Length of the shortest lease held, in seconds; none when none is held."""
        return min((held.seconds for held in self._held.values()), default=None)

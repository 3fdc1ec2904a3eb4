"""Which slot of a device is let through while its breaker is open: for every driver.

One at a time, from the probe time on. The others are not offered at all until the breaker closes.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Holdable(NamedTuple):
    """A slot of the device that has a due time, and that nobody asked for beside the schedule."""

    number: int
    due: int
    ready: int | None
    paused: bool
    leased_at: float | None
    """Since when it is leased; none when it is not, or its lease has expired."""


class Arranged(NamedTuple):
    """How a slot stands from now on."""

    number: int
    ready: int | None
    """From when on it is offered; none: held back."""
    was_held: bool
    """Whether it is offered later than it was due because of the breaker."""


def arrange(slots: Sequence[Holdable], probe_at: int) -> list[Arranged]:
    """How the slots of a device stand while its breaker is open.

    A lease given since `probe_at` is the probe. While there is none, the slot that comes first is
    to be it. A lease from before keeps its slot; should its worker die, that waits likewise.
    """
    probing = any(slot.leased_at is not None and slot.leased_at >= probe_at for slot in slots)
    free = [slot for slot in slots if slot.leased_at is None and not slot.paused]
    first = None if probing else min(free, key=lambda slot: _rank(slot, probe_at), default=None)
    return [
        Arranged(slot.number, None, was_held=False)
        if slot.leased_at is None and slot is not first
        else Arranged(slot.number, _rank(slot, probe_at)[0], was_held=probe_at > slot.due)
        for slot in slots
        if slot.leased_at is None or slot.leased_at < probe_at
    ]


def _rank(slot: Holdable, probe_at: int) -> tuple[int, int]:
    own = slot.due if slot.ready is None else slot.ready
    return max(own, probe_at), slot.number

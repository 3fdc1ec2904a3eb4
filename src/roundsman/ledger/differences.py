"""What has to be done so that the slots are those of the configuration: for every database."""

from collections.abc import Iterable, Sequence

import msgspec

from roundsman.ledger.fairness import Tags, due_order
from roundsman.ledger.interface import PlannedSlot, SyncSummary

KeptSlot = tuple[int, str, str, Tags, str, int]
"""Number, device, job, tags, plan and priority."""


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be done."""

    added: tuple[PlannedSlot, ...]
    """In the order in which they are numbered."""
    changed: tuple[tuple[int, PlannedSlot], ...]
    """With the number of the slot."""
    removed: tuple[int, ...]
    """Numbers of slots."""
    kept: int

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.added or self.changed or self.removed)

    @property
    def summary(self) -> SyncSummary:
        """How much it is."""
        return SyncSummary(
            added=len(self.added),
            changed=len(self.changed),
            removed=len(self.removed),
            kept=self.kept,
        )


def compare(kept: Iterable[KeptSlot], planned: Sequence[PlannedSlot]) -> Differences:
    """What differs between the slots that are and those that are planned."""
    wanted = {(slot.device, slot.job): slot for slot in planned}
    total = len(wanted)
    changed: list[tuple[int, PlannedSlot]] = []
    removed: list[int] = []
    for slot_id, device, job, tags, kept_plan, priority in kept:
        plan = wanted.pop((device, job), None)
        if plan is None:
            removed.append(slot_id)
        elif (tags, kept_plan, priority) != (plan.tags, plan.plan, plan.priority):
            changed.append((slot_id, plan))
    return Differences(
        added=tuple(sorted(wanted.values(), key=due_order)),
        changed=tuple(changed),
        removed=tuple(removed),
        kept=total - len(wanted) - len(changed),
    )

"""Lists cut into pages."""

import math
from collections.abc import Sequence
from typing import TypeVar

from roundsman.ledger import cursors
from roundsman.ledger.interface import Page, SlotAccount
from roundsman.wire.run import Slot

ItemType = TypeVar("ItemType")
SlotItem = TypeVar("SlotItem", Slot, SlotAccount)


def by_slot(found: Sequence[SlotItem], limit: int) -> Page[SlotItem]:
    """The first of those that come after the place that was asked for, in order."""
    following = None
    if len(found) > limit:
        last = found[limit - 1]
        following = cursors.encode((last.device, last.job))
    return Page(items=tuple(found[:limit]), next=following)


def oldest_first(
    found: list[tuple[cursors.TimePlace, ItemType]], after: str | None, limit: int
) -> Page[ItemType]:
    """Those after a place, each given with its own."""
    place = cursors.time_place(after) if after else (-math.inf, 0)
    found = sorted((entry for entry in found if entry[0] > place), key=_place)
    following = cursors.encode(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=tuple(item for _, item in found[:limit]), next=following)


def newest_first(
    found: list[tuple[cursors.TimePlace, ItemType]], after: str | None, limit: int
) -> Page[ItemType]:
    """Those before a place, each given with its own."""
    place = cursors.time_place(after) if after else (math.inf, 0)
    found = sorted((entry for entry in found if entry[0] < place), key=_place, reverse=True)
    following = cursors.encode(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=tuple(item for _, item in found[:limit]), next=following)


def _place(entry: tuple[cursors.TimePlace, object]) -> cursors.TimePlace:
    return entry[0]

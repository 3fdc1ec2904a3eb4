"""Pages of lists that are held in memory; the ledger pages its own."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

from roundsman.ledger import cursors
from roundsman.wire.page import Page

T = TypeVar("T")

Place = tuple[str, str]
"""What a list is ordered by; the second part only breaks ties."""


def page_of(
    items: Sequence[T],
    *,
    place: Callable[[T], Place],
    after: str | None,
    limit: int,
    matches: Callable[[T], bool] = lambda _: True,
) -> Page[T]:
    """The first `limit` matching items beyond `after`, of items that are ordered by `place`.

    Raises `cursors.CursorError` for an `after` that no page gave. An item that is gone since does
    no harm: the list goes on from where it stood.
    """
    start = 0 if after is None else bisect_right(items, cursors.slot_place(after), key=place)
    rest = (items[index] for index in range(start, len(items)))
    found = list(islice((item for item in rest if matches(item)), limit + 1))
    more = len(found) > limit
    kept = tuple(found[:limit])
    return Page(items=kept, next=cursors.encode(place(kept[-1])) if more else None)

"""One page of a list."""

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list."""

    items: tuple[T, ...]
    """The entries, in the order of the list."""
    next: str | None = None
    """Pass it as `after` to get the next page; none on the last."""

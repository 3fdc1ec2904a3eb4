"""What a search finds."""

import msgspec

from roundsman.wire.difference import Span


class FoundLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that matches, or one around it."""

    number: int
    """From 1 on."""
    text: str
    """Without its line end, up to 2,000 characters; what is no UTF-8 is shown as U+FFFD."""
    matches: tuple[Span, ...] = ()
    """Where it matches; none: it is shown for its neighbour's sake."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A content in which something was found."""

    device: str
    """The device."""
    job: str
    """The job."""
    number: int
    """Number of the version."""
    version: str
    """Its commit."""
    at: int
    """When that was committed, Unix seconds."""
    lines: tuple[FoundLine, ...]
    """The lines that match, and those around them, in order."""
    more: bool
    """Whether more lines match than are shown."""
    withdrawn: bool = False
    """Whether the version was withdrawn: only searches of all versions find such."""


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """What was found so far."""

    items: tuple[Match, ...]
    """May be none although more are to come: a page ends after two seconds."""
    next: str | None
    """Pass it as `after` to go on; none: everything was searched."""
    read: int
    """How many contents were read for this page; the index ruled the others out."""

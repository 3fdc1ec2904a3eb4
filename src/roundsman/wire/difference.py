"""A difference of two versions, for a page to show."""

from enum import StrEnum

import msgspec

from roundsman.wire.version import Version


class LineKind(StrEnum):
    """What became of a line."""

    CONTEXT = "context"
    """It is in both."""
    REMOVED = "removed"
    """It is in the old one only."""
    ADDED = "added"
    """It is in the new one only."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a line, counted in Unicode code points from 0 on."""

    start: int
    """Its first character."""
    end: int
    """The character behind its last."""


class DiffLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a difference."""

    kind: LineKind
    """What became of it."""
    old: int | None
    """Its number in the old version, from 1 on."""
    new: int | None
    """Its number in the new version."""
    text: str
    """Without its line end; what is no UTF-8 is shown as U+FFFD."""
    changed: tuple[Span, ...] = ()
    """Where in the text it differs from the line that it replaces or that replaces it. None: it has
    no counterpart."""
    has_line_end: bool = True
    """Whether a line end follows it: the last line of a content may be without."""


class Hunk(msgspec.Struct, frozen=True, kw_only=True):
    """A change, with the lines around it."""

    old_start: int
    """Number of its first line in the old version."""
    old_lines: int
    """How many lines of the old version it covers."""
    new_start: int
    """Number of its first line in the new version."""
    new_lines: int
    """How many lines of the new version it covers."""
    lines: tuple[DiffLine, ...]
    """All of them in order; what replaces a line comes after it."""


class WordDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How one version became another."""

    old: Version
    """What it was."""
    new: Version
    """What it became."""
    binary: bool
    """Whether one of them is no text; then there are no hunks."""
    added: int
    """Lines that came, in all hunks, shown or not."""
    removed: int
    """Lines that went."""
    truncated: bool
    """Whether there are more lines than are shown."""
    hunks: tuple[Hunk, ...]
    """Changes, each with the lines around it."""

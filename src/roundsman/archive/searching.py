"""Searching contents: the latest of each device and job, or all versions.

The index narrows the latest contents down; what may match is read and matched, and shown with the
lines around it. A page takes two seconds at most, and says where the next one goes on.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.indexing import as_text, connect, is_searched, reached
from roundsman.archive.interface import Search, SearchPlaceError
from roundsman.archive.matching import Matcher
from roundsman.archive.objects import BLOB
from roundsman.archive.timeline import Found, found_in
from roundsman.wire.search import Match, SearchPage

SECONDS: Final = 2.0
"""A page ends after so long, wherever it stands."""
_AT_ONCE: Final = 500

_PATHS: Final = "SELECT id FROM path WHERE id > ? ORDER BY id LIMIT ?"
_CANDIDATES: Final = """
SELECT rowid FROM search.text WHERE text MATCH ?1 AND rowid > ?2
UNION SELECT id FROM path WHERE seq > ?3 AND id > ?2 ORDER BY 1 LIMIT ?4
"""
_NEWEST: Final = "SELECT * FROM told WHERE path = ?1 AND seq = (SELECT seq FROM path WHERE id = ?1)"
_VERSIONS: Final = "SELECT * FROM told WHERE (path, seq) > (?, ?) ORDER BY path, seq LIMIT ?"

_Place: TypeAlias = tuple[int, int]
"""Path and `seq` of what was looked at last."""


class Searcher:
    """Searches one repository. Any thread may."""

    def __init__(self, git: Git, folder: Path) -> None:
        """Nothing is opened before it is asked."""
        self._git = git
        self._folder = folder

    def page(self, search: Search) -> SearchPage:
        """What is found beyond `after`.

        Raises `SearchPatternError`, `SearchPlaceError`, `sqlite3.Error`, `ArchiveUnavailableError`.
        """
        until = time.monotonic() + SECONDS
        matcher = Matcher(search)
        reader = ObjectReader(self._git)
        items: list[Match] = []
        read = 0
        with closing(connect(self._folder)) as database:
            generation, seq = reached(database)
            place = _parse_place(search.after, generation)
            try:
                for path, found in _candidates(database, search, matcher.narrowed, place, seq):
                    if len(items) == search.limit or time.monotonic() > until:
                        following = f"{generation}.{place[0]}.{place[1]}"
                        return SearchPage(items=tuple(items), next=following, read=read)
                    place = (path, found.seq)
                    if search.chosen(found.device, found.job) and _is_searched(found):
                        read += 1
                        content = as_text(reader.read(BLOB, [found.blob])[0])
                        if (lines := matcher.lines(content)) is not None:
                            items.append(_match(found, *lines))
            finally:
                reader.close()
        return SearchPage(items=tuple(items), next=None, read=read)


def _parse_place(after: str | None, generation: str) -> _Place:
    if after is None:
        return (0, 0)
    known, *numbers = after.split(".")
    if known != generation or len(numbers) != 2 or not all(_is_number(each) for each in numbers):
        raise SearchPlaceError(
            f"after={after[:80]!r}: expected the `next` of a page of this search",
            remedy="leave `after` out to begin anew",
        )
    return (int(numbers[0]), int(numbers[1]))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _candidates(
    database: sqlite3.Connection, search: Search, narrowed: str | None, place: _Place, seq: int
) -> Iterator[tuple[int, Found]]:
    """What may match beyond a place: path and version, in their order."""
    if search.history:
        while rows := database.execute(_VERSIONS, (*place, _AT_ONCE)).fetchall():
            for row in rows:
                yield row[2], found_in(row)
            place = (rows[-1][2], rows[-1][3])
        return
    path = place[0]
    while paths := _paths(database, narrowed, path, seq):
        for path in paths:
            yield path, found_in(database.execute(_NEWEST, (path,)).fetchone())


def _paths(database: sqlite3.Connection, narrowed: str | None, path: int, seq: int) -> list[int]:
    """The next paths whose latest content may match; what is not in the index yet may."""
    if narrowed is None or seq == 0:
        rows = database.execute(_PATHS, (path, _AT_ONCE))
    else:
        rows = database.execute(_CANDIDATES, (narrowed, path, seq, _AT_ONCE))
    return [row[0] for row in rows]


def _is_searched(found: Found) -> bool:
    return is_searched(found.version.size, found.version.lines)


def _match(found: Found, lines: tuple[Any, ...], more: bool) -> Match:
    return Match(
        device=found.device,
        job=found.job,
        number=found.version.number,
        version=found.version.version,
        at=found.version.at,
        lines=lines,
        more=more,
    )

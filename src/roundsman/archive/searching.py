"""Searching contents: the latest of each device and job, or all versions.

The index narrows the latest contents down; what may match is read and matched, and shown with the
lines around it. A page takes two seconds at most, and says where the next one goes on.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from heapq import merge
from itertools import compress, groupby, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from roundsman.archive.command import ObjectReader
from roundsman.archive.indexing import as_text, connect, is_searched, reached
from roundsman.archive.interface import Search, SearchPlaceError
from roundsman.archive.matching import Matcher
from roundsman.archive.objects import BLOB
from roundsman.archive.readers import Readers
from roundsman.archive.timeline import Found, found_in
from roundsman.wire.search import Match, SearchPage

SECONDS: Final = 2.0
"""A page ends after so long, wherever it stands."""
_AT_ONCE: Final = 64
_BYTES_AT_ONCE: Final = 8 << 20
"""Contents asked of git together: to wait for each by itself would take several times as long."""

_PATHS: Final = "SELECT id FROM path WHERE id > ? ORDER BY id"
_MATCHING: Final = "SELECT rowid FROM search.text WHERE text MATCH ? AND rowid > ? ORDER BY rowid"
_NOT_INDEXED: Final = "SELECT id FROM path WHERE seq > ? AND id > ? ORDER BY id"
_NEWEST: Final = """
SELECT told.* FROM json_each(?) CROSS JOIN path ON path.id = value
CROSS JOIN told ON told.path = path.id
AND told.seq = (SELECT max(v.seq) FROM version v WHERE v.path = path.id AND NOT v.withdrawn)
ORDER BY path.id
"""
_VERSIONS: Final = "SELECT * FROM told WHERE (path, seq) > (?, ?) ORDER BY path, seq"

_Place: TypeAlias = tuple[int, int]
"""Path and `seq` of what was looked at last."""


class Searcher:
    """Searches one repository. Any thread may."""

    def __init__(self, readers: Readers, folder: Path) -> None:
        """Nothing is opened before it is asked."""
        self._readers = readers
        self._folder = folder

    def page(self, search: Search) -> SearchPage:
        """What is found beyond `after`.

        Raises `SearchPatternError`, `SearchPlaceError`, `sqlite3.Error`, `ArchiveUnavailableError`.
        """
        until = time.monotonic() + SECONDS
        matcher = Matcher(search)
        items: list[Match] = []
        read = 0
        with closing(connect(self._folder)) as database, self._readers.one() as reader:
            generation, seq = reached(database)
            place = _parse_place(search.after, generation)
            candidates = _candidates(database, search, matcher.narrowed, place, seq)
            for found, content in _with_contents(reader, search, candidates):
                if len(items) == search.limit or time.monotonic() > until:
                    following = f"{generation}.{place[0]}.{place[1]}"
                    return SearchPage(items=tuple(items), next=following, read=read)
                place = (found.path, found.seq)
                if content is not None:
                    read += 1
                    if (lines := matcher.lines(as_text(content))) is not None:
                        items.append(_match(found, *lines))
        return SearchPage(items=tuple(items), next=None, read=read)


def _with_contents(
    reader: ObjectReader, search: Search, candidates: Iterator[Found]
) -> Iterator[tuple[Found, bytes | None]]:
    """Contents, some read at once; none for what is not chosen, or not searched."""
    for some in _within_bytes(candidates):
        wanted = [_is_searched(each) and search.chosen(each.device, each.job) for each in some]
        blobs = [each.blob for each in compress(some, wanted)]
        contents = iter(reader.read(BLOB, blobs))
        for found, is_wanted in zip(some, wanted, strict=True):
            yield found, next(contents) if is_wanted else None


def _within_bytes(candidates: Iterator[Found]) -> Iterator[list[Found]]:
    """Some at a time, of whose contents memory holds a bounded number of bytes."""
    some: list[Found] = []
    size = 0
    for found in candidates:
        some.append(found)
        size += found.version.size if _is_searched(found) else 0
        if len(some) == _AT_ONCE or size > _BYTES_AT_ONCE:
            yield some
            some, size = [], 0
    yield some


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
) -> Iterator[Found]:
    """What may match beyond a place, by path and version."""
    if search.history:
        yield from map(found_in, database.execute(_VERSIONS, place))
        return
    paths = _paths(database, narrowed, place[0], seq)
    while some := [*islice(paths, _AT_ONCE)]:
        yield from map(found_in, database.execute(_NEWEST, (json.dumps(some),)))


def _paths(
    database: sqlite3.Connection, narrowed: str | None, path: int, seq: int
) -> Iterator[int]:
    """The paths whose latest content may match; what was not in the index at first may."""
    if narrowed is None or seq == 0:
        return _ids(database.execute(_PATHS, (path,)))
    not_indexed = database.execute(_NOT_INDEXED, (seq, path)).fetchall()
    matching = database.execute(_MATCHING, (narrowed, path))
    return (each for each, _ in groupby(merge(_ids(not_indexed), _ids(matching))))


def _ids(rows: Iterable[tuple[int]]) -> Iterator[int]:
    return (row[0] for row in rows)


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
        withdrawn=found.version.withdrawn,
    )

"""What can be asked of the list of versions that `history` keeps. Any thread may ask."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from roundsman.archive.interface import Brought, BroughtPage, Chosen, Pair
from roundsman.wire.version import Version

_COMMIT_ID: Final = re.compile(r"[0-9a-f]{40}")
_OF_PATH: Final = "SELECT * FROM told WHERE device = ? AND job = ? "
_LATEST: Final = _OF_PATH + "ORDER BY seq DESC LIMIT ?"
_NOT_WITHDRAWN: Final = "AND NOT withdrawn "
_STANDING: Final = _OF_PATH + _NOT_WITHDRAWN + "ORDER BY seq DESC LIMIT 1"
_ONE: Final = """
SELECT * FROM told WHERE path = (SELECT id FROM path WHERE device = ?1 AND job = ?2)
AND seq = (SELECT max(v.seq) FROM version v INDEXED BY version_commit
           WHERE v.path = (SELECT id FROM path WHERE device = ?1 AND job = ?2) AND v.commit_id = ?3)
"""
_BEFORE: Final = _OF_PATH + "AND seq < ? ORDER BY seq DESC LIMIT ?"
_STOOD_BEFORE: Final = _OF_PATH + _NOT_WITHDRAWN + "AND seq < ? ORDER BY seq DESC LIMIT ?"
_SIZES: Final = """
SELECT asked.key, version.size FROM json_each(?) AS asked
CROSS JOIN path ON path.device = json_extract(asked.value, '$[0]')
AND path.job = json_extract(asked.value, '$[1]')
JOIN version ON version.path = path.id
AND version.seq = (SELECT max(v.seq) FROM version v WHERE v.path = path.id AND NOT v.withdrawn)
"""
_GENERATION: Final = "SELECT generation FROM reached"
_NEWEST_SECONDS: Final = 3600
_NEWEST_VERSIONS: Final = 10_000
_NEWEST: Final = """
SELECT max(coalesce((SELECT max(seq) FROM moment WHERE at < (SELECT max(at) FROM moment) - ?), 0),
           (SELECT coalesce(max(seq), 0) FROM path) - ?)
"""
_BROUGHT: Final = """
SELECT device, job, commit_id, run_id, ended_at, told.seq FROM told
WHERE path IN (SELECT id FROM path WHERE seq > ?) AND told.seq > ?
AND run_id IS NOT NULL AND NOT withdrawn ORDER BY told.seq LIMIT ?
"""
_SEQ_AT: Final = "SELECT seq FROM moment WHERE at <= ? ORDER BY at DESC, seq DESC LIMIT 1"
_AS_OF: Final = """
SELECT device, job, v.path, v.seq, v.commit_id, v.blob_id, v.number, at, ended_at, size, lines,
run_id, subject, withdrawn
FROM path CROSS JOIN version v ON v.path = path.id
AND v.seq = (SELECT max(o.seq) FROM version o
             WHERE o.path = path.id AND o.seq <= ?3 AND o.at <= ?4 AND NOT o.withdrawn)
WHERE (device, job) > (?1, ?2) ORDER BY device, job
"""


class Found(msgspec.Struct, frozen=True):
    """A version of a pair, and where it is."""

    device: str
    job: str
    version: Version
    path: int
    """The number of its pair."""
    seq: int
    blob: bytes


class Timeline:
    """Reads the database of versions. Its methods raise `sqlite3.Error`."""

    def __init__(self, file: Path) -> None:
        """Nothing is opened before it is asked."""
        self._file = file

    def latest(self, device: str, job: str, limit: int) -> list[Found]:
        """The newest versions of a path, newest first."""
        return self._ask(_LATEST, device, job, limit)

    def before(self, found: Found, limit: int) -> list[Found]:
        """Those before a version, newest first."""
        return self._ask(_BEFORE, found.device, found.job, found.seq, limit)

    def stood_before(self, found: Found, limit: int) -> list[Found]:
        """The same without those that were withdrawn."""
        return self._ask(_STOOD_BEFORE, found.device, found.job, found.seq, limit)

    def find(self, device: str, job: str, version: str | None) -> Found | None:
        """One version, or the newest that was not withdrawn; none when there is no such version."""
        if version is None:
            found = self._ask(_STANDING, device, job)
        elif _COMMIT_ID.fullmatch(version):
            found = self._ask(_ONE, device, job, bytes.fromhex(version))
        else:
            found = []
        return found[0] if found else None

    def brought(self, after: str | None, limit: int) -> BroughtPage:
        """See `Archive.brought`."""
        with closing(self._connect()) as database:
            [generation] = database.execute(_GENERATION).fetchone()
            known, _, told = (after or "").partition(":")
            if known == generation:
                seq = int(told)
            else:
                [seq] = database.execute(_NEWEST, (_NEWEST_SECONDS, _NEWEST_VERSIONS)).fetchone()
            rows = database.execute(_BROUGHT, (seq, seq, limit)).fetchall()
        items = tuple(
            Brought(device=device, job=job, version=commit.hex(), run_id=run_id, ended_at=ended_at)
            for device, job, commit, run_id, ended_at, _ in rows
        )
        return BroughtPage(items=items, reached=f"{generation}:{rows[-1][-1] if rows else seq}")

    def sizes(self, paths: Sequence[Pair]) -> list[int | None]:
        """How many bytes the newest version of each pair has; none where there is none."""
        asked = msgspec.json.encode(paths).decode()
        with closing(self._connect()) as database:  # one statement: each gives up the interpreter
            sizes: dict[int, int | None] = dict(database.execute(_SIZES, (asked,)).fetchall())
        return [sizes.get(place) for place in range(len(paths))]

    def as_of(self, at: float, *, after: Pair, limit: int, chosen: Chosen) -> list[Found]:
        """The version that each chosen pair had at an instant, by device and job."""
        with closing(self._connect()) as database:
            seq = database.execute(_SEQ_AT, (at,)).fetchone()
            if seq is None:
                return []
            rows = database.execute(_AS_OF, (*after, *seq, at))
            return [*islice((found_in(row) for row in rows if chosen(row[0], row[1])), limit)]

    def _ask(self, query: str, *values: object) -> list[Found]:
        with closing(self._connect()) as database:
            return [found_in(row) for row in database.execute(query, values)]

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=10)


def found_in(row: tuple[Any, ...]) -> Found:
    """A row of the view `told`."""
    device, job, path, seq, commit, blob, number, at, ended_at, size, lines, *last = row
    run_id, subject, withdrawn = last
    version = Version(
        version=commit.hex(),
        number=number,
        at=at,
        ended_at=ended_at,
        subject=subject,
        size=size,
        lines=lines,
        run_id=run_id,
        withdrawn=bool(withdrawn),
    )
    return Found(device, job, version, path, seq, blob)

"""Which versions each path has, kept in a database beside the objects, inside the repository.

It only repeats what git knows, so that nothing that is asked about versions costs a walk through
history. Whatever becomes of it, it is brought up to date from git, and made anew when it does not
fit. `timeline` reads it.

Versions are numbered twice: by their path, from 1 on, and by `seq` across all paths, in the order
in which they were written. `moment` says which `seq` was reached when: the greatest of all that
were committed by then, also of those that came later, with the line of another controller.
"""

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from roundsman.archive.command import Git
from roundsman.archive.commits import JOINING, WITHDRAWING
from roundsman.archive.drafts import Overtaken
from roundsman.archive.interface import Pair, Withdrawal
from roundsman.archive.layouts import Layouts
from roundsman.archive.walking import Kept, changes, measured, withdrawals

_SCHEMA: Final = """
CREATE TABLE path (id INTEGER PRIMARY KEY, device TEXT NOT NULL, job TEXT NOT NULL,
                   seq INTEGER NOT NULL, number INTEGER NOT NULL, blob_id BLOB NOT NULL,
                   UNIQUE (device, job));
CREATE TABLE version (path INTEGER NOT NULL REFERENCES path, seq INTEGER NOT NULL,
                      number INTEGER NOT NULL, commit_id BLOB NOT NULL, blob_id BLOB NOT NULL,
                      at INTEGER NOT NULL, ended_at INTEGER NOT NULL, size INTEGER, lines INTEGER,
                      run_id TEXT, subject TEXT NOT NULL, withdrawn INTEGER NOT NULL DEFAULT 0,
                      PRIMARY KEY (path, seq)) WITHOUT ROWID;
CREATE INDEX version_commit ON version (path, commit_id);
CREATE TABLE moment (at INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (at, seq))
WITHOUT ROWID;
CREATE TABLE reached (tip BLOB, generation TEXT NOT NULL);
"""
_VIEW: Final = """
CREATE VIEW told AS SELECT device, job, path, version.seq, version.commit_id, version.blob_id,
version.number, at, ended_at, size, lines, run_id, subject, withdrawn
FROM version JOIN path ON path.id = path;
"""
_FROM_2: Final = """
ALTER TABLE version ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;
DROP VIEW told;
"""
_FROM_3: Final = """
DELETE FROM moment WHERE (at, seq) IN
(SELECT at, seq FROM (SELECT at, seq, max(seq) OVER (ORDER BY at, seq) AS greatest FROM moment)
 WHERE seq < greatest);
"""
_FROM: Final = {2: f"{_FROM_2} {_VIEW} {_FROM_3}", 3: _FROM_3}
_SCHEMA_VERSION: Final = 4
_COLUMNS: Final = (
    "path, seq, number, commit_id, blob_id, at, ended_at, size, lines, run_id, subject"
)
_LAST: Final = "SELECT coalesce(max(seq), 0), coalesce(max(id), 0) FROM path"
_FIND: Final = """
SELECT device, job, id, seq, number, blob_id
FROM (VALUES {rows}) CROSS JOIN path ON device = column1 AND job = column2
"""
_MOVE: Final = """
INSERT INTO path VALUES {rows} ON CONFLICT (id) DO UPDATE
SET seq = excluded.seq, number = excluded.number, blob_id = excluded.blob_id
"""
_ADD: Final = f"INSERT INTO version ({_COLUMNS}) VALUES "  # noqa: S608 - names of ours
_REACH: Final = "INSERT INTO moment VALUES "
_OUTLIVED: Final = "DELETE FROM moment WHERE at >= ?"
_OURS: Final = f"(run_id IS NULL AND (subject = '{JOINING}' OR subject GLOB '{WITHDRAWING}*'))"
"""Whether a version only says again what another one brought."""
_LATEST: Final = f"""
SELECT commit_id, blob_id, run_id, {_OURS} FROM told
WHERE device = ? AND job = ? AND NOT withdrawn ORDER BY seq DESC LIMIT 1
"""  # noqa: S608 - names of ours
_CHANGED: Final = """
SELECT device, job, at FROM path JOIN version ON version.path = path.id AND version.seq = path.seq
"""
_OF_PAIR: Final = "SELECT id FROM path WHERE device = ? AND job = ?"
_TAKE_BACK: Final = "DELETE FROM version WHERE path = ? AND commit_id = ?"
_TELL_AGAIN: Final = "UPDATE version SET seq = ? WHERE path = ? AND seq = ?"
_NEWEST: Final = f"SELECT {_COLUMNS} FROM version WHERE path = ? ORDER BY seq DESC LIMIT 1"  # noqa: S608 - likewise
_WITHDRAW: Final = """
UPDATE version SET withdrawn = 1
WHERE path = (SELECT id FROM path WHERE device = ?1 AND job = ?2) AND commit_id = ?3
AND (?4 IS NULL
     OR EXISTS (SELECT 1 FROM version v WHERE v.path = version.path AND v.commit_id = ?4))
"""
_OF_COMMIT: Final = """
SELECT blob_id FROM told WHERE device = ? AND job = ? AND commit_id = ? AND NOT withdrawn
"""
_BROUGHT: Final = """
SELECT commit_id, run_id FROM told WHERE device = ? AND job = ? AND blob_id = ?
AND run_id IS NOT NULL AND NOT withdrawn ORDER BY run_id = ? DESC, seq DESC LIMIT 1
"""
_SAID_AGAIN: Final = f"""
SELECT commit_id FROM told
WHERE device = ? AND job = ? AND blob_id = ? AND NOT withdrawn AND {_OURS}
"""  # noqa: S608 - names of ours
_BESIDE: Final = f"""
SELECT blob_id, at, size, lines FROM told
WHERE device = ? AND job = ? AND NOT withdrawn AND NOT {_OURS} AND commit_id NOT IN ({{}})
ORDER BY at DESC, seq DESC LIMIT 1
"""  # noqa: S608 - names of ours
_STANDS: Final = "UPDATE path SET seq = ?, number = ?, blob_id = ? WHERE id = ?"
_AT_ONCE: Final = 100
"""Versions that are added together: the library lets go of the interpreter for each statement."""
_REBUILD_ROWS: Final = 10_000


class _Path(NamedTuple):
    """The newest version of a path."""

    id: int
    seq: int
    number: int
    blob: bytes


class Latest(NamedTuple):
    """The newest version of a path that was not withdrawn."""

    commit: bytes
    blob: bytes
    run_id: str | None
    says_again: bool
    """Whether another one brought its content: lines were joined, or it was put back."""


class Beside(NamedTuple):
    """What a path held before."""

    blob: bytes
    at: int
    """When it was committed, Unix seconds."""
    size: int
    lines: int | None


class History:
    """The database of versions. Written by one thread."""

    def __init__(self, file: Path, git: Git, layouts: Layouts) -> None:
        self._file = file
        self._git = git
        self._layouts = layouts
        self._writer: sqlite3.Connection | None = None
        self._last = (0, 0)
        """The greatest `seq` and path; no other process writes."""
        self._caught_up: bytes | None = None
        """The commit up to which it is known to go."""

    def catch_up(self, tip: bytes | None) -> None:
        """Read from git what is missing up to `tip`. Raises `sqlite3.Error`, `OSError`."""
        if tip is not None and tip == self._caught_up:
            return
        try:
            self._catch_up(tip)
            self._caught_up = tip
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.rebuild(tip)  # damaged: not a database, or one that contradicts itself

    def rebuild(self, tip: bytes | None) -> None:
        """Begin anew from git. Raises `sqlite3.Error`, `OSError`."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        self._database()
        if tip is not None:
            self._walk(None, tip)

    def add(
        self, versions: Sequence[Kept], tip: bytes | None, withdrawn: Sequence[Withdrawal] = ()
    ) -> None:
        """Note versions that were just written, oldest first, up to `tip`, and what it withdraws.

        Content that the path had already is none, where no other run brought it: a result was
        moved, or copied.
        """
        database = self._database()
        last = self._last
        with database:
            for start in range(0, len(versions), _AT_ONCE):
                last = self._add(database, versions[start : start + _AT_ONCE], last)
            for each in withdrawn:
                kept = None if each.kept is None else bytes.fromhex(each.kept)
                named = (each.device, each.job, bytes.fromhex(each.version), kept)
                database.execute(_WITHDRAW, named)
            database.execute("UPDATE reached SET tip = ?", (tip,))
        self._last = last
        self._caught_up = tip

    def _add(
        self, database: sqlite3.Connection, versions: Sequence[Kept], last: tuple[int, int]
    ) -> tuple[int, int]:
        """Add some versions in a handful of statements; the last `seq` and path after `last`."""
        seq, path = last
        paths = _paths_of(database, versions)
        rows: list[object] = []
        moments: dict[int, int] = {}
        for item in versions:
            before = paths.get((item.device, item.job))
            if before is None:
                path += 1
                before = _Path(path, 0, 0, b"")
            elif before.blob == item.blob and item.run_id is None:
                continue
            seq += 1
            now = _Path(before.id, seq, before.number + 1, item.blob)
            paths[item.device, item.job] = now
            moments[item.at] = seq
            rows += (now.id, seq, now.number, item.commit, item.blob, item.at, item.ended_at)
            rows += (item.size, item.lines, item.run_id, item.subject)
        if not rows:
            return last
        moved = [value for pair, item in paths.items() for value in (item.id, *pair, *item[1:])]
        database.execute(_MOVE.format(rows=_values(6, len(paths))), moved)
        database.execute(_ADD + _values(11, len(rows) // 11), rows)
        _reach(database, moments)
        return seq, path

    def take_back(self, overtaken: Overtaken) -> None:
        """Forget versions that are given up. Raises `sqlite3.Error`.

        Where others brought no other, the version before is told once more: whoever follows the
        list by its `seq`, as the index for searches does, has to hear of it.
        """
        if overtaken.base is None:
            return  # all of them are: it begins anew
        database = self._database()
        self._caught_up = None
        with database:
            pairs = {(kept.device, kept.job): set[bytes]() for kept in overtaken.versions}
            for kept in overtaken.versions:
                pairs[kept.device, kept.job].add(kept.commit)
            for pair, commits in pairs.items():
                self._take_back(database, pair, commits, again=pair not in overtaken.others)
            database.execute("UPDATE reached SET tip = ?", (overtaken.base,))

    def _take_back(
        self, database: sqlite3.Connection, pair: Pair, commits: set[bytes], *, again: bool
    ) -> None:
        [path] = database.execute(_OF_PAIR, pair).fetchone()
        database.executemany(_TAKE_BACK, [(path, commit) for commit in commits])
        newest = database.execute(_NEWEST, (path,)).fetchone()
        if newest is None:
            database.execute(_STANDS, (0, 0, b"", path))
            return
        _, seq, number, _, blob, at, *_ = newest
        if again:
            before, seq = seq, self._last[0] + 1
            database.execute(_TELL_AGAIN, (seq, path, before))
            _reach(database, {at: seq})
            self._last = (seq, self._last[1])
        database.execute(_STANDS, (seq, number, blob, path))

    def reached(self) -> bytes | None:
        """The commit up to which it goes. For the writing thread. Raises `sqlite3.Error`."""
        try:
            row = self._database().execute("SELECT tip FROM reached").fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            return None  # damaged: it will be made anew
        tip: bytes | None = row[0]
        return tip

    def latest(self, device: str, job: str) -> Latest | None:
        """The newest version that was not withdrawn. For the writing thread."""
        row = self._database().execute(_LATEST, (device, job)).fetchone()
        return None if row is None else Latest(*row)

    def blob_of(self, device: str, job: str, commit: bytes) -> bytes | None:
        """What a version brought; none where there is none, or it was withdrawn."""
        row = self._database().execute(_OF_COMMIT, (device, job, commit)).fetchone()
        return None if row is None else row[0]

    def beside(self, device: str, job: str, commits: Sequence[bytes]) -> Beside | None:
        """The version that came last beside these and what was withdrawn; none: no other did."""
        query = _BESIDE.format(", ".join(["?"] * len(commits)))
        row = self._database().execute(query, (device, job, *commits)).fetchone()
        return None if row is None else Beside(*row)

    def brought(self, device: str, job: str, blob: bytes, run_id: str) -> tuple[bytes, str] | None:
        """The commit by which a run brought a content, and that run: this one, or else any."""
        row: tuple[bytes, str] | None = (
            self._database().execute(_BROUGHT, (device, job, blob, run_id)).fetchone()
        )
        return row

    def said_again(self, device: str, job: str, blob: bytes) -> list[bytes]:
        """The commits that say again what another one brought, of this content."""
        rows = self._database().execute(_SAID_AGAIN, (device, job, blob)).fetchall()
        return [row[0] for row in rows]

    def changed_at(self, device: str, job: str) -> int | None:
        """When the newest version was committed, Unix seconds. For the writing thread."""
        row = self._database().execute(_CHANGED + " WHERE device = ? AND job = ?", (device, job))
        found = row.fetchone()
        return None if found is None else found[2]

    def close(self) -> None:
        """Let go of the database; the next write opens it again."""
        self._caught_up = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _catch_up(self, tip: bytes | None) -> None:
        database = self._database()
        reached: bytes | None = database.execute("SELECT tip FROM reached").fetchone()[0]
        if reached == tip:
            return
        begun = reached is None and self._last != (0, 0)  # and broken off
        if tip is not None and not begun and (reached is None or self._stands_on(reached, tip)):
            self._walk(reached, tip)
        else:
            self.rebuild(tip)

    def _stands_on(self, older: bytes, newer: bytes) -> bool:
        return self._git.succeeds("merge-base", "--is-ancestor", older.hex(), newer.hex())

    def _walk(self, reached: bytes | None, tip: bytes) -> None:
        """Add every change of a path between two commits.

        First parents only, but for other histories that the repository began with, and lines that
        were joined. From there on no one commit says how far it came, so none is noted before the
        end.
        """
        rows: list[Kept] = []
        joined = [] if reached is not None else self._joined(tip)
        one_line = not joined
        since = reached
        for item in changes(self._git, self._layouts.pair, reached, tip, joined):
            one_line = one_line and not item.joined
            if len(rows) >= _REBUILD_ROWS and item.commit != rows[-1].commit:
                if one_line:
                    until = rows[-1].commit
                    self._add_measured(rows, until, withdrawals(self._git, since, until))
                    since = until
                else:
                    self._add_measured(rows, None)
                rows = []
            rows.append(item)
        self._add_measured(rows, tip, withdrawals(self._git, since, tip))

    def _joined(self, tip: bytes) -> list[bytes]:
        """The histories that the repository began with, as far as they are still part of it."""
        return [other for other in self._layouts.joined if self._stands_on(other, tip)]

    def _add_measured(
        self, rows: list[Kept], tip: bytes | None, withdrawn: Sequence[Withdrawal] = ()
    ) -> None:
        extents = measured(self._git, {row.blob for row in rows})
        sized = []
        for row in rows:
            size, lines = extents[row.blob]
            sized.append(msgspec.structs.replace(row, size=size, lines=lines))
        self.add(sized, tip, withdrawn)

    def _database(self) -> sqlite3.Connection:
        if self._writer is None:
            self._file.parent.mkdir(exist_ok=True)
            self._writer = sqlite3.connect(self._file, timeout=10, check_same_thread=False)
            self._writer.execute("PRAGMA journal_mode = WAL")
            # A crash of the machine may cost the newest rows, never the file: they are read again.
            self._writer.execute("PRAGMA synchronous = NORMAL")
            # Batches touch the same pages again and again: carry 32 MB over at once, not 4.
            self._writer.execute("PRAGMA wal_autocheckpoint = 8000")
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version in _FROM:
                script = f"{_FROM[version]} PRAGMA user_version = {_SCHEMA_VERSION};"
                self._writer.executescript(f"BEGIN; {script} COMMIT;")
            elif version != _SCHEMA_VERSION:
                self._make_tables(self._writer)
            self._last = self._writer.execute(_LAST).fetchone()
        return self._writer

    def _make_tables(self, database: sqlite3.Connection) -> None:
        """Begin with an empty list, whatever an earlier release left."""
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            database.execute(f'DROP TABLE "{table}"')
        database.executescript(f"BEGIN; {_SCHEMA} {_VIEW} COMMIT;")
        with database:
            database.execute("INSERT INTO reached VALUES (NULL, ?)", (uuid.uuid4().hex,))
            database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _paths_of(
    database: sqlite3.Connection, versions: Sequence[Kept]
) -> dict[tuple[str, str], _Path]:
    """The newest versions of the paths of these, as far as they have any."""
    pairs = {(item.device, item.job) for item in versions}
    asked = _FIND.format(rows=_values(2, len(pairs)))
    rows = database.execute(asked, [name for pair in pairs for name in pair])
    return {(row[0], row[1]): _Path(*row[2:]) for row in rows}


def _reach(database: sqlite3.Connection, moments: Mapping[int, int]) -> None:
    """Note which `seq` was reached when; what was noted of later instants is less, and goes."""
    reached: list[tuple[int, int]] = []
    for at, seq in sorted(moments.items(), key=itemgetter(1), reverse=True):
        if not reached or at < reached[-1][0]:
            reached.append((at, seq))
    database.execute(_OUTLIVED, (reached[-1][0],))
    values = [value for moment in reached for value in moment]
    database.execute(_REACH + _values(2, len(reached)), values)


def _values(columns: int, rows: int) -> str:
    row = f"({', '.join(['?'] * columns)})"
    return ", ".join([row] * rows)

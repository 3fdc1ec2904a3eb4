"""Which versions each path has, kept in a database beside the objects, inside the repository.

It only repeats what git knows, so that a list of versions costs no walk through history. Whatever
becomes of it, it is brought up to date from git, and made anew when it does not fit.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.command import Git
from roundsman.archive.interface import Version
from roundsman.archive.layouts import Layouts

_SCHEMA: Final = """
CREATE TABLE path (id INTEGER PRIMARY KEY, device TEXT NOT NULL, job TEXT NOT NULL,
                   UNIQUE (device, job));
CREATE TABLE version (path INTEGER NOT NULL REFERENCES path, number INTEGER NOT NULL,
                      commit_id BLOB NOT NULL, blob_id BLOB NOT NULL, at INTEGER NOT NULL,
                      subject TEXT NOT NULL, PRIMARY KEY (path, number)) WITHOUT ROWID;
CREATE TABLE reached (tip BLOB);
INSERT INTO reached VALUES (NULL);
PRAGMA user_version = 1;
"""
_SCHEMA_VERSION: Final = 1
_OF_PATH: Final = "FROM version JOIN path ON path.id = path WHERE device = ? AND job = ?"
_LATEST: Final = f"SELECT commit_id, blob_id {_OF_PATH} ORDER BY number DESC LIMIT 1"
_ONE: Final = f"SELECT blob_id {_OF_PATH} AND commit_id = ?"
_LIST: Final = f"SELECT commit_id, at, subject {_OF_PATH} ORDER BY number DESC LIMIT ?"
_ADD_CHANGE: Final = """
INSERT INTO version
SELECT id, 1 + coalesce(number, 0), ?1, ?2, ?3, ?4
FROM path LEFT JOIN version ON path = id
AND number = (SELECT max(number) FROM version WHERE path = id)
WHERE device = ?5 AND job = ?6 AND blob_id IS NOT ?2
"""
_ADD_PATHS: Final = "INSERT OR IGNORE INTO path (device, job) VALUES "
_ADD_VERSIONS: Final = """
INSERT INTO version
SELECT id, row_number() OVER (PARTITION BY id ORDER BY column1)
    + coalesce((SELECT max(number) FROM version WHERE path = id), 0),
    column2, column3, column4, column5
FROM (VALUES {rows}) CROSS JOIN path ON device = column6 AND job = column7
"""
_AT_ONCE: Final = 100
"""Versions that one statement adds: the library lets go of the interpreter for each statement."""
_REBUILD_ROWS: Final = 10_000


class Kept(msgspec.Struct, frozen=True):
    """One version of one path."""

    device: str
    job: str
    commit: bytes
    blob: bytes
    at: int
    subject: str


class History:
    """The database of versions. Written by one thread; read by any."""

    def __init__(self, file: Path, git: Git, layouts: Layouts) -> None:
        self._file = file
        self._git = git
        self._layouts = layouts
        self._writer: sqlite3.Connection | None = None
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

    def add(self, versions: Sequence[Kept], tip: bytes) -> None:
        """Note versions that were just written, oldest first, up to `tip`."""
        database = self._database()
        with database:
            for start in range(0, len(versions), _AT_ONCE):
                some = versions[start : start + _AT_ONCE]
                rows = ", ".join(["(?, ?)"] * len(some))
                pairs = [value for item in some for value in (item.device, item.job)]
                database.execute(_ADD_PATHS + rows, pairs)
                rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(some))
                values = [
                    value
                    for number, item in enumerate(some)
                    for value in (
                        *(number, item.commit, item.blob, item.at, item.subject),
                        *(item.device, item.job),
                    )
                ]
                database.execute(_ADD_VERSIONS.format(rows=rows), values)
            database.execute("UPDATE reached SET tip = ?", (tip,))
        self._caught_up = tip

    def _add_changes(self, versions: Sequence[Kept], tip: bytes) -> None:
        """Note what git's log tells, oldest first, up to `tip`.

        Content that the path had already is no version: a result was moved, or copied.
        """
        database = self._database()
        with database:
            for item in versions:
                pair = (item.device, item.job)
                database.execute("INSERT OR IGNORE INTO path (device, job) VALUES (?, ?)", pair)
                values = (item.commit, item.blob, item.at, item.subject, *pair)
                database.execute(_ADD_CHANGE, values)
            database.execute("UPDATE reached SET tip = ?", (tip,))

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

    def latest(self, device: str, job: str) -> tuple[bytes, bytes] | None:
        """Commit and blob of the newest version. For the writing thread."""
        row: tuple[bytes, bytes] | None = (
            self._database().execute(_LATEST, (device, job)).fetchone()
        )
        return row

    def blob(self, device: str, job: str, commit: bytes | None) -> bytes | None:
        """The blob of one version, or of the newest; none when there is no such version."""
        with closing(self._connect()) as reader:
            if commit is None:
                row = reader.execute(_LATEST, (device, job)).fetchone()
            else:
                row = reader.execute(_ONE, (device, job, commit)).fetchone()
        return None if row is None else bytes(row[-1])

    def latest_blobs(self, paths: Sequence[tuple[str, str]]) -> list[bytes | None]:
        """The blob of the newest version of each of these; none where there is none."""
        with closing(self._connect()) as reader:
            rows = [reader.execute(_LATEST, path).fetchone() for path in paths]
        return [None if row is None else bytes(row[-1]) for row in rows]

    def versions(self, device: str, job: str, limit: int) -> list[Version]:
        """The newest versions of a path, newest first."""
        with closing(self._connect()) as reader:
            rows: Sequence[tuple[bytes, int, str]] = reader.execute(
                _LIST, (device, job, limit)
            ).fetchall()
        return [
            Version(version=commit.hex(), at=at, subject=subject) for commit, at, subject in rows
        ]

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
        if tip is not None and (reached is None or self._stands_on(reached, tip)):
            self._walk(reached, tip)
        else:
            self.rebuild(tip)

    def _stands_on(self, older: bytes, newer: bytes) -> bool:
        return self._git.succeeds("merge-base", "--is-ancestor", older.hex(), newer.hex())

    def _walk(self, reached: bytes | None, tip: bytes) -> None:
        """Add every change of a path between two commits, first parents only."""
        rows: list[Kept] = []
        for item in _changes(self._git, self._layouts, reached, tip):
            if len(rows) >= _REBUILD_ROWS and item.commit != rows[-1].commit:
                self._add_changes(rows, rows[-1].commit)
                rows = []
            rows.append(item)
        self._add_changes(rows, tip)

    def _database(self) -> sqlite3.Connection:
        if self._writer is None:
            self._file.parent.mkdir(exist_ok=True)
            self._writer = self._connect()
            self._writer.execute("PRAGMA journal_mode = WAL")
            # A crash of the machine may cost the newest rows, never the file: they are read again.
            self._writer.execute("PRAGMA synchronous = NORMAL")
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version != _SCHEMA_VERSION:
                self._writer.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        return self._writer

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=10, check_same_thread=False)


def _changes(git: Git, layouts: Layouts, reached: bytes | None, tip: bytes) -> Iterator[Kept]:
    """What `git log` tells, oldest first.

    The output is split at NUL. A commit is the mark, its id, time and subject; a change is the
    field `:modes blobs status`, then the path.
    """
    span = tip.hex() if reached is None else f"{reached.hex()}..{tip.hex()}"
    fields = git.records(
        "log", "-z", "--reverse", "--first-parent", "-m", "--root", "--raw", "--no-abbrev",
        "--no-renames", "--format=%x01%x00%H%x00%ct%x00%s%x00", span, "--",
    )  # fmt: skip
    commit, at, subject = b"", 0, ""
    for field in fields:
        if field.lstrip(b"\n") == b"\x01":
            commit = bytes.fromhex(next(fields).decode())
            at = int(next(fields))
            subject = next(fields).decode(errors="replace")
        elif (change := field.lstrip(b"\n")).startswith(b":"):
            _, mode, _, blob, _ = change.split()
            path = next(fields)
            pair = layouts.pair(path)
            if pair is not None and mode.startswith(b"100"):
                yield Kept(*pair, commit, bytes.fromhex(blob.decode()), at, subject)

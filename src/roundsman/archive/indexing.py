"""The index for searches: which three characters follow each other in each latest content.

It narrows a search down to the contents that may match; those are read, so it never makes a match.
So lines that a content has no more may stay in it for a while: a new version costs its new lines.
A database of its own beside the list of versions, which it follows: what is not in it yet is read
by each search. It is written by a process of its own, of low priority: `python -m
roundsman.archive.indexing CONTROLLER REPOSITORY`. Whatever becomes of it, it is made anew.
"""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from roundsman.archive import beside
from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.objects import BLOB

VERSIONS: Final = "versions.sqlite"
INDEX: Final = "search.sqlite"
MOST_BYTES: Final = 4 << 20
"""Larger contents are not searched."""

_AT_ONCE: Final = 1000
_ID: Final = 20
_MOST_LEFT: Final = 15
"""Versions whose lines may still stand in the index beside those of the latest."""
_SCHEMA_VERSION: Final = 2
_SCHEMA: Final = """
DROP TABLE IF EXISTS search.document;
DROP TABLE IF EXISTS search.text;
DROP TABLE IF EXISTS search.indexed;
CREATE TABLE search.document (path INTEGER PRIMARY KEY, blob_ids BLOB NOT NULL,
                              added INTEGER NOT NULL);
CREATE VIRTUAL TABLE search.text USING fts5 (content, content='', columnsize=0, detail='none',
                                             tokenize='trigram');
CREATE TABLE search.indexed (generation TEXT NOT NULL, seq INTEGER NOT NULL);
"""
_CHANGED: Final = """
SELECT path, told.seq, told.blob_id, size, lines, blob_ids, added FROM told
LEFT JOIN search.document USING (path)
WHERE (path, told.seq) IN (SELECT id, seq FROM path WHERE seq > ? ORDER BY seq LIMIT ?)
ORDER BY told.seq
"""
_REMOVE: Final = "INSERT INTO search.text (text, rowid, content) VALUES ('delete', ?, ?)"
_INSERT: Final = "INSERT INTO search.text (rowid, content) VALUES (?, ?)"
_NOTE: Final = "REPLACE INTO search.document VALUES (?, ?, ?)"


def is_searched(size: int, lines: int | None) -> bool:
    """Whether a content of that extent is searched: a text, and not too large."""
    return lines is not None and size <= MOST_BYTES


def as_text(content: bytes) -> str:
    """A content as it is searched; what is no UTF-8 becomes U+FFFD."""
    return content.decode(errors="replace")


def connect(folder: Path) -> sqlite3.Connection:
    """The list of versions, with the index attached as `search`. Raises `sqlite3.Error`."""
    database = sqlite3.connect(folder / VERSIONS, timeout=10, check_same_thread=False)
    try:
        database.execute("ATTACH ? AS search", (str(folder / INDEX),))
    except sqlite3.Error:
        database.close()
        raise
    return database


def reached(database: sqlite3.Connection) -> tuple[str, int]:
    """The generation of the list of versions, and up to which `seq` of it the index goes."""
    [generation] = database.execute("SELECT generation FROM reached").fetchone()
    if database.execute("PRAGMA search.user_version").fetchone()[0] == _SCHEMA_VERSION:
        known = database.execute("SELECT generation, seq FROM search.indexed").fetchone()
        if known[0] == generation:
            return generation, known[1]
    return generation, 0


def update(git: Git, folder: Path) -> None:
    """Bring the index up to the list of versions. Raises `sqlite3.Error`, `OSError`."""
    try:
        _update(git, folder)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        _remove(folder)  # damaged
        _update(git, folder)


def _update(git: Git, folder: Path) -> None:
    reader = ObjectReader(git)
    with closing(_open(folder)) as database:
        _, seq = reached(database)
        try:
            while rows := database.execute(_CHANGED, (seq, _AT_ONCE)).fetchall():
                seq = rows[-1][1]
                _index(database, reader, rows, seq)
        finally:
            reader.close()


def _open(folder: Path) -> sqlite3.Connection:
    """The databases, the index empty if it does not follow this list of versions."""
    database = connect(folder)
    generation, seq = reached(database)
    if seq == 0:
        database.execute("PRAGMA search.journal_mode = WAL")
        database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        with database:
            database.execute("INSERT INTO search.indexed VALUES (?, 0)", (generation,))
            database.execute(f"PRAGMA search.user_version = {_SCHEMA_VERSION}")
    # A crash of the machine may cost the newest rows, never the file: they are indexed again.
    database.execute("PRAGMA search.synchronous = NORMAL")
    return database


def _index(
    database: sqlite3.Connection, reader: ObjectReader, rows: Sequence[Any], seq: int
) -> None:
    """Take in the latest contents of some paths."""
    with database:
        for path, _, blob, size, lines, before, added in sorted(rows):  # as FTS5 has it cheapest
            ids = [before[at : at + _ID] for at in range(0, len(before or b""), _ID)]
            if is_searched(size, lines):
                _take_in(database, reader, path, blob, before=ids, added=added)
            elif ids:
                _take_out(database, reader, path, ids)
        database.execute("UPDATE search.indexed SET seq = ?", (seq,))


def _take_in(
    database: sqlite3.Connection,
    reader: ObjectReader,
    path: int,
    blob: bytes,
    *,
    before: Sequence[bytes],
    added: int | None,
) -> None:
    """Add what is new in a content; one that is new for the most part replaces those before."""
    if before and len(before) <= _MOST_LEFT:
        old, content = (as_text(each) for each in reader.read(BLOB, [before[-1], blob]))
        lines = _new_lines(old, content)
        added = (added or 0) + len(lines)
        if added <= len(content) // 2:
            database.execute(_INSERT, (path, lines))
            database.execute(_NOTE, (path, b"".join([*before, blob]), added))
            return
    _take_out(database, reader, path, before)
    database.execute(_INSERT, (path, as_text(reader.read(BLOB, [blob])[0])))
    database.execute(_NOTE, (path, blob, 0))


def _take_out(
    database: sqlite3.Connection, reader: ObjectReader, path: int, before: Sequence[bytes]
) -> None:
    """Remove all that was added for a path, in the same words, as FTS5 wants it."""
    old = None
    for blob in before:
        text = as_text(reader.read(BLOB, [blob])[0])
        database.execute(_REMOVE, (path, text if old is None else _new_lines(old, text)))
        old = text
    database.execute("DELETE FROM search.document WHERE path = ?", (path,))


def _new_lines(old: str, new: str) -> str:
    """The lines that an older content does not have. What is asked for is never across lines."""
    known = set(old.split("\n"))
    return "\n".join([line for line in new.split("\n") if line not in known])


def _remove(folder: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{INDEX}{suffix}").unlink(missing_ok=True)


def main() -> None:
    """Bring the index of a repository up to date."""
    beside.begin(int(sys.argv[1]))
    repository = Path(sys.argv[2])
    update(Git(repository), repository / "roundsman")


if __name__ == "__main__":
    main()

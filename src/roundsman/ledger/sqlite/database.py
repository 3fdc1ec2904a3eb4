"""Connections to the file, and how they are set."""

import sqlite3
from pathlib import Path

BUSY_SECONDS = 5.0
"""How long to wait for another program's lock, such as a backup's, before giving up."""


def connect(path: Path, *, cache_megabytes: int, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, for use in any one thread at a time."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        # A reader never has to wait for the writer, nor the writer for readers.
        connection.execute("PRAGMA journal_mode = WAL")
        # Every commit is flushed to the disk before it returns.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = {-1024 * cache_megabytes}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection

"""`roundsman` with its SQLite ledger's instructions counted: `python -m bench.counting_controller
COUNTS controller FILE`.

SQLite says how many instructions its machine carries out, a measure of what statements cost that
neither caches nor other work on the machine change. Bytes read would not do: what the caches hold
is not read at all, and reads of the archive would count as the ledger's.
"""

import sqlite3
import sys
from mmap import mmap
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from roundsman.cli.main import main
from roundsman.ledger.sqlite.database import connect

EVERY: Final = 100
"""Instructions from one note to the next."""
CACHE_MEGABYTES: Final = 1
"""For each connection. The 32 of the ledger's own writer would fill all through an hour of soak,
with the database that they hold, and nobody could tell that from a leak."""
CONNECTIONS: Final = 16
"""More than a ledger opens."""
_BYTES: Final = 8


class Counts:
    """A file that both programs have in memory: the notes of each connection, writers' first."""

    def __init__(self, file: Path) -> None:
        """Made when absent."""
        self.file = file
        if not file.exists():
            file.write_bytes(bytes(2 * CONNECTIONS * _BYTES))
        with file.open("r+b") as opened:
            self._notes = memoryview(mmap(opened.fileno(), 0)).cast("Q")
        self._taken = [0, 0]

    def count(self, connection: sqlite3.Connection, *, read_only: bool) -> None:
        """Note what this one does from now on, in a place of its own."""
        place = read_only * CONNECTIONS + self._taken[read_only]
        self._taken[read_only] += 1
        notes = self._notes

        def note() -> int:
            notes[place] += 1
            return 0

        connection.set_progress_handler(note, EVERY)

    def instructions(self, *, read_only: bool) -> int:
        """Those so far, of the connections that write, or of those that only read."""
        return EVERY * sum(self._notes[read_only * CONNECTIONS :][:CONNECTIONS])


def _run(counts: Counts) -> None:
    def counted(path: Path, *, read_only: bool = False, **_: Any) -> sqlite3.Connection:
        connection = connect(path, read_only=read_only, cache_megabytes=CACHE_MEGABYTES)
        counts.count(connection, read_only=read_only)
        return connection

    with patch("roundsman.ledger.sqlite.driver.connect", counted):
        main()


if __name__ == "__main__":
    _run(Counts(Path(sys.argv.pop(1))))

"""The connections that only read: they see what was committed, and hold nobody up."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.sqlite.failures import translate

T = TypeVar("T")


class Readers:
    """Runs work on connections of a small pool, each call on one snapshot."""

    def __init__(self, connections: list[sqlite3.Connection]) -> None:
        """Take the connections over."""
        self._connections = connections
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for connection in connections:
            self._idle.put(connection)
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix="ledger-reader")
        self._closed = False

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What the work returns or raises."""
        if self._closed:
            raise LedgerUnavailableError("the ledger is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._idle.get()
        try:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translate(error) from error
        finally:
            self._idle.put(connection)

    async def close(self) -> None:
        """Finish what was called, then close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

"""The one thread that writes.

A durable commit costs one flush to the disk, whatever it holds. So while one transaction is
flushed, the calls that come in wait, and the next transaction takes all of them: each in a
savepoint, so that one that fails undoes its own work and no other's. Nobody is answered before the
commit.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.sqlite.failures import translate

T = TypeVar("T")

LARGEST_GROUP = 500
"""So that no call waits for more than so many others before it is answered."""


@dataclass(slots=True)
class _Call:
    """What to do, and where the answer goes; filled in by the writer's thread."""

    work: Callable[[sqlite3.Connection], Any]
    answered: "asyncio.Future[Any]"
    result: Any = field(default=None)
    error: Exception | None = field(default=None)

    def answer(self) -> None:
        if self.answered.done():  # cancelled meanwhile
            return
        if self.error is None:
            self.answered.set_result(self.result)
        else:
            self.answered.set_exception(self.error)


class Writer:
    """Runs work on one connection, in the order of the calls, many to a transaction."""

    def __init__(self, connection: sqlite3.Connection, undone: Callable[[], None]) -> None:
        """Take the connection over; `undone` is called after work was rolled back."""
        self.commits = 0
        """Transactions committed so far."""
        self._connection = connection
        self._undone = undone
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._serve, name="ledger-writer", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it, and return when it has reached the disk.

        What the work raises is raised here, and nothing of it is kept.
        """
        if self._closed:
            raise LedgerUnavailableError("the ledger is closed")
        call = _Call(work, asyncio.get_running_loop().create_future())
        self._calls.put(call)
        result: T = await call.answered
        return result

    async def close(self) -> None:
        """Finish what was called, then close the connection."""
        self._closed = True
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        while (first := self._calls.get()) is not None:
            group, last = self._with_those_waiting(first)
            self._run(group)
            self._answer(group)
            if last:
                break
        self._connection.close()

    def _with_those_waiting(self, first: _Call) -> tuple[list[_Call], bool]:
        group = [first]
        with suppress(Empty):
            while len(group) < LARGEST_GROUP:
                call = self._calls.get_nowait()
                if call is None:
                    return group, True
                group.append(call)
        return group, False

    def _run(self, group: list[_Call]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for call in group:
                if not call.answered.cancelled():
                    self._attempt(call, alone=len(group) == 1)
            self._connection.execute("COMMIT")
            self.commits += 1
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers are told
            self._abandon()
            for call in group:
                call.error = translate(error)

    def _attempt(self, call: _Call, *, alone: bool) -> None:
        if alone:  # what it raises undoes the transaction, which has nothing else in it
            call.result = call.work(self._connection)
            return
        self._connection.execute("SAVEPOINT call")
        try:
            call.result = call.work(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite gave up the whole transaction, as it may when the disk is full
            self._connection.execute("ROLLBACK TO call")
            self._undone()
            call.error = translate(error)
        self._connection.execute("RELEASE call")

    def _abandon(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")
        self._undone()

    def _answer(self, group: list[_Call]) -> None:
        """One wake-up of the event loop for all of them."""
        loops = {call.answered.get_loop() for call in group}
        for loop in loops:
            calls = [call for call in group if call.answered.get_loop() is loop]
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_answer_all, calls)


def _answer_all(calls: list[_Call]) -> None:
    for call in calls:
        call.answer()

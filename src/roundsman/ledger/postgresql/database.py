"""The pool of connections, and how long anything may take.

Nothing waits for ever: not for a connection, not for a lock, not for an answer. What takes too long
ends as `LedgerUnavailableError`, whose callers come again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import asyncpg

from roundsman.clock import Clock
from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.postgresql.clock import DatabaseClock
from roundsman.ledger.postgresql.failures import translate
from roundsman.ledger.postgresql.hosts import CONNECT_SECONDS, Hosts
from roundsman.ledger.postgresql.incarnation import greet
from roundsman.ledger.postgresql.migrations import migrate
from roundsman.ledger.postgresql.statements import Link
from roundsman.secret import Secret

T = TypeVar("T")

CONNECTIONS: Final = 10
ACQUIRE_SECONDS: Final = 5.0
STATEMENT_SECONDS: Final = 8.0
"""The server ends a statement after this; a while later the call is given up here, too."""
ATTEMPTS: Final = 5
"""So often a transaction is tried that another one got in the way of."""

_SETTINGS: Final = {
    "application_name": "roundsman",
    "statement_timeout": f"{int(STATEMENT_SECONDS * 1000)}",
    "idle_in_transaction_session_timeout": f"{int(STATEMENT_SECONDS * 1000)}",
    "synchronous_commit": "on",
    "jit": "off",  # it is for queries of another kind
    # Every statement here is served by an index but the few that are about whole tables. Plans made
    # once, and without a look at how full tables are just now, do not change their minds.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "plan_cache_mode": "force_generic_plan",
}


class Database:
    """Connections to one database, made as they are needed."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Take the pool; `connect` makes it."""
        self._pool = pool

    async def close(self) -> None:
        """Finish what was called, then close the connections; what hangs is cut off."""
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                await self._pool.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            self._pool.terminate()

    async def do(self, work: Callable[[Link], Awaitable[T]]) -> T:
        """What the work returns: each of its statements is a transaction of its own."""
        return await self._attempt(work)

    async def transact(
        self, work: Callable[[Link], Awaitable[T]], *, seconds: float | None = None
    ) -> T:
        """The same in one transaction, of which nothing is kept when the work raises."""

        async def whole(link: Link) -> T:
            async with link.transaction():
                if seconds is not None:  # whether it is the server that works or this process
                    for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                        await link.execute(f"SET LOCAL {limit} = {int(seconds * 1000)}")
                return await work(link)

        return await self._attempt(whole, seconds)

    async def _attempt(
        self, work: Callable[[Link], Awaitable[T]], seconds: float | None = None
    ) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._once(work, seconds)
            except LedgerUnavailableError as error:
                if not isinstance(error.__cause__, asyncpg.TransactionRollbackError):
                    raise
        return await self._once(work, seconds)

    async def _once(self, work: Callable[[Link], Awaitable[T]], seconds: float | None) -> T:
        longest = (STATEMENT_SECONDS if seconds is None else seconds) + ACQUIRE_SECONDS
        try:
            async with asyncio.timeout(longest), self._connection() as link:
                return await work(link)
        except Exception as error:
            translated = translate(error)
            if translated is error:
                raise
            raise translated from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Link]:
        async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as link:
            try:
                yield link
            except (asyncpg.ReadOnlySQLTransactionError, TimeoutError):
                # Not a server to go on with: the next call finds the one that serves now.
                await self._pool.expire_connections()
                raise


async def prepare(url: str, password: Secret | None, clock: Clock) -> int:
    """Bring a database to the schema of this release; which that is.

    Raises `LedgerUnavailableError`.
    """
    return await _prepare(Hosts(url, password), clock)


async def _prepare(hosts: Hosts, clock: Clock) -> int:
    try:
        connection = await hosts.connect()
        try:
            version = await migrate(connection)
            await greet(connection, DatabaseClock(clock))
        finally:
            await connection.close(timeout=CONNECT_SECONDS)
    except Exception as error:
        raise translate(error) from error
    return version


async def connect(
    url: str, password: Secret | None, clock: DatabaseClock, moved: Callable[[], None]
) -> Database:
    """A pool on a database, which is prepared first. Raises `LedgerUnavailableError`.

    `moved` is called when a connection finds it on another line of history than the last one did:
    what is remembered of it may never have come there.
    """
    hosts = Hosts(url, password)
    last: dict[str, str] = {}

    async def begin(link: asyncpg.Connection) -> None:
        nonlocal last
        line = await greet(link, clock)
        if line != last:
            last = line
            moved()

    await _prepare(hosts, clock)
    try:
        pool = await asyncpg.create_pool(
            connect=hosts.connect,
            min_size=0,  # a server that is away is asked for by calls, not beside them
            max_size=CONNECTIONS,
            server_settings=_SETTINGS,
            init=begin,
            reset=_leave_as_it_is,
        )
    except Exception as error:
        raise translate(error) from error
    return Database(pool)


async def _leave_as_it_is(link: Link) -> None:
    """No call leaves anything behind on its connection; asking would be one more round trip."""

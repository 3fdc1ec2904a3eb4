"""On which line of history the database goes on.

When a replica is promoted that had not received everything, the last leases that were given are
forgotten, and their epochs would be given again, to others. So the server's line of history, its
timeline, is looked at on each new connection. Where it is another than before, epochs go on from a
number that none before it can have reached. See ADR 0035.
"""

from asyncpg import Connection

from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.ledger.postgresql.clock import DatabaseClock
from roundsman.ledger.postgresql.locks import Lock, alone
from roundsman.ledger.postgresql.statements import load

SQL = load("life")


class LedgerStandbyError(LedgerUnavailableError):
    """A server that only follows another one answered."""

    code = "ledger.standby"


async def greet(connection: Connection, clock: DatabaseClock) -> dict[str, str]:
    """Look whom a new connection reaches, and at its clock; the server's line of history.

    Raises `LedgerStandbyError`.
    """
    clock.set(await SQL["clock"].value(connection))
    server = await SQL["server"].row(connection)
    assert server is not None  # noqa: S101  # it is one row, whatever it says
    if server["in_recovery"]:
        raise LedgerStandbyError(
            "expected a server that can be written, found one that follows another",
            remedy="name all servers in the URL, so that the one that can be written is found",
        )
    line = {"system_identifier": server["system_identifier"], "timeline": server["timeline"]}
    if await _is_on(connection, line):
        return line
    async with connection.transaction():
        await alone(connection, Lock.INCARNATION)
        known = await SQL["incarnation"].row(connection)
        if known is None:
            await SQL["first_incarnation"].rows(connection, **line)
        elif not await _is_on(connection, line):
            await SQL["next_incarnation"].rows(connection, **line)
    return line


async def _is_on(connection: Connection, line: dict[str, str]) -> bool:
    known = await SQL["incarnation"].row(connection)
    return known is not None and all(known[key] == value for key, value in line.items())

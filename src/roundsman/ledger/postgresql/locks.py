"""Locks that controllers take out on the database, each until the end of a transaction."""

from enum import IntEnum

from roundsman.ledger.postgresql.statements import Link, load

SQL = load("life")


class Lock(IntEnum):
    """What for. The numbers are ours alone in this database."""

    MIGRATION = 0x526F756E_0001
    INCARNATION = 0x526F756E_0002
    CLAIMS = 0x526F756E_0004
    """What runs, as far as limits go."""
    CONFIGURATION = 0x526F756E_0003
    """Which slots there are, which are paused, and which devices' failures are counted."""


async def alone(link: Link, lock: Lock) -> None:
    """Wait until nobody has it, and keep others out."""
    await SQL["lock_alone"].rows(link, key=int(lock))


async def shared(link: Link, lock: Lock) -> None:
    """Wait until nobody has it alone, and keep those out."""
    await SQL["lock_shared"].rows(link, key=int(lock))

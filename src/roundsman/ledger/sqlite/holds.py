"""Breakers, and the slots that they hold back, on the writer's connection."""

import sqlite3

import msgspec

from roundsman.ledger.holds import Holdable, arrange
from roundsman.ledger.interface import Finish, PauseKind
from roundsman.ledger.sqlite.lanes import Lanes
from roundsman.ledger.sqlite.runs import named
from roundsman.ledger.sqlite.statements import load
from roundsman.wire.breaker import Breaker

SQL = load("breakers")


def note(connection: sqlite3.Connection, lanes: Lanes, ending: Finish, now: float) -> None:
    """Keep what the end of a run says of its device, before the slot moves on."""
    if ending.answered:
        close(connection, lanes, ending.key.device, now)
    elif ending.breaker is not None:
        connection.execute(SQL["keep_breaker"], msgspec.structs.asdict(ending.breaker))


def close(connection: sqlite3.Connection, lanes: Lanes, device: str, now: float) -> bool:
    """Forget the failures of a device, and offer its slots again; false when not held."""
    row = connection.execute(SQL["forget_breaker"], {"device": device}).fetchone()
    if row is None or row[0] is None:
        return False
    connection.execute(SQL["release"], {"device": device, "now": now})
    _offer(connection, lanes, device)
    return True


def hold(connection: sqlite3.Connection, lanes: Lanes, device: str, now: float) -> None:
    """Hold back the slots of a device, but for one, if its breaker is open."""
    row = connection.execute(SQL["probe_at"], {"device": device}).fetchone()
    if row is None:
        return
    slots = [
        Holdable(number, due, ready, bool(paused), leased_at)
        for number, due, ready, paused, leased_at in connection.execute(
            SQL["holdable"], {"device": device, "now": now}
        )
    ]
    for slot in arrange(slots, row[0]):
        connection.execute(SQL["arrange"], slot._asdict())
        lanes.withdraw(slot.number)
    _offer(connection, lanes, device)


def hold_paused(
    connection: sqlite3.Connection, lanes: Lanes, kind: PauseKind, name: str, now: float
) -> None:
    """Arrange anew what is held back and touched by a pause that began or ended."""
    for (device,) in connection.execute(SQL[f"held_of_{kind}"], {"name": name}).fetchall():
        hold(connection, lanes, device, now)


def hold_changed(
    connection: sqlite3.Connection, lanes: Lanes, devices: set[str], now: float
) -> None:
    """Arrange anew what is held back of devices whose slots changed; forget those without any."""
    connection.execute(SQL["forget_breakers_without_slots"])
    held = {device for (device,) in connection.execute(SQL["held_devices"])}
    for device in sorted(held & devices):
        hold(connection, lanes, device, now)


def by_device(connection: sqlite3.Connection, device: str) -> Breaker | None:
    """What a device's failures have come to."""
    cursor = connection.execute(SQL["breaker"], {"device": device})
    row = cursor.fetchone()
    return None if row is None else msgspec.convert(named(cursor, row), Breaker)


def open_ones(connection: sqlite3.Connection) -> list[Breaker]:
    """Every breaker that is open, by device."""
    cursor = connection.execute(SQL["open_breakers"])
    return [msgspec.convert(named(cursor, row), Breaker) for row in cursor]


def _offer(connection: sqlite3.Connection, lanes: Lanes, device: str) -> None:
    free = {"name": device, "expired_until": lanes.expired_until}
    offered = load("pauses")["offered_of_device"]
    for lane_id, due, ready, slot_id, _ in connection.execute(offered, free):
        lanes.offer(lane_id, (ready, slot_id), due, device)

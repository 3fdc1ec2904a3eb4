"""The register of controllers, and which of them leads: here it is one, and it does."""

import sqlite3

import msgspec

from roundsman.ledger.interface import Leadership, NotLeadingError, RegisteredController
from roundsman.ledger.sqlite.runs import named
from roundsman.ledger.sqlite.statements import load

SQL = load("controllers")
_record = msgspec.json.Decoder(RegisteredController)


def note(connection: sqlite3.Connection, controller: RegisteredController) -> None:
    """Enter what a controller says of itself."""
    record = msgspec.json.encode(controller).decode()
    entry = {"controller_id": controller.controller_id, "record": record}
    connection.execute(SQL["note_controller"], entry)


def every(connection: sqlite3.Connection) -> list[RegisteredController]:
    """Every controller, by when it started."""
    records = [_record.decode(text) for (text,) in connection.execute(SQL["controllers"])]
    return sorted(records, key=lambda each: (each.started_at, each.controller_id))


def remove(connection: sqlite3.Connection, controller_id: str) -> None:
    """Strike one off; it leads no more."""
    connection.execute(SQL["remove_controller"], {"controller_id": controller_id})
    connection.execute(SQL["let_go"], {"controller_id": controller_id})


def remove_all(connection: sqlite3.Connection) -> None:
    """Strike off all of them: by its lock this ledger has just been opened by one alone."""
    for each in every(connection):
        remove(connection, each.controller_id)


def lead(
    connection: sqlite3.Connection,
    controller_id: str,
    *,
    term: int | None,
    now: float,
    until: float,
) -> Leadership:
    """Go on to lead, or take over if nobody leads; who leads then."""
    asked = {"controller_id": controller_id, "term": term, "now": now, "until": until}
    if not connection.execute(SQL["go_on"], asked).rowcount:
        connection.execute(SQL["take_over"], asked)
    return _leadership(connection)


def must_be_term(connection: sqlite3.Connection, term: int | None) -> None:
    """Return when it is. Raises `NotLeadingError`."""
    if term is not None and _leadership(connection).term != term:
        raise NotLeadingError(f"expected to lead in term {term}, and another controller does")


def call_to_reload(connection: sqlite3.Connection) -> int:
    """One more call upon all to read their configuration; which."""
    (calls,) = connection.execute(SQL["call_to_reload"]).fetchone()
    return int(calls)


def _leadership(connection: sqlite3.Connection) -> Leadership:
    cursor = connection.execute(SQL["leadership"])
    return msgspec.convert(named(cursor, cursor.fetchone()), Leadership)

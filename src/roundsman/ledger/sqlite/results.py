"""What is known of the results of slots: one column of JSON, which only the controller reads."""

import sqlite3

import msgspec

from roundsman.ledger.interface import KeptResult
from roundsman.ledger.sqlite.statements import load

SQL = load("results")

_decoder: "msgspec.json.Decoder[KeptResult]" = msgspec.json.Decoder(KeptResult)


def encode(result: KeptResult | None) -> str | None:
    """A record as its column."""
    return None if result is None else msgspec.json.encode(result).decode()


def decode(column: str | None) -> KeptResult | None:
    """A column as its record."""
    return None if column is None else _decoder.decode(column)


def of(connection: sqlite3.Connection, device: str, job: str) -> KeptResult | None:
    """What is known of a slot's result."""
    row = connection.execute(SQL["result_of"], {"device": device, "job": job}).fetchone()
    return None if row is None else decode(row[0])


def accept(
    connection: sqlite3.Connection,
    run_id: str,
    *,
    version: str,
    changed: bool,
    by: str,
    now: float,
) -> bool:
    """What the run brought into quarantine is its slot's result; false when it is not there."""
    row = connection.execute(SQL["result_of_run"], {"run_id": run_id}).fetchone()
    known = None if row is None else decode(row[1])
    if known is None or known.quarantined is None or known.quarantined.run_id != run_id:
        return False
    result = KeptResult(extent=known.quarantined.extent)
    connection.execute(SQL["keep_result"], {"slot_id": row[0], "result": encode(result)})
    connection.execute(
        SQL["accept_run"],
        {"run_id": run_id, "version": version, "changed": changed, "by": by, "now": now},
    )
    return True

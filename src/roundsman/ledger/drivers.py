"""Which ledger serves: the one place that names the drivers."""

from pathlib import Path

from roundsman.ledger.interface import Ledger
from roundsman.ledger.sqlite.driver import SqliteLedger

LEDGER_FILE = "ledger.sqlite3"


async def open_ledger(data: Path) -> Ledger:
    """The ledger of a data folder, open; both are made when absent.

    Raises `LedgerUnavailableError`, also when another controller serves from that folder.
    """
    ledger = SqliteLedger(data / LEDGER_FILE)
    await ledger.open()
    return ledger

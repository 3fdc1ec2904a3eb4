"""Which ledger serves: the one place that names the drivers."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from roundsman.clock import Clock
from roundsman.config.records import LedgerSettings
from roundsman.errors import RoundsmanError
from roundsman.ledger.interface import Ledger
from roundsman.ledger.sqlite.driver import SqliteLedger
from roundsman.ledger.sqlite.migrations import migrations

LEDGER_FILE = "ledger.sqlite3"


class DriverMissingError(RoundsmanError):
    """The ledger is to be on PostgreSQL, and the extra that it needs is not installed."""

    code = "ledger.driver_missing"


class Opened(NamedTuple):
    """A ledger, and the clock that all who share it go by."""

    ledger: Ledger
    clock: Clock


async def open_ledger(data: Path) -> Ledger:
    """The embedded ledger of a data folder, open; both are made when absent.

    Raises `LedgerUnavailableError`, also when another controller serves from that folder.
    """
    ledger = SqliteLedger(data / LEDGER_FILE)
    await ledger.open()
    return ledger


async def open_configured(settings: LedgerSettings, data: Path, clock: Clock) -> Opened:
    """The ledger that the settings name, open; the embedded one where they name none.

    Raises `LedgerUnavailableError` and `DriverMissingError`.
    """
    if settings.url is None:
        return Opened(await open_ledger(data), clock)
    _must_have_driver()
    from roundsman.ledger.postgresql.driver import PostgresqlLedger  # noqa: PLC0415  # an extra

    ledger = PostgresqlLedger(settings.url, settings.password, folder=data, clock=clock)
    await ledger.open()
    return Opened(ledger, ledger.clock)


async def migrate_configured(settings: LedgerSettings, data: Path, clock: Clock) -> int:
    """Bring the ledger that the settings name to the schema of this release; which that is.

    Raises `LedgerUnavailableError` and `DriverMissingError`.
    """
    if settings.url is None:
        ledger = await open_ledger(data)
        await ledger.close()
        return migrations()[-1][0]
    _must_have_driver()
    from roundsman.ledger.postgresql.database import prepare  # noqa: PLC0415  # an extra

    return await prepare(settings.url, settings.password, clock)


def _must_have_driver() -> None:
    if find_spec("asyncpg") is None:
        raise DriverMissingError(
            "controller.ledger.url: expected the extra `postgresql`, found it not installed",
            remedy='install it: pip install "roundsman[postgresql]"',
        )

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.ledger.drivers import open_ledger
from roundsman.ledger.interface import Ledger
from roundsman.ledger.memory import MemoryLedger
from roundsman.ledger.postgresql.driver import PostgresqlLedger
from roundsman.testing.ledger_conformance import LedgerConformance


class TestMemoryLedger(LedgerConformance):
    @pytest.fixture
    async def ledger(self) -> AsyncIterator[Ledger]:
        ledger = MemoryLedger()
        await ledger.open()
        yield ledger
        await ledger.close()


class TestSqliteLedger(LedgerConformance):
    @pytest.fixture
    async def ledger(self, tmp_path: Path) -> AsyncIterator[Ledger]:
        ledger = await open_ledger(tmp_path / "data")
        yield ledger
        await ledger.close()


class TestPostgresqlLedger(LedgerConformance):
    @pytest.fixture
    def ledger(self, postgresql_ledger: PostgresqlLedger) -> Ledger:
        return postgresql_ledger

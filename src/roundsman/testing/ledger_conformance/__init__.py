"""The laws of the ledger as tests, for every driver, ours and others'.

A test module makes a subclass whose name begins with `Test` and gives it a fixture `ledger`, an
open and empty ledger:

    class TestOurLedger(LedgerConformance):
        @pytest.fixture
        async def ledger(self, tmp_path): ...

The tests are coroutines: pytest-asyncio, or the like, has to run them.
"""

from roundsman.testing.ledger_conformance.accounts import Accounts
from roundsman.testing.ledger_conformance.attempts import Attempts
from roundsman.testing.ledger_conformance.audit import AuditLines
from roundsman.testing.ledger_conformance.batches import Batches
from roundsman.testing.ledger_conformance.breakers import Breakers
from roundsman.testing.ledger_conformance.claims import Claims
from roundsman.testing.ledger_conformance.controllers import Controllers
from roundsman.testing.ledger_conformance.helpers import (
    EVERY_RUN,
    EVERYTHING,
    HOURLY,
    LEASE,
    NOW,
    OTHER,
    claim,
    end_of,
    history,
    key_of,
    lease_of,
    names,
    planned,
    process,
    repeat_of,
    retry_of,
    run_of,
    slot_of,
    worker,
)
from roundsman.testing.ledger_conformance.leases import Leases
from roundsman.testing.ledger_conformance.life import Life
from roundsman.testing.ledger_conformance.limits import Limits
from roundsman.testing.ledger_conformance.lists import Lists
from roundsman.testing.ledger_conformance.on_demand import OnDemand
from roundsman.testing.ledger_conformance.pauses import Pauses
from roundsman.testing.ledger_conformance.processes import Processes
from roundsman.testing.ledger_conformance.results import Results
from roundsman.testing.ledger_conformance.retention import Retention
from roundsman.testing.ledger_conformance.sync import Sync
from roundsman.testing.ledger_conformance.workers import Workers

__all__ = [
    "EVERYTHING",
    "EVERY_RUN",
    "HOURLY",
    "LEASE",
    "NOW",
    "OTHER",
    "LedgerConformance",
    "claim",
    "end_of",
    "history",
    "key_of",
    "lease_of",
    "names",
    "planned",
    "process",
    "repeat_of",
    "retry_of",
    "run_of",
    "slot_of",
    "worker",
]


class LedgerConformance(
    Life,
    Claims,
    Limits,
    Leases,
    Attempts,
    Breakers,
    Accounts,
    Retention,
    Results,
    OnDemand,
    Sync,
    Pauses,
    Lists,
    Workers,
    Controllers,
    Processes,
    Batches,
    AuditLines,
):
    """Every law and every method; a driver is finished when it passes."""

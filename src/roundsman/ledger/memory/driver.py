"""The ledger in memory: all its parts."""

from roundsman.ledger.memory.accounts import Accounts
from roundsman.ledger.memory.batches import Batches
from roundsman.ledger.memory.claims import Claims
from roundsman.ledger.memory.finishes import Finishes
from roundsman.ledger.memory.lists import Lists
from roundsman.ledger.memory.pauses import Pauses
from roundsman.ledger.memory.processes import Processes
from roundsman.ledger.memory.results import Results
from roundsman.ledger.memory.retention import Retention
from roundsman.ledger.memory.sync import Sync
from roundsman.ledger.memory.workers import Workers


class MemoryLedger(
    Sync, Claims, Finishes, Results, Pauses, Accounts, Retention, Lists, Workers, Processes, Batches
):
    """Everything in dictionaries; a new instance knows nothing."""

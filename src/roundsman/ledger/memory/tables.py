"""Everything that is kept, and what several parts ask of it."""

from collections import Counter
from uuid import uuid4

from roundsman.ledger.fairness import Turns
from roundsman.ledger.interface import (
    KeptBatch,
    Leadership,
    Ledger,
    LedgerUnavailableError,
    Pause,
    PauseKind,
    Presence,
    RegisteredController,
    TagFilter,
)
from roundsman.ledger.limits import Bucket
from roundsman.ledger.memory.rows import KeptPlan, Pair, Row
from roundsman.ledger.spans import NewId
from roundsman.wire.audit import AuditEntry
from roundsman.wire.batch import Batch, BatchWork
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.process import Process
from roundsman.wire.run import Cause, Outcome, Run, SlotState
from roundsman.wire.worker import Worker


class Tables(Ledger):
    """They are empty at first. Each part of the ledger adds what is done with some of them."""

    def __init__(self, new_id: NewId = lambda: str(uuid4())) -> None:
        """Take what makes the ids of runs that the ledger writes by itself."""
        self._new_id = new_id
        self._open = False
        self._slots: dict[Pair, Row] = {}
        self._next_number = 1
        self._retired: dict[Pair, int] = {}
        self._turns = Turns()
        self._daily: Counter[tuple[int, str, Outcome, Cause | None, bool]] = Counter()
        self._accounted_since = 0
        self._buckets: dict[str, Bucket] = {}
        self._runs: list[Run] = []
        self._ended_plans: dict[Pair, list[KeptPlan]] = {}
        self._presences: dict[tuple[str, TagFilter | None, float], Presence] = {}
        self._pauses: dict[tuple[PauseKind, str], Pause] = {}
        self._breakers: dict[str, Breaker] = {}
        self._workers: dict[str, Worker] = {}
        self._tokens: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._batches: dict[str, Batch] = {}
        self._batch_work: dict[str, BatchWork] = {}
        self._batch_keys: dict[tuple[str, str], KeptBatch] = {}  # by credential and key
        self._audit: list[AuditEntry] = []
        self._controllers: dict[str, RegisteredController] = {}
        self._leadership = Leadership(term=0, controller_id="", until=0, calls=0, salt=str(uuid4()))

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def check(self) -> None:
        self._must_be_open()

    def _must_be_open(self) -> None:
        if not self._open:
            raise LedgerUnavailableError("the ledger is not open")

    def _lease_for(self, key: LeaseKey) -> Row | None:
        row = self._slots.get((key.device, key.job))
        if row is None or row.epoch != key.epoch or row.lease_expires_at is None:
            return None
        return row

    def _paused(self, row: Row) -> bool:
        return (PauseKind.DEVICE, row.device) in self._pauses or (
            PauseKind.JOB,
            row.job,
        ) in self._pauses

    def _state(self, row: Row, now: float) -> SlotState:
        if row.leased_at(now):
            return SlotState.LEASED
        if self._paused(row):
            return SlotState.PAUSED
        if row.due is None:
            return SlotState.ENDED
        if row.ready is None:
            return SlotState.HELD
        return SlotState.DUE if row.ready <= now else SlotState.WAITING

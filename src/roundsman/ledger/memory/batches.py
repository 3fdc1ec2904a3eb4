"""Batches, whose states go one way only: running, stopping, ended."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import BatchQuery, IdempotencyKey, KeptBatch, Page, batch_after
from roundsman.ledger.memory.pages import newest_first
from roundsman.ledger.memory.tables import Tables
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.process import Process, ProcessState


class Batches(Tables):
    """Batches are written with their processes, changed and listed."""

    async def add_batch(
        self,
        batch: Batch,
        work: BatchWork,
        processes: Sequence[Process],
        *,
        key: IdempotencyKey | None,
    ) -> KeptBatch:
        self._must_be_open()
        kept = KeptBatch(batch_id=batch.batch_id, digest="" if key is None else key.digest)
        if key is not None:
            earlier = await self.kept_batch(batch.requested_by, key)
            if earlier is not None:
                return earlier
            self._batch_keys[batch.requested_by, key.key] = kept
        self._batches[batch.batch_id] = batch
        self._batch_work[batch.batch_id] = work
        self._processes.update((process.process_id, process) for process in processes)
        return kept

    async def kept_batch(self, requested_by: str, key: IdempotencyKey) -> KeptBatch | None:
        self._must_be_open()
        kept = self._batch_keys.get((requested_by, key.key))
        if kept is None or self._batches[kept.batch_id].requested_at < key.since:
            return None
        return kept

    async def batch(self, batch_id: str) -> Batch | None:
        self._must_be_open()
        return self._batches.get(batch_id)

    async def batch_work(self, batch_id: str) -> BatchWork | None:
        self._must_be_open()
        return self._batch_work.get(batch_id)

    async def batch_processes(self, batch_id: str) -> list[Process]:
        self._must_be_open()
        return [each for each in self._processes.values() if each.batch_id == batch_id]

    async def change_batch(
        self, batch_id: str, state: BatchState, *, now: float, reason: str | None = None
    ) -> Batch | None:
        self._must_be_open()
        batch = self._batches.get(batch_id)
        if batch is None:
            return None
        batch = self._batches[batch_id] = batch_after(batch, state, now=now, reason=reason)
        if batch.state is BatchState.ENDED:
            self._batch_work.pop(batch_id, None)
        return batch

    async def skip_processes(self, batch_id: str, error: str) -> None:
        self._must_be_open()
        for process in self._processes.values():
            if process.batch_id == batch_id and process.state is ProcessState.WAITING:
                self._processes[process.process_id] = msgspec.structs.replace(
                    process, state=ProcessState.SKIPPED, error=error
                )

    async def batches(self, query: BatchQuery) -> Page[Batch]:
        self._must_be_open()
        wanted = [
            ((batch.requested_at, number), batch)
            for number, batch in enumerate(self._batches.values())
            if query.state in (None, batch.state)
        ]
        return newest_first(wanted, query.after, query.limit)

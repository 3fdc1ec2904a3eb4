"""Processes, whose states go one way only: waiting, requested, running, and one that is final."""

from collections.abc import Sequence

import msgspec

from roundsman.ledger.interface import Page, ProcessChange, ProcessQuery
from roundsman.ledger.memory.audit import Audit
from roundsman.ledger.memory.pages import newest_first
from roundsman.wire.audit import AuditEntry
from roundsman.wire.process import OPEN_STATES, Process, ProcessState, StopProof


class Processes(Audit):
    """Processes are written, changed and listed."""

    async def add_process(self, process: Process, audit: Sequence[AuditEntry] = ()) -> None:
        self._must_be_open()
        self._processes[process.process_id] = process
        self._write_audit(audit)

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        self._must_be_open()
        states = [self._change_process(change) for change in changes]
        self._write_audit(audit)
        return states

    def _change_process(self, change: ProcessChange) -> ProcessState | None:
        process = self._processes.get(change.process_id)
        if process is None or process.worker_id != change.worker_id:
            return None
        seen = process.last_seen_at if change.seen_at is None else change.seen_at
        if change.state is ProcessState.RUNNING and process.state is ProcessState.REQUESTED:
            process = msgspec.structs.replace(
                process, state=change.state, started_at=change.at, last_seen_at=seen
            )
        elif change.state is ProcessState.RUNNING and process.state is ProcessState.ENDED:
            process = msgspec.structs.replace(
                process, started_at=process.started_at or change.at, last_seen_at=seen
            )
        elif (
            not process.done
            and change.state not in OPEN_STATES
            and (change.state is not ProcessState.SKIPPED or process.state is ProcessState.WAITING)
        ):
            process = msgspec.structs.replace(
                process,
                state=change.state,
                ended_at=change.at if change.state is ProcessState.ENDED else None,
                exit_status=change.exit_status,
                signal=change.signal,
                error=change.error,
                cause=change.cause,
                last_seen_at=seen,
            )
        self._processes[change.process_id] = process
        return process.state

    async def begin_process(
        self, process_id: str, *, not_after: float, audit: Sequence[AuditEntry] = ()
    ) -> bool:
        self._must_be_open()
        process = self._processes.get(process_id)
        if process is None or process.state is not ProcessState.WAITING:
            return False
        self._processes[process_id] = msgspec.structs.replace(
            process, state=ProcessState.REQUESTED, not_after=not_after
        )
        self._write_audit(audit)
        return True

    async def keep_stop(self, process_id: str, worker_id: str, proof: StopProof) -> None:
        self._must_be_open()
        process = self._processes.get(process_id)
        if process is not None and process.worker_id == worker_id:
            self._processes[process_id] = msgspec.structs.replace(process, stop=proof)

    async def touch_processes(self, worker_id: str, now: float) -> None:
        self._must_be_open()
        for process in self._processes.values():
            if process.worker_id == worker_id and process.state in (
                ProcessState.REQUESTED,
                ProcessState.RUNNING,
            ):
                self._processes[process.process_id] = msgspec.structs.replace(
                    process, last_seen_at=now
                )

    async def process(self, process_id: str) -> Process | None:
        self._must_be_open()
        return self._processes.get(process_id)

    async def processes(self, query: ProcessQuery) -> Page[Process]:
        self._must_be_open()
        wanted = [
            ((process.requested_at, number), process)
            for number, process in enumerate(self._processes.values())
            if query.worker_id in (None, process.worker_id)
            and query.state in (None, process.state)
            and query.batch_id in (None, process.batch_id)
        ]
        return newest_first(wanted, query.after, query.limit)

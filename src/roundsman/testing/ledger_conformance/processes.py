"""States that go one way."""

import msgspec
import pytest

from roundsman.ledger.interface import (
    Ledger,
    Page,
    ProcessChange,
    ProcessQuery,
)
from roundsman.testing.ledger_conformance.helpers import (
    NOW,
    process,
)
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome, AuditQuery
from roundsman.wire.process import Process, ProcessState


class Processes:
    """States that go one way."""

    async def test_a_process_goes_from_requested_to_its_end(self, ledger: Ledger) -> None:
        await ledger.add_process(process())
        assert await ledger.process("p1") == process()
        assert await ledger.process("p2") is None
        started = self._change(ProcessState.RUNNING, NOW + 1)
        assert await ledger.change_process(started)
        running = await ledger.process("p1")
        assert running is not None
        assert (running.state, running.started_at, running.done) == (
            ProcessState.RUNNING,
            NOW + 1,
            False,
        )
        ended = self._change(ProcessState.ENDED, NOW + 2, exit_status=3)
        assert await ledger.change_process(ended)
        done = await ledger.process("p1")
        assert done is not None
        assert (done.started_at, done.ended_at) == (NOW + 1, NOW + 2)
        assert (done.done, done.error_text) == (True, "exit status 3")

    async def test_what_is_told_at_once_is_written_in_its_order_with_its_lines(
        self, ledger: Ledger
    ) -> None:
        await ledger.add_process(process())
        other = msgspec.structs.replace(process(), process_id="p0")
        await ledger.add_process(other)
        line = AuditEntry(
            at=NOW, action=AuditAction.START_PROCESS, outcome=AuditOutcome.DONE, process_id="p1"
        )
        started = self._change(ProcessState.RUNNING, NOW + 1)
        refused = self._change(ProcessState.REFUSED, NOW + 1, error="no")
        told = [
            started,
            msgspec.structs.replace(refused, process_id="p0"),
            self._change(ProcessState.ENDED, NOW + 2, exit_status=0),
            msgspec.structs.replace(started, process_id="p2"),
        ]
        states = await ledger.change_processes(told, [line])
        assert states == [ProcessState.RUNNING, ProcessState.REFUSED, ProcessState.ENDED, None]
        done = await ledger.process("p1")
        assert done is not None
        assert (done.started_at, done.ended_at, done.exit_status) == (NOW + 1, NOW + 2, 0)
        [kept] = (await ledger.audit(AuditQuery(process_id="p1"))).items
        assert msgspec.structs.replace(kept, number=0) == line

    def _change(
        self,
        state: ProcessState,
        at: float,
        *,
        exit_status: int | None = None,
        error: str | None = None,
    ) -> ProcessChange:
        return ProcessChange(
            process_id="p1",
            worker_id="w1",
            state=state,
            at=at,
            exit_status=exit_status,
            error=error,
        )

    @pytest.mark.parametrize(
        "final", [ProcessState.ENDED, ProcessState.REFUSED, ProcessState.UNKNOWN]
    )
    async def test_a_final_state_stays_whatever_comes_later(
        self, ledger: Ledger, final: ProcessState
    ) -> None:
        """Fault 16: a query right after a stop that succeeded said that it was still running."""
        await ledger.add_process(process())
        assert await ledger.change_process(self._change(final, NOW + 2, error="first"))
        kept = await ledger.process("p1")
        assert kept is not None
        assert (kept.state, kept.error) == (final, "first")
        for later in ProcessState:
            assert await ledger.change_process(self._change(later, NOW + 1, error="later"))
        after = await ledger.process("p1")
        assert after is not None
        assert msgspec.structs.replace(after, started_at=None) == kept

    async def test_when_it_started_is_kept_also_when_its_end_is_told_first(
        self, ledger: Ledger
    ) -> None:
        await ledger.add_process(process())
        assert await ledger.change_process(self._change(ProcessState.ENDED, NOW + 2, exit_status=0))
        for at in (NOW + 1, NOW + 5):  # told again after a reconnect: the first stays
            told = await ledger.change_process(self._change(ProcessState.RUNNING, at))
            assert told is ProcessState.ENDED
        kept = await ledger.process("p1")
        assert kept is not None
        assert (kept.started_at, kept.ended_at, kept.state) == (NOW + 1, NOW + 2, "ended")

    async def test_a_state_told_twice_is_written_once(self, ledger: Ledger) -> None:
        await ledger.add_process(process())
        assert await ledger.change_process(self._change(ProcessState.RUNNING, NOW + 1))
        assert await ledger.change_process(self._change(ProcessState.RUNNING, NOW + 9))
        assert await ledger.change_process(self._change(ProcessState.REQUESTED, NOW + 9))
        kept = await ledger.process("p1")
        assert kept is not None
        assert (kept.state, kept.started_at) == (ProcessState.RUNNING, NOW + 1)

    async def test_only_its_own_worker_changes_a_process(self, ledger: Ledger) -> None:
        await ledger.add_process(process(worker_id="w2"))
        assert not await ledger.change_process(self._change(ProcessState.RUNNING, NOW + 1))
        assert await ledger.process("p1") == process(worker_id="w2")

    async def test_processes_are_listed_newest_first_in_pages(self, ledger: Ledger) -> None:
        for i in range(6):
            await ledger.add_process(process(f"p{i}", worker_id=f"w{i % 2}", at=NOW + i // 2))
        change = ProcessChange(
            process_id="p3", worker_id="w1", state=ProcessState.RUNNING, at=NOW + 9
        )
        await ledger.change_process(change)

        def ids(page: Page[Process]) -> list[str]:
            return [item.process_id for item in page.items]

        first = await ledger.processes(ProcessQuery(limit=4))
        assert ids(first) == ["p5", "p4", "p3", "p2"]
        rest = await ledger.processes(ProcessQuery(limit=4, after=first.next))
        assert (ids(rest), rest.next) == (["p1", "p0"], None)
        assert ids(await ledger.processes(ProcessQuery(worker_id="w0"))) == ["p4", "p2", "p0"]
        running = ProcessQuery(state=ProcessState.RUNNING)
        assert ids(await ledger.processes(running)) == ["p3"]
        both = ProcessQuery(state=ProcessState.REQUESTED, worker_id="w1")
        assert ids(await ledger.processes(both)) == ["p5", "p1"]

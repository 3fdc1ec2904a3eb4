"""Lines that stay."""

import msgspec

from roundsman.ledger.interface import AuditQuery, Ledger
from roundsman.testing.ledger_conformance.helpers import NOW, process
from roundsman.wire.audit import AskedCommand, AuditAction, AuditArea, AuditEntry, AuditOutcome


def line(
    action: AuditAction = AuditAction.START_PROCESS,
    *,
    at: float = NOW,
    outcome: AuditOutcome = AuditOutcome.DONE,
    by: str | None = "alice",
    worker_id: str | None = "w1",
    process_id: str | None = "p1",
) -> AuditEntry:
    """A line of the audit."""
    return AuditEntry(
        at=at,
        action=action,
        outcome=outcome,
        by=by,
        role="administrator",
        address="192.0.2.7",
        worker_id=worker_id,
        process_id=process_id,
    )


class AuditLines:
    """Lines that stay."""

    async def test_lines_are_numbered_and_come_back_whole(self, ledger: Ledger) -> None:
        whole = msgspec.structs.replace(
            line(outcome=AuditOutcome.REFUSED),
            asked=AskedCommand(command="sh", arguments=("a b", "ü"), environment=("LANG",)),
            error="not allowed",
            code="fleet.start_refused",
            count=7,
        )
        await ledger.add_audit([whole, line(by=None, worker_id=None, process_id=None)])
        await ledger.add_audit([])
        page = await ledger.audit(AuditQuery(oldest_first=True))
        assert page.items[0] == msgspec.structs.replace(whole, number=page.items[0].number)
        assert 0 < page.items[0].number < page.items[1].number
        assert page.next is None

    async def test_lines_are_listed_from_either_end_in_pages(self, ledger: Ledger) -> None:
        await ledger.add_audit([line(at=NOW + number // 2) for number in range(5)])
        for oldest_first in (True, False):
            seen: list[int] = []
            after: str | None = None
            while True:
                page = await ledger.audit(
                    AuditQuery(oldest_first=oldest_first, after=after, limit=2)
                )
                seen += [entry.number for entry in page.items]
                after = page.next
                if after is None:
                    break
            assert len(set(seen)) == 5
            assert seen == sorted(seen, reverse=not oldest_first)

    async def test_lines_are_filtered(self, ledger: Ledger) -> None:
        await ledger.add_audit(
            [
                line(at=NOW),
                line(AuditAction.STOP_PROCESS, at=NOW + 1, by="bob", worker_id="w2"),
                line(AuditAction.PAUSE_DEVICE, at=NOW + 2, worker_id=None, process_id=None),
            ]
        )

        async def found(query: AuditQuery) -> list[float]:
            return [entry.at - NOW for entry in (await ledger.audit(query)).items]

        assert await found(AuditQuery()) == [2, 1, 0]
        assert await found(AuditQuery(area=AuditArea.PROCESSES)) == [1, 0]
        assert await found(AuditQuery(area=AuditArea.OPERATIONS)) == [2]
        assert await found(AuditQuery(action=AuditAction.STOP_PROCESS)) == [1]
        assert await found(AuditQuery(by="alice")) == [2, 0]
        assert await found(AuditQuery(worker_id="w2")) == [1]
        assert await found(AuditQuery(process_id="p1", oldest_first=True)) == [0, 1]
        assert await found(AuditQuery(since=NOW + 1, until=NOW + 2)) == [1]
        assert await found(AuditQuery(batch_id="b1")) == []

    async def test_a_process_is_kept_together_with_its_line(self, ledger: Ledger) -> None:
        await ledger.add_process(process(), [line(outcome=AuditOutcome.REQUESTED)])
        assert await ledger.process("p1") == process()
        [entry] = (await ledger.audit(AuditQuery(process_id="p1"))).items
        assert entry.outcome is AuditOutcome.REQUESTED

"""Batches: many processes kept at once, and forgotten secrets."""

import msgspec

from roundsman.ledger.interface import (
    BatchQuery,
    IdempotencyKey,
    KeptBatch,
    Ledger,
    ProcessChange,
    ProcessQuery,
)
from roundsman.secret import Secret
from roundsman.testing.ledger_conformance.audit import line
from roundsman.testing.ledger_conformance.helpers import NOW, process
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.process import Process, ProcessLimits, ProcessState, StopProof

WORK = BatchWork(
    environment={"LANG": "C"},
    secret_environment={"TOKEN": Secret("hunter2")},
    standard_input=b"\x00\xff",
    role="administrator",
    address="192.0.2.7",
)


def batch(batch_id: str = "b1", *, by: str = "alice", at: float = NOW) -> Batch:
    """A batch that was asked for."""
    return Batch(
        batch_id=batch_id,
        command="sh",
        path="count.sh",
        arguments=("1", "two words"),
        environment=("LANG", "TOKEN"),
        standard_input_bytes=2,
        limits=ProcessLimits(wall_seconds=60, tasks=5),
        time_to_live=30.0,
        target="tag=dmz",
        workers=3,
        width=2,
        stop_above=0.5,
        requested_at=at,
        requested_by=by,
    )


def members(batch_id: str = "b1", count: int = 3, at: float = NOW) -> list[Process]:
    """Its processes, one a worker."""
    return [
        msgspec.structs.replace(
            process(f"{batch_id}-p{number}", worker_id=f"w{number}", at=at),
            state=ProcessState.WAITING,
            arguments=("1", "two words"),
            batch_id=batch_id,
        )
        for number in range(count)
    ]


def key(text: str = "k1", digest: str = "d1", *, since: float = NOW - 100) -> IdempotencyKey:
    """A key that a caller gave."""
    return IdempotencyKey(key=text, digest=digest, since=since)


class Batches:
    """Batches: many processes kept at once, and forgotten secrets."""

    async def test_a_batch_comes_back_whole_with_its_processes(self, ledger: Ledger) -> None:
        kept = await ledger.add_batch(batch(), WORK, members(), key=None)
        assert kept == KeptBatch(batch_id="b1", digest="")
        assert await ledger.batch("b1") == batch()
        assert await ledger.batch("b2") is None
        assert await ledger.batch_work("b1") == WORK
        assert await ledger.batch_work("b2") is None
        assert await ledger.batch_processes("b1") == members()
        assert await ledger.process("b1-p1") == members()[1]
        page = await ledger.processes(ProcessQuery(batch_id="b1", limit=2))
        assert [each.process_id for each in page.items] == ["b1-p2", "b1-p1"]

    async def test_a_key_stands_for_what_it_made_first(self, ledger: Ledger) -> None:
        assert await ledger.kept_batch("alice", key()) is None
        await ledger.add_batch(batch(), WORK, members(), key=key())
        first = KeptBatch(batch_id="b1", digest="d1")
        assert await ledger.kept_batch("alice", key(digest="d2")) == first
        assert await ledger.kept_batch("bob", key()) is None
        assert await ledger.kept_batch("alice", key(since=NOW + 1)) is None
        again = await ledger.add_batch(batch("b2"), WORK, members("b2"), key=key())
        assert again == KeptBatch(batch_id="b1", digest="d1")
        other_body = await ledger.add_batch(batch("b2"), WORK, members("b2"), key=key(digest="d2"))
        assert other_body == KeptBatch(batch_id="b1", digest="d1")
        assert await ledger.batch("b2") is None
        assert await ledger.batch_processes("b2") == []
        other_key = await ledger.add_batch(batch("b2"), WORK, members("b2"), key=key("k2"))
        assert other_key.batch_id == "b2"
        by_bob = await ledger.add_batch(batch("b3", by="bob"), WORK, [], key=key())
        assert by_bob.batch_id == "b3"

    async def test_a_key_is_forgotten_after_a_while(self, ledger: Ledger) -> None:
        await ledger.add_batch(batch(), WORK, members(), key=key())
        later = await ledger.add_batch(
            batch("b2", at=NOW + 200), WORK, members("b2"), key=key("k1", "d2", since=NOW + 100)
        )
        assert later == KeptBatch(batch_id="b2", digest="d2")
        again = await ledger.add_batch(
            batch("b3", at=NOW + 201), WORK, members("b3"), key=key("k1", "d2", since=NOW + 101)
        )
        assert again.batch_id == "b2"
        assert await ledger.batch("b1") is not None

    async def test_a_turn_comes_once(self, ledger: Ledger) -> None:
        await ledger.add_batch(batch(), WORK, members(), key=None)
        for expected in (True, False):
            came = await ledger.begin_process(
                "b1-p0", not_after=NOW + 30, audit=[line(process_id="b1-p0")]
            )
            assert came is expected
        begun = await ledger.process("b1-p0")
        assert begun is not None
        assert (begun.state, begun.not_after) == (ProcessState.REQUESTED, NOW + 30)
        assert not await ledger.begin_process("nobody", not_after=NOW)
        skip = ProcessChange(process_id="b1-p0", worker_id="w0", state=ProcessState.SKIPPED, at=NOW)
        assert await ledger.change_process(skip) is ProcessState.REQUESTED
        skip = msgspec.structs.replace(skip, process_id="b1-p1", worker_id="w1")
        assert await ledger.change_process(skip) is ProcessState.SKIPPED

    async def test_those_that_wait_are_skipped_together(self, ledger: Ledger) -> None:
        await ledger.add_batch(batch(), WORK, members(), key=None)
        await ledger.add_batch(batch("b2"), WORK, members("b2"), key=None)
        await ledger.begin_process("b1-p0", not_after=NOW + 30)
        await ledger.skip_processes("b1", "stopped")
        assert [
            (each.state, each.error, each.done) for each in await ledger.batch_processes("b1")
        ] == [
            (ProcessState.REQUESTED, None, False),
            (ProcessState.SKIPPED, "stopped", True),
            (ProcessState.SKIPPED, "stopped", True),
        ]
        assert {each.state for each in await ledger.batch_processes("b2")} == {ProcessState.WAITING}

    async def test_a_batch_goes_on_one_way_and_forgets_what_it_sent(self, ledger: Ledger) -> None:
        await ledger.add_batch(batch(), WORK, members(), key=None)
        stopping = await ledger.change_batch(
            "b1", BatchState.STOPPING, now=NOW + 1, reason="stopped by bob"
        )
        assert stopping is not None
        assert (stopping.state, stopping.reason) == (BatchState.STOPPING, "stopped by bob")
        assert await ledger.batch_work("b1") == WORK
        assert await ledger.change_batch("b1", BatchState.RUNNING, now=NOW + 2) == stopping
        ended = await ledger.change_batch("b1", BatchState.ENDED, now=NOW + 3, reason="later")
        assert ended is not None
        assert (ended.state, ended.ended_at) == (BatchState.ENDED, NOW + 3)
        assert ended.reason == "stopped by bob"
        assert await ledger.batch_work("b1") is None
        assert await ledger.change_batch("b1", BatchState.ENDED, now=NOW + 4) == ended
        assert await ledger.batch("b1") == ended
        assert await ledger.change_batch("b2", BatchState.ENDED, now=NOW) is None

    async def test_batches_are_listed_newest_first_in_pages(self, ledger: Ledger) -> None:
        for number in range(4):
            await ledger.add_batch(batch(f"b{number}", at=NOW + number // 2), WORK, [], key=None)
        await ledger.change_batch("b2", BatchState.ENDED, now=NOW + 9)
        first = await ledger.batches(BatchQuery(limit=3))
        assert [each.batch_id for each in first.items] == ["b3", "b2", "b1"]
        rest = await ledger.batches(BatchQuery(limit=3, after=first.next))
        assert ([each.batch_id for each in rest.items], rest.next) == (["b0"], None)
        running = await ledger.batches(BatchQuery(state=BatchState.RUNNING))
        assert [each.batch_id for each in running.items] == ["b3", "b1", "b0"]

    async def test_what_a_worker_said_and_when_is_kept(self, ledger: Ledger) -> None:
        await ledger.add_process(process())
        await ledger.add_process(process("p2", worker_id="w2"))
        change = ProcessChange(
            process_id="p1", worker_id="w1", state=ProcessState.RUNNING, at=NOW, seen_at=NOW + 1
        )
        await ledger.change_process(change)
        await ledger.touch_processes("w1", NOW + 5)
        proof = StopProof(method="group", group_empty=False, left=(12, 34))
        await ledger.keep_stop("p1", "w1", proof)
        await ledger.keep_stop("p2", "w1", proof)  # not its own
        running = await ledger.process("p1")
        assert running is not None
        assert (running.last_seen_at, running.stop) == (NOW + 5, proof)
        ended = msgspec.structs.replace(
            change, state=ProcessState.ENDED, signal="killed", cause="wall_seconds", seen_at=NOW + 7
        )
        assert await ledger.change_process(ended) is ProcessState.ENDED
        await ledger.touch_processes("w1", NOW + 9)
        done = await ledger.process("p1")
        assert done is not None
        assert (done.last_seen_at, done.cause, done.stop) == (NOW + 7, "wall_seconds", proof)
        other = await ledger.process("p2")
        assert other == process("p2", worker_id="w2")

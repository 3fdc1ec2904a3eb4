"""A run whose lease may have ended touches nothing more, and is no failure of the device."""

import asyncio

import pytest

from roundsman.errors import RoundsmanError
from roundsman.testing.clock import ManualClock
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass
from roundsman.worker.deadline import LeaseDeadline, LeaseExpiredError
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from tests.worker.conftest import MakeBench
from tests.worker.fake_controller import FakeController
from tests.worker.helpers import FakeRunner, element


def test_what_was_over_once_stays_over() -> None:
    clock = ManualClock()
    deadline = LeaseDeadline(clock, 10)
    deadline.move(5)
    clock.advance(9)
    deadline.check()
    deadline.move(12)
    clock.advance(3)
    with pytest.raises(LeaseExpiredError) as caught:
        deadline.check()
    deadline.move(100)
    assert deadline.is_over
    assert isinstance(caught.value, RoundsmanError)
    assert isinstance(caught.value, OSError)


async def test_a_run_is_ended_when_its_lease_is_and_offered_again(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    ended = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"half of it")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), lease_seconds=30))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await bench.runner.reached(1)
        await clock.sleepers()
        clock.advance(20)
        await bench.heartbeat.run_once()  # for 120 s from here
        clock.advance(119)
        await asyncio.sleep(0)
        assert not ended.is_set()
        await clock.sleepers()
        clock.advance(1)
    assert ended.is_set()
    assert not bench.outbox.entries
    assert not bench.leases.keys()


async def test_what_slept_past_its_lease_is_not_begun(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    bench = make_bench(FakeRunner())
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()) + 3, lease_seconds=30))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await clock.sleepers()
        clock.advance(31)
    assert not bench.runner.begun
    assert not bench.outbox.entries
    assert not bench.leases.keys()


async def test_the_length_of_a_lease_is_counted_from_the_question_whatever_the_wall_clock_says(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    bench = make_bench(FakeRunner())
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), lease_seconds=30))
    clock.step(86_400)
    await bench.run_batch()
    assert len(bench.runner.begun) == 1


async def test_a_failure_after_the_lease_is_nobodys_outcome(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, __: ResultFile) -> None:
        clock.advance(31)
        raise RunFailedError("the connection was lost", FailureClass.CLOSED_EARLY)

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), lease_seconds=30))
    await bench.run_batch()
    assert not bench.outbox.entries


async def test_a_result_that_is_whole_is_for_the_controller_to_judge(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"all of it")
        clock.advance(31)

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), lease_seconds=30))
    await bench.run_batch()
    assert len(bench.outbox.entries) == 1

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from roundsman.testing.clock import ManualClock
from roundsman.wire.execution import Execution, LeaseKey
from roundsman.wire.run import FailureClass
from roundsman.worker.outbox import Entry
from roundsman.worker.places import SLOW_SECONDS
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.settings import OutboxSettings
from roundsman.worker.uploader import UPLOADS
from tests.worker.conftest import MakeBench
from tests.worker.fake_controller import FakeController, drop, error
from tests.worker.helpers import Bench, FakeRunner, element


def only_record(bench: Bench) -> Any:
    [entry] = bench.outbox.entries
    return entry.record


async def test_it_asks_for_the_room_it_has(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    release = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        await release.wait()
        result.write(b"x")

    bench = make_bench(FakeRunner(run), sessions=4)
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend(element(f"edge{number}", timestamp=now) for number in range(3))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await bench.runner.reached(3)
        await bench.lease_loop.run_once(group)
        controller.due.extend(element(f"later{number}", timestamp=now + 3) for number in range(2))
        await bench.lease_loop.run_once(group)
        assert await bench.lease_loop.run_once(group) is None
        release.set()
        await clock.sleepers()
        clock.advance(3)
    # A place for each session, and one execution more that waits for whichever becomes free.
    assert [asked["max"] for asked in controller.asked] == [5, 2, 2]
    assert controller.asked[0]["seconds"] == 5
    assert len(bench.outbox.entries) == 5


async def test_200_sessions_run_at_once_and_no_more_while_they_get_on(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    release = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        await release.wait()
        result.write(b"x")

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend(element(f"edge{number}", timestamp=now) for number in range(300))
    loop = asyncio.create_task(bench.lease_loop.run())
    uploading = asyncio.create_task(bench.uploader.run())
    await bench.runner.reached(200)
    assert len(controller.due) == 50
    release.set()
    while len(controller.completed) < 300:
        await clock.sleepers()
        clock.advance(1)
        await asyncio.sleep(0)
    bench.lease_loop.stop()
    await loop
    uploading.cancel()
    assert bench.runner.most_running == 200


async def test_devices_that_do_not_answer_keep_no_others_waiting(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    release = asyncio.Event()

    async def run(execution: Execution, result: ResultFile) -> None:
        if execution.device.name.startswith("dead"):
            await release.wait()
        result.write(b"x")

    bench = make_bench(FakeRunner(run), sessions=4)
    await bench.enrolment.establish()
    living = [f"edge{number}" for number in range(20)]
    all_kept = asyncio.Event()
    kept: list[str] = []
    upload = bench.outbox.on_finished

    def finished(entry: Entry) -> None:
        upload(entry)
        kept.append(entry.record.completion.device)
        if sorted(kept) == sorted(living):
            all_kept.set()

    bench.outbox.on_finished = finished
    now = int(clock.now())
    dead = [f"dead{number}" for number in range(4)]
    controller.due.extend(element(name, timestamp=now) for name in (*dead, *living))
    uploading = asyncio.create_task(bench.uploader.run())
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await bench.runner.reached(4)
        clock.advance(SLOW_SECONDS)
        while controller.due:
            await bench.lease_loop.run_once(group)
            await asyncio.sleep(0)
        await all_kept.wait()
        assert bench.runner.running == 4
        release.set()
    uploading.cancel()


async def test_what_waits_for_a_place_is_let_go_when_stopping(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    release = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        await release.wait()
        result.write(b"x")

    bench = make_bench(FakeRunner(run), sessions=4)
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend(element(f"edge{number}", timestamp=now) for number in range(5))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await bench.runner.reached(4)
        assert len(bench.leases.keys()) == 5
        bench.lease_loop.stop()
        release.set()
    assert len(bench.runner.begun) == 4
    assert len(bench.leases.keys()) == 4


async def test_each_waits_for_its_timestamp_and_past_ones_run_at_once(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    kept = asyncio.Event()
    bench.outbox.on_finished = lambda _: kept.set()
    now = int(clock.now())
    controller.due.extend(
        [element("past", timestamp=now - 3600), element("future", timestamp=now + 4)]
    )
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await clock.sleepers()
        await kept.wait()
        assert [execution.device.name for execution in bench.runner.begun] == ["past"]
        clock.advance(3.9)
        await asyncio.sleep(0)
        assert len(bench.runner.begun) == 1
        clock.advance(0.1)
    assert [execution.device.name for execution in bench.runner.begun] == ["past", "future"]


async def test_a_worker_whose_clock_is_behind_waits_no_longer_than_it_looked_ahead(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    controller.due.append(element(timestamp=int(clock.now()) + 3600))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await clock.sleepers()
        clock.advance(5)
    assert len(bench.runner.begun) == 1


async def test_a_result_is_on_disk_with_what_it_is_about(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    now = int(clock.now())
    controller.due.append(element(timestamp=now - 60, epoch=7))
    await bench.run_batch()
    [entry] = bench.outbox.entries
    assert entry.data is not None
    assert entry.data.read_bytes() == b"configuration of edge1\n"
    completion = entry.record.completion
    assert (completion.device, completion.job) == ("edge1", "show_run")
    assert (completion.job_timestamp, completion.epoch) == (now - 60, 7)
    assert (completion.start_timestamp, completion.end_timestamp) == (now, now)
    assert completion.failure is None
    assert LeaseKey(device="edge1", job="show_run", epoch=7) in bench.leases


@pytest.mark.parametrize(
    "broken",
    [
        {"device": {"name": "edge1"}, "job": {"name": "show_run"}},
        {"device": {"name": "edge1", "host": None, "credentials": None}},
        {"device": {"name": "edge1", "host": "h", "credentials": {}}},
        {"job": {"name": "show_run", "schedule": None, "command": None}},
        {"job": {"name": "show_run", "schedule": {}, "command": {"inline": None}}},
        {"job": {"name": "show_run", "schedule": {}, "command": {"inline": [None]}}},
    ],
    ids=repr,
)
async def test_an_unreadable_execution_that_can_be_named_is_completed_as_invalid(
    controller: FakeController, bench: Bench, clock: ManualClock, broken: dict[str, Any]
) -> None:
    """Fault 15."""
    now = int(clock.now())
    controller.due.extend(
        [element(timestamp=now, epoch=4) | broken, element("edge2", timestamp=now)]
    )
    await bench.run_batch()
    by_device = {entry.record.completion.device: entry for entry in bench.outbox.entries}
    completion = by_device["edge1"].record.completion
    assert completion.failure_class is FailureClass.INVALID
    assert completion.failure is not None
    assert completion.failure.startswith("the execution cannot be read: ")
    assert completion.epoch == 4
    assert by_device["edge2"].record.completion.failure is None


@pytest.mark.parametrize(
    "broken",
    [None, [], {}, 3, "x", {"device": None, "job": None, "timestamp": None}]
    + [element(timestamp=0) | {field: None} for field in ("device", "job", "timestamp")],
    ids=lambda broken: json.dumps(broken)[:40],
)
async def test_what_cannot_even_be_named_costs_nothing_else(
    controller: FakeController, bench: Bench, clock: ManualClock, broken: object
) -> None:
    """Fault 15."""
    controller.due.extend([broken, element("edge2", timestamp=int(clock.now()))])
    await bench.run_batch()
    [entry] = bench.outbox.entries
    assert entry.record.completion.device == "edge2"


async def test_an_empty_list_and_unknown_fields_are_harmless(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    """Fault 15."""
    controller.due.append(
        element(timestamp=int(clock.now()), novelty=1) | {"further": [{}], "lease": None}
    )
    await bench.run_batch()
    assert only_record(bench).completion.epoch is None
    assert bench.leases.keys() == ()


@pytest.mark.parametrize("answer", [drop, error(500), error(503, **{"Retry-After": "7"})])
async def test_a_failed_question_is_asked_again_later(
    controller: FakeController, bench: Bench, answer: Any
) -> None:
    """Fault 8."""
    # Twice, since aiohttp itself repeats a GET whose kept connection broke.
    controller.plan("/worker/next", answer, answer)
    async with asyncio.TaskGroup() as group:
        while not controller.asked:
            assert await bench.lease_loop.run_once(group) is not None
    assert not controller.plans["/worker/next"]


async def test_the_same_lease_given_twice_runs_once(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    controller.due.extend([element(timestamp=int(clock.now()))] * 2)
    await bench.run_batch()
    assert len(bench.runner.begun) == 1


async def test_a_failure_is_kept_with_its_class_and_its_evidence(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"% Invalid input")
        raise RunFailedError("'shwo run': no prompt", FailureClass.COMMAND)

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now())))
    await bench.run_batch()
    [entry] = bench.outbox.entries
    assert entry.data is not None
    assert entry.data.read_bytes() == b"% Invalid input"
    assert entry.record.completion.failure == "'shwo run': no prompt"
    assert entry.record.completion.failure_class is FailureClass.COMMAND


async def test_a_fault_of_the_runner_is_a_failure_that_tells_no_insides(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"enable secret not yet scrubbed")
        raise KeyError("s3cret")

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now())))
    await bench.run_batch()
    [entry] = bench.outbox.entries
    assert entry.data is None
    assert entry.record.completion.failure_class is FailureClass.INTERNAL
    assert "KeyError" in (entry.record.completion.failure or "")
    assert "s3cret" not in (entry.record.completion.failure or "")


async def test_a_run_that_brings_nothing_back_is_a_failure(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, __: ResultFile) -> None:
        pass

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now())))
    await bench.run_batch()
    assert only_record(bench).completion.failure_class is FailureClass.EMPTY


async def test_a_result_beyond_the_jobs_limit_is_a_failure(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        while True:
            result.write(b"0123456789")

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), max_bytes=95))
    await bench.run_batch()
    record = only_record(bench)
    assert record.completion.failure_class is FailureClass.TOO_LARGE
    assert record.size == 90


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_silent_peer_holds_a_session_for_its_limit_and_no_longer(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock, stubborn: bool
) -> None:
    """Fault 15: also when the runner does not let go."""
    for_ever = asyncio.Event()
    begun = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"half of it")
        begun.set()
        try:
            await for_ever.wait()
        finally:
            if stubborn:
                await for_ever.wait()

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), session_timeout=30))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await begun.wait()
        await clock.sleepers()
        clock.advance(30)
        if stubborn:
            await clock.sleepers()
            clock.advance(5)
    record = only_record(bench)
    assert record.completion.failure_class is FailureClass.TIMED_OUT
    assert "30 seconds" in (record.completion.failure or "")
    assert record.size is None
    for_ever.set()


async def test_a_runner_may_say_more_of_why_it_took_too_long(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    begun = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            result.write(b"edge1#sh")
            raise RunFailedError("'show run': no prompt", FailureClass.TIMED_OUT) from None

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), session_timeout=30))
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await begun.wait()
        await clock.sleepers()
        clock.advance(30)
    assert only_record(bench).completion.failure == "'show run': no prompt"
    assert only_record(bench).size == 8


async def test_a_lost_lease_ends_its_run_and_drops_its_result(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    begun = asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"half of it")
        begun.set()
        await asyncio.Event().wait()

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now()), epoch=3))
    controller.lost.append({"device": "edge1", "job": "show_run", "epoch": 3})
    async with asyncio.TaskGroup() as group:
        await bench.lease_loop.run_once(group)
        await begun.wait()
        await bench.heartbeat.run_once()
    assert bench.runner.running == 0
    assert list(bench.outbox.entries) == []
    assert list((bench.settings.state / "outbox").iterdir()) == []
    assert bench.leases.keys() == ()


async def test_stopping_lets_go_what_waits_and_finishes_what_runs(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def run(execution: Execution, result: ResultFile) -> None:
        begun.set()
        await release.wait()
        result.write(execution.device.name.encode())

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend([element("runs", timestamp=now), element("waits", timestamp=now + 10)])
    loop = asyncio.create_task(bench.lease_loop.run())
    await begun.wait()
    asked = len(controller.asked)
    bench.lease_loop.stop()
    release.set()
    await loop
    assert [entry.record.completion.device for entry in bench.outbox.entries] == ["runs"]
    assert len(controller.asked) == asked
    assert bench.leases.keys() == (LeaseKey(device="runs", job="show_run", epoch=1),)


async def test_with_the_outbox_full_no_work_is_taken_until_there_is_room(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    bench = make_bench(outbox=OutboxSettings(max_count=2))
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend(element(f"edge{number}", timestamp=now) for number in range(3))
    await bench.run_batch()
    await bench.run_batch()
    assert [asked["max"] for asked in controller.asked] == [2]
    await bench.uploader.run_once()
    await bench.run_batch()
    assert [asked["max"] for asked in controller.asked] == [2, 1]


async def test_who_does_not_bring_home_what_it_runs_takes_less_and_in_the_end_nothing(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    bench = make_bench(sessions=4)
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend(element(f"edge{number}", timestamp=now) for number in range(30))
    for _ in range(9):
        await bench.run_batch()
    # Five at a time; beside those that eight uploads have under way, no more may wait than that.
    assert [asked["max"] for asked in controller.asked] == [5, 5, 3]
    assert len(bench.outbox.entries) == UPLOADS + 5
    for _ in range(2):
        await bench.uploader.run_once()
    await bench.run_batch()
    assert controller.asked[-1]["max"] == 2


async def test_a_run_for_which_the_disk_has_no_room_is_given_up_rather_than_failed(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        result.write(b"x" * 60)

    bench = make_bench(FakeRunner(run), outbox=OutboxSettings(max_bytes=100))
    await bench.enrolment.establish()
    now = int(clock.now())
    controller.due.extend(element(f"edge{number}", timestamp=now) for number in range(2))
    await bench.run_batch()
    assert len(bench.outbox.entries) == 1
    assert len(bench.leases.keys()) == 1
    assert len(list((bench.settings.state / "outbox").iterdir())) == 2


async def test_a_disk_that_takes_no_more_gives_the_run_up_whatever_the_runner_says(
    controller: FakeController, make_bench: MakeBench, clock: ManualClock
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        with Path("/dev/full").open("wb", buffering=0) as full:
            result._file = full
            try:
                result.write(b"x")
            except OSError as error:
                raise RunFailedError("no connection", FailureClass.UNREACHABLE) from error

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element(timestamp=int(clock.now())))
    await bench.run_batch()
    assert len(bench.outbox.entries) == 0
    assert bench.leases.keys() == ()
    assert list((bench.settings.state / "outbox").iterdir()) == []


async def test_a_recording_that_is_too_large_to_travel_is_left_behind_and_said(
    controller: FakeController,
    make_bench: MakeBench,
    clock: ManualClock,
    rng: random.Random,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run(_: Execution, result: ResultFile) -> None:
        result.recording = rng.randbytes(100_000).hex()
        raise RunFailedError("no prompt", FailureClass.PROMPT)

    bench = make_bench(FakeRunner(run))
    await bench.enrolment.establish()
    controller.due.append(element("edge7", timestamp=int(clock.now())))
    await bench.run_batch()
    assert only_record(bench).completion.recording is None
    [said] = [line for line in capsys.readouterr().out.splitlines() if "too_large" in line]
    assert "edge7" in said

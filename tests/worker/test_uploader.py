import asyncio
import resource
from typing import Any

import pytest

from roundsman.client.worker import Completion
from roundsman.testing.clock import ManualClock
from roundsman.wire.execution import LeaseKey
from roundsman.wire.run import FailureClass
from roundsman.worker.uploader import UPLOADS
from tests.worker.conftest import MakeBench
from tests.worker.fake_controller import FakeController, drop, error, proxy_error
from tests.worker.helpers import Bench


async def finish(
    bench: Bench,
    content: bytes | None = b"hostname edge1\n",
    *,
    device: str = "edge1",
    now: float = 100.0,
    failure: str | None = None,
    failure_class: FailureClass | None = None,
) -> None:
    spool = bench.outbox.begin(1 << 30, now)
    if content is not None:
        spool.result.write(content)
    await bench.outbox.finish(
        spool,
        Completion(
            device=device,
            job="show_run",
            job_timestamp=90,
            start_timestamp=int(now),
            end_timestamp=int(now) + 5,
            epoch=3,
            failure=failure,
            failure_class=failure_class,
        ),
        keep_data=content is not None,
    )


async def test_a_result_travels_as_the_contract_says(
    controller: FakeController, bench: Bench
) -> None:
    await finish(bench)
    await bench.uploader.run_once()
    [done] = controller.completed
    assert done.order[:5] == [
        "job",
        "device",
        "job_timestamp",
        "start_timestamp",
        "end_timestamp",
    ]
    assert done.order[-1] == "file"
    assert done.fields == {
        "job": "show_run",
        "device": "edge1",
        "job_timestamp": "90",
        "start_timestamp": "100",
        "end_timestamp": "105",
        "epoch": "3",
    }
    assert (done.filename, done.content) == ("show_run", b"hostname edge1\n")
    assert bench.outbox.empty.is_set()


async def test_a_failure_travels_without_a_file_or_with_its_evidence(
    controller: FakeController, bench: Bench
) -> None:
    fields = {"failure": "héllo: no prompt", "failure_class": FailureClass.PROMPT}
    await finish(bench, None, now=1.0, **fields)  # type: ignore[arg-type] # mixed on purpose
    await finish(bench, b"evidence", now=2.0, **fields)  # type: ignore[arg-type] # the same
    await bench.uploader.run_once()
    await bench.uploader.run_once()
    bare, with_evidence = controller.completed
    assert bare.filename is None
    assert bare.fields["failure"] == "héllo: no prompt"
    assert bare.fields["failure_class"] == "prompt"
    assert with_evidence.content == b"evidence"


@pytest.mark.parametrize(
    "answer",
    [drop, proxy_error, error(500), error(502), error(503), error(429), error(418)],
    ids=["drop", "proxy", "500", "502", "503", "429", "418"],
)
async def test_what_may_succeed_later_is_tried_until_it_does(
    controller: FakeController, bench: Bench, clock: ManualClock, answer: Any
) -> None:
    """Fault 8."""
    controller.plan("/worker/complete", *[answer] * 12)
    await finish(bench)
    uploading = asyncio.create_task(bench.uploader.run())
    while not controller.completed:
        await clock.sleepers(UPLOADS)  # all rest: nothing is under way
        clock.advance(5)
    await bench.outbox.empty.wait()
    uploading.cancel()
    assert controller.completed[0].content == b"hostname edge1\n"
    assert len(controller.completed) == 1


async def test_it_waits_as_long_as_it_is_told_to(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    controller.plan("/worker/complete", error(503, **{"Retry-After": "50"}))
    await finish(bench)
    await bench.uploader.run_once()
    again = asyncio.create_task(bench.uploader.run_once())
    await clock.sleepers()
    clock.advance(49.9)
    await asyncio.sleep(0)
    assert not again.done()
    assert controller.seen.count("POST /worker/complete") == 1
    clock.advance(2)
    await again
    assert len(controller.completed) == 1


async def test_a_controller_that_vanished_for_an_hour_costs_no_result(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    """Fault 8."""
    for number in range(20):
        await finish(bench, device=f"edge{number}", now=100.0 + number)
    await controller.vanish()
    uploading = asyncio.create_task(bench.uploader.run())
    for _ in range(60):
        await clock.sleepers(UPLOADS)
        clock.advance(60)
    assert len(bench.outbox.entries) == 20
    await controller.appear()
    while not bench.outbox.empty.is_set():
        await clock.sleepers(UPLOADS)
        clock.advance(5)
    uploading.cancel()
    assert {done.fields["device"] for done in controller.completed} == {
        f"edge{number}" for number in range(20)
    }


async def test_a_slow_controller_is_waited_for(controller: FakeController, bench: Bench) -> None:
    """Fault 8: 3 s, after which the original gives up. Here the answer waits for a signal, and
    the worker's limit is minutes."""
    release = asyncio.Event()

    async def slow(request: Any) -> Any:
        await release.wait()
        return await controller._complete(request)

    controller.plan("/worker/complete", slow)
    await finish(bench)
    uploading = asyncio.create_task(bench.uploader.run_once())
    await controller.until(lambda: True)
    assert not uploading.done()
    release.set()
    await uploading
    assert len(controller.completed) == 1


async def test_a_stale_result_is_dropped(controller: FakeController, bench: Bench) -> None:
    controller.plan("/worker/complete", error(409, "lease.lost"))
    await finish(bench)
    bench.leases.hold(LeaseKey(device="edge1", job="show_run", epoch=3), seconds=120)
    await bench.uploader.run_once()
    assert bench.outbox.empty.is_set()
    assert bench.leases.keys() == ()
    assert list((bench.settings.state / "rejected").iterdir()) == []


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_what_can_never_be_taken_is_set_aside_with_its_reason(
    controller: FakeController, bench: Bench, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 8: the original ignores a 4xx answer."""
    controller.plan("/worker/complete", error(status, "slot.not_found"))
    await finish(bench)
    await bench.uploader.run_once()
    rejected = bench.settings.state / "rejected"
    [record] = rejected.glob("*.json")
    assert f"the fake says {status}" in record.read_text()
    assert [path.read_bytes() for path in rejected.glob("*.data")] == [b"hostname edge1\n"]
    assert "result.set_aside" in capsys.readouterr().out
    assert bench.outbox.empty.is_set()


async def test_a_refused_token_costs_no_result(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    await finish(bench)
    clock.advance(3600)
    controller.tokens.clear()
    await bench.uploader.run_once()
    assert not bench.outbox.empty.is_set()
    await bench.heartbeat.run_once()
    again = asyncio.create_task(bench.uploader.run_once())
    await clock.sleepers()
    clock.advance(60)
    await again
    assert len(controller.completed) == 1


async def test_the_oldest_goes_first(controller: FakeController, bench: Bench) -> None:
    for number in (3, 1, 2):
        await finish(bench, device=f"edge{number}", now=float(number))
    for _ in range(3):
        await bench.uploader.run_once()
    assert [done.fields["device"] for done in controller.completed] == ["edge1", "edge2", "edge3"]


async def test_one_that_always_fails_does_not_hold_up_the_others(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    controller.failing.add("edge0")
    for number in range(30):
        await finish(bench, device=f"edge{number}", now=float(number))
    uploading = asyncio.create_task(bench.uploader.run())
    while len(bench.outbox.entries) > 1:
        await clock.sleepers(UPLOADS)
        clock.advance(0.5)
    uploading.cancel()
    assert [entry.record.completion.device for entry in bench.outbox.entries] == ["edge0"]


async def test_several_at_once_but_never_one_twice(
    controller: FakeController, bench: Bench
) -> None:
    release, most, now = asyncio.Event(), 0, 0

    async def slow(request: Any) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        if now == 8:
            release.set()
        await release.wait()
        now -= 1
        return await controller._complete(request)

    controller.plan("/worker/complete", *[slow] * 30)
    for number in range(30):
        await finish(bench, device=f"edge{number}", now=100.0 + number)
    uploading = asyncio.create_task(bench.uploader.run())
    await bench.outbox.empty.wait()
    uploading.cancel()
    assert most == 8
    devices = [done.fields["device"] for done in controller.completed]
    assert sorted(devices) == sorted({f"edge{number}" for number in range(30)})


async def test_what_an_earlier_life_left_is_uploaded_and_its_lease_renewed_until_then(
    controller: FakeController, make_bench: MakeBench
) -> None:
    """Fault 8."""
    earlier = make_bench()
    await earlier.enrolment.establish()
    await finish(earlier)
    later = make_bench()
    await later.enrolment.establish()
    await later.heartbeat.run_once()
    assert controller.beats[-1]["leases"] == [{"device": "edge1", "job": "show_run", "epoch": 3}]
    await later.uploader.run_once()
    assert [done.content for done in controller.completed] == [b"hostname edge1\n"]
    await later.heartbeat.run_once()
    assert controller.beats[-1]["leases"] == []


async def test_a_large_result_streams(controller: FakeController, bench: Bench) -> None:
    size = 128 << 20
    spool = bench.outbox.begin(1 << 30, 1.0)
    chunk = bytes(1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(size >> 20):
        spool.result.write(chunk)
    completion = Completion(
        device="edge1", job="image", job_timestamp=1, start_timestamp=1, end_timestamp=1
    )
    await bench.outbox.finish(spool, completion, keep_data=True)
    await bench.uploader.run_once()
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert controller.completed[0].size == size
    assert grown_kib < 48 << 10

import asyncio
from functools import partial

import pytest

from roundsman.testing.clock import ManualClock
from roundsman.wire.execution import LeaseKey
from roundsman.worker.heartbeat import LEASES_PER_CALL
from tests.worker.fake_controller import FakeController, drop, error, proxy_error
from tests.worker.helpers import Bench


def key(number: int) -> LeaseKey:
    return LeaseKey(device=f"edge{number}", job="show_run", epoch=1)


async def test_every_lease_is_renewed_in_portions_and_life_is_told_without_any(
    controller: FakeController, bench: Bench
) -> None:
    await bench.heartbeat.run_once()
    for number in range(LEASES_PER_CALL + 1):
        bench.leases.hold(key(number), seconds=120)
    await bench.heartbeat.run_once()
    assert [len(beat["leases"]) for beat in controller.beats] == [0, LEASES_PER_CALL, 1]
    assert controller.beats[2]["leases"] == [
        {"device": f"edge{LEASES_PER_CALL}", "job": "show_run", "epoch": 1}
    ]


async def test_what_is_lost_is_told_once_to_whom_it_concerns(
    controller: FakeController, bench: Bench
) -> None:
    lost: list[int] = []
    for number in range(3):
        bench.leases.hold(key(number), seconds=120, on_lost=partial(lost.append, number))
    controller.lost = [{"device": "edge1", "job": "show_run", "epoch": 1}]
    await bench.heartbeat.run_once()
    await bench.heartbeat.run_once()
    assert lost == [1]
    assert bench.leases.keys() == (key(0), key(2))


async def test_it_beats_every_quarter_of_the_shortest_lease_20_seconds_at_most(
    bench: Bench, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []

    async def beat() -> None:
        beats.append(clock.monotonic())

    # Without its calls a beat takes no time, so that what is measured is the pause alone.
    monkeypatch.setattr(bench.heartbeat, "run_once", beat)
    beating = asyncio.create_task(bench.heartbeat.run())

    async def until_beats(count: int) -> None:
        while len(beats) < count:
            await clock.sleepers()
            clock.advance(0.5)
            for _ in range(20):
                await asyncio.sleep(0)

    await until_beats(3)
    bench.leases.hold(key(1), seconds=12)
    await until_beats(5)
    bench.leases.settle(key(1))
    await until_beats(6)
    assert beats == [0, 20, 40, 43, 46, 66]
    beating.cancel()


@pytest.mark.parametrize("answer", [drop, proxy_error, error(500), error(503)])
async def test_a_controller_away_loses_no_lease_and_no_identity(
    controller: FakeController, bench: Bench, answer: object
) -> None:
    bench.leases.hold(key(1), seconds=120)
    controller.plan("/api/v1/workers/" + bench.enrolment.worker_id + "/heartbeat", answer)  # type: ignore[arg-type] # one of the fake's answers
    await bench.heartbeat.run_once()
    assert bench.leases.keys() == (key(1),)
    assert len(controller.tokens) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_worker_that_was_forgotten_comes_back_by_itself(
    controller: FakeController, bench: Bench, clock: ManualClock, status: int
) -> None:
    """Fault 13."""
    before = bench.enrolment.worker_id
    clock.advance(3600)
    controller.plan(f"/api/v1/workers/{before}/heartbeat", error(status, "worker.not_found"))
    await bench.heartbeat.run_once()
    assert bench.enrolment.worker_id != before
    await bench.heartbeat.run_once()
    assert len(controller.beats) == 1
    await bench.run_batch()
    assert len(controller.asked) == 1


async def test_a_refused_token_elsewhere_hurries_the_heartbeat(
    controller: FakeController, bench: Bench, clock: ManualClock
) -> None:
    """Fault 13."""
    beating = asyncio.create_task(bench.heartbeat.run())
    await controller.until(lambda: controller.beats)
    await clock.sleepers()
    clock.advance(3600)
    await controller.until(lambda: len(controller.beats) == 2)
    await clock.sleepers()
    controller.tokens.clear()
    await bench.run_batch()
    clock.advance(1)
    await controller.until(lambda: controller.seen[-1] == "POST /api/v1/workers")
    beating.cancel()

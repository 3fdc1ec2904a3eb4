"""A fake controller, a clock to turn, and a worker's loops between them."""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from roundsman.client import ControllerClient
from roundsman.testing.clock import ManualClock
from tests.worker.fake_controller import FakeController
from tests.worker.helpers import Bench, FakeRunner

MakeBench = Callable[..., Bench]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def controller() -> AsyncIterator[FakeController]:
    async with FakeController() as controller:
        yield controller


@pytest.fixture
async def client(controller: FakeController, clock: ManualClock) -> AsyncIterator[ControllerClient]:
    async with ControllerClient(controller.url, clock=clock) as client:
        yield client


@pytest.fixture
async def make_bench(
    controller: FakeController,
    client: ControllerClient,
    clock: ManualClock,
    rng: random.Random,
    tmp_path: Path,
) -> AsyncIterator[MakeBench]:
    """Build a worker's loops; enrolled is for the test to do."""
    made: list[Bench] = []

    def make(runner: FakeRunner | None = None, **options: Any) -> Bench:
        bench = Bench(
            controller=controller,
            client=client,
            state=tmp_path,
            runner=runner or FakeRunner(),
            clock=clock,
            rng=rng,
            **options,
        )
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.outbox.close()


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    """A worker's loops, enrolled."""
    bench = make_bench()
    await bench.enrolment.establish()
    return bench

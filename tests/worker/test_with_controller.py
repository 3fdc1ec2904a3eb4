"""A whole worker against a real controller over HTTP; only the devices are made up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from roundsman.client import ControllerClient
from roundsman.client.errors import FaultError
from roundsman.clock import SystemClock
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass, Outcome
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.service import WorkerService
from roundsman.worker.settings import WorkerSettings
from tests.controller.serving import Served, fleet, served
from tests.worker.helpers import FakeRunner

T = TypeVar("T")

DEVICES = 60


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(fleet(DEVICES), tmp_path / "data", clock=SystemClock()) as site:
        yield site


@pytest.fixture
async def client(site: Served) -> AsyncIterator[ControllerClient]:
    async with ControllerClient(site.url) as client:
        yield client


async def run(execution: Execution, result: ResultFile) -> None:
    """Evens succeed, odds fail, each third with evidence."""
    number = int(execution.device.name.removeprefix("edge"))
    if number % 3 == 0:
        result.write(b"% Invalid input\n")
    if number % 2 == 1:
        raise RunFailedError("no prompt", FailureClass.PROMPT)
    result.write(f"hostname {execution.device.name}\n".encode())


@pytest.fixture
async def worker(site: Served, tmp_path: Path) -> AsyncIterator[WorkerService]:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "hello.sh").write_text("echo hello; echo world >&2\n")
    policy = tmp_path / "policy.yaml"
    policy.write_text("commands: {sh: {scripts: scripts}}\n")
    settings = WorkerSettings(
        controller=site.url,
        name="ams-1",
        state=tmp_path / "state",
        policy=policy,
    )
    service = WorkerService(settings, FakeRunner(run))
    working = asyncio.create_task(service.run())
    yield service
    service.stop()
    await working


async def until(look: Callable[[], Awaitable[T]], fits: Callable[[T], object]) -> T:
    """Look until it fits. Each look is a call over HTTP, so it takes its time by itself."""
    while not fits(seen := await look()):
        pass
    return seen


async def test_scheduled_jobs_end_in_the_history_and_in_the_archive(
    client: ControllerClient, worker: WorkerService
) -> None:
    for number in range(DEVICES):
        await client.manage.run_now(f"edge{number}", "show")
    page = await until(
        lambda: client.manage.runs(limit=1000),
        lambda page: len({run.device for run in page.items}) == DEVICES,
    )
    # Newest first: what is left is each device's first. The schedule may have had a turn since.
    runs = {run.device: run for run in page.items}
    for number in range(DEVICES):
        run = runs[f"edge{number}"]
        assert run.outcome is (Outcome.FAILED if number % 2 else Outcome.SUCCEEDED), run
        if number % 2:
            assert (run.failure, run.failure_class) == ("no prompt", FailureClass.PROMPT)
            assert run.evidence is (number % 3 == 0)
        assert run.epoch == 1
        assert run.worker_id is not None
    assert await client.manage.latest("edge2", "show") == b"hostname edge2\n"
    [listed] = (await client.manage.workers()).items
    assert (listed.name, listed.worker_id) == ("ams-1", runs["edge0"].worker_id)


async def test_a_command_runs_on_the_worker(
    client: ControllerClient, worker: WorkerService
) -> None:
    workers = await until(
        client.manage.workers, lambda page: page.items and page.items[0].connected
    )
    worker_id = workers.items[0].worker_id
    job_id = await client.fleet.start(worker_id=worker_id, command="sh", path="hello.sh")
    async with client.manage.output(job_id, follow=True) as output:
        written = b"".join([piece async for piece in output])
    assert sorted(written.split()) == [b"hello", b"world"]
    answer = await until(
        lambda: client.fleet.query(worker_id=worker_id, job_id=job_id), lambda answer: answer.done
    )
    assert not answer.error
    await client.fleet.stop(worker_id=worker_id, job_id=job_id)
    with pytest.raises(FaultError, match="not allowed"):
        await client.fleet.start(worker_id=worker_id, command="bash", path="hello.sh")

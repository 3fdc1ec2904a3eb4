import asyncio
import hashlib
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from roundsman.secret import Secret
from roundsman.wire.execution import Execution
from roundsman.worker.identity import StateLockedError
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.service import WorkerService
from roundsman.worker.settings import WorkerSettings
from tests.worker.fake_controller import FakeController, drop
from tests.worker.helpers import FakeRunner, element
from tests.worker.worker_process import CONTENT

StartWorker = Callable[[], Awaitable[Process]]


@pytest.fixture
async def start_worker(controller: FakeController, tmp_path: Path) -> AsyncIterator[StartWorker]:
    """Start a worker process on the same state folder as before."""
    started: list[Process] = []

    async def start() -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.worker.worker_process",
            controller.url,
            str(tmp_path / "state"),
            stdout=PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_said(process: Process, words: str) -> None:
    assert process.stdout is not None
    seen = b""
    async for line in process.stdout:
        seen += line
        if words in line.decode():
            return
    raise AssertionError(f"the worker ended without saying {words!r}; it said {seen.decode()}")


async def test_a_worker_killed_after_the_capture_costs_no_result(
    controller: FakeController, start_worker: StartWorker
) -> None:
    """Fault 8 and fault 13: SIGKILL with the controller away; the same worker hands it over."""
    controller.due.append(element(timestamp=int(time.time())))
    controller.plan("/worker/complete", *[drop] * 100)
    worker = await start_worker()
    await until_said(worker, "run.ended")
    await controller.vanish()
    worker.kill()
    await worker.wait()
    controller.plans.clear()
    await controller.appear()
    again = await start_worker()
    await controller.until(lambda: controller.completed)
    [done] = controller.completed
    assert done.fields["device"] == "edge1"
    assert done.fields["epoch"] == "1"
    assert done.digest == hashlib.sha256(CONTENT).hexdigest()
    assert len(controller.tokens) == 1
    again.send_signal(signal.SIGTERM)
    assert await again.wait() == 0
    assert len(controller.completed) == 1


async def test_a_worker_killed_in_mid_run_leaves_nothing_to_upload(
    controller: FakeController, start_worker: StartWorker, tmp_path: Path
) -> None:
    controller.due.append(element("slow1", timestamp=int(time.time())))
    worker = await start_worker()
    await until_said(worker, "begun slow1")
    worker.kill()
    await worker.wait()
    again = await start_worker()
    await controller.until(lambda: len(controller.beats) >= 2)
    again.send_signal(signal.SIGTERM)
    assert await again.wait() == 0
    assert controller.completed == []
    assert list((tmp_path / "state" / "outbox").iterdir()) == []


async def test_the_first_signal_drains_and_the_second_ends(
    controller: FakeController, start_worker: StartWorker
) -> None:
    controller.due.append(element("slow1", timestamp=int(time.time())))
    worker = await start_worker()
    await until_said(worker, "begun slow1")
    worker.send_signal(signal.SIGTERM)
    await until_said(worker, "worker.stopping")
    assert worker.returncode is None
    worker.send_signal(signal.SIGTERM)
    await until_said(worker, "worker.cancelled")
    assert await worker.wait() == 0


def settings(controller: FakeController, state: Path) -> WorkerSettings:
    return WorkerSettings(
        controller=controller.url, token=Secret("enrol-me"), name="ams-1", state=state
    )


async def test_stop_finishes_what_runs_hands_it_over_and_leaves(
    controller: FakeController, tmp_path: Path
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def run(_: Execution, result: ResultFile) -> None:
        begun.set()
        await release.wait()
        result.write(b"whole")

    controller.due.append(element(timestamp=int(time.time())))
    service = WorkerService(settings(controller, tmp_path), FakeRunner(run))
    working = asyncio.create_task(service.run())
    await begun.wait()
    service.stop()
    release.set()
    await working
    assert [done.content for done in controller.completed] == [b"whole"]


async def test_stop_before_the_enrolment_succeeded_leaves_at_once(
    controller: FakeController, tmp_path: Path
) -> None:
    await controller.vanish()
    service = WorkerService(settings(controller, tmp_path), FakeRunner())
    working = asyncio.create_task(service.run())
    service.stop()
    await working
    assert controller.tokens == {}


async def test_cancel_leaves_at_once_and_a_second_service_takes_over(
    controller: FakeController, tmp_path: Path
) -> None:
    begun = asyncio.Event()

    async def run(_: Execution, __: ResultFile) -> None:
        begun.set()
        await asyncio.Event().wait()

    controller.due.append(element(timestamp=int(time.time())))
    service = WorkerService(settings(controller, tmp_path), FakeRunner(run))
    working = asyncio.create_task(service.run())
    await begun.wait()
    with pytest.raises(StateLockedError):
        await WorkerService(settings(controller, tmp_path), FakeRunner()).run()
    service.cancel()
    await working
    controller.due.append(element("edge2", timestamp=int(time.time())))
    other = WorkerService(settings(controller, tmp_path), FakeRunner())
    working = asyncio.create_task(other.run())
    await controller.until(lambda: controller.completed)
    other.stop()
    await working
    assert controller.completed[0].fields["device"] == "edge2"
    assert len(controller.tokens) == 1


async def test_the_controller_restarts_and_the_worker_goes_on(
    controller: FakeController, tmp_path: Path
) -> None:
    """Fault 13."""
    service = WorkerService(settings(controller, tmp_path), FakeRunner())
    working = asyncio.create_task(service.run())
    await controller.until(lambda: controller.asked)
    await controller.vanish()
    await controller.appear()
    controller.due.append(element(timestamp=int(time.time())))
    await controller.until(lambda: controller.completed)
    service.stop()
    await working
    assert len(controller.tokens) == 1

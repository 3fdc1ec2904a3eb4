"""Each surface against a real controller over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.client import ControllerClient
from roundsman.client.errors import (
    FaultError,
    ForbiddenError,
    StaleError,
    TooLargeError,
    UnauthorizedError,
    UnknownError,
)
from roundsman.client.worker import ASK_FIRST_BYTES, Completion
from roundsman.config.records import ControllerSettings, Limits
from roundsman.secret import Secret
from roundsman.wire import codec
from roundsman.wire.execution import Execution, LeaseKey
from roundsman.wire.pause import PauseKind
from roundsman.wire.run import Outcome, RunNow, SlotState
from roundsman.wire.worker import EnrolAnswer, EnrolRequest, HeartbeatRequest
from tests.controller.serving import PERIOD, START, Served, fleet, served

EXECUTIONS = codec.decoder(Execution)
RESULT = b"hostname edge0\n"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    settings = ControllerSettings(limits=Limits(result_bytes=4 << 20))
    async with served(fleet(3, settings=settings), tmp_path) as site:
        yield site


@pytest.fixture
async def client(site: Served) -> AsyncIterator[ControllerClient]:
    async with ControllerClient(site.url) as client:
        yield client


@pytest.fixture
async def enrolled(client: ControllerClient) -> EnrolAnswer:
    answer = await client.worker.enrol(EnrolRequest(name="ams-1", version="1"))
    client.use_token(answer.token)
    return answer


async def lease(client: ControllerClient, count: int = 1) -> list[Execution]:
    elements = await client.worker.next(limit=count, seconds=PERIOD)
    return [EXECUTIONS.decode(element) for element in elements]


def completion(execution: Execution, **changes: str) -> Completion:
    assert execution.lease is not None
    return Completion(
        device=execution.device.name,
        job=execution.job.name,
        job_timestamp=execution.timestamp,
        start_timestamp=START,
        end_timestamp=START,
        epoch=execution.lease.epoch,
        **changes,  # type: ignore[arg-type] # only texts are changed
    )


async def test_lease_renew_and_complete(
    client: ControllerClient, enrolled: EnrolAnswer, tmp_path: Path
) -> None:
    await client.worker.ping()
    first, second = await lease(client, 2)
    assert first.device.credentials is not None
    assert first.device.credentials.password == Secret("hunter2")
    assert len(await lease(client, 10)) == 1
    assert await lease(client, 10) == []
    assert second.lease is not None
    held = LeaseKey(device=second.device.name, job=second.job.name, epoch=second.lease.epoch)
    lost = LeaseKey(device=second.device.name, job=second.job.name, epoch=99)
    beat = HeartbeatRequest(leases=(held, lost))
    assert (await client.worker.heartbeat(enrolled.worker_id, beat)).lost == (lost,)
    file = tmp_path / "result"
    file.write_bytes(RESULT)
    for _ in range(2):  # the same again is harmless
        await client.worker.complete(completion(first), file, size=len(RESULT))
    await client.worker.complete(completion(second, failure="no route"), None)
    file.write_bytes(b"another")
    with pytest.raises(StaleError):
        await client.worker.complete(completion(first), file, size=7)
    client.use_token(None)
    assert await client.manage.latest(first.device.name, "show") == RESULT
    assert len((await client.manage.versions(first.device.name, "show")).items) == 1
    runs = (await client.manage.runs(outcome=Outcome.FAILED)).items
    assert [run.failure for run in runs] == ["no route"]
    assert await client.manage.run(runs[0].run_id) == runs[0]
    with pytest.raises(UnknownError, match="left nothing behind"):
        await client.manage.transcript(runs[0].run_id)
    with pytest.raises(StaleError, match="does not wait to be confirmed"):
        await client.manage.accept(runs[0].run_id)


async def test_a_refusal_costs_no_transfer_and_is_not_lost_with_the_connection(
    client: ControllerClient, enrolled: EnrolAnswer, tmp_path: Path
) -> None:
    [execution] = await lease(client)
    file = tmp_path / "result"
    size = 64 << 20
    with file.open("wb") as large:
        large.truncate(size)
    for _ in range(3):
        with pytest.raises(TooLargeError):
            await client.worker.complete(completion(execution), file, size=size)
    client.use_token(Secret("nobody's"))
    with pytest.raises(UnauthorizedError):
        await client.worker.complete(completion(execution), file, size=size)
    client.use_token(enrolled.token)
    with file.open("wb") as fitting:
        fitting.truncate(ASK_FIRST_BYTES * 2)
    await client.worker.complete(completion(execution), file, size=ASK_FIRST_BYTES * 2)


async def test_who_may_not_is_told(client: ControllerClient, enrolled: EnrolAnswer) -> None:
    with pytest.raises(ForbiddenError):
        await client.worker.heartbeat("someone-else", HeartbeatRequest())
    with pytest.raises(ForbiddenError):
        await client.worker.enrol(EnrolRequest(name="another"))
    client.use_token(None)
    await client.manage.remove_worker(enrolled.worker_id)
    client.use_token(enrolled.token)
    with pytest.raises(UnauthorizedError) as caught:
        await client.worker.heartbeat(enrolled.worker_id, HeartbeatRequest())
    assert caught.value.about_subject


async def test_what_there_is(client: ControllerClient) -> None:
    overview = await client.manage.overview()
    assert (overview.devices, overview.slots) == (3, 3)
    page = await client.manage.devices(limit=2)
    assert [device.name for device in page.items] == ["edge0", "edge1"]
    rest = await client.manage.devices(limit=2, after=page.next)
    assert [device.name for device in rest.items] == ["edge2"]
    assert [job.name for job in (await client.manage.jobs()).items] == ["show"]
    assert (await client.manage.job("show")).devices == 3
    assert (await client.manage.device("edge1")).host == "edge1.example.net"
    slots = await client.manage.slots(device="edge1", state=SlotState.WAITING)
    assert [slot.due for slot in slots.items] == [START + PERIOD]
    assert await client.manage.slot("edge1", "show") == slots.items[0]
    assert (await client.manage.processes()).items == ()
    assert (await client.manage.workers()).items == ()
    with pytest.raises(UnknownError, match="nowhere"):
        await client.manage.device("nowhere")


async def test_the_switches(client: ControllerClient) -> None:
    assert (await client.manage.run_now("edge1", "show")).result is RunNow.QUEUED
    assert (await client.manage.pause(PauseKind.DEVICE, "edge1")).changed
    assert not (await client.manage.pause(PauseKind.DEVICE, "edge1")).changed
    assert [pause.name for pause in (await client.manage.pauses()).items] == ["edge1"]
    with pytest.raises(StaleError):
        await client.manage.run_now("edge1", "show")
    assert (await client.manage.resume(PauseKind.DEVICE, "edge1")).changed
    assert not (await client.manage.release("edge1")).changed
    assert (await client.manage.devices(held=True)).items == ()


async def test_200_at_once(client: ControllerClient, enrolled: EnrolAnswer) -> None:
    answers = await asyncio.gather(*(client.worker.next(limit=1, seconds=0) for _ in range(200)))
    assert answers == [[]] * 200


async def test_the_fleet_surface(client: ControllerClient) -> None:
    with pytest.raises(FaultError, match="worker not found"):
        await client.fleet.start(worker_id="nobody", command="bash", path="x")
    with pytest.raises(FaultError, match="worker not found"):
        await client.fleet.stop(worker_id="nobody", job_id="x")
    with pytest.raises(FaultError, match="worker not found"):
        await client.fleet.query(worker_id="nobody", job_id="x")

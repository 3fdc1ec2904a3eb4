"""How reports of workers are gathered: into transactions of the ledger, and into frames."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from roundsman.controller import fleet_hub
from roundsman.ledger.interface import ProcessChange
from roundsman.wire import framing
from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import (
    Acknowledge,
    Hello,
    ProcessChanged,
    StartProcess,
    StopFinished,
    StopProcess,
    ToWorker,
    to_worker,
)
from roundsman.wire.process import ProcessState
from tests.controller.fleet_site import FakeWorker, WatchedLedger, fake_worker, fleet_site


def running(message: ToWorker) -> ProcessChanged:
    assert isinstance(message, StartProcess)
    return ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)


def ended(process_id: str) -> ProcessChanged:
    return ProcessChanged(process_id=process_id, state=ProcessState.ENDED, at=2.0, exit_status=0)


class CountingLedger(WatchedLedger):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[list[str]] = []

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        self.written.append([change.process_id for change in changes])
        return await super().change_processes(changes, audit)


async def test_an_end_that_nobody_waits_for_is_written_with_another_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_hub, "_GATHERING_SECONDS", 3600.0)
    ledger = CountingLedger()
    async with (
        fleet_site(tmp_path / "controller", ledger=ledger) as site,
        fake_worker(site, await site.enrol()) as worker,
    ):

        async def start() -> str:
            asked = asyncio.create_task(site.start(worker.worker_id, "true"))
            await worker.say(running(await worker.hear()))
            return await asked

        one = await start()
        await worker.say(ended(one))
        other = await start()
        assert ledger.written == [[one], [one, other]]
        assert (await site.query(worker.worker_id, one))["done"]
        assert await worker.hear() == Acknowledge(process_id=one)
        # Who waits for an end has it at once.
        stop = asyncio.create_task(site.stop(worker.worker_id, other))
        assert await worker.hear() == StopProcess(process_id=other)
        await worker.say(ended(other))
        await worker.say(StopFinished(process_id=other, gone=True))
        assert (await stop).status == 200
        assert (await site.query(worker.worker_id, other))["done"]


async def test_an_end_is_written_without_company_after_a_moment(tmp_path: Path) -> None:
    async with (
        fleet_site(tmp_path / "controller") as site,
        fake_worker(site, await site.enrol()) as worker,
    ):
        asked = asyncio.create_task(site.start(worker.worker_id, "true"))
        await worker.say(running(await worker.hear()))
        process_id = await asked
        await worker.say(ended(process_id))
        assert (await site.ended(worker.worker_id, process_id))["error"] is False


async def test_several_messages_travel_in_one_frame_where_both_ends_take_that(
    tmp_path: Path,
) -> None:
    async with fleet_site(tmp_path / "controller") as site:
        worker_id, token = await site.enrol()
        async with site.served.http.ws_connect(
            f"/api/v1/workers/{worker_id}/control",
            headers={"Authorization": f"Bearer {token.reveal()}"},
        ) as socket:
            await FakeWorker(worker_id, socket).say(Hello(version="1", arrays=True))
            assert await socket.receive_str() == framing.NOTHING
            await site.is_connected(worker_id)
            starts = [asyncio.create_task(site.start(worker_id, "true")) for _ in range(3)]
            asked: list[ToWorker] = []
            while len(asked) < len(starts):
                asked += map(to_worker.decode, framing.messages(await socket.receive_str()))
            told = [msgspec.json.encode(running(each)) for each in asked]
            told.insert(1, b'{"type":"of a later release"}')  # passed over, by itself
            [frame] = framing.frames(told, together=True)
            await socket.send_str(frame)
            assert set(await asyncio.gather(*starts)) == {
                running(each).process_id for each in asked
            }


def test_who_takes_no_arrays_gets_a_frame_for_each_message() -> None:
    assert list(framing.frames([b"{}", b"{}"], together=False)) == ["{}", "{}"]
    assert list(framing.frames([b"{}"], together=True)) == ["{}"]
    assert list(framing.frames([b"{}", b"{}"], together=True)) == ["[{},{}]"]
    assert list(framing.frames([], together=True)) == []


def test_a_frame_is_never_larger_than_what_is_taken() -> None:
    large = b'"%s"' % (b"x" * 400_000)
    frames = list(framing.frames([large, b"{}", large, large], together=True))
    assert [len(framing.messages(frame)) for frame in frames] == [2, 1, 1]
    assert [bytes(text) for frame in frames for text in map(as_bytes, framing.messages(frame))] == [
        large,
        b"{}",
        large,
        large,
    ]


def as_bytes(message: str | msgspec.Raw) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(message)

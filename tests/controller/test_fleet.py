"""Processes between controller and worker: faults 11, 12, 13 and 16, and what goes wrong."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest
import structlog

from roundsman.controller.fleet import Fleet
from roundsman.ledger.interface import LedgerUnavailableError, ProcessChange
from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import (
    Acknowledge,
    CancelRead,
    Hello,
    Output,
    ProcessChanged,
    ReadOutput,
    StartProcess,
    StopFinished,
    StopProcess,
)
from roundsman.wire.process import OutputChunk, Process, ProcessState, StopProof
from roundsman.worker.runners.process_tree import member_of
from tests.controller.fleet_site import (
    ADMINISTRATOR,
    Answer,
    FakeWorker,
    FleetSite,
    RealWorker,
    WatchedLedger,
    fake_worker,
    fleet_site,
    real_worker,
    unknown,
)

EVENTS = {**ADMINISTRATOR, "Accept": "text/event-stream"}
SILENT = {"error": "worker did not answer within 0.2 seconds"}
LIMIT = 0.2


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FleetSite]:
    async with fleet_site(tmp_path / "controller") as site:
        yield site


def be_impatient(site: FleetSite, seconds: float = LIMIT) -> None:
    """Give workers less time than a person would wait for this test."""
    controller = site.controller
    controller.fleet = Fleet(
        ledger=controller.ledger,
        audit=controller.audit,
        clock=controller.clock,
        controller_id=controller.membership.controller_id,
        answer_seconds=seconds,
    )


async def row(site: FleetSite, job_id: str) -> Process:
    process = await site.controller.ledger.process(job_id)
    assert process is not None
    return process


def calling(site: FleetSite, worker_id: str) -> asyncio.Task[Answer]:
    """A start under way."""
    body = {"worker_id": worker_id, "command": "true", "path": ""}
    return asyncio.create_task(site.call("/start", body))


async def started(worker: FakeWorker) -> str:
    message = await worker.hear()
    assert isinstance(message, StartProcess)
    await worker.say(
        ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)
    )
    return message.process_id


# Fault 11


async def test_an_unresponsive_worker_delays_nobody_else(site: FleetSite, tmp_path: Path) -> None:
    """Fault 11: one unresponsive worker slows the calls to all others to one a second."""
    async with (
        fake_worker(site, await site.enrol("silent")) as silent,
        real_worker(site, tmp_path / "worker") as worker,
    ):
        stuck = [calling(site, silent.worker_id) for _ in range(20)]
        for _ in stuck:
            assert isinstance(await silent.hear(), StartProcess)
        began = time.monotonic()
        for _ in range(20):
            job_id = await site.start(worker.worker_id, "true")
            assert (await site.stop(worker.worker_id, job_id)).status == 200
        assert time.monotonic() - began < 20  # 40 of the original's seconds
        assert not any(call.done() for call in stuck)
        await silent.socket.close()
        for answer in await asyncio.gather(*stuck):
            assert answer[:2] == (500, {"error": "worker disconnected"})


async def test_a_worker_that_reads_nothing_holds_nobody_up(site: FleetSite, tmp_path: Path) -> None:
    """Fault 11, down to the socket: more is sent than its buffers take."""
    be_impatient(site, 3)
    async with (
        fake_worker(site, await site.enrol("deaf")) as deaf,
        real_worker(site, tmp_path / "worker") as worker,
    ):
        connection = deaf.socket._response.connection
        assert connection is not None
        transport = cast("asyncio.Transport", connection.transport)
        transport.pause_reading()
        body = {"worker_id": deaf.worker_id, "command": "true", "path": "x" * 60_000}
        calls = [asyncio.create_task(site.call("/start", body)) for _ in range(200)]
        job_id = await site.start(worker.worker_id, "true")
        assert (await site.stop(worker.worker_id, job_id)).status == 200
        for answer in await asyncio.gather(*calls):
            assert answer.body == {"error": "worker did not answer within 3 seconds"}
        transport.abort()


# Fault 16


async def test_a_query_right_after_a_stop_says_done(site: FleetSite, tmp_path: Path) -> None:
    """Fault 16: 4 of 300 said `done: false`."""
    async with real_worker(site, tmp_path / "worker") as worker:
        short = worker.script("sleep 0.0$(($$ % 10))")

        async def rounds(count: int) -> None:
            for number in range(count):
                command = ("sh", short) if number % 2 else ("sleep", "1000")
                job_id = await site.start(worker.worker_id, *command)
                answer = await site.stop(worker.worker_id, job_id)
                assert answer[:2] == (200, {"success": True})
                assert (await site.query(worker.worker_id, job_id))["done"] is True

        await asyncio.gather(*(rounds(30) for _ in range(10)))


async def test_a_stop_is_answered_only_after_the_end_is_written(site: FleetSite) -> None:
    """Fault 16, with the worker's two messages as far apart as can be."""
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        assert (await start).status == 201
        ledger = site.controller.ledger
        assert isinstance(ledger, WatchedLedger)
        stop = asyncio.create_task(site.stop(worker.worker_id, job_id))
        assert isinstance(await worker.hear(), StopProcess)
        async with ledger.changed:  # the write of the end cannot return before this is left
            end = ProcessChanged(
                process_id=job_id, state=ProcessState.ENDED, at=2.0, signal="killed"
            )
            await worker.say(end)
            await worker.say(StopFinished(process_id=job_id, gone=True))
            await worker.say(Output(request_id="a later message"))
            assert (await site.call("/query", b"")).status == 400  # the loop has turned
            assert not stop.done()
        assert (await stop).status == 200
        assert isinstance(await worker.hear(), Acknowledge)


# Fault 12


async def test_a_stop_ends_children_too(site: FleetSite, tmp_path: Path) -> None:
    """Fault 12: children survive a stop; also when their parent has ended before."""
    async with real_worker(site, tmp_path / "worker") as worker:
        for parent in ("wait", "exit 0"):
            script = worker.script(f"sleep 1000 & echo $!; {parent}")
            job_id = await site.start(worker.worker_id, "sh", script)
            if parent == "exit 0":
                await site.ended(worker.worker_id, job_id)
            url = f"/api/v1/processes/{job_id}/output?follow=true"
            async with site.served.http.get(url, headers=ADMINISTRATOR) as response:
                child = int(await response.content.readline())
                assert member_of(child)
                assert (await site.stop(worker.worker_id, job_id)).status == 200
                assert member_of(child) is None


async def test_who_is_left_is_named(site: FleetSite) -> None:
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
        stop = asyncio.create_task(site.stop(worker.worker_id, job_id))
        await worker.hear()
        await worker.say(StopFinished(process_id=job_id, gone=False, left=(12, 34)))
        assert (await stop)[:2] == (500, {"error": "process group not gone: still there: 12, 34"})


async def test_who_left_somebody_behind_is_gone_only_when_its_worker_says_so(
    site: FleetSite,
) -> None:
    """Nobody can prove it while the worker is away; one that left nobody has been stopped."""
    identity = await site.enrol()
    async with fake_worker(site, identity) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
        ended = ProcessChanged(process_id=job_id, state=ProcessState.ENDED, at=1.0, exit_status=0)
        left = StopProof(method="cgroup", group_empty=True, tree_empty=False, left=(12, 34))
        for report in (ended, msgspec.structs.replace(ended, left_behind=left)):
            await worker.say(report)
            assert await worker.hear() == Acknowledge(process_id=job_id)
    await site.is_connected(worker.worker_id, connected=False)
    process = (await site.call(f"/api/v1/processes/{job_id}", b"", method="GET")).body
    assert (process["state"], process["stop"]["left"]) == ("ended", [12, 34])
    away = {"error": "worker not connected"}
    assert (await site.stop(worker.worker_id, job_id))[:2] == (500, away)
    stop = await site.call(f"/api/v1/processes/{job_id}/stop", b"")
    assert (stop.status, stop.body["error"]) == (503, "worker not connected")
    nobody = StopProof(method="cgroup", group_empty=True, cgroup_empty=True, tree_empty=True)
    told = msgspec.structs.replace(ended, left_behind=nobody)
    async with fake_worker(site, identity, told) as worker:
        assert await worker.hear() == Acknowledge(process_id=job_id)
    await site.is_connected(worker.worker_id, connected=False)
    assert (await site.stop(worker.worker_id, job_id)).body == {"success": True}
    stop = await site.call(f"/api/v1/processes/{job_id}/stop", b"")
    assert (stop.status, stop.body["gone"]) == (200, True)


async def test_what_is_not_known_to_have_ended_is_not_stopped_without_its_worker(
    site: FleetSite,
) -> None:
    identity = await site.enrol()
    async with fake_worker(site, identity) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
    async with fake_worker(site, identity):
        assert (await row(site, job_id)).state is ProcessState.UNKNOWN
    await site.is_connected(worker.worker_id, connected=False)
    answer = await site.stop(worker.worker_id, job_id)
    assert answer[:2] == (500, {"error": "worker not connected"})


# Fault 13


async def test_a_controller_that_restarts_forgets_nobody(tmp_path: Path) -> None:
    """Fault 13: workers are forgotten and never register again. The ledger and the port stay."""
    ledger = WatchedLedger()
    async with fleet_site(tmp_path / "controller", ledger=ledger) as site:
        identity = await site.enrol()
        port = site.served.address[1]
        worker = RealWorker(site.served.url, identity, tmp_path / "worker", "sh", "sleep")
        await worker.__aenter__()
        await site.is_connected(worker.worker_id)
        goes_on = await site.start(worker.worker_id, "sleep", "1000")
        script = worker.script(f"cat {worker.scripts}/fifo; exit 5")
        os.mkfifo(worker.scripts / "fifo")
        ends_meanwhile = await site.start(worker.worker_id, "sh", script)
    (worker.scripts / "fifo").write_bytes(b"")
    async with fleet_site(tmp_path / "controller", ledger=ledger, port=port) as site:
        await site.is_connected(worker.worker_id)
        running = await site.query(worker.worker_id, goes_on)
        assert running == {"done": False, "error": False, "error_text": ""}
        ended = await site.ended(worker.worker_id, ends_meanwhile)
        assert ended["error_text"] == "exit status 5"
        assert (await site.stop(worker.worker_id, goes_on)).status == 200
        await worker.__aexit__()


WORKER = """
import asyncio, sys
from pathlib import Path
from roundsman.secret import Secret
from tests.controller.fleet_site import RealWorker

async def main():
    url, worker_id, token, folder = sys.argv[1:]
    async with RealWorker(url, (worker_id, Secret(token)), Path(folder), "sh", "sleep"):
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def worker_process(site: FleetSite, identity: Any, folder: Path) -> subprocess.Popen[bytes]:
    worker_id, token = identity
    arguments = [site.served.url, worker_id, token.reveal(), str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments], stdout=subprocess.DEVNULL
    )
    await site.is_connected(worker_id)
    return process


async def test_a_killed_worker_comes_back_under_its_id_and_finds_its_processes_again(
    site: FleetSite, tmp_path: Path
) -> None:
    """Fault 13: a worker restarts: a new id."""
    identity = await site.enrol()
    process = await worker_process(site, identity, tmp_path / "worker")
    job_id = await site.start(identity[0], "sleep", "1000")
    process.kill()
    process.wait()
    await site.is_connected(identity[0], connected=False)
    assert (await site.query(identity[0], job_id))["done"] is False  # the last known state
    assert (await site.stop(identity[0], job_id))[:2] == (500, {"error": "worker not connected"})

    async with RealWorker(site.served.url, identity, tmp_path / "worker", "sleep"):
        await site.is_connected(identity[0])
        assert (await site.query(identity[0], job_id))["done"] is False
        assert (await site.stop(identity[0], job_id)).body == {"success": True}
        assert (await site.query(identity[0], job_id))["error_text"] == "signal: killed"


async def test_what_a_worker_lost_all_trace_of_is_unknown(site: FleetSite) -> None:
    identity = await site.enrol()
    async with fake_worker(site, identity) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
    async with fake_worker(site, identity):
        process = await row(site, job_id)
        assert process.state is ProcessState.UNKNOWN
        assert process.error == "the worker no longer knows it; how it ended is not known"


# Starts that are not answered


async def test_a_start_that_timed_out_does_not_run_later(site: FleetSite, tmp_path: Path) -> None:
    """The worker stands still (SIGSTOP), is asked to start, and goes on after the time is up."""
    be_impatient(site)
    identity = await site.enrol()
    process = await worker_process(site, identity, tmp_path / "worker")
    (tmp_path / "worker" / "scripts" / "touch.sh").write_text("echo ran > ran\n")
    process.send_signal(signal.SIGSTOP)
    body = {"worker_id": identity[0], "command": "sh", "path": "touch.sh"}
    assert (await site.call("/start", body))[:2] == (500, SILENT)
    (asked,) = (await site.call("/api/v1/processes", b"", method="GET")).body["items"]
    assert asked["state"] == "requested"
    process.send_signal(signal.SIGCONT)
    ended = await site.ended(identity[0], asked["process_id"])
    assert ended["error_text"] == "stopped before it was started"
    assert not (tmp_path / "worker" / "scripts" / "ran").exists()
    process.terminate()
    process.wait()


async def test_an_end_that_is_told_before_the_start_ends_nothing_else(site: FleetSite) -> None:
    """Its children may go on: they were stopped when the start was told after the end."""
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        for state, at in ((ProcessState.ENDED, 2.0), (ProcessState.RUNNING, 1.0)):
            await worker.say(ProcessChanged(process_id=job_id, state=state, at=at))
        assert (await start).status == 201
        assert isinstance(await worker.hear(), Acknowledge)
        after = calling(site, worker.worker_id)
        again = await worker.hear()
        assert isinstance(again, StartProcess)
        await worker.say(
            ProcessChanged(process_id=again.process_id, state=ProcessState.RUNNING, at=3.0)
        )
        assert (await after).status == 201


async def test_a_late_answer_to_a_start_is_followed_by_its_stop(site: FleetSite) -> None:
    be_impatient(site)
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        assert (await start)[:2] == (500, SILENT)
        job_id = await started(worker)
        assert await worker.hear() == StopProcess(process_id=job_id)


async def test_a_start_whose_worker_goes_away_is_stopped_when_it_is_back(site: FleetSite) -> None:
    identity = await site.enrol()
    async with fake_worker(site, identity) as worker:
        start = calling(site, worker.worker_id)
        message = await worker.hear()
        assert isinstance(message, StartProcess)
    assert (await start)[:2] == (500, {"error": "worker disconnected"})
    job_id = message.process_id
    assert (await row(site, job_id)).state is ProcessState.REQUESTED
    running = ProcessChanged(process_id=job_id, state=ProcessState.RUNNING, at=1.0)
    async with fake_worker(site, identity, running) as worker:
        assert await worker.hear() == StopProcess(process_id=job_id)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_start_that_never_reached_its_worker_ends_when_it_is_back(
    site: FleetSite, restarted: bool
) -> None:
    identity = await site.enrol()
    async with fake_worker(site, identity) as worker:
        start = calling(site, worker.worker_id)
        message = await worker.hear()
        assert isinstance(message, StartProcess)
    await start
    if restarted:
        be_impatient(site)  # a new fleet remembers nothing but what the ledger has
    async with fake_worker(site, identity):
        process = await row(site, message.process_id)
        assert (process.state, process.error) == (
            ProcessState.REFUSED,
            "it never reached the worker",
        )


async def test_a_controller_that_forgot_who_asked_stops_what_was_never_answered(
    site: FleetSite,
) -> None:
    identity = await site.enrol()
    async with fake_worker(site, identity) as worker:
        start = calling(site, worker.worker_id)
        message = await worker.hear()
        assert isinstance(message, StartProcess)
    await start
    be_impatient(site)
    running = ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)
    async with fake_worker(site, identity, running) as worker:
        assert await worker.hear() == StopProcess(process_id=message.process_id)


async def test_a_stop_that_is_not_answered(site: FleetSite) -> None:
    be_impatient(site)
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        assert (await start).status == 201
        assert (await site.stop(worker.worker_id, job_id))[:2] == (500, SILENT)
        stop = asyncio.create_task(site.stop(worker.worker_id, job_id))
        await worker.hear()
        await worker.hear()
        await worker.say(StopFinished(process_id=job_id, gone=False, error="job not found"))
        assert (await stop)[:2] == (500, {"error": "job not found"})
        assert (await row(site, job_id)).state is ProcessState.UNKNOWN


class FailingLedger(WatchedLedger):
    failing = False

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        if self.failing:
            raise LedgerUnavailableError("the disk is full")
        return await super().change_processes(changes, audit)


async def test_a_hello_that_the_ledger_cannot_keep_is_told_without_a_trace(
    site: FleetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object, **__: object) -> bool:
        raise LedgerUnavailableError("the database is away")

    worker_id, token = await site.enrol()
    monkeypatch.setattr(site.controller.ledger, "touch_worker", unavailable)
    with structlog.testing.capture_logs() as events:
        async with site.served.http.ws_connect(
            f"/api/v1/workers/{worker_id}/control",
            headers={"Authorization": f"Bearer {token.reveal()}"},
        ) as socket:
            await FakeWorker(worker_id, socket).say(Hello(version="1"))
            await socket.receive()
    [failed] = [event for event in events if event["event"] == "control.failed"]
    assert "the database is away" in failed["reason"]
    assert "exc_info" not in failed


async def test_a_worker_that_is_gone_before_it_is_greeted_leaves_no_trace(
    site: FleetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, gone = asyncio.Event(), asyncio.Event()

    async def slow(*_: object, **__: object) -> bool:
        heard.set()
        await gone.wait()
        return True

    worker_id, token = await site.enrol()
    monkeypatch.setattr(site.controller.ledger, "touch_worker", slow)
    with structlog.testing.capture_logs() as events:
        async with site.served.http.ws_connect(
            f"/api/v1/workers/{worker_id}/control",
            headers={"Authorization": f"Bearer {token.reveal()}"},
        ) as socket:
            await FakeWorker(worker_id, socket).say(Hello(version="1", arrays=True))
            await heard.wait()
        gone.set()
        while not any(event["event"] == "control.disconnected" for event in events):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
    assert [event for event in events if event["event"] == "control.failed"] == []


async def test_what_the_ledger_cannot_keep_is_neither_answered_nor_acknowledged(
    tmp_path: Path,
) -> None:
    ledger = FailingLedger()
    async with fleet_site(tmp_path / "controller", ledger=ledger) as site:
        identity = await site.enrol()
        async with fake_worker(site, identity) as worker:
            ledger.failing = True
            start = calling(site, worker.worker_id)
            job_id = await started(worker)
            answer = await start
            assert (answer.status, answer.body) == (503, {"error": "the disk is full"})
            assert await worker.hear() == StopProcess(process_id=job_id)
            ledger.failing = False
            end = ProcessChanged(
                process_id=job_id, state=ProcessState.ENDED, at=2.0, signal="killed"
            )
            await worker.say(end)
            assert await worker.hear() == Acknowledge(process_id=job_id)
            assert (await row(site, job_id)).signal == "killed"


# The connection


async def connect(site: FleetSite, worker_id: str, authorization: str | None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        async with site.served.http.ws_connect(
            f"/api/v1/workers/{worker_id}/control", headers=headers
        ):
            return 101
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status


async def test_a_worker_connects_as_itself_alone(site: FleetSite) -> None:
    worker_id, token = await site.enrol()
    other_id, _ = await site.enrol("other")
    own = f"Bearer {token.reveal()}"
    assert await connect(site, worker_id, own) == 101
    for refused_id, authorization in (
        (other_id, own),
        (unknown(), own),
        (worker_id, None),
        (worker_id, "Bearer wrong"),
        (worker_id, "Bearer token-of-walter"),
        (worker_id, "Bearer token-of-ada"),
    ):
        assert await connect(site, refused_id, authorization) == 403


async def test_a_newer_connection_takes_the_place_of_the_older(site: FleetSite) -> None:
    identity = await site.enrol()
    async with fake_worker(site, identity) as older:
        start = calling(site, older.worker_id)
        await older.hear()
        async with fake_worker(site, identity) as newer:
            assert (await older.socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert (await start).body == {"error": "worker disconnected"}
            again = calling(site, newer.worker_id)
            message = await newer.hear()
            while isinstance(message, StopProcess):  # of what the older one was asked
                message = await newer.hear()
            assert isinstance(message, StartProcess)
            await newer.say(
                ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)
            )
            assert (await again).status == 201


async def test_a_removed_worker_loses_its_connection(site: FleetSite) -> None:
    async with fake_worker(site, await site.enrol()) as worker:
        listed = f"/api/v1/workers/{worker.worker_id}"
        assert (await site.call(listed, b"", method="GET")).body["connected"] is True
        assert (await site.call(listed, b"", method="DELETE")).status == 204
        assert (await worker.socket.receive()).type is aiohttp.WSMsgType.CLOSE
    body = {"worker_id": worker.worker_id, "command": "true", "path": ""}
    assert (await site.call("/start", body)).body == {"error": "worker not found"}


async def test_nonsense_harms_nobody_and_too_much_ends_the_connection(site: FleetSite) -> None:
    async with fake_worker(site, await site.enrol()) as worker:
        deep = '{"x": ' * 100_000
        for nonsense in ("", "{}", "null", '{"type": "hello"}', '{"type": "what"}', "\0", deep):
            await worker.socket.send_str(nonsense)
        await worker.socket.send_bytes(b"\xff")
        await worker.say(Output(request_id="nobody's", end=True))
        await worker.say(StopFinished(process_id="nobody's", gone=True))
        strange = ProcessChanged(process_id=unknown(), state=ProcessState.ENDED, at=1.0)
        await worker.say(strange)  # of a controller before this one: nothing to keep
        assert await worker.hear() == Acknowledge(process_id=strange.process_id)
        await worker.socket.send_str("x" * ((1 << 20) + 1))
        assert (await worker.socket.receive()).type is aiohttp.WSMsgType.CLOSE
    await site.is_connected(worker.worker_id, connected=False)


# Output


async def read(site: FleetSite, job_id: str, query: str = "", **headers: str) -> Any:
    url = f"/api/v1/processes/{job_id}/output{query}"
    async with site.served.http.get(url, headers={**ADMINISTRATOR, **headers}) as response:
        return response.status, await response.text(), response.headers["Content-Type"]


def parsed(text: str) -> list[dict[str, str]]:
    """Server-sent events, as a browser would read them."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if fields:
            events.append(fields)
    return events


async def test_output_as_bytes_and_as_events(site: FleetSite, tmp_path: Path) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        os.mkfifo(worker.scripts / "fifo")
        script = worker.script(f"echo one; cat {worker.scripts}/fifo; echo two >&2; exit 3")
        job_id = await site.start(worker.worker_id, "sh", script)
        url = f"/api/v1/processes/{job_id}/output?follow=true"
        async with site.served.http.get(url, headers=EVENTS) as response:
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            first = await response.content.readuntil(b"\n\n")  # while it runs
            await asyncio.to_thread((worker.scripts / "fifo").write_bytes, b"")
            rest = await response.content.read()
        one, two, end = parsed((first + rest).decode())
        chunk = msgspec.json.decode(one["data"], type=OutputChunk)
        assert (one["id"], one["event"], chunk.data) == ("1", "stdout", b"one\n")
        assert msgspec.json.decode(two["data"])["data"] == base64.b64encode(b"two\n").decode()
        assert (two["id"], two["event"]) == ("2", "stderr")
        assert end["event"] == "end"
        ended = msgspec.json.decode(end["data"], type=Process)
        assert (ended.process_id, ended.state, ended.exit_status) == (job_id, "ended", 3)

        status, text, kind = await read(site, job_id)
        assert (status, text, kind) == (200, "one\ntwo\n", "text/plain; charset=utf-8")
        assert (await read(site, job_id, "?after=1"))[1] == "two\n"
        assert (await read(site, job_id, "?after=1&follow=true"))[1] == "two\n"
        assert (await read(site, job_id, "?after=2"))[:2] == (200, "")
        again = await read(site, job_id, Accept="text/event-stream", **{"Last-Event-ID": "1"})
        assert [event["event"] for event in parsed(again[1])] == ["stderr", "end"]


async def test_many_readers_of_a_large_output_each_get_all_of_it(
    site: FleetSite, tmp_path: Path
) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        script = worker.script("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        job_id = await site.start(worker.worker_id, "sh", script)
        expected = "".join(f"line {number}\n" for number in range(20000))
        answers = await asyncio.gather(*(read(site, job_id, "?follow=true") for _ in range(10)))
        assert [text == expected for _, text, _ in answers] == [True] * 10


async def test_a_slow_reader_is_cut_off_and_goes_on_where_it_was(site: FleetSite) -> None:
    """It must neither hold up its worker's other messages nor fill the controller's memory."""
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
        seen: list[int] = []

        async def reader() -> None:
            async for chunks in await site.controller.fleet.output(job_id, after=0, follow=True):
                seen.extend(chunk.number for chunk in chunks)
                await asyncio.sleep(0)
                await slow.acquire()

        slow = asyncio.Semaphore(0)
        reading = asyncio.create_task(reader())
        asked = await worker.hear()
        assert isinstance(asked, ReadOutput)
        for number in range(1, 31):
            chunk = OutputChunk(number=number, stream="stdout", at=1.0, data=b"x" * 500_000)
            await worker.say(Output(request_id=asked.request_id, chunks=(chunk,)))
        assert await worker.hear() == CancelRead(request_id=asked.request_id)
        for _ in range(30):
            slow.release()
        again = await worker.hear()
        assert isinstance(again, ReadOutput)
        assert again.after == seen[-1] < 30
        chunk = OutputChunk(number=again.after + 1, stream="stdout", at=1.0, data=b"y")
        await worker.say(Output(request_id=again.request_id, chunks=(chunk,), end=True))
        await reading
        assert seen == list(range(1, again.after + 2))


async def test_a_reader_that_leaves_is_not_read_for(site: FleetSite) -> None:
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
        url = f"/api/v1/processes/{job_id}/output?follow=true"
        async with site.served.http.get(url, headers=EVENTS) as response:
            asked = await worker.hear()
            assert isinstance(asked, ReadOutput)
            response.close()
        assert await worker.hear() == CancelRead(request_id=asked.request_id)


async def test_output_that_cannot_be_read(site: FleetSite, tmp_path: Path) -> None:
    assert (await read(site, unknown()))[0] == 404
    async with fake_worker(site, await site.enrol()) as worker:
        start = calling(site, worker.worker_id)
        job_id = await started(worker)
        await start
        reading = asyncio.create_task(read(site, job_id))
        asked = await worker.hear()
        assert isinstance(asked, ReadOutput)
        await worker.say(Output(request_id=asked.request_id, end=True, error="job not found"))
        assert (await reading)[0] == 404
        url = f"/api/v1/processes/{job_id}/output?follow=true"
        async with site.served.http.get(url, headers=EVENTS) as response:
            await worker.hear()
            await worker.socket.close()
            (event,) = parsed(await response.text())
            assert event["event"] == "error"
            assert "worker disconnected" in event["data"]
    assert (await read(site, job_id))[0] == 503
    assert (await read(site, job_id, "?after=-1"))[0] == 400
    assert (await read(site, job_id, "?from=1"))[0] == 400

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
import pytest
from aiohttp import web

from roundsman.client.transport import Transport
from roundsman.clock import SystemClock
from roundsman.secret import Secret
from roundsman.testing.clock import ManualClock
from roundsman.wire import framing
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
    ToController,
    ToWorker,
)
from roundsman.wire.process import ProcessState
from roundsman.worker.control_channel import ControlChannel
from roundsman.worker.runners.process import STOPPED_EARLY, ProcessRunner
from roundsman.worker.runners.process_tree import member_of
from tests.policies import policy
from tests.worker.helpers import keepers

_decoder: msgspec.json.Decoder[ToController] = msgspec.json.Decoder(ToController)


class Controller:
    """The other end: a real WebSocket server that says and hears what the test tells it to."""

    def __init__(self, *, refuse: int | None = None) -> None:
        self.refuse = refuse
        self.asked: asyncio.Queue[web.Request] = asyncio.Queue()
        self.sockets: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        self.socket: web.WebSocketResponse | None = None
        app = web.Application()
        app.router.add_get("/api/v1/workers/{worker_id}/control", self._control)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _control(self, request: web.Request) -> web.StreamResponse:
        self.asked.put_nowait(request)
        if self.refuse is not None:
            return web.Response(status=self.refuse)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.put_nowait(socket)
        await self._closed(socket)
        return socket

    async def _closed(self, socket: web.WebSocketResponse) -> None:
        """Hold the handler until the test or the worker is done with the socket."""
        self._heard: asyncio.Queue[ToController] = asyncio.Queue()
        heard = self._heard
        async for frame in socket:
            assert frame.type is aiohttp.WSMsgType.TEXT
            for text in framing.messages(frame.data):
                heard.put_nowait(_decoder.decode(text))

    async def connected(self) -> Hello:
        """The first message of the next connection."""
        self.socket = await self.sockets.get()
        hello = await self.hear()
        assert isinstance(hello, Hello)
        return hello

    async def hear(self) -> ToController:
        return await self._heard.get()

    async def say(self, *messages: ToWorker) -> None:
        assert self.socket is not None
        for message in messages:
            await self.socket.send_str(msgspec.json.encode(message).decode())

    async def start(self, command: str, path: str = "") -> str:
        """Have a process started; its id once it runs."""
        process_id = str(uuid.uuid4())
        await self.say(StartProcess(process_id=process_id, command=command, path=path))
        running = await self.hear()
        assert isinstance(running, ProcessChanged)
        assert (running.process_id, running.state) == (process_id, ProcessState.RUNNING)
        return process_id


class Worker:
    def __init__(self, url: str, folder: Path, clock: ManualClock | SystemClock) -> None:
        self.scripts = folder / "scripts"
        self.scripts.mkdir(exist_ok=True)
        self.client = Transport(url, token=Secret("a token"))
        self.runner = ProcessRunner(
            policy(self.scripts, "sh", "sleep", "true", "touch"),
            folder=folder / "processes",
            clock=SystemClock(),
        )
        self.refused = asyncio.Event()
        self.worker_id = "the-id"
        self.channel = ControlChannel(
            client=self.client,
            worker_id=lambda: self.worker_id,
            runner=self.runner,
            clock=clock,
            chance=random.Random(1),
            tags=("ams",),
            on_refused=self.refused.set,
        )

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        await self.runner.open()
        self.running = asyncio.create_task(self.channel.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running.cancel()
        await asyncio.wait({self.running})
        await self.runner.close()
        await self.runner.detach()
        await self.client.__aexit__(None, None, None)


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    async with Controller() as controller:
        yield controller


@pytest.fixture
async def worker(controller: Controller, tmp_path: Path) -> AsyncIterator[Worker]:
    async with Worker(controller.url, tmp_path, SystemClock()) as worker:
        yield worker


async def turned(clock: ManualClock, event: asyncio.Event | asyncio.Task[Hello]) -> None:
    """Turn the clock whenever somebody sleeps, until the event is there."""
    done = event.is_set if isinstance(event, asyncio.Event) else event.done
    while not done():
        clock.advance(1)
        await asyncio.sleep(0)


async def test_it_connects_as_itself_and_says_what_it_knows(
    controller: Controller, worker: Worker
) -> None:
    hello = await controller.connected()
    request = await controller.asked.get()
    assert request.path == "/api/v1/workers/the-id/control"
    assert request.headers["Authorization"] == "Bearer a token"
    assert (hello.tags, hello.processes) == (("ams",), ())


async def test_a_command_from_start_to_acknowledged_end(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    (worker.scripts / "script.sh").write_text("exit 3")
    process_id = await controller.start("sh", "script.sh")
    end = await controller.hear()
    assert isinstance(end, ProcessChanged)
    assert (end.process_id, end.exit_status) == (process_id, 3)
    assert worker.runner.to_report() == (end,)
    await controller.say(Acknowledge(process_id=process_id))
    await worker.runner.settled.wait()
    assert worker.runner.to_report() == ()


async def test_that_it_runs_is_told_before_its_end(controller: Controller, worker: Worker) -> None:
    await controller.connected()
    ids = [str(uuid.uuid4()) for _ in range(40)]
    for process_id in ids:
        await controller.say(StartProcess(process_id=process_id, command="true", path=""))
    told: dict[str, list[ProcessState]] = {process_id: [] for process_id in ids}
    for _ in range(2 * len(ids)):
        change = await controller.hear()
        assert isinstance(change, ProcessChanged)
        told[change.process_id].append(change.state)
    assert set(map(tuple, told.values())) == {(ProcessState.RUNNING, ProcessState.ENDED)}


async def test_the_end_is_told_before_the_stop_is_answered(
    controller: Controller, worker: Worker
) -> None:
    """Fault 16, the worker's part."""
    await controller.connected()
    for _ in range(50):
        process_id = await controller.start("sleep", "1000")
        await controller.say(StopProcess(process_id=process_id))
        end, answer = await controller.hear(), await controller.hear()
        assert isinstance(end, ProcessChanged)
        assert end.signal == "killed"
        assert isinstance(answer, StopFinished)
        assert answer.gone
        assert answer.proof is not None


async def test_a_stop_that_arrives_with_its_start_wins(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    process_id = str(uuid.uuid4())
    assert controller.socket is not None
    ran = str(worker.scripts / "ran")
    start = StartProcess(process_id=process_id, command="touch", path=ran)
    # In one segment, as after a while in which the worker stood still.
    request = controller.socket._req
    assert request is not None
    transport = request.transport
    assert transport is not None
    written: list[bytes] = []
    write = transport.write
    setattr(transport, "write", written.append)  # noqa: B010 - not an attribute for the types
    await controller.say(start, StopProcess(process_id=process_id))
    write(b"".join(bytes(part) for part in written))
    setattr(transport, "write", write)  # noqa: B010 - as above
    refused, answer = await controller.hear(), await controller.hear()
    assert isinstance(refused, ProcessChanged)
    assert (refused.state, refused.error) == (ProcessState.REFUSED, STOPPED_EARLY)
    assert answer == StopFinished(process_id=process_id, gone=True)
    assert list(worker.scripts.iterdir()) == []


async def test_a_stop_of_what_it_never_had(controller: Controller, worker: Worker) -> None:
    await controller.connected()
    process_id = str(uuid.uuid4())
    await controller.say(StopProcess(process_id=process_id))
    answer = await controller.hear()
    assert isinstance(answer, StopFinished)
    assert answer.error == "job not found"
    await controller.say(StartProcess(process_id=process_id, command="true", path=""))
    refused = await controller.hear()
    assert isinstance(refused, ProcessChanged)
    assert refused.error == STOPPED_EARLY


async def test_it_dials_again_and_repeats_what_is_not_acknowledged(
    controller: Controller, worker: Worker
) -> None:
    """Fault 13, the worker's part: it comes back by itself, under its id."""
    await controller.connected()
    goes_on = await controller.start("sleep", "1000")
    ended = await controller.start("true")
    end = await controller.hear()
    for _ in range(2):
        assert controller.socket is not None
        await controller.socket.close()
        hello = await controller.connected()
        assert [change.process_id for change in hello.processes] == [goes_on, ended]
        assert hello.processes[1] == end
    await controller.say(Acknowledge(process_id=ended))
    await controller.say(StopProcess(process_id=goes_on))
    await controller.hear()
    await controller.hear()
    assert controller.socket is not None
    await controller.socket.close()
    (last,) = (await controller.connected()).processes
    assert (last.process_id, last.signal) == (goes_on, "killed")


async def test_what_was_being_started_when_the_connection_went_is_told_by_the_next(
    controller: Controller, worker: Worker, tmp_path: Path
) -> None:
    """Or else it would be taken for never started, while it runs."""
    await controller.connected()
    await controller.start("true")  # so that there is a keeper
    ended = await controller.hear()
    assert isinstance(ended, ProcessChanged)
    await controller.say(Acknowledge(process_id=ended.process_id))
    [keeper] = keepers(tmp_path / "processes")
    os.kill(keeper, signal.SIGSTOP)
    try:
        process_id = str(uuid.uuid4())
        await controller.say(StartProcess(process_id=process_id, command="sleep", path="1000"))
        while not worker.runner._starting:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0)
        assert controller.socket is not None
        await controller.socket.close()
        controller.socket = await controller.sockets.get()
    finally:
        os.kill(keeper, signal.SIGCONT)
    hello = await controller.hear()
    assert isinstance(hello, Hello)
    assert [change.process_id for change in hello.processes] == [process_id]


async def test_it_never_gives_up_on_a_controller_that_is_away(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with Controller() as controller:
        url = controller.url
    port = int(url.rpartition(":")[2])
    async with Worker(url, tmp_path, clock):
        for _ in range(500):  # hours, at pauses of up to 20 s
            clock.advance(100)
            await asyncio.sleep(0)
        async with Controller() as controller:
            site = web.TCPSite(controller._runner, "127.0.0.1", port)
            await site.start()
            connected = asyncio.create_task(controller.connected())
            await turned(clock, connected)
            assert connected.result().processes == ()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_told(tmp_path: Path, status: int) -> None:
    async with (
        Controller(refuse=status) as controller,
        Worker(controller.url, tmp_path, SystemClock()) as worker,
    ):
        await worker.refused.wait()
        worker.worker_id = "another-id"
        controller.refuse = None
        await controller.connected()
        asked = [controller.asked.get_nowait() for _ in range(controller.asked.qsize())]
        assert asked[-1].match_info["worker_id"] == "another-id"


async def test_output_is_sent_as_it_comes_and_only_while_it_is_wanted(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    (worker.scripts / "script.sh").write_text("echo one; sleep 1000")
    process_id = await controller.start("sh", "script.sh")
    for request_id in ("one", "two"):
        await controller.say(ReadOutput(request_id=request_id, process_id=process_id, follow=True))
        output = await controller.hear()
        assert isinstance(output, Output)
        assert (output.request_id, output.chunks[0].data) == (request_id, b"one\n")
    await controller.say(CancelRead(request_id="one"), StopProcess(process_id=process_id))
    heard = [await controller.hear() for _ in range(3)]
    (last,) = [message for message in heard if isinstance(message, Output)]
    assert (last.request_id, last.end) == ("two", True)
    await controller.say(ReadOutput(request_id="three", process_id=str(uuid.uuid4())))
    assert await controller.hear() == Output(request_id="three", end=True, error="job not found")


async def test_a_large_output_does_not_hold_up_a_stop(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    (worker.scripts / "flood.sh").write_text("head -c 8000000 /dev/zero; sleep 1000")
    flood = await controller.start("sh", "flood.sh")
    other = await controller.start("sleep", "1000")
    for number in range(20):
        await controller.say(ReadOutput(request_id=str(number), process_id=flood, follow=True))
    first = await controller.hear()
    assert isinstance(first, Output)
    await controller.say(StopProcess(process_id=other))
    passed = 0
    while not isinstance(message := await controller.hear(), StopFinished):
        passed += isinstance(message, Output)
    assert message.process_id == other
    assert passed < 100  # of the 20 times 24 or so that are wanted


async def test_messages_that_it_does_not_understand_are_passed_over(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    assert controller.socket is not None
    later, deep = '{"type": "of a later release", "x": 1}', '{"x": ' * 100_000
    for nonsense in ("", "null", "{}", later, '{"type": 1}', deep):
        await controller.socket.send_str(nonsense)
    await controller.socket.send_bytes(b"\xff")
    await controller.say(Acknowledge(process_id="nobody's"), CancelRead(request_id="nobody's"))
    await controller.start("true")


async def test_what_comes_in_one_frame_is_done_one_by_one(
    controller: Controller, worker: Worker
) -> None:
    assert (await controller.connected()).arrays
    assert controller.socket is not None
    await controller.socket.send_str(framing.NOTHING)
    ids = [str(uuid.uuid4()) for _ in range(3)]
    starts = [
        msgspec.json.encode(StartProcess(process_id=each, command="true", path="")) for each in ids
    ]
    later = b'{"type": "of a later release"}'
    stop = msgspec.json.encode(StopProcess(process_id=ids[2]))
    [frame] = framing.frames([*starts, later, stop], together=True)
    await controller.socket.send_str(frame)
    told: dict[str, list[ProcessState]] = {process_id: [] for process_id in ids}
    while len(told[ids[0]]) < 2 or len(told[ids[1]]) < 2 or not told[ids[2]]:
        change = await controller.hear()
        if isinstance(change, ProcessChanged):
            told[change.process_id].append(change.state)
    both = [ProcessState.RUNNING, ProcessState.ENDED]
    assert list(told.values()) == [both, both, [ProcessState.REFUSED]]  # the stop wins


async def test_stopping_ends_processes_and_tells_before_it_leaves(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    (worker.scripts / "script.sh").write_text("sleep 1000 & echo $! > pid; wait")
    process_id = await controller.start("sh", "script.sh")
    await controller.say(ReadOutput(request_id="1", process_id=process_id))
    stopping = asyncio.create_task(worker.channel.stop())
    ended = False
    while not ended:
        message = await controller.hear()
        ended = isinstance(message, ProcessChanged) and message.signal == "killed"
    assert not worker.running.done()
    await controller.say(Acknowledge(process_id=process_id))
    await stopping
    await worker.running
    assert worker.runner.to_report() == ()


async def test_cancelled_it_kills_its_processes_all_the_same(
    controller: Controller, worker: Worker
) -> None:
    await controller.connected()
    (worker.scripts / "script.sh").write_text("echo $$; exec sleep 1000")
    process_id = await controller.start("sh", "script.sh")
    await controller.say(ReadOutput(request_id="1", process_id=process_id, follow=True))
    output = await controller.hear()
    assert isinstance(output, Output)
    pid = int(output.chunks[0].data)
    worker.running.cancel()
    await asyncio.wait({worker.running})
    await worker.runner.close()
    assert member_of(pid) is None


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.worker.test_control_channel import Worker
from roundsman.clock import SystemClock

async def main():
    async with Worker(sys.argv[1], Path(sys.argv[2]), SystemClock()):
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_start_and_its_stop_that_wait_for_a_worker_standing_still(
    controller: Controller, tmp_path: Path
) -> None:
    """SIGSTOP, both messages, SIGCONT: it must not run, not even for a moment."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, controller.url, tmp_path
    )
    try:
        await controller.connected()
        process.send_signal(signal.SIGSTOP)
        process_id = str(uuid.uuid4())
        await controller.say(
            StartProcess(
                process_id=process_id, command="touch", path=str(tmp_path / "scripts" / "ran")
            ),
            StopProcess(process_id=process_id),
        )
        process.send_signal(signal.SIGCONT)
        refused = await controller.hear()
        assert isinstance(refused, ProcessChanged)
        assert refused.error == STOPPED_EARLY
        assert not (tmp_path / "scripts" / "ran").exists()
    finally:
        process.kill()
        await process.wait()

"""The one connection through which commands arrive: dialled by the worker, kept for good.

The connection is a doorbell. What is to be done is in the controller's ledger, what was done is in
the worker's records, and the first message after each connect brings both together again; so a
connection may break at any moment, and nothing is lost with it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec

from roundsman import __version__, logs
from roundsman.client.errors import ControllerError, ForbiddenError, UnauthorizedError
from roundsman.client.retry import Backoff
from roundsman.client.transport import Transport
from roundsman.clock import Clock
from roundsman.errors import NotFoundError
from roundsman.wire import framing
from roundsman.wire.control import (
    Acknowledge,
    CancelRead,
    Hello,
    Output,
    ProcessChanged,
    ReadOutput,
    StartProcess,
    StopProcess,
    ToController,
    ToWorker,
    to_worker,
)
from roundsman.worker.runners.process import ProcessRunner
from roundsman.worker.waiting import wait_for_event

log = logs.get(__name__)

MESSAGE_BYTES: Final = 1 << 20
_SETTLED_SECONDS: Final = 10.0  # a connection that lasted so long was no failure
_FAREWELL_SECONDS: Final = 3.0  # for the controller to acknowledge what a stop has ended
_MAX_READERS: Final = 100  # outputs being read at once

_encoder = msgspec.json.Encoder()


class ControlChannel:
    """Keeps the worker connected, and has done what the controller says."""

    def __init__(
        self,
        *,
        client: Transport,
        worker_id: Callable[[], str],
        runner: ProcessRunner,
        clock: Clock,
        chance: random.Random,
        tags: tuple[str, ...] = (),
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect as `worker_id()`, asked anew each time, with the client's token.

        `runner` is open. `on_refused` hears that the token was not accepted.
        """
        self._client = client
        self._worker_id = worker_id
        self._runner = runner
        self._clock = clock
        self._backoff = Backoff(first=0.5, longest=20.0, chance=chance)
        self._tags = tags
        self._on_refused = on_refused
        self._staying: asyncio.Task[None] | None = None
        self._connected = False

    async def run(self) -> None:
        """Stay connected, whatever happens, until stopped or cancelled.

        Cancelled, it kills or leaves every process, as the policy says, and waits for none.
        """
        self._staying = asyncio.create_task(self._stay_connected(), name="control channel")
        try:
            await asyncio.wait({self._staying})
        finally:
            self._runner.kill()
            self._staying.cancel()
            await asyncio.wait({self._staying})
        if not self._staying.cancelled():
            self._staying.result()

    async def stop(self) -> None:
        """Stop or leave every process, tell the controller how they ended, then leave."""
        await self._runner.close()
        if self._connected:
            await wait_for_event(self._runner.settled, self._clock, _FAREWELL_SECONDS)
        if self._staying is not None:
            self._staying.cancel()

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            await self._connect()
            lasted = self._clock.monotonic() - began
            failures = 1 if lasted > _SETTLED_SECONDS else failures + 1
            await self._clock.sleep(self._backoff.delay(failures))

    async def _connect(self) -> None:
        """One connection, from its first message to its end."""
        worker_id = self._worker_id()
        try:
            async with self._client.websocket(
                f"/api/v1/workers/{worker_id}/control", message_bytes=MESSAGE_BYTES
            ) as websocket:
                log.info("control.connected", worker_id=worker_id)
                self._connected = True
                await _Connection(websocket, self._runner, self._tags).serve()
                log.info("control.disconnected", code=websocket.close_code)
        except (UnauthorizedError, ForbiddenError) as error:
            log.warning("control.refused", reason=str(error))
            self._on_refused()
        except (ControllerError, aiohttp.ClientError, OSError) as error:
            log.warning("control.not_connected", reason=str(error))
        finally:
            self._connected = False


class _Connection:
    """One connection: messages in, messages out, and the outputs being read through it."""

    def __init__(
        self,
        websocket: aiohttp.ClientWebSocketResponse,
        runner: ProcessRunner,
        tags: tuple[str, ...],
    ) -> None:
        self._websocket = websocket
        self._runner = runner
        self._tags = tags
        self._outgoing: asyncio.Queue[ToController] = asyncio.Queue()
        self._arrays = False  # whether the controller takes several messages in one frame
        self._working: set[asyncio.Task[None]] = set()
        self._reads: dict[str, asyncio.Task[None]] = {}
        self._bulk = asyncio.Lock()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, list[ProcessChanged]] = {}  # what became of those, until answered

    async def serve(self) -> None:
        """Return when the connection has ended."""
        # What an earlier connection had started is told here, or never: the keeper has it already.
        await self._runner.none_starting()
        self._outgoing.put_nowait(
            Hello(
                version=__version__,
                tags=self._tags,
                processes=self._runner.to_report(),
                bounds=self._runner.bounds,
                arrays=True,
            )
        )
        self._runner.on_change = self._tell
        writing = asyncio.create_task(self._write())
        try:
            await self._receive()
        finally:
            self._runner.on_change = _say_nothing
            # Those too: a start that was not done must not be done later.
            tasks = [writing, *self._working, *self._reads.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        async for frame in self._websocket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            self._arrays = self._arrays or framing.is_array(frame.data)
            try:
                texts = framing.messages(frame.data)
            except (msgspec.DecodeError, RecursionError) as error:
                log.warning("control.not_understood", reason=str(error))
                continue
            for text in texts:
                try:
                    message = to_worker.decode(text)
                except (msgspec.DecodeError, RecursionError) as error:
                    log.warning("control.not_understood", reason=str(error))
                else:
                    self._handle(message)

    def _handle(self, message: ToWorker) -> None:
        """Do what a message says, without waiting for it: the next may be a stop of the same."""
        match message:
            case StartProcess():
                start = asyncio.create_task(self._start(message))
                self._working.add(start)
                start.add_done_callback(self._working.discard)
                self._starting[message.process_id] = start
            case StopProcess(process_id=process_id):
                self._runner.stop_early(process_id)
                stop = asyncio.create_task(self._stop(message))
                self._working.add(stop)
                stop.add_done_callback(self._working.discard)
            case ReadOutput(request_id=request_id):
                read = asyncio.create_task(self._read(message))
                self._reads[request_id] = read
                read.add_done_callback(lambda _: self._reads.pop(request_id, None))
            case CancelRead(request_id=request_id):
                if (reading := self._reads.get(request_id)) is not None:
                    reading.cancel()
            case Acknowledge(process_id=process_id):
                self._runner.acknowledge(process_id)

    async def _start(self, asked: StartProcess) -> None:
        self._held.setdefault(asked.process_id, [])
        # Not now: what has arrived together is looked at together, and a stop wins.
        await asyncio.sleep(0)
        self._outgoing.put_nowait(await self._runner.start(asked))
        self._starting.pop(asked.process_id, None)
        for change in self._held.pop(asked.process_id, ()):
            self._outgoing.put_nowait(change)

    def _tell(self, change: ProcessChanged) -> None:
        """Say how a process stands; of one that has ended already, that it was started first."""
        held = self._held.get(change.process_id)
        if held is not None:
            held.append(change)
        else:
            self._outgoing.put_nowait(change)

    async def _stop(self, asked: StopProcess) -> None:
        await asyncio.sleep(0)  # after a start that came before it
        answer = await self._runner.stop(asked.process_id, asked.grace_seconds)
        if (starting := self._starting.get(asked.process_id)) is not None:
            await asyncio.wait({starting})  # what became of it is told before
        self._outgoing.put_nowait(answer)

    async def _read(self, request: ReadOutput) -> None:
        request_id = request.request_id
        error = None
        try:
            if len(self._reads) > _MAX_READERS:
                raise NotFoundError(f"this worker serves {_MAX_READERS} readers already")
            async for chunks in self._runner.read(
                request.process_id, after=request.after, follow=request.follow
            ):
                await self._send_bulk(Output(request_id=request_id, chunks=chunks))
        except NotFoundError as not_found:
            error = not_found.text
        except OSError as failed:
            error = f"the output cannot be read: {failed.strerror}"
        # After what is to be said already: the process' end comes before that of its output.
        self._outgoing.put_nowait(Output(request_id=request_id, end=True, error=error))

    async def _send_bulk(self, message: Output) -> None:
        # One at a time, however many read: what else is to be said waits for one message at most.
        async with self._bulk:
            await self._send(message)

    async def _write(self) -> None:
        while True:
            messages = [await self._outgoing.get()]
            while not self._outgoing.empty():
                messages.append(self._outgoing.get_nowait())
            await self._send(*messages)

    async def _send(self, *messages: ToController) -> None:
        try:
            for frame in framing.frames(map(_encoder.encode, messages), together=self._arrays):
                await self._websocket.send_str(frame)
        except (aiohttp.ClientError, ConnectionError):
            await self._websocket.close()  # ends `_receive`, and so the connection


def _say_nothing(_: ProcessChanged) -> None:
    """Without a connection there is nobody to tell; the next one's first message tells it."""

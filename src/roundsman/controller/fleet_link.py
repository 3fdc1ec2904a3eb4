"""One worker's control connection: what is sent through it, and who waits for which answer.

A link never waits for its worker: what is to be sent is queued, within bounds, and a worker that
does not take it loses the connection. So a slow one delays nobody else.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from roundsman import logs
from roundsman.errors import NotFoundError, RoundsmanError, UnavailableError
from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import (
    Bound,
    CancelRead,
    Output,
    ReadOutput,
    StartProcess,
    StopFinished,
    StopProcess,
    ToWorker,
)
from roundsman.wire.process import OutputChunk

Outcome = Callable[[str | None], AuditEntry]
"""The line of the audit on what became of a start, by why it was refused; none: it runs."""

T = TypeVar("T")

log = logs.get(__name__)

_MAX_QUEUED: Final = 1000  # messages; none is larger than what HTTP took
_MAX_UNREAD: Final = 8  # messages of output, each up to 1 MiB, that a slow reader may leave


class WorkerNotConnectedError(UnavailableError):
    """The worker's control channel is not open, or broke before the worker answered."""

    code = "worker.not_connected"

    def __init__(self, text: str = "worker not connected") -> None:
        """Say which of both."""
        super().__init__(text)


class WorkerSilentError(RoundsmanError):
    """The worker is connected and did not answer in time."""

    code = "worker.silent"

    def __init__(self, seconds: float) -> None:
        """Say how long was waited."""
        super().__init__(f"worker did not answer within {seconds:g} seconds")


class OutputNotFoundError(NotFoundError):
    """The worker has this process' output no longer, or never had the process."""

    code = "process.output_not_found"


class _Read:
    """One reader's place, and what has come for it."""

    def __init__(self, request_id: str, process_id: str) -> None:
        self.request_id = request_id
        self.process_id = process_id
        self.broken = False
        self.cut = False
        self._unread: deque[Output] = deque()
        self._more = asyncio.Event()

    def put(self, message: Output) -> bool:
        """Keep a message; false when the reader left too many."""
        if len(self._unread) >= _MAX_UNREAD:
            self.cut = True
        else:
            self._unread.append(message)
        self._more.set()
        return not self.cut

    def break_off(self) -> None:
        self.broken = True
        self._more.set()

    async def next(self) -> Output | None:
        """The next message; none once it was cut, and what came before is read."""
        while not self._unread:
            if self.cut:
                return None
            if self.broken:
                raise WorkerNotConnectedError("worker disconnected")
            self._more.clear()
            await self._more.wait()
        return self._unread.popleft()


class WorkerLink:
    """The way to one connected worker."""

    def __init__(self, worker_id: str, term: int | None = None) -> None:
        """Nothing is sent yet: `outgoing` is read by whoever holds the socket."""
        self.worker_id = worker_id
        self.term = term
        """Of this connection (`Crossing`); none where one controller has all workers."""
        self.outgoing: asyncio.Queue[ToWorker] = asyncio.Queue(_MAX_QUEUED)
        self.closed = asyncio.Event()
        self.settled = False
        """Whether what the worker said first is dealt with."""
        self.bounds: tuple[Bound, ...] = ()
        self.arrays = False
        """Whether the worker takes several messages in one frame."""
        self._starts: dict[str, list[asyncio.Future[str | None]]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._stops: dict[str, list[asyncio.Future[StopFinished]]] = {}
        self._reads: dict[str, _Read] = {}

    def send(self, message: ToWorker) -> None:
        """Queue a message; a worker that left too many loses the connection."""
        if self.closed.is_set():
            return
        try:
            self.outgoing.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("control.overflow", worker_id=self.worker_id)
            self.close()

    def close(self) -> None:
        """Nobody is answered through it any more. Closing twice is harmless."""
        if self.closed.is_set():
            return
        self.closed.set()
        for starts in self._starts.values():
            for start in starts:
                _fail(start, WorkerNotConnectedError("worker disconnected"))
        for stops in self._stops.values():
            for stop in stops:
                _fail(stop, WorkerNotConnectedError("worker disconnected"))
        for read in self._reads.values():
            read.break_off()

    # starting and stopping

    async def start(
        self, message: StartProcess, *, seconds: float, outcome: Outcome | None = None
    ) -> str | None:
        """Have a process started; answers why it was refused, none when it runs.

        The line of `outcome` is kept together with the worker's answer.
        Raises `WorkerSilentError` when the time is up; whether it runs is not known then.
        Raises `WorkerNotConnectedError`, and what keeping the worker's answer raised.
        """
        if outcome is None:
            return await self._ask(self._starts, message, seconds)
        self._outcomes[message.process_id] = outcome
        try:
            return await self._ask(self._starts, message, seconds)
        finally:
            del self._outcomes[message.process_id]

    async def stop(self, message: StopProcess, *, seconds: float) -> StopFinished:
        """Have a process ended with all that it started. Raises as `start` does."""
        return await self._ask(self._stops, message, seconds)

    async def _ask(
        self,
        asked: "dict[str, list[asyncio.Future[T]]]",
        message: StartProcess | StopProcess,
        seconds: float,
    ) -> T:
        """Send a message, and wait for the answer beside all who wait for the same."""
        self._check_open()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting = asked.setdefault(message.process_id, [])
        waiting.append(future)
        try:
            self.send(message)
            return await _within(future, seconds)
        finally:
            waiting.remove(future)
            if not waiting:
                asked.pop(message.process_id, None)

    def is_asked(self, process_id: str) -> bool:
        """Whether somebody waits for the start or the stop of this process."""
        waiting = (*self._starts.get(process_id, ()), *self._stops.get(process_id, ()))
        return not all(future.done() for future in waiting)

    def outcome(self, process_id: str, refusal: str | None) -> AuditEntry | None:
        """The line that is to be kept with this answer; none when nobody waits for it."""
        waiting = self._starts.get(process_id, ())
        outcome = self._outcomes.get(process_id)
        if outcome is None or all(future.done() for future in waiting):
            return None
        return outcome(refusal)

    def started(self, process_id: str, refusal: str | None) -> None:
        """The worker's answer to a start is kept."""
        for future in self._starts.get(process_id, ()):
            if not future.done():
                future.set_result(refusal)

    def start_failed(self, process_id: str, error: RoundsmanError) -> None:
        """The worker answered a start, but the answer could not be kept."""
        for future in self._starts.get(process_id, ()):
            _fail(future, error)

    def stopped(self, answer: StopFinished) -> None:
        """The stop of a process came to its end, and its state is kept."""
        for future in self._stops.get(answer.process_id, ()):
            if not future.done():
                future.set_result(answer)

    # reading

    async def read(
        self, process_id: str, *, after: int, follow: bool
    ) -> AsyncIterator[tuple[OutputChunk, ...]]:
        """The output after that chunk, read from the worker as fast as the reader takes it.

        Raises `OutputNotFoundError`, `WorkerNotConnectedError`.
        """
        ended = False
        while not ended:
            # Again and again: a reader that was too slow is cut off, and goes on where it was.
            read = _Read(str(uuid.uuid4()), process_id)
            self._reads[read.request_id] = read
            if self.closed.is_set():
                read.break_off()
            try:
                self.send(
                    ReadOutput(
                        request_id=read.request_id,
                        process_id=process_id,
                        after=after,
                        follow=follow,
                    )
                )
                while not ended and (message := await read.next()) is not None:
                    if message.error is not None:
                        raise OutputNotFoundError(message.error)
                    if message.chunks:
                        after = message.chunks[-1].number
                        yield message.chunks
                    ended = message.end
            finally:
                del self._reads[read.request_id]
                if not ended and not read.cut:
                    self.send(CancelRead(request_id=read.request_id))

    def read_by(self, request_id: str) -> str | None:
        """The process that is read by this request; none when nobody reads any more."""
        read = self._reads.get(request_id)
        return None if read is None else read.process_id

    def output(self, message: Output) -> None:
        """Pass output on to its reader."""
        read = self._reads.get(message.request_id)
        if read is not None and not read.cut and not read.put(message):
            self.send(CancelRead(request_id=message.request_id))

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise WorkerNotConnectedError


def _fail(future: asyncio.Future[T], error: RoundsmanError) -> None:
    if not future.done():
        future.set_exception(error)


async def _within(future: asyncio.Future[T], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await future
    except TimeoutError:
        raise WorkerSilentError(seconds) from None

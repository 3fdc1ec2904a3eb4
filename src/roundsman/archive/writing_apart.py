"""The writer as a process of its own, so that it has a core, and an interpreter, to itself.

What the process finds damaged is mended here, where it is known from what other places it may be
had again; then a new process goes on, and is asked again what the one before did not answer. One
that ends by itself, killed or by a fault, is followed by another with the next question.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from roundsman import logs
from roundsman.archive.interface import (
    ArchiveDamagedError,
    ArchiveUnavailableError,
    Stored,
    Withdrawal,
)
from roundsman.archive.preparation import Current
from roundsman.archive.repository import Repository
from roundsman.archive.writing import Item, Writing
from roundsman.archive.writing_messages import (
    LENGTH_BYTES,
    Answer,
    Check,
    Close,
    Damaged,
    Done,
    Failed,
    Found,
    Greet,
    ListPacks,
    Look,
    Open,
    Opened,
    Packs,
    Question,
    Rebuild,
    Request,
    Said,
    Store,
    TakeIn,
    TakenIn,
    Withdraw,
    Written,
    frame,
    said,
)
from roundsman.clock import Clock

PROGRAM: Final = "roundsman.archive.writing_program"
_MENDED_AT_MOST: Final = 3
"""Times in a row, with nothing done in between."""

log = logs.get(__name__)


class _Asked:
    """A request, and whoever waits for its answer."""

    __slots__ = ("answered", "request")

    def __init__(self, request: Request, answered: "asyncio.Future[Any]") -> None:
        self.request = request
        self.answered = answered

    def answer(self, answer: Answer) -> None:
        if self.answered.done():  # the caller was cancelled
            return
        if isinstance(answer, Failed):
            self.answered.set_exception(answer.error)
        else:
            self.answered.set_result(answer.stored if isinstance(answer, Written) else answer)


class _Line(asyncio.Protocol):
    """The controller's end of the socket."""

    def __init__(self, on_said: Callable[["_Line", Said], None]) -> None:
        self.outcome: Damaged | Failed | None = None
        """Why the process ends, where it said so."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_said = on_said
        self._heard = bytearray()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while len(self._heard) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._heard[:LENGTH_BYTES], "big")
            if len(self._heard) < end:
                return
            message = bytes(self._heard[LENGTH_BYTES:end])
            del self._heard[:end]
            self._on_said(self, said.decode(message))

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set_result(None)


class ProcessWriting(Writing):
    """The writer in a process."""

    def __init__(
        self,
        repository: Repository,
        opening: Open,
        mend: Callable[[str], None],
        clock: Clock,
        note_batch: Callable[[], None],
    ) -> None:
        """`mend` rebuilds the repository, in a thread; `note_batch` is called after each batch."""
        self._repository = repository
        self._opening = opening
        self._mend = mend
        self._clock = clock
        self._note_batch = note_batch
        self._asked: dict[int, _Asked] = {}
        """What is not answered yet, in the order of the calls."""
        self._number = 0
        self._unsent: list[bytes] = []
        self._process: asyncio.Task[None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._is_open = False
        """Whether the process said that the repository is."""
        self._answered = False
        """Whether anything was since the repository was mended."""

    async def open(self) -> None:
        await self._ask(Greet())

    async def finish(self) -> None:
        if self._asked:
            await asyncio.wait([self._ask(Greet())])

    async def close(self) -> None:
        if self._process is not None:
            await asyncio.wait([self._ask(Close())])
            await self._process

    def put(self, item: Item) -> "asyncio.Future[Stored]":
        return self._ask(Store.of(item))

    async def check(self) -> None:
        await self._ask(Check())

    async def packs(self) -> list[Path]:
        packs: Packs = await self._ask(ListPacks())
        return [self._repository.packs / name for name in packs.names]

    async def current(self, device: str, job: str) -> Current:
        found: Found = await self._ask(Look(device, job))
        return found.current

    async def rebuild(self, reason: str) -> None:
        await self._ask(Rebuild(reason))

    async def take_in(self, theirs: bytes) -> bool:
        taken: TakenIn = await self._ask(TakeIn(theirs))
        return taken.gave_up

    async def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        await self._ask(Withdraw(withdrawals))
        self._note_batch()

    def _ask(self, request: Request) -> "asyncio.Future[Any]":
        """Ask the process, which is started if need be."""
        self._number += 1
        asked = _Asked(request, asyncio.get_running_loop().create_future())
        self._asked[self._number] = asked
        if self._is_open:
            self._send(self._number, request)
        elif self._process is None:
            self._process = asyncio.create_task(self._serve())
        return asked.answered

    def _send(self, number: int, request: Request) -> None:
        """Send it at the end of this turn, with what else comes in it."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._unsent.append(frame(Question(number, self._clock.now(), request)))

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.writelines(unsent)

    async def _serve(self) -> None:
        """Have a process answer until it ends, or another where the repository was mended."""
        mended = 0
        try:
            while (reason := await self._live()) is not None:
                mended = 1 if self._answered else mended + 1
                self._answered = False
                if mended > _MENDED_AT_MOST:
                    raise ArchiveDamagedError(reason)
                await asyncio.to_thread(self._mend, reason)
                self._answer_all(lambda request: isinstance(request, Rebuild), Done())
        except ArchiveUnavailableError as error:
            self._answer_all(lambda _: True, Failed.by(error))
        finally:
            self._process = None

    async def _live(self) -> str | None:
        """See one process to its end; what it found damaged, if that ended it.

        Raises `ArchiveUnavailableError` when it could not open the repository, or left questions
        unanswered.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", PROGRAM),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
            )
        loop = asyncio.get_running_loop()
        self._transport, line = await loop.create_unix_connection(
            lambda: _Line(self._hear), sock=ours
        )
        try:
            self._transport.write(frame(Question(0, self._clock.now(), self._opening)))
            await line.ended
        finally:
            self._transport.close()
            self._transport, self._is_open, self._unsent = None, False, []
            status = await process.wait()
        if isinstance(line.outcome, Damaged):
            return line.outcome.reason
        if isinstance(line.outcome, Failed):
            raise line.outcome.error
        if status or self._asked:
            log.error("archive.writer_ended", status=status, unanswered=len(self._asked))
        if self._asked:
            raise ArchiveUnavailableError(
                f"{self._repository.folder}: the process that writes it ended with {status}",
                remedy="results are sent again, and another process takes them",
            )
        return None

    def _hear(self, line: _Line, said: Said) -> None:
        for event in said.events:
            getattr(logs.get(event.logger), event.level)(event.name, **event.values)
        stored = False
        for number, answer in said.answers:
            if isinstance(answer, Opened):
                self._repository.branch = answer.branch
                self._is_open = True
                for waiting, asked in self._asked.items():
                    self._send(waiting, asked.request)
            elif isinstance(answer, Damaged) or (isinstance(answer, Failed) and number == 0):
                line.outcome = answer
            else:
                asked = self._asked.pop(number)
                stored = stored or isinstance(asked.request, Store)
                self._answered = True
                asked.answer(answer)
        if stored:
            self._note_batch()

    def _answer_all(self, which: Callable[[Request], bool], answer: Answer) -> None:
        """Give all that ask so the same answer."""
        for number, asked in [*self._asked.items()]:
            if which(asked.request):
                del self._asked[number]
                asked.answer(answer)

"""The process that writes one archive, and nothing else.

It is started by the controller, whose end of a socket is its standard input, and ends with it:

    python -m roundsman.archive.writing_program

One thread reads questions, the other works: what came while a batch was written is the next one.
A signal that is meant for the whole program, as Ctrl-C is, leaves it alone: the controller says
when to end.
"""

import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from roundsman import logs
from roundsman.archive.files import Files
from roundsman.archive.history import History
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.layouts import Layouts
from roundsman.archive.locks import PATIENCE_SECONDS, WriterLockedError
from roundsman.archive.pack_reading import packs_in
from roundsman.archive.repository import Repository
from roundsman.archive.writer import BATCH_BYTES, BATCH_RESULTS, Writer, unavailable
from roundsman.archive.writing_messages import (
    LENGTH_BYTES,
    Answer,
    Check,
    Close,
    Damaged,
    Done,
    Event,
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
    question,
)
from roundsman.clock import SystemClock

_LOOK_SECONDS: Final = 0.02
_PIECE: Final = 1 << 20


class _DamagedError(Exception):
    """The controller is to mend the repository: it knows from where it may be had again."""


class _Clock(SystemClock):
    """The controller's clock, as it said last."""

    def __init__(self) -> None:
        self.told = 0.0

    def now(self) -> float:
        return self.told


class _Writer(Writer):
    def rebuild(self, reason: str) -> None:
        raise _DamagedError(reason)


class Program:
    """Answers one controller."""

    def __init__(self, controller: socket.socket) -> None:
        """Hear it by this socket."""
        self._controller = controller
        self._clock = _Clock()
        self._events: list[Event] = []
        self._came: SimpleQueue[Question | None] = SimpleQueue()
        self._held: deque[Question | None] = deque()
        logs.tell(self._note)

    def run(self) -> None:
        """Answer until told to end, or the controller is gone."""
        threading.Thread(target=self._hear, daemon=True).start()
        first = self._next()
        if first is None or not isinstance(first.request, Open):
            return
        self._clock.told = first.now
        try:
            repository, writer = self._made(first.request)
            try:
                self._open(writer)
            except ArchiveUnavailableError as error:
                self._say([(first.number, Failed.by(error))])
                return
            self._say([(first.number, Opened(repository.branch))])
            try:
                self._serve(repository, writer)
            finally:
                writer.close()
        except _DamagedError as error:
            self._say([(first.number, Damaged(str(error)))])

    def _made(self, said: Open) -> tuple[Repository, Writer]:
        folder = Path(said.folder)
        files = Files()
        own = folder / "roundsman"
        repository = Repository(folder, files, self._clock)
        layouts = Layouts(own, files, said.paths, overviews=said.overviews)
        history = History(own / "versions.sqlite", repository.git, layouts)
        writer = _Writer(
            repository,
            history,
            self._clock,
            layouts,
            (),
            one_commit=said.one_commit,
            drafts=said.drafts,
        )
        return repository, writer

    def _open(self, writer: Writer) -> None:
        """Open the repository; the process of a controller that was killed may be at its end."""
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                writer.open()
            except WriterLockedError:
                if self._clock.monotonic() >= deadline:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def _serve(self, repository: Repository, writer: Writer) -> None:
        while (asked := self._next()) is not None:
            self._clock.told = asked.now
            if isinstance(asked.request, Store):
                self._write(writer, [asked, *self._with_it(len(asked.request.content or b""))])
                continue
            answer: Answer
            try:
                answer = self._answer(repository, writer, asked.request)
            except ArchiveUnavailableError as error:
                answer = Failed.by(error)
            except OSError as error:
                answer = Failed.by(unavailable(repository, error))
            self._say([(asked.number, answer)])
            if isinstance(asked.request, Close):
                return

    def _answer(self, repository: Repository, writer: Writer, request: Request) -> Answer:
        match request:
            case Check():
                writer.check()
            case TakeIn(theirs):
                return TakenIn(writer.take_in(theirs))
            case Withdraw(withdrawals):
                writer.withdraw(withdrawals)
            case Rebuild(reason):
                writer.rebuild(reason)
            case Close():
                writer.close()
            case Look(device, job):
                current = writer.current(device, job)
                return Found(current.blob, current.generation)
            case ListPacks():
                packs = writer.when_settled(lambda: [*packs_in(repository.packs)])
                return Packs(tuple(path.name for path in packs))
            case Greet():
                pass
            case Open() | Store():
                raise AssertionError(request)
        return Done()

    def _write(self, writer: Writer, batch: Sequence[Question]) -> None:
        answers = writer.write(
            [asked.request.item() for asked in batch if isinstance(asked.request, Store)]
        )
        self._say(
            [
                (
                    asked.number,
                    Failed.by(answer)
                    if isinstance(answer, ArchiveUnavailableError)
                    else Written(answer.version, answer.changed),
                )
                for asked, answer in zip(batch, answers, strict=True)
            ]
        )

    def _with_it(self, size: int) -> Iterator[Question]:
        """The results that came meanwhile, as many as fit into one batch."""
        number = 1
        while number < BATCH_RESULTS and size < BATCH_BYTES:
            if not self._held:
                if self._came.empty():
                    return
                self._held.append(self._came.get())
            following = self._held[0]
            if following is None or not isinstance(following.request, Store):
                return
            self._held.popleft()
            number += 1
            size += len(following.request.content or b"")
            yield following

    def _next(self) -> Question | None:
        return self._held.popleft() if self._held else self._came.get()

    def _hear(self) -> None:
        """Take in what the controller says, while the other thread works."""
        heard = bytearray()
        with suppress(OSError):
            while piece := self._controller.recv(_PIECE):
                heard += piece
                for asked in _taken(heard):
                    self._came.put(asked)
        self._came.put(None)

    def _say(self, answers: Sequence[tuple[int, Answer]]) -> None:
        events, self._events = self._events, []
        with suppress(OSError):  # nobody is there any more; the end is seen by the other thread
            self._controller.sendall(frame(Said(answers, events)))

    def _note(self, logger: str, level: str, name: str, /, **values: Any) -> None:
        self._events.append(Event(logger, level, name, values))


def _taken(heard: bytearray) -> list[Question]:
    """Take the whole questions away from what was heard."""
    questions = []
    at = 0
    with memoryview(heard) as view:
        while len(heard) - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + int.from_bytes(view[at : at + LENGTH_BYTES], "big")
            if len(heard) < end:
                break
            questions.append(question.decode(view[at + LENGTH_BYTES : end]))
            at = end
    del heard[:at]
    return questions


def _ignore(_: int, __: object) -> None:
    """Do nothing. What is started from here does as it likes, which `SIG_IGN` would forbid."""


def main() -> None:
    """Serve the controller at the other end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)
    with socket.socket(fileno=sys.stdin.fileno()) as controller:
        Program(controller).run()


if __name__ == "__main__":
    main()

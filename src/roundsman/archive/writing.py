"""The way to the writer: what waits goes to it, batch by batch, and answers come back.

Here it is a thread of this process. `writing_apart` has it as a process of its own.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from roundsman.archive.interface import Entry, Stored, Withdrawal
from roundsman.archive.pack_reading import packs_in
from roundsman.archive.preparation import Current, Prepared
from roundsman.archive.writer import BATCH_BYTES, BATCH_RESULTS, Writer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Item = Entry | Prepared
Waiting = tuple[Item, "asyncio.Future[Stored]"]


class Writing(ABC):
    """The writer, as the event loop sees it.

    Everything is done in the order of the calls. All may raise `ArchiveUnavailableError`.
    """

    @abstractmethod
    async def open(self) -> None:
        """Open the repository."""

    @abstractmethod
    async def finish(self) -> None:
        """Return when all that was put is answered, also what nobody waits for any more."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the repository. Harmless where it is not open."""

    @abstractmethod
    def put(self, item: Item) -> "asyncio.Future[Stored]":
        """Have a result written: one whose content is in memory, or that was prepared."""

    @abstractmethod
    async def check(self) -> None:
        """Return when the repository can be written now."""

    @abstractmethod
    async def packs(self) -> list[Path]:
        """The packs, while each is complete, and either referred to or given up."""

    @abstractmethod
    async def current(self, device: str, job: str) -> Current:
        """What a path holds, as far as it is known without reading."""

    @abstractmethod
    async def rebuild(self, reason: str) -> None:
        """Set a damaged repository aside, and go on with what is whole."""

    @abstractmethod
    async def take_in(self, theirs: bytes) -> bool:
        """Move the branch to a commit on top of what others pushed elsewhere.

        Whether drafts were given up for it.
        """

    @abstractmethod
    async def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        """Say by a commit that versions are not what was kept of their runs."""


class ThreadWriting(Writing):
    """The writer in a thread."""

    def __init__(self, writer: Writer, packs: Path, note_batch: Callable[[], None]) -> None:
        """`note_batch` is called after each batch."""
        self._writer = writer
        self._packs = packs
        self._note_batch = note_batch
        self._waiting: deque[Waiting] = deque()
        self._asked = False
        """Whether the thread is to write what waits."""
        self._thread: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(1, "archive-writer")
        await self._in_thread(self._writer.open)

    async def finish(self) -> None:
        if self._thread is None:
            return
        # Once at least: it returns after what the thread is at.
        await self._in_thread(self._write_what_waits, asyncio.get_running_loop())
        while self._waiting:
            await self._in_thread(self._write_what_waits, asyncio.get_running_loop())

    async def close(self) -> None:
        if self._thread is None:
            return
        await self._in_thread(self._writer.close)
        self._thread.shutdown()
        self._thread = None

    def put(self, item: Item) -> "asyncio.Future[Stored]":
        stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, stored))
        self._have_written()
        return stored

    async def check(self) -> None:
        await self._in_thread(self._writer.check)

    async def packs(self) -> list[Path]:
        return await self._in_thread(self._writer.when_settled, lambda: [*packs_in(self._packs)])

    async def current(self, device: str, job: str) -> Current:
        return await self._in_thread(self._writer.current, device, job)

    async def rebuild(self, reason: str) -> None:
        await self._in_thread(self._writer.rebuild, reason)

    async def take_in(self, theirs: bytes) -> bool:
        return await self._in_thread(self._writer.take_in, theirs)

    async def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        await self._in_thread(self._writer.withdraw, withdrawals)
        self._note_batch()

    def _have_written(self) -> None:
        """Ask the thread for one more batch, of all that waits when its turn comes.

        It goes from one batch to the next by itself: what answers the one before is off its path.
        """
        if self._waiting and not self._asked:
            self._asked = True
            # At the end of this turn: what else comes in it is of the same batch.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._in_thread, self._write_what_waits, loop)

    def _write_what_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write one batch. In the thread."""
        self._asked = False  # what comes from here on asks again
        batch = self._next_batch()
        if not batch:
            return
        answers: Sequence[Stored | Exception]
        try:
            answers = self._writer.write([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers are told
            answers = [error] * len(batch)
        loop.call_soon_threadsafe(self._answer, batch, answers)

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < BATCH_RESULTS and size < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            item, _ = batch[-1]
            if isinstance(item, Entry) and isinstance(item.content, bytes):
                size += len(item.content)
        return batch

    def _answer(self, batch: Sequence[Waiting], answers: Sequence[Stored | Exception]) -> None:
        for (_, stored), answer in zip(batch, answers, strict=True):
            if stored.done():  # its caller was cancelled
                continue
            if isinstance(answer, Stored):
                stored.set_result(answer)
            else:
                stored.set_exception(answer)
        self._note_batch()
        self._have_written()

    def _in_thread(self, call: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

"""What comes while a batch is worked off waits, and is the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from roundsman.errors import RoundsmanError

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Work that costs little more for many items than for one, done for all that wait.

    One batch at a time, in the order of the calls. A caller that is cancelled gives up its answer,
    not its place: what is done for its item is done.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Awaitable[Sequence[R | RoundsmanError]]], *, most: int
    ) -> None:
        """`work` answers for each item, in their order; what it raises, it raises for all.

        It is given `most` items at a time at most.
        """
        self._work = work
        self._most = most
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def do(self, item: T) -> R:
        """The answer for this item. Raises the error that stands in its place."""
        answered: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answered))
        if self._working is None:
            self._working = asyncio.create_task(self._work_off())
        return await answered

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                number = min(self._most, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(number)]
                await self._answer(batch)
        finally:
            self._working = None

    async def _answer(self, batch: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        answers: Sequence[R | Exception]
        try:
            answers = await self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers are told
            answers = [error] * len(batch)
        for (_, answered), answer in zip(batch, answers, strict=True):
            if answered.done():  # its caller was cancelled
                continue
            if isinstance(answer, Exception):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)

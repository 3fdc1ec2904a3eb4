"""Brings one remote up to date after each batch, off the path of results, for as long as it takes.

All that was written meanwhile is the next push. What fails is tried again, after twice as long each
time up to a minute; the results wait in the repository.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from roundsman import logs
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.clock import Clock
from roundsman.wire.remote import RemoteState

_LONGEST_SECONDS: Final = 60.0
_JITTER: Final = 0.25

log = logs.get(__name__)


class Follower:
    """Follows the branch with one remote. Belongs to one event loop."""

    def __init__(
        self,
        state: RemoteState,
        push: Callable[[], Coroutine[Any, Any, bytes | None]],
        clock: Clock,
        chance: Callable[[], float],
        *,
        gather_seconds: float,
    ) -> None:
        """`push` brings the remote up to date; `chance` is a number from 0 to 1.

        After a push it waits `gather_seconds` for more.
        """
        self.state = state
        """As far as it is known here: who asks adds what the repository knows."""
        self._push = push
        self._clock = clock
        self._chance = chance
        self._gather = gather_seconds
        self._wanted = asyncio.Event()
        self._written = 0
        self._pushed = -1
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what an earlier life left."""
        self._wanted.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave it as it is; who waits is told to come again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._refuse(f"{self.state.name}: the archive is being closed")

    def note_batch(self) -> None:
        """The branch was moved."""
        self._written += 1
        self._wanted.set()

    async def pushed(self) -> None:
        """Wait until the remote has all that is written now.

        Raises `ArchiveUnavailableError` at once while it cannot be reached.
        """
        if self._pushed >= self._written:
            return
        if self.state.failure is not None:
            raise self._unavailable(self.state.failure)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._written, waiting))
        await waiting

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            written = self._written
            try:
                commit = await self._push()
            except (ArchiveUnavailableError, OSError) as error:
                await self._failed(str(error))
                continue
            self._succeeded(written, commit)
            await self._clock.sleep(self._gather)

    def _succeeded(self, written: int, commit: bytes | None) -> None:
        self._pushed = written
        if self.state.failures:
            log.info("archive.remote_back", remote=self.state.name, failures=self.state.failures)
        self.state = msgspec.structs.replace(
            self.state,
            commit=None if commit is None else commit.hex(),
            pushed_at=self._clock.now(),
            failures=0,
            failure=None,
            failed_at=None,
            next_attempt_at=None,
        )
        log.debug("archive.pushed", remote=self.state.name, commit=self.state.commit)
        waiting, self._waiting = self._waiting, []
        for position, future in waiting:
            if position > written:
                self._waiting.append((position, future))
            elif not future.done():
                future.set_result(None)

    async def _failed(self, text: str) -> None:
        failures = self.state.failures + 1
        seconds = min(_LONGEST_SECONDS, 2.0 ** min(failures - 1, 10))
        seconds *= 1 + _JITTER * self._chance()
        now = self._clock.now()
        self.state = msgspec.structs.replace(
            self.state,
            failures=failures,
            failure=text,
            failed_at=now,
            next_attempt_at=now + seconds,
        )
        log.warning(
            "archive.push_failed",
            remote=self.state.name,
            error=text,
            failures=failures,
            seconds=round(seconds, 1),
        )
        self._refuse(text)
        await self._clock.sleep(seconds)
        self._wanted.set()

    def _refuse(self, text: str) -> None:
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(self._unavailable(text))

    def _unavailable(self, text: str) -> ArchiveUnavailableError:
        again = self.state.next_attempt_at
        wait = 5 if again is None else max(1, round(again - self._clock.now()) + 1)
        return ArchiveUnavailableError(
            f"the result is kept here, and not pushed yet: {text}",
            remedy="results are sent again, and acknowledged once the remote has them",
            retry_after_seconds=wait,
        )

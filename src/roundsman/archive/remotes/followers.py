"""All remotes of a repository, and what is told of them."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeAlias, TypeVar

import msgspec

from roundsman import logs
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.remotes.access import Access
from roundsman.archive.remotes.follower import Follower
from roundsman.archive.remotes.remote import Remote
from roundsman.archive.repository import Repository
from roundsman.clock import Clock
from roundsman.config.records import RemoteSettings
from roundsman.wire.remote import RemoteState

_GATHER_SECONDS: Final = 2.0
"""Pause after a push, so that a busy archive is pushed in batches; none while workers wait."""
_WAIT_SECONDS: Final = 30.0
"""How long a worker is kept waiting for the remotes, before it is told to come again."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

T = TypeVar("T")
_Tip: TypeAlias = Callable[[], bytes | None]
_TakeIn: TypeAlias = Callable[[bytes], None]

log = logs.get(__name__)


class Followers:
    """Keeps every remote of a repository up to date. Belongs to one event loop."""

    def __init__(
        self,
        repository: Repository,
        settings: Mapping[str, RemoteSettings],
        take_in: Callable[[bytes], Awaitable[None]],
        clock: Clock,
        *,
        acknowledge_pushed: bool,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`take_in` puts the branch on top of a commit that others pushed."""
        self._repository = repository
        self._take_in = take_in
        self._acknowledge_pushed = acknowledge_pushed
        self._chance = chance
        self._closing = threading.Event()
        self._turns = {name: asyncio.Lock() for name in settings}
        own = repository.folder.parent / "remotes"
        self.remotes = [
            Remote(name, repository.git, Access(said, own / name), self._pause)
            for name, said in settings.items()
        ]
        """Each may also restore a damaged repository."""
        self._followers = [
            Follower(
                RemoteState(name=remote.name, url=remote.access.url),
                partial(self._bring_up, remote),
                clock,
                chance,
                gather_seconds=0 if acknowledge_pushed else _GATHER_SECONDS,
            )
            for remote in self.remotes
        ]

    def start(self) -> None:
        """Begin to follow."""
        self._closing.clear()
        self._threads = ThreadPoolExecutor(max(1, len(self.remotes)), "archive-remotes")
        for follower in self._followers:
            follower.start()

    async def stop(self) -> None:
        """Cut off what runs, and remove the files with keys."""
        self._closing.set()
        for remote in self.remotes:
            remote.stop()
        for follower in self._followers:
            await follower.stop()
        await asyncio.to_thread(self._threads.shutdown)
        for remote in self.remotes:
            remote.access.forget()
            remote.reset()

    def note_batch(self) -> None:
        """The branch was moved."""
        for follower in self._followers:
            follower.note_batch()

    async def acknowledged(self) -> None:
        """Return when what is written now may be acknowledged.

        Raises `ArchiveUnavailableError` when that takes too long, or cannot be now.
        """
        if not self._acknowledge_pushed:
            return
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await asyncio.gather(*(follower.pushed() for follower in self._followers))
        except TimeoutError:
            raise ArchiveUnavailableError(
                f"the result is kept here, and was not pushed within {_WAIT_SECONDS:.0f} seconds",
                remedy="results are sent again, and acknowledged once the remotes have them",
            ) from None

    def states(self) -> Sequence[RemoteState]:
        """How each stands. Blocks. Raises `ArchiveUnavailableError`, `OSError`."""
        return [
            self._state(remote, follower.state)
            for remote, follower in zip(self.remotes, self._followers, strict=True)
        ]

    def _state(self, remote: Remote, state: RemoteState) -> RemoteState:
        git, branch = self._repository.git, self._repository.branch
        tip = self._repository.tip()
        there = git.tip_of(remote.tracking(branch))
        behind = 0
        if tip is not None:
            span = tip.hex() if there is None else f"{there.hex()}..{tip.hex()}"
            behind = int(git.run("rev-list", "--count", span))
        return msgspec.structs.replace(
            state, commit=None if there is None else there.hex(), behind=behind
        )

    async def catch_up(self) -> None:
        """Take in what others pushed to any of them; one that cannot be reached raises.

        `ArchiveUnavailableError`, `OSError`.
        """
        found = await asyncio.gather(
            *(self._by_thread(remote, remote.fetch) for remote in self.remotes),
            return_exceptions=True,
        )
        if True in found:  # whoever is away now has to get it as well
            self.note_batch()
        for each in found:
            if isinstance(each, BaseException):
                raise each

    async def _bring_up(self, remote: Remote) -> bytes | None:
        return await self._by_thread(remote, remote.bring_up)

    async def _by_thread(self, remote: Remote, call: Callable[[str, _Tip, _TakeIn], T]) -> T:
        loop = asyncio.get_running_loop()

        def take_in(theirs: bytes) -> None:
            asyncio.run_coroutine_threadsafe(self._taken_in(theirs), loop).result()

        async with self._turns[remote.name]:
            return await loop.run_in_executor(
                self._threads, call, self._repository.branch, self._repository.tip, take_in
            )

    async def _taken_in(self, theirs: bytes) -> None:
        await self._take_in(theirs)

    def _pause(self, attempt: int) -> None:
        """Wait a while that differs between two who are in each other's way."""
        seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * self._chance()
        self._closing.wait(seconds)

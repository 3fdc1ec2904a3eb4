"""What is asked of the versions that are kept; answered by the list of versions, and by git."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from roundsman.archive.alike import alike
from roundsman.archive.command import Git
from roundsman.archive.comparing import Comparer
from roundsman.archive.interface import (
    BroughtPage,
    Chosen,
    Difference,
    Execution,
    Pair,
    Search,
    VersionNotFoundError,
)
from roundsman.archive.objects import BLOB
from roundsman.archive.origins import origins
from roundsman.archive.pieces import blob_pieces
from roundsman.archive.readers import SECONDS, Readers
from roundsman.archive.searching import Searcher
from roundsman.archive.timeline import Found, Timeline
from roundsman.archive.walking import execution
from roundsman.wire.search import SearchPage
from roundsman.wire.version import FleetVersion, Origins, Version

_PAGE: Final = 200
_TRACED_AT_ONCE: Final = 2
_SEARCHED_AT_ONCE: Final = 2
_SMALL: Final = 256 << 10
"""Larger contents are streamed, by a program for each."""


class Reading:
    """Answers questions. All raise `sqlite3.Error`, `OSError`, `ArchiveUnavailableError`."""

    def __init__(self, git: Git, file: Path) -> None:
        """Read the repository, and its list of versions in `file`."""
        self._git = git
        self._timeline = Timeline(file)
        self._readers = Readers(git)
        self._comparer = Comparer(git, self._readers)
        self._searcher = Searcher(self._readers, file.parent)
        self._tracing = asyncio.Semaphore(_TRACED_AT_ONCE)
        self._searching = asyncio.Semaphore(_SEARCHED_AT_ONCE)
        self._ending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep readers from one question to the next; those that nobody uses end now and then."""
        self._readers.keep()
        self._ending = asyncio.create_task(self._end_readers())

    async def stop(self) -> None:
        """Keep no reader any more. Stopping twice, or before a start, is harmless."""
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.wait([self._ending])
            self._ending = None
        await asyncio.to_thread(self._readers.close)

    async def versions(
        self, device: str, job: str, before: str | None, limit: int
    ) -> list[Version]:
        """The latest versions, or those before one, newest first."""
        if before is None:
            found = await asyncio.to_thread(self._timeline.latest, device, job, limit)
        else:
            last = await self.find(device, job, before)
            found = await asyncio.to_thread(self._timeline.before, last, limit)
        return [item.version for item in found]

    async def find(self, device: str, job: str, version: str | None) -> Found:
        """One version, or the latest. Raises `VersionNotFoundError`."""
        found = await asyncio.to_thread(self._timeline.find, device, job, version)
        if found is None:
            raise VersionNotFoundError.of(device, job, version)
        return found

    async def brought(self, after: str | None, limit: int) -> BroughtPage:
        """The versions that runs brought after a page."""
        return await asyncio.to_thread(self._timeline.brought, after, limit)

    async def execution(self, device: str, job: str, version: str) -> Execution | None:
        """Of which execution a version is, if its commit says so."""
        await self.find(device, job, version)
        return await asyncio.to_thread(execution, self._git, version, (device, job))

    async def sizes(self, paths: Sequence[Pair]) -> list[int | None]:
        """How many bytes the latest version of each pair has; none where there is none."""
        return await asyncio.to_thread(self._timeline.sizes, paths)

    async def blob(self, found: Found) -> AsyncIterator[bytes]:
        """What stands in git of a version, in pieces."""
        if found.version.size <= _SMALL:
            yield await asyncio.to_thread(self._read, found.blob)
            return
        async for piece in blob_pieces(self._git, found.blob):
            yield piece

    async def diff(
        self, device: str, job: str, old: str | None, new: str | None, context: int
    ) -> Difference:
        """How a version (default: the one before `new`) became another (default: the latest)."""
        after = await self.find(device, job, new)
        if old is not None:
            before = await self.find(device, job, old)
        else:
            earlier = await asyncio.to_thread(self._timeline.stood_before, after, 1)
            if not earlier:
                raise VersionNotFoundError(
                    f"{job} on {device}: version {after.version.version} is the first"
                )
            before = earlier[0]
        unified = await self._comparer.unified(before, after, context)
        return Difference(
            old=before.version, new=after.version, unified=unified or b"", binary=unified is None
        )

    async def origins(
        self, device: str, job: str, version: str | None, first: int, limit: int
    ) -> Origins:
        """Since when so many lines of a version are there."""
        found = await self.find(device, job, version)
        async with self._tracing:
            return await asyncio.to_thread(self._trace, found, first, limit)

    async def as_of(self, at: float, after: Pair, limit: int, chosen: Chosen) -> list[FleetVersion]:
        """The version that each chosen pair had at an instant."""
        found = await asyncio.to_thread(
            self._timeline.as_of, at, after=after, limit=limit, chosen=chosen
        )
        return [
            FleetVersion(device=each.device, job=each.job, version=each.version) for each in found
        ]

    async def search(self, search: Search) -> SearchPage:
        """One page of what is found."""
        async with self._searching:
            return await asyncio.to_thread(self._searcher.page, search)

    def _read(self, blob: bytes) -> bytes:
        with self._readers.one() as reader:
            return reader.read(BLOB, [blob])[0]

    async def _end_readers(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            await asyncio.to_thread(self._readers.end_idle)

    def _trace(self, found: Found, first: int, limit: int) -> Origins:
        older = self._older(found)
        with self._readers.one() as reader:
            return origins(
                found,
                older,
                lambda blob: reader.read(BLOB, [blob])[0],
                partial(alike, self._git),
                first=first,
                limit=limit,
            )

    def _older(self, found: Found) -> Iterator[Found]:
        """The versions that stood before one, newest first, some at a time."""
        while page := self._timeline.stood_before(found, _PAGE):
            yield from page
            found = page[-1]

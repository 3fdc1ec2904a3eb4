"""The results that are kept: their versions, contents and differences, and the fleet at a time."""

import asyncio
import fnmatch
import re
from collections.abc import AsyncIterator, Callable, Collection
from typing import NamedTuple

import msgspec

from roundsman.archive.interface import (
    Archive,
    Chosen,
    LargeContent,
    Pair,
    Search,
    VersionNotFoundError,
)
from roundsman.clock import Clock
from roundsman.controller.catching_up import CatchingUp
from roundsman.controller.planner import Planner
from roundsman.controller.word_diff import word_difference
from roundsman.errors import NotFoundError
from roundsman.ledger import cursors
from roundsman.wire.archive import ArchiveState
from roundsman.wire.difference import WordDifference
from roundsman.wire.names import is_valid_name
from roundsman.wire.page import Page
from roundsman.wire.remote import RemoteState
from roundsman.wire.search import SearchPage
from roundsman.wire.version import FleetVersion, Origins, Version

Tags = Collection[str] | None
"""What a caller may see: devices with any of these tags; none: all."""


class LargeContentNotFoundError(NotFoundError):
    """No content beside the repository has this digest."""

    code = "large_content.not_found"


class Result(NamedTuple):
    """The content of one version, in pieces."""

    is_text: bool
    """Whether it looks like text in UTF-8, by its first piece."""
    pieces: AsyncIterator[bytes]


class Results:
    """Reads the archive. `within` is what the caller may see: other devices are not there."""

    def __init__(
        self, *, planner: Planner, archive: Archive, catching_up: CatchingUp, clock: Clock
    ) -> None:
        """Nothing is read yet."""
        self._catching_up = catching_up
        self._planner = planner
        self._archive = archive
        self._clock = clock

    async def versions(
        self, device: str, job: str, *, within: Tags, after: str | None, limit: int
    ) -> Page[Version]:
        """The versions of a result, newest first. Raises `VersionNotFoundError`, `CursorError`."""
        await self._check(device, job, within)
        before = None if after is None else cursors.slot_place(after)[0]
        try:
            found = await self._archive.versions(device, job, limit=limit + 1, before=before)
        except VersionNotFoundError:
            raise cursors.CursorError(
                f"after={after!r}: expected the `next` of a page of this list",
                remedy="leave `after` out to begin with the first page",
            ) from None
        if not found and after is None:
            raise _nothing_kept(device, job)
        more = len(found) > limit
        items = tuple(found[:limit])
        return Page(items=items, next=cursors.encode((items[-1].version, "")) if more else None)

    async def version(self, device: str, job: str, version: str, *, within: Tags) -> Version:
        """One version. Raises `VersionNotFoundError`."""
        await self._check(device, job, within, version)
        return await self._archive.version(device, job, version)

    async def content(self, device: str, job: str, version: str | None, *, within: Tags) -> Result:
        """The content of a version, or of the latest. Raises `VersionNotFoundError`."""
        await self._check(device, job, within, version)
        pieces = self._archive.read(device, job, version)
        # Taken before the answer begins: a result that is not there is a 404, not a torn body.
        first = await anext(pieces, b"")
        return Result(_is_text(first), _chain(first, pieces))

    async def large(self, digest: str) -> LargeContent:
        """A content that is kept beside the repository. Raises `LargeContentNotFoundError`."""
        found = await self._archive.large(digest)
        if found is None:
            raise LargeContentNotFoundError(f"no content has the SHA-256 {digest[:80]!r}")
        return found

    async def archive(self) -> ArchiveState:
        """How the repository of results stands. Raises `UnavailableError`."""
        return await self._archive.state()

    async def remotes(self) -> tuple[RemoteState, ...]:
        """How each repository stands that results are pushed to. Raises `UnavailableError`."""
        return tuple(await self._archive.remotes())

    async def unified_diff(
        self,
        device: str,
        job: str,
        *,
        within: Tags,
        old: str | None,
        new: str | None,
        context: int,
    ) -> bytes:
        """How one version became another, in the unified format; empty when they are the same.

        Raises `VersionNotFoundError`, `TooLargeToCompareError`.
        """
        await self._check(device, job, within, old, new)
        difference = await self._archive.diff(device, job, old, new, context=context)
        names = [f"{device}/{job}\t{item.version}" for item in (difference.old, difference.new)]
        if difference.binary:
            return f"Binary contents {names[0]} and {names[1]} differ\n".encode()
        if not difference.unified:
            return b""
        return f"--- {names[0]}\n+++ {names[1]}\n".encode() + difference.unified

    async def word_diff(
        self,
        device: str,
        job: str,
        *,
        within: Tags,
        old: str | None,
        new: str | None,
        context: int,
    ) -> WordDifference:
        """The same with what changed within lines. Raises the same."""
        await self._check(device, job, within, old, new)
        difference = await self._archive.diff(device, job, old, new, context=context)
        return await asyncio.to_thread(word_difference, difference)

    async def origins(
        self,
        device: str,
        job: str,
        *,
        within: Tags,
        version: str | None,
        after: str | None,
        limit: int,
    ) -> Origins:
        """Since when the lines of a version, or of the latest, are there: one page.

        Raises `VersionNotFoundError`, `TooLargeToCompareError`, `cursors.CursorError`.
        """
        first = 0
        if after is not None:  # the next page is of the same version, whatever came meanwhile
            version, first = cursors.line_place(after)
        await self._check(device, job, within, version)
        told = await self._archive.origins(device, job, version, first=first, limit=limit)
        end = first + len(told.lines)
        more = cursors.encode((told.version.version, end)) if end < told.count else None
        return msgspec.structs.replace(told, next=more)

    async def as_of(
        self,
        at: float | None,
        *,
        within: Tags,
        device: str | None,
        job: str | None,
        tag: str | None,
        after: str | None,
        limit: int,
    ) -> Page[FleetVersion]:
        """The version that each pair had at an instant, or has now. Raises `CursorError`."""
        place: Pair = ("", "") if after is None else cursors.slot_place(after)
        if after is None:
            await self._catching_up.everything()
        found = await self._archive.as_of(
            self._clock.now() if at is None else at,
            after=place,
            limit=limit + 1,
            chosen=self._chosen(within, device, job, tag),
        )
        more = len(found) > limit
        items = tuple(found[:limit])
        last = (items[-1].device, items[-1].job) if items else place
        return Page(items=items, next=cursors.encode(last) if more else None)

    async def snapshot(
        self,
        at: float | None,
        *,
        within: Tags,
        device: str | None,
        job: str | None,
        tag: str | None,
    ) -> AsyncIterator[bytes]:
        """The same as a tar archive of files `device/job`."""
        await self._catching_up.everything()
        return self._archive.snapshot(
            self._clock.now() if at is None else at,
            chosen=self._chosen(within, device, job, tag),
        )

    async def search(
        self,
        text: str,
        *,
        within: Tags,
        is_pattern: bool,
        ignore_case: bool,
        context: int,
        history: bool,
        device: str | None,
        job: str | None,
        tag: str | None,
        after: str | None,
        limit: int,
    ) -> SearchPage:
        """Contents in which something is found. Raises `SearchPatternError`, `SearchPlaceError`."""
        search = Search(
            text=text,
            is_pattern=is_pattern,
            ignore_case=ignore_case,
            context=context,
            history=history,
            chosen=self._chosen(within, device, job, tag),
            after=after,
            limit=limit,
        )
        if after is None:
            await self._catching_up.everything()
        return await self._archive.search(search)

    async def _check(self, device: str, job: str, within: Tags, *versions: str | None) -> None:
        """What may not be a name is in no archive; what is no longer configured may well be."""
        valid = is_valid_name(device) and is_valid_name(job)
        if not (valid and self._may_see(device, within)):
            raise _nothing_kept(device, job)
        await self._catching_up.pair(device, job, versions)

    def _may_see(self, device: str, within: Tags) -> bool:
        if within is None:
            return True
        return not set(within).isdisjoint(self._tags(device))

    def _tags(self, device: str) -> tuple[str, ...]:
        """The tags that a device has now; one that is no longer configured has none."""
        known = self._planner.configuration.devices.get(device)
        return () if known is None else known.tags

    def _chosen(self, within: Tags, device: str | None, job: str | None, tag: str | None) -> Chosen:
        """Which pairs the caller may see and asked for; `device` and `job` are shell patterns."""
        devices, jobs = _glob(device), _glob(job)

        def chosen(device: str, job: str) -> bool:
            return (
                (devices is None or devices(device) is not None)
                and (jobs is None or jobs(job) is not None)
                and (tag is None or tag in self._tags(device))
                and self._may_see(device, within)
            )

        return chosen


def _glob(pattern: str | None) -> Callable[[str], object] | None:
    return None if pattern is None else re.compile(fnmatch.translate(pattern)).match


def _nothing_kept(device: str, job: str) -> VersionNotFoundError:
    return VersionNotFoundError(f"the archive holds no result of job {job!r} on device {device!r}")


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _is_text(piece: bytes) -> bool:
    """Whether a first piece is UTF-8 without NUL; its last character may be cut."""
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        if error.end < len(piece) or error.reason != "unexpected end of data":
            return False
    return b"\0" not in piece

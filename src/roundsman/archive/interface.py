"""What every archive promises.

The laws, tested by `roundsman.testing.archive_conformance`:

1. **Kept.** When `store` returns, the content is on disk, flushed, and reachable from the branch.
2. **Unchanged costs nothing.** Storing the content a path already has makes no commit and no
   object; the answer names the commit that holds it.
3. **Bounded.** A large content is streamed from its spool file; nobody holds it whole.
4. **Never half.** A crash at any moment leaves a repository that checks clean and serves on;
   storing again after it is harmless.
5. **Names are not paths.** A device or job name that is not allowed is refused before anything is
   written.

`store` may be called by any number of tasks at once; one writer batches what is waiting. Results of
one path become versions in the order of their calls.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias

import msgspec

from roundsman.errors import (
    InvalidError,
    NotFoundError,
    RoundsmanError,
    TooLargeError,
    UnavailableError,
)
from roundsman.wire.archive import ArchiveState as ArchiveState  # noqa: PLC0414  # its words too
from roundsman.wire.archive import Maintenance as Maintenance  # noqa: PLC0414  # likewise
from roundsman.wire.names import NAME_RULE
from roundsman.wire.remote import RemoteState
from roundsman.wire.search import SearchPage
from roundsman.wire.version import FleetVersion, Origins
from roundsman.wire.version import Version as Version  # noqa: PLC0414  # the archive's word too

Pair: TypeAlias = tuple[str, str]
"""Device and job."""
Chosen: TypeAlias = Callable[[str, str], bool]
"""Whether a device and a job are among those asked for."""


class ArchiveUnavailableError(UnavailableError):
    """The repository cannot be written just now; the result may be sent again."""

    code = "archive.unavailable"


class ArchiveDamagedError(ArchiveUnavailableError):
    """The repository is not what it was; it is about to be set aside and rebuilt."""

    code = "archive.damaged"


class ArchiveNameError(RoundsmanError):
    """A name that must not become a path."""

    code = "archive.name"

    @classmethod
    def of(cls, name: str) -> Self:
        """The error for a name that does not follow the rule."""
        return cls(f"{name[:80]!r} may not name a device or a job, expected {NAME_RULE}")


class OvertakenError(ArchiveUnavailableError):
    """Another controller wrote a result of the same device and job first: send it once more.

    It is as if it had never been here: the other may be the same result, or a later one.
    """

    code = "archive.overtaken"

    @classmethod
    def of(cls, device: str, job: str) -> Self:
        """The error for a result of this device and job."""
        return cls(
            f"{job} on {device}: another controller pushed a result of it meanwhile",
            remedy="send it again: it is kept then, unless it is known already or came too late",
            retry_after_seconds=1,
        )


class VersionNotFoundError(NotFoundError):
    """There is no such version in the archive."""

    code = "archive.version_not_found"

    @classmethod
    def of(cls, device: str, job: str, version: str | None) -> Self:
        """The error for a version, or for the latest where none is named."""
        wanted = "any version" if version is None else f"version {version[:80]!r}"
        return cls(f"{job} on {device}: expected {wanted} in the archive, found none")


class TooLargeToCompareError(TooLargeError):
    """A content is too large to be compared, or for its lines to be traced."""

    code = "archive.too_large_to_compare"

    @classmethod
    def of(cls, size: int, most: int) -> Self:
        """The error for a content of so many bytes."""
        return cls(
            f"expected contents of at most {most:,} bytes, got one of {size:,}",
            remedy="fetch both contents, and compare them with a tool of your own",
        )


class SearchPatternError(InvalidError):
    """What is searched for is no regular expression, or takes too long."""

    code = "search.pattern"


class SearchPlaceError(InvalidError):
    """An `after` that no page of a search gave."""

    code = "page.cursor"


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for in contents that are texts and not too large."""

    text: str
    is_pattern: bool = False
    """Whether it is a regular expression."""
    ignore_case: bool = False
    context: int = 0
    """Lines shown around each that matches."""
    history: bool = False
    """Whether all versions are searched, not the latest alone."""
    chosen: Chosen
    """Which devices and jobs are searched."""
    after: str | None = None
    """`next` of the page before."""
    limit: int = 100


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How one version of a result became another."""

    old: Version
    new: Version
    unified: bytes
    """Hunks in the unified format, without the header that names the files; empty when the contents
    are the same, and none of them when `binary`."""
    binary: bool
    """Whether one of them is no text."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One result to keep."""

    device: str
    job: str
    content: bytes | Path
    """The whole content: a small one itself, a large one as a spool file, which the caller removes
    after `store` returned."""
    due: int
    """When the execution was due, Unix seconds."""
    started_at: float
    ended_at: float
    worker_id: str | None = None
    run_id: str
    """Names the execution in the commit, so that a repeat after a crash is recognised."""
    sha256: str | None = None
    """SHA-256 of the content, hexadecimal, where the caller knows it."""
    tags: tuple[str, ...] = ()
    """The device's tags, which may be part of paths."""

    def read(self) -> bytes:
        """The content, whole: for what is known to be small. Raises `OSError`."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Where a result is now."""

    version: str
    """Commit that holds it, full hexadecimal id."""
    changed: bool
    """Whether it differed from what was there."""


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """A version that some run brought, and that was not withdrawn."""

    device: str
    job: str
    version: str
    run_id: str
    ended_at: int
    """When that run ended; where a commit holds several, the last of them."""


class BroughtPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the versions that came since the page before."""

    items: tuple[Brought, ...]
    reached: str
    """Ask on from here."""


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is not what was kept of its run."""

    device: str
    job: str
    version: str
    """Commit, full hexadecimal id."""
    kept: str | None = None
    """The commit that is, of the same content; none: the run's result was refused."""
    tags: tuple[str, ...] = ()
    """The device's tags, which may be part of paths."""


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """What the commit of a result says of its execution."""

    due: int
    """Unix seconds."""
    worker_id: str | None


class LargeContent(NamedTuple):
    """A content that is kept beside the repository."""

    size: int
    """Bytes."""
    pieces: AsyncIterator[bytes]
    """Reading it to its end raises `ArchiveUnavailableError` if it is damaged."""


class Archive(ABC):
    """The store of results. See the module for the laws."""

    @abstractmethod
    async def open(self) -> None:
        """Open the repository, creating it when absent. Raises `ArchiveUnavailableError`."""

    @abstractmethod
    async def close(self) -> None:
        """Write what was handed in, then let go. Closing twice is harmless."""

    @abstractmethod
    async def check(self) -> None:
        """Return when it can be written now; raise `ArchiveUnavailableError` if not."""

    @abstractmethod
    async def store(self, entry: Entry) -> Stored:
        """Keep one result. Raises `ArchiveUnavailableError`, `ArchiveNameError`.

        `OvertakenError` is one of the former: it is not kept after all, and may be sent again.
        """

    @abstractmethod
    async def state(self) -> ArchiveState:
        """How it stands. Raises `ArchiveUnavailableError`."""

    async def remotes(self) -> Sequence[RemoteState]:
        """How each repository stands that this one is pushed to. Raises `ArchiveUnavailableError`.

        None, for an archive that is not pushed anywhere.
        """
        return ()

    async def catch_up(self) -> None:
        """Take in what others pushed to the remotes. Raises `ArchiveUnavailableError`."""
        return

    @abstractmethod
    async def brought(self, after: str | None, *, limit: int) -> BroughtPage:
        """The versions that runs brought after a page, in the order in which they came here.

        Without one, or where the list of versions was made anew, those of the last hour before the
        newest, 10,000 at most: a controller that was killed left some of these without an end.
        """

    @abstractmethod
    async def execution(self, device: str, job: str, version: str) -> Execution | None:
        """Of which execution a version is; none where its commit does not say so."""

    @abstractmethod
    async def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        """Say that these are not what was kept of their runs; all of them stay where they are.

        At the path of one whose result was refused stands what was kept last beside it, or nothing.
        What was withdrawn before, or is not here, is passed over. Raises `ArchiveUnavailableError`.
        """

    @abstractmethod
    async def versions(
        self, device: str, job: str, *, limit: int, before: str | None = None
    ) -> list[Version]:
        """The latest versions, or those before a version, newest first; empty when there is none.

        Raises `VersionNotFoundError` where `before` is none of them.
        """

    @abstractmethod
    async def version(self, device: str, job: str, version: str | None = None) -> Version:
        """One version, or the latest that was not withdrawn. Raises `VersionNotFoundError`."""

    @abstractmethod
    async def sizes(self, paths: Sequence[tuple[str, str]]) -> list[int | None]:
        """How many bytes the latest version of each device and job has; none: there is none."""

    @abstractmethod
    def read(self, device: str, job: str, version: str | None = None) -> AsyncIterator[bytes]:
        """The content of one version (default: the latest), in pieces.

        Raises `VersionNotFoundError` on the first step.
        """

    @abstractmethod
    async def large(self, digest: str) -> LargeContent | None:
        """The content of that SHA-256, hexadecimal, if it is one that a pointer stands for."""

    @abstractmethod
    async def diff(
        self, device: str, job: str, old: str | None, new: str | None, *, context: int
    ) -> Difference:
        """How a version (default: the one before `new`) became another (default: the latest).

        By default neither is one that was withdrawn. With so many lines around each change.
        Raises `VersionNotFoundError`, `TooLargeToCompareError`.
        """

    @abstractmethod
    async def origins(
        self, device: str, job: str, version: str | None, *, first: int = 0, limit: int
    ) -> Origins:
        """Since when so many lines of a version (default: the latest) are there.

        From the `first` on, which is 0. Raises `VersionNotFoundError`, `TooLargeToCompareError`.
        """

    @abstractmethod
    async def as_of(
        self, at: float, *, after: Pair, limit: int, chosen: Chosen
    ) -> list[FleetVersion]:
        """The version that each chosen pair beyond `after` had at an instant, in their order.

        What was withdrawn is none.
        """

    @abstractmethod
    async def search(self, search: Search) -> SearchPage:
        """One page of what is found. Raises `SearchPatternError`, `SearchPlaceError`."""

    @abstractmethod
    def snapshot(self, at: float, *, chosen: Chosen) -> AsyncIterator[bytes]:
        """The chosen pairs as they were at an instant, as a tar archive of files `device/job`."""

"""An archive in memory: passes the conformance suite but for what only a disk can promise."""

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from roundsman.archive.interface import (
    Archive,
    ArchiveNameError,
    ArchiveState,
    ArchiveUnavailableError,
    Entry,
    LargeContent,
    Stored,
    Version,
    VersionNotFoundError,
)
from roundsman.clock import Clock, SystemClock
from roundsman.wire.names import is_valid_name


class KeptVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version and the entry it came from."""

    version: Version
    entry: Entry
    content: bytes


class MemoryArchive(Archive):
    """Keeps every version in a dictionary; for tests of what stands above the archive.

    Set `failure` to make `store` and `check` raise it, and back to none to let them serve again.
    `kept` maps (device, job) to its versions, oldest first.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._commits = 0
        self.failure: ArchiveUnavailableError | None = None
        self.kept: dict[tuple[str, str], list[KeptVersion]] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def store(self, entry: Entry) -> Stored:
        for name in (entry.device, entry.job):
            if not is_valid_name(name):
                raise ArchiveNameError.of(name)
        await self.check()
        try:
            content = entry.read()
        except OSError as error:
            raise ArchiveUnavailableError(f"{entry.content!r}: {error}") from error
        versions = self.kept.setdefault((entry.device, entry.job), [])
        if versions and versions[-1].content == content:
            return Stored(version=versions[-1].version.version, changed=False)
        self._commits += 1
        version = Version(
            version=hashlib.sha1(str(self._commits).encode(), usedforsecurity=False).hexdigest(),
            at=int(self._clock.now()),
            subject=f"{entry.device} {entry.job}",
        )
        versions.append(KeptVersion(version=version, entry=entry, content=content))
        return Stored(version=version.version, changed=True)

    async def state(self) -> ArchiveState:
        size = sum(len(item.content) for kept in self.kept.values() for item in kept)
        return ArchiveState(bytes=size, packs=0, loose=0)

    async def versions(self, device: str, job: str, *, limit: int) -> list[Version]:
        kept = self.kept.get((device, job), [])
        return [item.version for item in reversed(kept)][:limit]

    async def sizes(self, paths: Sequence[tuple[str, str]]) -> list[int | None]:
        return [len(kept[-1].content) if (kept := self.kept.get(path)) else None for path in paths]

    async def read(self, device: str, job: str, version: str | None = None) -> AsyncIterator[bytes]:
        for item in reversed(self.kept.get((device, job), [])):
            if version in (None, item.version.version):
                yield item.content
                return
        raise VersionNotFoundError.of(device, job, version)

    async def large(self, digest: str) -> LargeContent | None:
        """Nothing is too large for memory."""
        return None

"""An archive in memory: passes the conformance suite but for what only a disk can promise."""

import difflib
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import takewhile

import msgspec

from roundsman.archive.interface import (
    Archive,
    ArchiveNameError,
    ArchiveState,
    ArchiveUnavailableError,
    Brought,
    BroughtPage,
    Chosen,
    Difference,
    Entry,
    Execution,
    LargeContent,
    Pair,
    Search,
    Stored,
    Version,
    VersionNotFoundError,
    Withdrawal,
)
from roundsman.archive.matching import Matcher
from roundsman.clock import Clock, SystemClock
from roundsman.wire.names import is_valid_name
from roundsman.wire.search import Match, SearchPage
from roundsman.wire.version import FleetVersion, LineOrigin, Origins


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
        self._order: list[tuple[str, str, str]] = []
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
        self.kept.setdefault((entry.device, entry.job), [])
        standing = self._standing((entry.device, entry.job))
        if standing and standing[-1].content == content:
            brought = [item.version for item in standing if item.content == content]
            kept = [each for each in brought if each.run_id is not None][-1]
            return Stored(version=kept.version, changed=kept.run_id == entry.run_id)
        return Stored(version=self._keep(entry, content, entry.run_id), changed=True)

    def _keep(self, entry: Entry, content: bytes, run_id: str | None) -> str:
        versions = self.kept[entry.device, entry.job]
        self._commits += 1
        version = Version(
            version=hashlib.sha1(str(self._commits).encode(), usedforsecurity=False).hexdigest(),
            at=int(self._clock.now()),
            subject=f"{entry.device} {entry.job}",
            number=len(versions) + 1,
            ended_at=int(entry.ended_at),
            size=len(content),
            lines=None if b"\0" in content else content.count(b"\n"),
            run_id=run_id,
        )
        versions.append(KeptVersion(version=version, entry=entry, content=content))
        self._order.append((entry.device, entry.job, version.version))
        return version.version

    async def brought(self, after: str | None, *, limit: int) -> BroughtPage:
        place = 0 if after is None else int(after)
        items = []
        for device, job, commit in self._order[place : place + limit]:
            place += 1
            version = self._find(device, job, commit).version
            if version.run_id is not None and not version.withdrawn:
                items.append(
                    Brought(
                        device=device,
                        job=job,
                        version=commit,
                        run_id=version.run_id,
                        ended_at=version.ended_at,
                    )
                )
        return BroughtPage(items=tuple(items), reached=str(place))

    async def execution(self, device: str, job: str, version: str) -> Execution | None:
        entry = self._find(device, job, version).entry
        return Execution(due=entry.due, worker_id=entry.worker_id)

    async def withdraw(self, withdrawals: Sequence[Withdrawal]) -> None:
        for each in withdrawals:
            versions = self.kept.get((each.device, each.job), [])
            for place, item in enumerate(versions):
                if item.version.version == each.version:
                    version = msgspec.structs.replace(item.version, withdrawn=True)
                    versions[place] = msgspec.structs.replace(item, version=version)
                    stands = place == len(versions) - 1
                    before = [other for other in versions if not other.version.withdrawn]
                    if stands and each.kept is None and before:
                        self._keep(before[-1].entry, before[-1].content, None)
                    break

    async def state(self) -> ArchiveState:
        size = sum(len(item.content) for kept in self.kept.values() for item in kept)
        return ArchiveState(bytes=size, packs=0, loose=0)

    async def versions(
        self, device: str, job: str, *, limit: int, before: str | None = None
    ) -> list[Version]:
        end = None if before is None else (await self.version(device, job, before)).number - 1
        kept = self.kept.get((device, job), [])[:end]
        return [item.version for item in reversed(kept)][:limit]

    async def sizes(self, paths: Sequence[tuple[str, str]]) -> list[int | None]:
        kept = [self._standing(path) for path in paths]
        return [item[-1].version.size if item else None for item in kept]

    async def version(self, device: str, job: str, version: str | None = None) -> Version:
        return self._find(device, job, version).version

    async def read(self, device: str, job: str, version: str | None = None) -> AsyncIterator[bytes]:
        yield self._find(device, job, version).content

    async def diff(
        self, device: str, job: str, old: str | None, new: str | None, *, context: int
    ) -> Difference:
        after = self._find(device, job, new)
        earlier = self._standing((device, job), before=after)
        if old is None and not earlier:
            raise VersionNotFoundError.of(device, job, "before the first")
        before = earlier[-1] if old is None else self._find(device, job, old)
        binary = before.version.lines is None or after.version.lines is None
        contents = (before.content.splitlines(True), after.content.splitlines(True))
        lines = difflib.diff_bytes(difflib.unified_diff, *contents, n=context)
        return Difference(
            old=before.version,
            new=after.version,
            unified=b"" if binary else b"".join([*lines][2:]),
            binary=binary,
        )

    async def origins(
        self, device: str, job: str, version: str | None, *, first: int = 0, limit: int
    ) -> Origins:
        found = self._find(device, job, version)
        older = [*self._standing((device, job), before=found), found]
        lines = []
        texts = found.content.splitlines()
        for text in texts[first : first + limit]:
            there = takewhile(partial(_holds, text), reversed(older))
            since = [*there][-1].version
            lines.append(
                LineOrigin(
                    text=text.decode(errors="replace"),
                    number=since.number,
                    version=since.version,
                    at=since.at,
                )
            )
        return Origins(
            version=found.version, count=len(texts), lines=tuple(lines), reached=1, complete=True
        )

    async def as_of(
        self, at: float, *, after: Pair, limit: int, chosen: Chosen
    ) -> list[FleetVersion]:
        found = []
        for pair in sorted(pair for pair in self.kept if pair > after and chosen(*pair)):
            then = [item.version for item in self._standing(pair) if item.version.at <= at]
            if then:
                found.append(FleetVersion(device=pair[0], job=pair[1], version=then[-1]))
        return found[:limit]

    async def snapshot(self, at: float, *, chosen: Chosen) -> AsyncIterator[bytes]:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for each in await self.as_of(at, after=("", ""), limit=len(self.kept), chosen=chosen):
                content = self._find(each.device, each.job, each.version.version).content
                entry = tarfile.TarInfo(f"{each.device}/{each.job}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        yield packed.getvalue()

    async def search(self, search: Search) -> SearchPage:
        matcher = Matcher(search)
        every = [
            (pair, item)
            for pair in self.kept
            for item in (self.kept[pair] if search.history else self._standing(pair)[-1:])
            if search.chosen(*pair) and item.version.lines is not None
        ]
        start = 0 if search.after is None else int(search.after)
        items: list[Match] = []
        for place, (pair, item) in enumerate(every[start:], start):
            if len(items) == search.limit:
                return SearchPage(items=tuple(items), next=str(place), read=place - start)
            found = matcher.lines(item.content.decode(errors="replace"))
            if found is not None:
                items.append(
                    Match(
                        device=pair[0],
                        job=pair[1],
                        number=item.version.number,
                        version=item.version.version,
                        at=item.version.at,
                        lines=found[0],
                        more=found[1],
                        withdrawn=item.version.withdrawn,
                    )
                )
        return SearchPage(items=tuple(items), next=None, read=len(every) - start)

    def _find(self, device: str, job: str, version: str | None) -> KeptVersion:
        for item in reversed(self.kept.get((device, job), [])):
            if version == item.version.version or (version is None and not item.version.withdrawn):
                return item
        raise VersionNotFoundError.of(device, job, version)

    def _standing(self, pair: Pair, *, before: KeptVersion | None = None) -> list[KeptVersion]:
        """The versions that were not withdrawn, oldest first; those before one."""
        end = None if before is None else before.version.number - 1
        return [item for item in self.kept.get(pair, [])[:end] if not item.version.withdrawn]

    async def large(self, digest: str) -> LargeContent | None:
        """Nothing is too large for memory."""
        return None


def _holds(line: bytes, item: KeptVersion) -> bool:
    return line in item.content.splitlines()

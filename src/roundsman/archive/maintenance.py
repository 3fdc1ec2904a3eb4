"""What keeps the repository small and quick to read, beside the writer and without its help.

**Joining**: a batch leaves a pack; the young ones are joined by copying (`joining`), those of about
one size, so that each object is copied once for every 16 times that its pack grows.
**Compacting**: what was joined is given to git, which finds deltas between versions, together with
the compact packs that are not much larger; so again each object's turn comes seldom. **Pruning**,
once in a while: the whole repository is compacted, without what nothing refers to. When that fails,
as it does where git needs more memory than there is, it is tried again in a day.

**Verifying**, once a week and when something could not be read: `git fsck --strict` over all of it.
A damaged repository is set aside and rebuilt.

The first three write a new pack, flushed, and only then are the old ones removed, so each may be
cut off at any moment. They run as processes of low priority. Results do not wait for them. While
git compacts or prunes, which may take an hour, what comes goes on being joined.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from roundsman import logs
from roundsman.archive.files import Files
from roundsman.archive.interface import ArchiveUnavailableError, Maintenance
from roundsman.archive.large import LargeContents
from roundsman.archive.maintenance_plan import (
    PackFile,
    Plan,
    Work,
    make_plan,
    plan_joining,
    pruning_failed,
)
from roundsman.archive.pack_reading import PackDamagedError, PackReader, packs_in
from roundsman.archive.programs import Programs
from roundsman.archive.repository import Repository
from roundsman.clock import Clock

FILE: Final = "maintenance.json"
PACKS_ADDED: Final = 128
"""Packs added before it is worth a look."""

_LOOK_SECONDS: Final = 600
"""How often it looks by itself."""
_VERIFY_SECONDS: Final = 7 * 86_400
_SETTLE_SECONDS: Final = 60
"""Before pruning: whoever brought a pack from outside has moved a branch by then."""
_UNREFERENCED: Final = "2.weeks.ago"

log = logs.get(__name__)


class _Noted(msgspec.Struct):
    """What outlives the process."""

    generations: dict[str, str] = msgspec.field(default_factory=dict)
    """Of packs in which git looked for deltas, by name: the commit that was the branch's tip then,
    as it is written. What it needs is in packs of this generation and of earlier ones."""
    pruned_at: float = 0
    verified_at: float = 0
    compacted_at: float = 0
    last: Maintenance | None = None


class Maintainer:
    """Looks after one repository. Belongs to one event loop."""

    def __init__(
        self,
        repository: Repository,
        clock: Clock,
        listing: Callable[[], Awaitable[list[Path]]],
        rebuild: Callable[[str], Awaitable[None]],
        contents: LargeContents,
    ) -> None:
        """Look after a repository.

        `listing` lists the packs between two batches, when each is complete; `rebuild` is called
        with the reason when the repository is found to be damaged.
        """
        self._repository = repository
        self._programs = Programs(repository.git, repository.packs)
        self._files = repository.files
        self._clock = clock
        self._listing = listing
        self._rebuild = rebuild
        self._suspected = False
        self._contents = contents
        self._file = repository.folder / "roundsman" / FILE
        self._noted = _Noted()
        self._wanted = asyncio.Event()
        self._packs_added = PACKS_ADDED  # what an earlier life left is looked at first
        self._task: asyncio.Task[None] | None = None
        self.pending: set[str] = set()
        """Packs that a result which is not stored yet will need."""

    @property
    def last(self) -> Maintenance | None:
        """What was done last."""
        return self._noted.last

    def start(self) -> None:
        """Begin to look after it."""
        try:
            self._noted = msgspec.json.decode(self._file.read_bytes(), type=_Noted)
        except (OSError, msgspec.MsgspecError):
            now = self._clock.now()  # at first there is other work to do
            self._noted = _Noted(pruned_at=now, verified_at=now, compacted_at=now)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave it as it is, cutting off what runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            await asyncio.to_thread(self._clear)

    def note_batch(self) -> None:
        """A batch was written."""
        self._packs_added += 1
        if self._packs_added >= PACKS_ADDED:
            self._wanted.set()

    def suspect(self) -> None:
        """Something could not be read: verify all of it, but not again and again."""
        if self._clock.now() - self._noted.verified_at > _LOOK_SECONDS:
            self._suspected = True
            self._wanted.set()

    async def _run(self) -> None:
        if self._packs_added >= PACKS_ADDED:
            self._wanted.set()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()
            self._packs_added = 0
            await self.look()

    async def look(self) -> None:
        """Do what is worth doing now; what fails is tried again at the next look.

        So is what comes meanwhile, of which there are few packs as yet.
        """
        known: set[str] | None = None
        tip = self._repository.tip()  # before the packs are listed: they hold what it needs
        reached = tip.hex() if tip else ""
        while True:
            begun = self._clock.monotonic()
            plan = Plan(Work.NOTHING)
            failure = None
            try:
                free = await self._free()
                known = {pack.name for pack in free} if known is None else known
                plan = self._plan([pack for pack in free if pack.name in known])
                if plan.work is Work.NOTHING:
                    return
                known |= await self._do(plan, reached)
            except (OSError, ArchiveUnavailableError) as error:
                failure = str(error)
                log.warning("archive.maintenance_failed", work=plan.work, error=failure)
                if plan.work is Work.PRUNE:
                    self._noted.pruned_at = pruning_failed(self._clock.now())
                if isinstance(error, ArchiveUnavailableError):
                    self.suspect()
            self._noted.last = Maintenance(
                work=plan.work,
                at=self._clock.now(),
                seconds=self._clock.monotonic() - begun,
                packs=len(plan.packs),
                failure=failure,
            )
            if failure is not None and not self._suspected:
                return
            log.info(
                "archive.maintained",
                work=plan.work,
                packs=len(plan.packs),
                seconds=round(self._noted.last.seconds, 3),
            )
            await asyncio.to_thread(self._note)

    def _plan(self, packs: Sequence[PackFile]) -> Plan:
        due = self._clock.now() - self._noted.verified_at > _VERIFY_SECONDS
        if self._suspected or due:
            return Plan(Work.VERIFY)
        return make_plan(
            packs,
            now=self._clock.now(),
            compacted_at=self._noted.compacted_at,
            pruned_at=self._noted.pruned_at,
        )

    async def _free(self) -> list[PackFile]:
        """The packs that may be replaced."""
        found = await self._listing()
        # What was pending when the packs were listed and is no more is referred to by now.
        free = [
            path
            for path in found
            if path.stem not in self.pending and not path.with_suffix(".keep").exists()
        ]
        return [
            PackFile(path.stem, path.stat().st_size, self._noted.generations.get(path.stem))
            for path in free
        ]

    async def _do(self, plan: Plan, reached: str) -> set[str]:
        """Do it; the packs that were made. What the commit `reached` needs was in packs before."""
        if plan.work is Work.VERIFY:
            await self._verify()
            return set()
        packs = [self._repository.packs / f"{name}.pack" for name in plan.packs]
        if plan.work is Work.JOIN:
            made = await self._programs.join(plan.packs)
        elif plan.work is Work.COMPACT:
            made = await self._joining_meanwhile(
                self._programs.compact(plan.packs, reached, plan.beyond)
            )
        else:
            large = await self._large()
            await self._clock.sleep(_SETTLE_SECONDS)
            await self._forget_unneeded(large)
            made = await self._joining_meanwhile(self._programs.prune())
        await asyncio.to_thread(self._replace, packs, made)
        now = self._clock.now()
        if plan.work is not Work.JOIN:
            for name in plan.packs:
                self._noted.generations.pop(name, None)
            self._noted.generations |= dict.fromkeys(made, reached)
            self._noted.compacted_at = now
            await self._programs.git(
                "commit-graph", "write", "--reachable", "--split", "--no-progress"
            )
        if plan.work is Work.PRUNE:
            self._noted.pruned_at = now
            await self._programs.git("prune-packed", "--quiet")
            await self._programs.git("prune", f"--expire={_UNREFERENCED}")
            await asyncio.to_thread(self._contents.prune, now)
        return made

    async def _joining_meanwhile(self, program: Coroutine[Any, Any, set[str]]) -> set[str]:
        """Wait for a program that may take an hour, and join what comes meanwhile.

        What was there when it began is left to it: it reads those packs.
        """
        there = {path.stem for path in packs_in(self._repository.packs)}
        running = asyncio.create_task(program)
        try:
            while not running.done():
                wanted = asyncio.create_task(self._wanted.wait())
                await asyncio.wait([running, wanted], return_when=asyncio.FIRST_COMPLETED)
                wanted.cancel()
                if not running.done():
                    self._wanted.clear()
                    self._packs_added = 0
                    await self._join_all_but(there)
        finally:
            running.cancel()
            await asyncio.wait([running])
        return running.result()

    async def _join_all_but(self, there: set[str]) -> None:
        """Join young packs; what fails is tried again at the next look."""
        try:
            packs = [pack for pack in await self._free() if pack.name not in there]
            plan = plan_joining(packs)
            if plan.work is Work.JOIN:
                await self._do(plan, "")
        except (OSError, ArchiveUnavailableError) as error:
            log.warning("archive.maintenance_failed", work=Work.JOIN, error=str(error))

    async def _verify(self) -> None:
        """Have git look at every byte, and rebuild what is damaged."""
        self._suspected = False
        self._noted.verified_at = self._clock.now()
        looked_at = self._repository.rebuilt
        complaint = await self._programs.verify()
        if complaint is not None and looked_at == self._repository.rebuilt:
            await self._rebuild(complaint)
            self._noted = _Noted(
                verified_at=self._clock.now(), pruned_at=self._clock.now(), last=self._noted.last
            )

    async def _large(self) -> dict[bytes, Path]:
        """The packs that are left alone since they hold one large blob, by its id."""
        found = await self._listing()
        free = [path for path in found if path.stem not in self.pending]
        return await asyncio.to_thread(_large_blobs, free)

    async def _forget_unneeded(self, large: dict[bytes, Path]) -> None:
        """Remove the large blobs that no branch or tag needs."""
        if large:
            async for needed in self._programs.needed():
                large.pop(needed, None)
            await asyncio.to_thread(self._replace, [*large.values()], set())

    def _replace(self, packs: Sequence[Path], made: set[str]) -> None:
        """Remove packs whose objects stand in those that were made, once these are sure to stay."""
        self._files.sync_folder(self._repository.packs)
        for path in packs:
            if path.stem not in made:
                # The index first: without it git does not look for the pack.
                for suffix in (".idx", ".rev", ".pack", ".keep"):
                    self._files.unlink(path.with_suffix(suffix))

    def _clear(self) -> None:
        """Remove what was cut off; nothing else is being written."""
        for path in self._repository.packs.glob("tmp_*"):
            with suppress(OSError):
                self._files.unlink(path)

    def _note(self) -> None:
        """Write down what the next process should know. Not knowing it costs some work only."""
        with suppress(OSError):
            self._files.replace(self._file, msgspec.json.encode(self._noted))


def note_compacted(folder: Path, files: Files, packs: set[str], tip: bytes, now: float) -> None:
    """Note for a repository made by other means that git looked for deltas in these packs.

    They hold what the commit `tip` needs.

    Raises `OSError`.
    """
    generations = dict.fromkeys(packs, tip.hex())
    noted = _Noted(generations=generations, pruned_at=now, verified_at=now, compacted_at=now)
    files.replace(folder / FILE, msgspec.json.encode(noted))


def _large_blobs(packs: Sequence[Path]) -> dict[bytes, Path]:
    found: dict[bytes, Path] = {}
    for path in packs:
        if path.with_suffix(".keep").exists():
            try:
                with PackReader(path) as pack:
                    if len(pack.objects) == 1:
                        found[pack.objects[0].id] = path
            except PackDamagedError as error:
                raise OSError(str(error)) from error
    return found

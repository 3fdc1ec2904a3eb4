"""Takes in what came of an execution: `POST /worker/complete`.

The order is the promise: the content is kept first, then one transaction in the ledger ends the
lease and writes the run, and only then is the caller told. Whatever stops this half-way leaves the
lease as it was, and sending the same completion again does the rest.
"""

import asyncio
import hashlib
import uuid
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from roundsman import logs
from roundsman.archive.interface import Archive, Entry
from roundsman.clock import Clock
from roundsman.config.records import ConfiguredSlot
from roundsman.controller.access import ForbiddenError, Principal
from roundsman.controller.attendance import Attendance
from roundsman.controller.batching import Batches
from roundsman.controller.ending import AT_ONCE, Ending
from roundsman.controller.evidence import Evidence
from roundsman.controller.planner import Planner
from roundsman.controller.shrinkage import extent_of, known_before, weigh
from roundsman.controller.spool import Received
from roundsman.errors import ConflictError, NotFoundError, UnavailableError
from roundsman.ledger.interface import (
    FinishAnswer,
    KeptResult,
    LeasedSlot,
    Ledger,
    ResultKey,
    Standing,
)
from roundsman.wire.execution import LeaseKey
from roundsman.wire.names import is_valid_name
from roundsman.wire.run import FailureClass, Outcome, Run, SecretFinding

log = logs.get(__name__)

_HOLD_SECONDS: Final = 60.0
"""A lease that lasts so much longer need not be renewed for a small result to be archived."""
# Names runs by what they are about, so that a repeat after a crash has the same id.
_RUNS: Final = uuid.UUID("6c3f7a5e-0c0b-4b52-9d0e-3a4c2f1b8d77")


class SlotNotFoundError(NotFoundError):
    """No such device and job are configured."""

    code = "slot.not_found"


class ElsewhereConfiguredError(UnavailableError):
    """Another controller knows this device and job; its result is not to be thrown away."""

    code = "slot.configured_elsewhere"


class LeaseLostError(ConflictError):
    """The execution is no longer the caller's: it was completed, or offered to another."""

    code = "lease.lost"


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of an execution that has ended; the content travels beside it."""

    device: str
    job: str
    due: int
    """The execution's timestamp."""
    started_at: float
    ended_at: float
    failure: str | None = None
    """Why it failed; none: it succeeded."""
    failure_class: FailureClass | None = None
    detected_secrets: tuple[SecretFinding, ...] = ()
    """What looks like a secret in the result; never its text."""
    recording: bytes | None = None
    """A failed session as a recorded dialogue, compressed."""
    epoch: int | None = None
    """Of the lease; none from clients that know only the published contract."""

    @property
    def title(self) -> str:
        """Short text for logs and errors."""
        epoch = "" if self.epoch is None else f", epoch {self.epoch}"
        return f"{self.job} on {self.device} due {self.due}{epoch}"


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `POST /worker/complete`, 200."""

    run_id: str
    """The run's row in the history."""
    outcome: Outcome
    """`succeeded`, `failed`, or `retried`: failed, and to be tried again."""
    version: str | None = None
    """Commit in the archive that holds the result."""
    changed: bool | None = None
    """Whether the result differed from the version before."""
    retry_at: int | None = None
    """When it is tried again, Unix seconds."""


class Turns:
    """One at a time for each slot."""

    def __init__(self) -> None:
        """Nobody is at it."""
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, device: str, job: str) -> asyncio.Lock:
        """What to hold while a slot's result is dealt with."""
        return self._locks.setdefault((device, job), asyncio.Lock())


class Intake:
    """Keeps results: in the archive, beside the run, and in the ledger.

    Each result goes through its steps by itself. Those whose steps fall together share the calls
    to ledger and archive, so that 32 at once cost little more than one.
    """

    def __init__(
        self,
        *,
        planner: Planner,
        ledger: Ledger,
        archive: Archive,
        evidence: Evidence,
        clock: Clock,
        turns: Turns,
        attendance: Attendance,
    ) -> None:
        """Keep what comes in for the planner's slots."""
        self._planner = planner
        self._ledger = ledger
        self._archive = archive
        self._evidence = evidence
        self._clock = clock
        self._turns = turns
        self._standings = Batches(ledger.standings, most=AT_ONCE)
        self._sizes = Batches(archive.sizes, most=AT_ONCE)
        self._ending = Ending(planner=planner, ledger=ledger, attendance=attendance, clock=clock)

    async def complete(
        self, completion: Completion, content: Received | None, principal: Principal
    ) -> Kept:
        """Keep a result; when this returns, it is kept for good.

        Raises `SlotNotFoundError`, `ForbiddenError` for a device outside the caller's tags,
        `LeaseLostError`, and `UnavailableError` when archive, ledger or disk cannot keep it now.
        """
        result = ResultKey(
            device=completion.device,
            job=completion.job,
            due=completion.due,
            digest=_digest(completion, content),
            epoch=completion.epoch,
        )
        slot = await self._slot_of(completion, result, principal)
        # One at a time for each slot, so that of two different results of one execution the
        # second finds the lease gone before it touches the archive.
        async with self._turns.of(completion.device, completion.job):
            standing = await self._standings.do(result)
            if standing.repeated is not None and not _is_next(completion, standing):
                run_id = standing.repeated.run_id
                log.info("intake.repeated", execution=completion.title, run_id=run_id)
                return _kept(standing.repeated)
            lease = await self._hold(completion, content, standing.lease, principal)
            if lease is None:
                raise await self._refuse(completion, result.digest, standing.lease, principal)
            run, known = await self._keep(completion, content, lease, slot, result.digest)
            return await self._finish(run, lease, slot, known)

    async def _slot_of(
        self, completion: Completion, result: ResultKey, principal: Principal
    ) -> ConfiguredSlot:
        """The slot this completion is about, if the caller may serve it."""
        slot = self._planner.find(completion.device, completion.job)
        if slot is None:
            named = f"job {completion.job!r} on device {completion.device!r} is not configured"
            valid = is_valid_name(completion.device) and is_valid_name(completion.job)
            if valid and (await self._standings.do(result)).lease is not None:
                raise ElsewhereConfiguredError(
                    f"{named} here, and is leased by another controller on this ledger",
                    remedy="give all controllers the same configuration, and reload",
                )
            raise SlotNotFoundError(named)
        if principal.tags is not None and principal.tags.isdisjoint(slot.device.tags):
            raise ForbiddenError(f"{principal.name} may not serve device {completion.device!r}")
        return slot

    async def _hold(
        self,
        completion: Completion,
        content: Received | None,
        lease: LeasedSlot | None,
        principal: Principal,
    ) -> LeasedSlot | None:
        """The lease, if it is this completion's; it will not run out while this is archived."""
        if lease is None or not _belongs(completion, lease, principal):
            return None
        now = self._clock.now()
        large = content is not None and isinstance(content.content, Path)
        if lease.expires_at >= now + _HOLD_SECONDS and not large:
            return lease
        leases = self._planner.configuration.controller.leases
        [held] = await self._ledger.renew(
            [_key(lease)],
            worker_id=principal.worker_id,
            now=now,
            until=now + leases.seconds_without_heartbeat,
        )
        return lease if held else None

    async def _refuse(
        self,
        completion: Completion,
        digest: str,
        lease: LeasedSlot | None,
        principal: Principal,
    ) -> LeaseLostError:
        """Write down that it came too late; the error that says so."""
        lost = LeaseLostError(
            f"{completion.title}: not leased to {principal.name} any more",
            remedy="drop the result, nothing was changed",
        )
        await self._ledger.record_stale(
            Run(
                run_id=_refused_id(completion, digest, lease),
                device=completion.device,
                job=completion.job,
                due=completion.due,
                outcome=Outcome.STALE,
                recorded_at=self._clock.now(),
                epoch=completion.epoch,
                worker_id=principal.worker_id,
                started_at=completion.started_at,
                ended_at=completion.ended_at,
                failure=lost.text,
                digest=digest,
            )
        )
        log.warning("intake.stale", execution=completion.title, by=principal.name)
        return lost

    async def _keep(
        self,
        completion: Completion,
        content: Received | None,
        lease: LeasedSlot,
        slot: ConfiguredSlot,
        digest: str,
    ) -> tuple[Run, KeptResult | None]:
        """Keep the content; the run's row, yet to be written, and what is known of the result."""
        run = _run(completion, content, lease, digest, self._clock.now())
        if content is None:
            return run, None
        if completion.failure is not None:
            await self._evidence.keep(run.run_id, content)
            if completion.recording is not None:
                await self._evidence.keep_recording(run.run_id, completion.recording)
            return msgspec.structs.replace(run, evidence=True), None
        guard = slot.shrink_guard
        before = await known_before(lease, guard, extent_of(content), self._archive, self._sizes.do)
        weighed = weigh(run.run_id, content, before, guard)
        if weighed.loss is not None:
            await self._evidence.keep(run.run_id, content)
            return _shrunk(run, weighed.loss), weighed.kept
        stored = await self._archive.store(
            Entry(
                device=completion.device,
                job=completion.job,
                content=content.content,
                sha256=content.digest,
                due=completion.due,
                started_at=completion.started_at,
                ended_at=completion.ended_at,
                worker_id=lease.worker_id,
                run_id=run.run_id,
                tags=slot.device.tags,
            )
        )
        run = msgspec.structs.replace(run, version=stored.version, changed=stored.changed)
        return run, weighed.kept

    async def _finish(
        self, run: Run, lease: LeasedSlot, slot: ConfiguredSlot, known: KeptResult | None
    ) -> Kept:
        run, answer = await self._ending.end(run, lease, slot, known)
        if answer is FinishAnswer.STALE:
            if run.evidence:
                self._evidence.drop(run.run_id)
            # Its commit, if there is one, is withdrawn: the ledger says that it was refused.
            raise LeaseLostError(
                f"{run.job} on {run.device} due {run.due}, epoch {lease.epoch}: lost meanwhile",
                remedy="drop the result",
            )
        if answer is FinishAnswer.REPEATED:  # by another controller, with a commit of its own
            run = await self._ledger.run(run.run_id) or run
        log.info(
            "intake.kept",
            device=run.device,
            job=run.job,
            due=run.due,
            outcome=run.outcome,
            changed=run.changed,
            retry_at=run.retry_at,
            run_id=run.run_id,
        )
        return _kept(run)


def _is_next(completion: Completion, standing: Standing) -> bool:
    """Whether it reads like an attempt before, and yet belongs to the one that is out now.

    So it may, of a client that tells no epoch, and whose clock stands still or is coarse.
    """
    repeated, lease = standing.repeated, standing.lease
    return (
        completion.epoch is None
        and repeated is not None
        and repeated.outcome is Outcome.RETRIED
        and lease is not None
        and lease.due == completion.due
        and lease.epoch != repeated.epoch
    )


def _belongs(completion: Completion, lease: LeasedSlot, principal: Principal) -> bool:
    return (
        lease.due == completion.due
        and completion.epoch in (None, lease.epoch)
        and principal.worker_id in (None, lease.worker_id)
    )


def _key(lease: LeasedSlot) -> LeaseKey:
    return LeaseKey(device=lease.device, job=lease.job, epoch=lease.epoch)


def _digest(completion: Completion, content: Received | None) -> str:
    """What tells a repeat from another result; the epoch may be left out of a repeat."""
    said = msgspec.structs.replace(completion, epoch=None)
    whole = msgspec.json.encode((said, None if content is None else content.digest))
    return hashlib.sha256(whole).hexdigest()


def _run_id(completion: Completion, epoch: int, digest: str) -> str:
    named = f"{completion.device}\n{completion.job}\n{completion.due}\n{epoch}\n{digest}"
    return str(uuid.uuid5(_RUNS, named))


def _refused_id(completion: Completion, digest: str, lease: LeasedSlot | None) -> str:
    """The run's, where it can never be kept any more: a commit of before may have its id."""
    if completion.epoch is None or (lease is not None and lease.epoch <= completion.epoch):
        return str(uuid.uuid4())
    return _run_id(completion, completion.epoch, digest)


def _run(
    completion: Completion,
    content: Received | None,
    lease: LeasedSlot,
    digest: str,
    now: float,
) -> Run:
    failed = completion.failure is not None
    return Run(
        run_id=_run_id(completion, lease.epoch, digest),
        device=completion.device,
        job=completion.job,
        due=completion.due,
        outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED,
        recorded_at=now,
        epoch=lease.epoch,
        worker_id=lease.worker_id,
        started_at=completion.started_at,
        ended_at=completion.ended_at,
        failure=completion.failure,
        failure_class=completion.failure_class,
        size=None if content is None else content.size,
        digest=digest,
        on_demand=lease.on_demand,
        detected_secrets=completion.detected_secrets,
        attempt=lease.attempts + 1,
    )


def _shrunk(run: Run, loss: str) -> Run:
    """The run, as one whose result is in quarantine."""
    return msgspec.structs.replace(
        run,
        outcome=Outcome.FAILED,
        failure=loss,
        failure_class=FailureClass.SHRUNK,
        evidence=True,
    )


def _kept(run: Run) -> Kept:
    return Kept(
        run_id=run.run_id,
        outcome=run.outcome,
        version=run.version,
        changed=run.changed,
        retry_at=run.retry_at,
    )

"""What every ledger promises.

The laws, tested for each driver by `roundsman.testing.ledger_conformance`:

1. **Durable.** A call that returned has reached the disk (the memory driver excepted).
2. **Exclusive.** A slot is leased to at most one claimer at a time; each claim raises the slot's
   epoch by one. A lease that expired is offered again, under a new epoch, with the same due time.
3. **Handing out consumes nothing.** Only `finish` moves a slot's due time on. Where another attempt
   follows, it stays, and the slot is offered again from the time of that attempt on.
4. **Fenced.** `renew` and `finish` act only on a lease whose epoch is the slot's current one, and
   say for each lease whether it still held. A lease that has expired but was not claimed since
   still holds.
5. **Fair.** A claim returns slots oldest first, by the time from which they are offered: their due
   time, or that of their next attempt. Half of the room is shared evenly among the lanes that
   match; the rest goes to the oldest, so that no tag starves another. What was asked for on demand
   goes first; then slots by their priority, but for a quarter of the room, which goes by age.
6. **One outcome.** `finish` writes a run and moves the slot in one transaction, together with the
   spans of due times that were coalesced into it or missed. What was planned is known beside that:
   a slot has a plan since some instant, and plans that were replaced are kept. Each time of a plan
   later than its beginning and not later than its end has one outcome, or is open.
7. **One probe.** While a device's breaker is open, none of its slots is offered but one, from the
   probe time on; and what a person asked for. Leases run to their end.
8. **Harmless repeats.** Finishing again with the digest of the run that ended that lease answers
   `REPEATED` and changes nothing.
9. **One leader.** Of the controllers that share a ledger at most one leads at a time, until an
   instant that it moves on; each time that another one takes over the term is raised. What is
   written under a term is written while that is the term, or not at all.

Instants are Unix seconds; the caller passes `now`. Every method may raise `LedgerUnavailableError`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum

import msgspec

from roundsman.config.records import TagLimits
from roundsman.errors import ConflictError, UnavailableError
from roundsman.ledger.crossing import Crossing
from roundsman.wire.accounts import DaySum
from roundsman.wire.audit import AuditEntry
from roundsman.wire.audit import AuditQuery as AuditQuery  # noqa: PLC0414  # a word of the ledger's too
from roundsman.wire.batch import Batch, BatchState, BatchWork
from roundsman.wire.batch import BatchQuery as BatchQuery  # noqa: PLC0414  # likewise
from roundsman.wire.batch import IdempotencyKey as IdempotencyKey  # noqa: PLC0414  # likewise
from roundsman.wire.batch import KeptBatch as KeptBatch  # noqa: PLC0414  # likewise
from roundsman.wire.breaker import Breaker
from roundsman.wire.execution import LeaseKey
from roundsman.wire.page import Page as Page  # noqa: PLC0414  # likewise
from roundsman.wire.pause import Pause as Pause  # noqa: PLC0414  # likewise
from roundsman.wire.pause import PauseKind as PauseKind  # noqa: PLC0414  # likewise
from roundsman.wire.process import Process, ProcessState, StopProof
from roundsman.wire.run import Cause, Outcome, Run, Slot, SlotState
from roundsman.wire.run import RunNow as RunNow  # noqa: PLC0414  # likewise
from roundsman.wire.worker import Worker


class LedgerUnavailableError(UnavailableError):
    """The database cannot be reached, or cannot write."""

    code = "ledger.unavailable"


class NotLeadingError(ConflictError):
    """Another controller leads by now; nothing was written."""

    code = "ledger.not_leading"


class Priority(IntEnum):
    """Which slots go first."""

    ON_DEMAND = 0
    """What a person asked for; never a slot's own."""
    HIGH = 1
    NORMAL = 2
    LOW = 3


class PlannedSlot(msgspec.Struct, frozen=True, kw_only=True):
    """One (device, job) pair as the configuration wants it."""

    device: str
    """Name of the device."""
    job: str
    """Name of the job."""
    tags: tuple[str, ...]
    """Tags of the device, sorted; together they name the slot's lane."""
    plan: str
    """Its due times (`schedules.plans`); when they are others than those kept, `first_due` takes
    effect."""
    first_due: int | None
    """When it is due first if it is new or its schedule changed; none: never."""
    priority: Priority = Priority.NORMAL


class SyncSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What `sync_slots` did."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    kept: int = 0


class TagFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lanes a claimer may have."""

    any_of: frozenset[str] | None = None
    """Devices having any of these; none: every device, tagged or not."""
    within: frozenset[str] | None = None
    """And, by the claimer's credential, having any of these; none: not narrowed."""

    def matches(self, tags: Sequence[str]) -> bool:
        """Whether a device with these tags may be handed out."""
        return (self.any_of is None or not self.any_of.isdisjoint(tags)) and (
            self.within is None or not self.within.isdisjoint(tags)
        )


class ClaimLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many leases may run at once; one that expired does not run. None: any number."""

    sessions_per_device: int | None = None
    sessions_per_worker: int | None = None
    """Counts for a claimer that is a worker."""
    tags: Mapping[str, TagLimits] = {}
    """By tag of the device."""


UNLIMITED = ClaimLimits()


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How much a content is."""

    lines: int | None
    """Its line ends; none: it is no text."""
    size: int
    """Its bytes."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A result that waits to be confirmed."""

    run_id: str
    """The run that brought it."""
    digest: str
    """Of the content, SHA-256, hexadecimal."""
    extent: Extent


class KeptResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the result of a slot, so that the next one can be held against it."""

    extent: Extent | None = None
    """Of the latest version; none: not known."""
    quarantined: Quarantined | None = None
    """The result that came after it and is not believed yet."""


class LostLease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The leases of a due time that ran out before the one there is now."""

    since: float
    """When the first of them was claimed."""
    until: float
    """When the last of them ran out."""
    worker_id: str | None = None
    """Who had the last of them."""
    count: int = 1
    """How many there were."""


class LeasedSlot(msgspec.Struct, frozen=True, kw_only=True):
    """A slot under a lease."""

    device: str
    job: str
    tags: tuple[str, ...]
    due: int
    """The due time handed out; it stays the same until the slot is finished."""
    epoch: int
    expires_at: float
    covered_until: int
    """Due times up to here count as covered by this run: the later of `due` and the claim."""
    on_demand: bool = False
    resume_due: int | None = None
    """For an on-demand slot: the scheduled due time it stands before, none when there is none."""
    worker_id: str | None = None
    claimed_at: float = 0.0
    ready: int = 0
    """From when on it was offered: `due`, or the time of this attempt."""
    attempts: int = 0
    """How many attempts at `due` failed before this one."""
    was_held: bool = False
    """Whether its device's breaker had it offered later than it was due."""
    device_held: bool = False
    """Whether the device's breaker is open now; only in what `standings` returns."""
    result: KeptResult | None = None
    """What is known of the slot's result, if anything is; only in what `standings` returns."""
    plan: str = ""
    """The slot's due times now. Those of before may have been replaced since it was claimed."""
    planned_since: float = 0.0
    """Later than this the plan counts; a `due` that is not belongs to a plan of before, all of
    whose other times are accounted for."""
    lost: LostLease | None = None
    """The leases of this due time that ran out before."""


class ResultKey(msgspec.Struct, frozen=True, kw_only=True):
    """What names a result, whoever brings it and however often."""

    device: str
    job: str
    due: int
    """Of the execution that it came of."""
    digest: str
    """Of all that was said, and of the content."""
    epoch: int | None = None
    """Of the lease under which it was made; none where whoever brings it does not say."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand for a result that has come."""

    repeated: Run | None
    """The kept run that it repeats, the last if there are several; none: it is new."""
    lease: LeasedSlot | None
    """The current lease of its slot, expired or not; none when nobody holds it."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive due times with the same outcome, `COALESCED` or `MISSED`."""

    outcome: Outcome
    first_due: int
    last_due: int
    count: int
    reason: str | None = None
    cause: Cause | None = None


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a lease: the run, the spans beside it, and what the slot does next."""

    run: Run | None
    """The run's row; none when the lease ends without one (a due time skipped by policy, where
    `spans` carry the outcome)."""
    key: LeaseKey
    """Which lease."""
    next_due: int | None
    """The slot's next due time; none: its schedule has ended."""
    plan: str
    """The plan by which that and `spans` were worked out. Where it was replaced meanwhile, neither
    counts: the slot goes on with the first time of its new plan."""
    spans: tuple[Span, ...] = ()
    """Due times that this run stands for, or that were missed."""
    retry_at: int | None = None
    """When given, the due time is not done with: it stays, and is offered again from then on. A run
    beside it was an attempt, which is counted; without one nothing was tried."""
    breaker: Breaker | None = None
    """What the device's failures have come to with this one; none: as before."""
    answered: bool = False
    """Whether the device showed that it is well: its failures are forgotten, its breaker closed."""
    result: KeptResult | None = None
    """What is known of the slot's result from now on; none: as before."""


class RunEnd(msgspec.Struct, frozen=True):
    """How a run ended, and what was kept of it."""

    outcome: Outcome
    version: str | None
    """Commit in the archive; none: there is none."""


class FinishAnswer(StrEnum):
    """Whether a finish took effect."""

    KEPT = "kept"
    """The lease held; run and slot were written."""
    REPEATED = "repeated"
    """This very completion was kept before; nothing was written."""
    STALE = "stale"
    """The lease is no longer held; a `STALE` run row was written, the slot was not touched."""


class ResumedSlot(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that a resume would set free, with the due time at which it was held."""

    device: str
    job: str
    due: int | None
    """By its schedule: beside it may stand what a person asked for, which no pause takes away."""
    epoch: int
    plan: str
    planned_since: float
    ready: int | None = None
    """From when on it would be offered: `due`, or the time of its next attempt."""


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one slot on resume; decided by the planner, written by the ledger."""

    device: str
    job: str
    epoch: int
    """As in `ResumedSlot`; when the slot moved on since, this entry is passed over."""
    plan: str
    """The plan by which this was worked out; where it was replaced since, the entry is passed
    over."""
    next_due: int | None
    spans: tuple[Span, ...] = ()


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which a controller was up, or in which workers asked it for work."""

    session: str
    """Which controller, from one start to its end."""
    asked: TagFilter | None
    """What the workers asked for; none: it is about the controller itself."""
    since: float
    """From its start on, or from when it was asked first."""
    until: float
    """Up to when that is known."""


class AccountQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whose due times to account for, in order of device and job, and from when to when."""

    since: int
    """From this instant on."""
    until: int
    """Before this instant."""
    device: str | None = None
    job: str | None = None
    tag: str | None = None
    after: str | None = None
    limit: int = 100


class PlanEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, and when it counted."""

    plan: str
    since: float
    """Its times later than this."""
    until: float | None
    """And not later than this; none: it counts still."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of the history, or due times in them, are alike."""

    outcome: Outcome
    cause: Cause | None
    on_demand: bool
    count: int
    """Due times; of `RETRIED` and `STALE`, rows."""


class SlotAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the due times of one device and job, each thing by itself."""

    device: str
    job: str
    tags: tuple[str, ...]
    plans: tuple[PlanEpoch, ...]
    """Those that counted at some time in question, oldest first, the one that counts still last."""
    tallies: tuple[Tally, ...]
    """Of what was due in that time; on-demand ones stand beside the plans."""
    cut: tuple[Span, ...]
    """Spans that lie in that time with one part only; not in `tallies`."""
    open_due: int | None
    """The first of its due times that has no outcome yet, whenever it is; none: there is none."""
    state: SlotState | None
    """Where the slot stands now; none: it was taken away."""
    attempts: int
    """How many attempts at `open_due` failed so far."""


class SlotQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which slots to list, ordered by device and job."""

    device: str | None = None
    job: str | None = None
    tag: str | None = None
    state: SlotState | None = None
    worker_id: str | None = None
    after: str | None = None
    limit: int = 100


class RunQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list, newest first."""

    device: str | None = None
    job: str | None = None
    outcome: Outcome | None = None
    worker_id: str | None = None
    since: float | None = None
    """Recorded at this instant or later."""
    until: float | None = None
    """Recorded before this instant."""
    after: str | None = None
    limit: int = 100


class ProcessQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which processes to list, newest first."""

    worker_id: str | None = None
    state: ProcessState | None = None
    batch_id: str | None = None
    after: str | None = None
    limit: int = 100


class RegisteredController(msgspec.Struct, frozen=True, kw_only=True):
    """A controller as it enters itself into the register."""

    controller_id: str
    """UUID, another one after each start."""
    home: str
    """UUID of its data folder, the same after each start."""
    address: str | None
    """URL at which others reach it; none: they cannot."""
    version: str
    """Release that it runs."""
    started_at: float
    seen_at: float
    """When it last entered itself."""
    configuration: str = ""
    """Digest of the configuration that it has in force; empty: not known yet."""
    calls: int = 0
    """How many calls to read the configuration anew it has followed (`Leadership.calls`)."""
    synced: SyncSummary | None = None
    """What became of the slots when, as the leader, it followed the last of them."""
    problem: str | None = None
    """Why it could not follow it; none: it did."""
    peer_key: str = ""
    """By which it signs its calls to other controllers: Ed25519's public key, base64."""
    certificate: str | None = None
    """Which it shows at its address, PEM; none: one that others trust anyway, or none."""


class Leadership(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads."""

    term: int
    """Raised each time that another one takes over; 0: nobody ever led."""
    controller_id: str
    until: float
    """Until then nobody else takes over; 0: it let go."""
    calls: int
    """How often all controllers were called upon to read their configuration anew."""
    salt: str
    """A random text of this ledger's, for digests that nobody else can compare with."""


class ProcessChange(msgspec.Struct, frozen=True, kw_only=True):
    """A process' new state, as its worker told it."""

    process_id: str
    worker_id: str
    state: ProcessState
    at: float
    exit_status: int | None = None
    signal: str | None = None
    error: str | None = None
    cause: str | None = None
    seen_at: float | None = None
    """When the worker told it, by the controller's clock; none: it did not come from the worker."""
    term: int | None = None
    """Of the worker's connection by which the controller concludes this (`Crossing`): written only
    if that is the newest one. None: whichever it is."""


def batch_after(batch: Batch, state: BatchState, *, now: float, reason: str | None) -> Batch:
    """The batch in a later state; unchanged when it stands there already, or beyond."""
    order = list(BatchState)
    if order.index(state) <= order.index(batch.state):
        return batch
    ended = now if state is BatchState.ENDED else None
    return msgspec.structs.replace(
        batch, state=state, reason=batch.reason or reason, ended_at=ended
    )


class Ledger(ABC):
    """The database of slots, leases, runs, workers, processes and the audit.

    See the module for the laws.
    """

    # life

    @abstractmethod
    async def open(self) -> None:
        """Connect, migrate, and take what must be exclusive. Raises `LedgerUnavailableError`."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was called, then let go. Closing twice is harmless."""

    @abstractmethod
    async def check(self) -> None:
        """Return when the ledger can read and write now; raise `LedgerUnavailableError` if not."""

    def crossing(self, controller_id: str) -> Crossing | None:
        """What this controller knows and asks of others' workers.

        None where one controller alone uses the ledger.
        """
        return None

    # slots and leases

    @abstractmethod
    async def sync_slots(
        self, planned: Sequence[PlannedSlot], now: float, *, term: int | None = None
    ) -> SyncSummary:
        """Make the slots those of the configuration, in one transaction.

        With a `term`, raises `NotLeadingError` unless it is the current one.

        New pairs are added, planned from `now` on. A changed `plan` sets the due time to
        `first_due`, unless the slot is leased: then that lease's due time stays, and the first time
        of the new plan comes when it ends. A slot asked for on demand goes on to `first_due` after
        that. The times of the old plan that had passed without a run are written as `MISSED`, those
        after a leased one too, and the old plan is kept with its end (`accounts`). Changed
        tags move the slot to another lane. A pair that is gone is removed; its times that had
        passed, and the leased one, are written as `MISSED`. Should it come back, it goes on
        counting its epochs, so that its old leases stay stale.
        """

    @abstractmethod
    async def claim(
        self,
        tags: TagFilter,
        *,
        limit: int,
        horizon: float,
        now: float,
        lease_seconds: float,
        worker_id: str | None,
        limits: ClaimLimits = UNLIMITED,
    ) -> list[LeasedSlot]:
        """Lease up to `limit` slots due at or before `horizon`, oldest first.

        Slots leased and not expired at `now`, paused and ended ones are not offered, and one that
        waits for another attempt is only when the time of that has come by `now`. The lease runs
        from the later of `now` and the due time, for `lease_seconds`. What a limit leaves no room
        for stays as it is, and is offered when there is room; the limits hold for all claimers
        together.
        """

    @abstractmethod
    async def renew(
        self, keys: Sequence[LeaseKey], *, worker_id: str | None, now: float, until: float
    ) -> list[bool]:
        """Move the expiry of each lease to `until`; for each, whether it still held.

        With a `worker_id`, leases of another worker are not held. An expiry is never moved
        backwards.
        """

    @abstractmethod
    async def standings(self, results: Sequence[ResultKey]) -> list[Standing]:
        """How things stand for each of these results, by one look at the ledger."""

    @abstractmethod
    async def finish(self, finishes: Sequence[Finish], now: float) -> list[FinishAnswer]:
        """End leases, in one transaction; for each, whether it took effect (laws 4, 6 and 7)."""

    @abstractmethod
    async def record_stale(self, run: Run) -> None:
        """Write a run with outcome `STALE`: a result that came too late and was refused."""

    @abstractmethod
    async def result_of(self, device: str, job: str) -> KeptResult | None:
        """What is known of a slot's result; none when nothing is, or there is no such slot."""

    @abstractmethod
    async def accept(
        self, run_id: str, *, version: str, changed: bool, by: str, now: float
    ) -> bool:
        """Write that the result which this run brought into quarantine is a version now.

        In one transaction with its slot, whose result it becomes. False when no slot has it in
        quarantine.
        """

    @abstractmethod
    async def run_now(self, device: str, job: str, now: int, *, beside: bool = False) -> RunNow:
        """Make the slot due at `now`, beside its schedule. `NotFoundError` for an unknown slot.

        One whose due time has come, but which waits for another attempt or is held back by its
        device's breaker, is offered at once, with the due time that it has; but with `beside` that
        stays for later, as one does that lies ahead.
        """

    # pauses

    @abstractmethod
    async def pause(self, pause: Pause) -> bool:
        """Hold back a device or a job; false when it was held already. Leases run to their end."""

    @abstractmethod
    async def to_resume(self, kind: PauseKind, name: str) -> list[ResumedSlot] | None:
        """The slots that lifting this pause sets free; none when there is no such pause."""

    @abstractmethod
    async def resume(
        self, kind: PauseKind, name: str, resumptions: Sequence[Resumption], now: float
    ) -> bool:
        """Lift a pause, in one transaction with what becomes of its slots; false when not held."""

    @abstractmethod
    async def pauses(self) -> list[Pause]:
        """Every pause in force."""

    # devices held back

    @abstractmethod
    async def breaker(self, device: str) -> Breaker | None:
        """What a device's failures in a row have come to; none when the last run was well."""

    @abstractmethod
    async def open_breakers(self) -> list[Breaker]:
        """Every breaker that is open, by device."""

    @abstractmethod
    async def close_breaker(self, device: str, now: float) -> bool:
        """Forget a device's failures and offer its slots again; false when it was not held back."""

    # accounts

    @abstractmethod
    async def accounts(self, query: AccountQuery, now: float) -> Page[SlotAccount]:
        """What was planned and what became of it, for every pair that had a plan in that time."""

    @abstractmethod
    async def note_presences(self, presences: Sequence[Presence]) -> None:
        """Keep these; one that is known by session, filter and `since` is prolonged."""

    @abstractmethod
    async def presences(self, since: float, until: float) -> list[Presence]:
        """Those that touch this time, by `since`."""

    # what is kept no longer

    @abstractmethod
    async def recorded_beyond(self, most: int) -> float | None:
        """Before which instant those runs were recorded that are older than the newest `most`.

        None when there are no more. Where there are, as many are looked through: ask once for all
        that is to be taken away.
        """

    @abstractmethod
    async def prune(self, *, before: float, limit: int, term: int | None = None) -> int:
        """Take away the oldest runs that were recorded before an instant.

        With a `term`, raises `NotLeadingError` unless it is the current one.

        At most `limit` of them; how many. They are added to the sums of their days (`daily`), and
        due times up to their last are accounted for by those alone from then on. Who was there
        (`presences`) before that instant is forgotten too.
        """

    @abstractmethod
    async def accounted_since(self) -> int:
        """From when on due times are accounted for one by one; 0: all are."""

    @abstractmethod
    async def daily(self, since: int, until: int, job: str | None) -> list[DaySum]:
        """The sums of days that begin from one instant on and before another, by day and job."""

    # lists

    @abstractmethod
    async def slots(self, query: SlotQuery, now: float) -> Page[Slot]:
        """Slots, ordered by device and job."""

    @abstractmethod
    async def runs(self, query: RunQuery) -> Page[Run]:
        """Runs, newest first."""

    @abstractmethod
    async def run(self, run_id: str) -> Run | None:
        """One run."""

    @abstractmethod
    async def ends_of(self, run_ids: Sequence[str]) -> list[RunEnd | None]:
        """How each of these runs ended; none where there is no such run."""

    # workers

    @abstractmethod
    async def add_worker(self, worker: Worker, token_digest: str) -> None:
        """Keep a newly enrolled worker and the digest of its token."""

    @abstractmethod
    async def worker_tokens(self) -> dict[str, str]:
        """Token digest to worker id, for every worker."""

    @abstractmethod
    async def touch_worker(
        self,
        worker_id: str,
        *,
        now: float,
        address: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> bool:
        """Note that a worker was seen, and what it said of itself; false when unknown."""

    @abstractmethod
    async def workers(self) -> list[Worker]:
        """Every worker, by name (`connected` is not the ledger's to know: false)."""

    @abstractmethod
    async def worker(self, worker_id: str) -> Worker | None:
        """One worker."""

    @abstractmethod
    async def remove_worker(self, worker_id: str) -> bool:
        """Forget a worker and its token; its history stays. False when unknown."""

    # controllers

    @abstractmethod
    async def note_controller(self, controller: RegisteredController) -> None:
        """Enter a controller into the register, or what it says of itself now."""

    @abstractmethod
    async def controllers(self) -> list[RegisteredController]:
        """Every controller that has not signed off, by when it started."""

    @abstractmethod
    async def remove_controller(self, controller_id: str) -> None:
        """Strike a controller off the register; if it leads, it does so no more."""

    @abstractmethod
    async def lead(
        self, controller_id: str, *, term: int | None, now: float, until: float
    ) -> Leadership:
        """Who leads after this: the caller, if it leads in this term or nobody does at `now`.

        Then until that instant, which is never moved back.
        """

    @abstractmethod
    async def call_to_reload(self) -> int:
        """Call upon all controllers to read their configuration anew; which call that is."""

    # processes

    @abstractmethod
    async def add_process(self, process: Process, audit: Sequence[AuditEntry] = ()) -> None:
        """Keep a process that was asked for, before the worker hears of it.

        In one transaction with the lines of the audit that say so.
        """

    async def change_process(self, change: ProcessChange) -> ProcessState | None:
        """Write a process' new state; how it stands then, which may be further on already.

        A state never goes backwards: an ended process stays ended, whatever comes later, and only
        one that waits is skipped. None
        when that worker has no such process.
        """
        [state] = await self.change_processes([change])
        return state

    @abstractmethod
    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        """The same of several, one after the other, in one transaction with lines of the audit."""

    @abstractmethod
    async def begin_process(
        self, process_id: str, *, not_after: float, audit: Sequence[AuditEntry] = ()
    ) -> bool:
        """Take a waiting process to `REQUESTED`, before the worker hears of it.

        In one transaction with the lines of the audit that say so. False, and nothing is written,
        when it does not wait any more.
        """

    @abstractmethod
    async def keep_stop(self, process_id: str, worker_id: str, proof: StopProof) -> None:
        """Write what the latest stop of a worker's process has proven."""

    @abstractmethod
    async def touch_processes(self, worker_id: str, now: float) -> None:
        """Note that a worker has said how its open processes stand."""

    @abstractmethod
    async def process(self, process_id: str) -> Process | None:
        """One process."""

    @abstractmethod
    async def processes(self, query: ProcessQuery) -> Page[Process]:
        """Processes, newest first."""

    # batches

    @abstractmethod
    async def add_batch(
        self,
        batch: Batch,
        work: BatchWork,
        processes: Sequence[Process],
        *,
        key: IdempotencyKey | None,
    ) -> KeptBatch:
        """Keep a batch with its processes, in one transaction; answers which batch stands.

        When its key stands for an earlier batch of the same credential, nothing is written.
        """

    @abstractmethod
    async def kept_batch(self, requested_by: str, key: IdempotencyKey) -> KeptBatch | None:
        """The batch that a key of this credential stands for; none: it may make one."""

    @abstractmethod
    async def batch(self, batch_id: str) -> Batch | None:
        """One batch."""

    @abstractmethod
    async def batch_work(self, batch_id: str) -> BatchWork | None:
        """What a batch sends to its workers; none once it has ended: it is forgotten then."""

    @abstractmethod
    async def batch_processes(self, batch_id: str) -> list[Process]:
        """The processes of a batch, in the order of their turns."""

    @abstractmethod
    async def change_batch(
        self, batch_id: str, state: BatchState, *, now: float, reason: str | None = None
    ) -> Batch | None:
        """Take a batch to a later state, never backwards; how it stands then."""

    @abstractmethod
    async def skip_processes(self, batch_id: str, error: str) -> None:
        """Take every process of a batch that waits for its turn to `SKIPPED`."""

    @abstractmethod
    async def batches(self, query: BatchQuery) -> Page[Batch]:
        """Batches, newest first."""

    # the audit

    @abstractmethod
    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Write lines of the audit, and number them. No line is ever changed or removed."""

    @abstractmethod
    async def audit(self, query: AuditQuery) -> Page[AuditEntry]:
        """Lines of the audit, by the time at which they were written."""

"""A run: what became of an execution, and a slot: what comes next."""

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """The one named end of a due time; `RETRIED` and `STALE` are none, and counted apart."""

    SUCCEEDED = "succeeded"
    """The result is in the archive."""
    FAILED = "failed"
    """The last attempt failed; no version was stored."""
    COALESCED = "coalesced"
    """A later run stands for it."""
    MISSED = "missed"
    """It was not run; the reason is in `failure`."""
    STALE = "stale"
    """A result came under a lease that was no longer held; it was refused."""
    RETRIED = "retried"
    """An attempt failed, and another follows for the same due time."""


class Cause(StrEnum):
    """Why a due time was not run by itself, for programs; the text beside it is for people."""

    CONTROLLER_DOWN = "controller_down"
    """No controller was up when it was due."""
    NO_WORKER = "no_worker"
    """No worker was there whose tags let it have the device."""
    WORKER_LOST = "worker_lost"
    """The worker that had leased the slot let the lease run out."""
    BREAKER_OPEN = "breaker_open"
    """The device was held back because it failed again and again."""
    BUSY = "busy"
    """Workers were there, but had no room, or a limit was reached."""
    PAUSED = "paused"
    """Its device or its job was paused."""
    OUTSIDE_WINDOW = "outside_window"
    """It lay outside the times at which it may run."""
    REPLANNED = "replanned"
    """Its schedule was changed before it was run."""
    REMOVED = "removed"
    """Its device or job was taken out of the configuration before it was run."""


class FailureClass(StrEnum):
    """Why a run failed, for programs; the text beside it is for people."""

    UNREACHABLE = "unreachable"
    """No connection: no route, no answer, name not found."""
    REFUSED = "refused"
    """The device refused the connection or the protocol."""
    HOST_KEY = "host_key"
    """The host key is unknown or has changed, or the certificate is not accepted."""
    AUTHENTICATION = "authentication"
    """The credentials were not accepted."""
    PROMPT = "prompt"
    """The prompt never came."""
    ENABLE = "enable"
    """The privileged mode was not reached."""
    REJECTED = "rejected"
    """The device did not accept a command."""
    COMMAND = "command"
    """An expectation on a command's output was not met."""
    UNVERIFIED = "unverified"
    """The output does not end as that of the command should."""
    FILE = "file"
    """A file could not be fetched or unpacked."""
    TIMED_OUT = "timed_out"
    """A time limit of the command or of the session was reached."""
    CLOSED_EARLY = "closed_early"
    """The device closed the connection in the middle."""
    TOO_LARGE = "too_large"
    """The result is larger than the job allows."""
    SCRUBBER = "scrubber"
    """A scrubber could not be applied."""
    SECRETS = "secrets"
    """Something in the result looked like a secret, and the job refuses that."""
    EMPTY = "empty"
    """The run ended well but brought nothing back."""
    INVALID = "invalid"
    """The execution itself could not be understood by the worker."""
    INTERNAL = "internal"
    """A fault in the worker itself."""
    SHRUNK = "shrunk"
    """The result lost much of what was there before: it waits in quarantine to be confirmed."""
    OTHER = "other"
    """Not said: a client of the published contract sends only a text."""


class SecretFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What looks like a secret in a result although every filter has run; never its text."""

    detector: str
    """The kind of secret, such as `private_key`; `unfinished` where the search took too long."""
    line: int
    """The first line on which it was found, from 1."""
    count: int
    """How many were found."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One row of history, with one outcome."""

    run_id: str
    """UUID."""
    device: str
    """Name of the device."""
    job: str
    """Name of the job."""
    due: int
    """When it was due, Unix seconds. With `count` above 1, the first of them."""
    outcome: Outcome
    """What became of it."""
    recorded_at: float
    """When the ledger learnt it, Unix seconds."""
    count: int = 1
    """How many due times this row stands for (coalesced and missed ones are kept as spans)."""
    last_due: int | None = None
    """The last due time that this row stands for, when there are several."""
    into: str | None = None
    """For coalesced: `run_id` of the run that stands for it."""
    epoch: int | None = None
    """Epoch of the lease under which it ran."""
    worker_id: str | None = None
    """Who ran it, when known."""
    started_at: float | None = None
    """When the worker began, Unix seconds, by the worker's clock."""
    ended_at: float | None = None
    """When the worker ended, Unix seconds, by the worker's clock."""
    failure: str | None = None
    """Why it failed or was missed, for people."""
    failure_class: FailureClass | None = None
    """Why it failed, for programs."""
    cause: Cause | None = None
    """For coalesced and missed: why it was not run by itself."""
    size: int | None = None
    """Bytes of the result."""
    changed: bool | None = None
    """Whether the result differed from the version before."""
    version: str | None = None
    """Commit in the archive that holds this result."""
    digest: str | None = None
    """Digest over the whole completion; tells a repeat from another result."""
    evidence: bool = False
    """Whether it left something behind that is kept beside it: a failed run what the device said,
    one that shrank its result. Its transcript, while it is kept."""
    on_demand: bool = False
    """Whether a person asked for it, beside the schedule."""
    attempt: int = 1
    """Which attempt at its due time it was, from 1."""
    retry_at: int | None = None
    """For retried: from when on the next attempt is handed out, Unix seconds."""
    accepted_by: str | None = None
    """For shrunk: who had its result stored all the same; it is `version` then."""
    accepted_at: float | None = None
    """When that was, Unix seconds."""
    detected_secrets: tuple[SecretFinding, ...] = ()
    """What looked like a secret in the result although every filter had run."""


class SlotState(StrEnum):
    """Where a slot stands."""

    WAITING = "waiting"
    """Its due time lies ahead, or that of its next attempt."""
    DUE = "due"
    """It is to be handed out, and nobody holds it."""
    LEASED = "leased"
    """A worker holds it."""
    PAUSED = "paused"
    """Its device or its job is paused."""
    HELD = "held"
    """Its device's breaker is open, and another of its slots is to be the probe."""
    ENDED = "ended"
    """Its schedule has no further time."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One (device, job) pair: what is next, and who holds it."""

    device: str
    """Name of the device."""
    job: str
    """Name of the job."""
    tags: tuple[str, ...]
    """Tags of the device."""
    due: int | None
    """Next time at which it is due, Unix seconds; none when the schedule has ended."""
    state: SlotState
    """Where it stands."""
    epoch: int
    """Epoch of the last lease; 0 before the first."""
    ready: int | None = None
    """From when on it is handed out, Unix seconds: `due`, or later while it waits for another
    attempt or to be its device's probe; none when it is held or its schedule has ended."""
    attempts: int = 0
    """How many attempts at `due` have failed so far."""
    quarantined: str | None = None
    """`run_id` of the run whose result waits in quarantine to be confirmed."""
    on_demand: bool = False
    """Whether `due` was asked for by a person, beside the schedule."""
    worker_id: str | None = None
    """Who holds it, when known."""
    lease_expires_at: float | None = None
    """Until when it is held, Unix seconds."""
    closed_by: tuple[str, ...] = ()
    """Names of the windows that keep its scheduled runs from starting now."""
    opens_at: int | None = None
    """When they may be started again, Unix seconds; none: they may now, or never again."""


class RunNow(StrEnum):
    """What became of the wish to run a slot now."""

    QUEUED = "queued"
    """The slot is due now."""
    ALREADY_DUE = "already_due"
    """It was due already and waits for a worker."""
    RUNNING = "running"
    """A worker holds it; nothing was changed."""
    PAUSED = "paused"
    """Its device or its job is paused; nothing was changed."""

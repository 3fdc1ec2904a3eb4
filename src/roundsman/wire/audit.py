"""The audit: one line for each attempt to change something, written and never changed."""

from enum import StrEnum

import msgspec


class AuditArea(StrEnum):
    """What an action is about."""

    PROCESSES = "processes"
    """Commands on workers."""
    OPERATIONS = "operations"
    """Everything else that a person or a worker asks for."""


class AuditAction(StrEnum):
    """What was attempted."""

    START_PROCESS = "process.start"
    """Start a command on a worker."""
    STOP_PROCESS = "process.stop"
    """End a process with all that it started."""
    START_BATCH = "batch.start"
    """Start a command on workers, as a batch."""
    STOP_BATCH = "batch.stop"
    """End a batch on all its workers."""
    READ_PROCESS = "process.read"
    """Look at processes or their output; kept where it was refused."""
    REPORT_PROCESS = "process.report"
    """A worker speaks of a process; kept where that process is not its own."""
    CONNECT_WORKER = "worker.connect"
    """Open a worker's control channel; kept where it was refused."""
    ENROL_WORKER = "worker.enrol"
    """Make a new worker known."""
    REMOVE_WORKER = "worker.remove"
    """Forget a worker and its token."""
    RUN_NOW = "slot.run_now"
    """Run a job on a device beside its schedule."""
    ACCEPT_RUN = "run.accept"
    """Store a result that waits in quarantine."""
    PAUSE_DEVICE = "device.pause"
    """Hold a device back."""
    RESUME_DEVICE = "device.resume"
    """Let a device go on."""
    RELEASE_DEVICE = "device.release"
    """Close a device's breaker."""
    PAUSE_JOB = "job.pause"
    """Hold a job back."""
    RESUME_JOB = "job.resume"
    """Let a job go on."""
    RELOAD = "configuration.reload"
    """Read the configuration anew."""

    @property
    def area(self) -> AuditArea:
        """What it is about."""
        return AuditArea.PROCESSES if self in _OF_PROCESSES else AuditArea.OPERATIONS


_OF_PROCESSES = frozenset(
    {
        AuditAction.START_PROCESS,
        AuditAction.STOP_PROCESS,
        AuditAction.START_BATCH,
        AuditAction.STOP_BATCH,
        AuditAction.READ_PROCESS,
        AuditAction.REPORT_PROCESS,
        AuditAction.CONNECT_WORKER,
    }
)


class AuditOutcome(StrEnum):
    """What became of an attempt."""

    REQUESTED = "requested"
    """It is about to be carried out. A line with its outcome follows, unless the controller ended
    in between."""
    DONE = "done"
    """It took effect."""
    REFUSED = "refused"
    """It had no effect: credential, request, state of things or the worker's policy spoke
    against it."""
    FAILED = "failed"
    """It was begun, and did not come to its end in time or in full."""


class AskedCommand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was to be started. Values of the environment and standard input are not kept."""

    command: str
    """By the worker's name for it."""
    arguments: tuple[str, ...] = ()
    """Each cut at 1,000 characters."""
    environment: tuple[str, ...] = ()
    """The names of the variables that were given."""
    standard_input_bytes: int = 0
    """How much was given to read."""
    standard_input_sha256: str | None = None
    """Its digest, hexadecimal; none when nothing was given."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the audit. What does not apply is left out."""

    at: float
    """When it was written, Unix seconds."""
    action: AuditAction
    """What was attempted."""
    outcome: AuditOutcome
    """What became of it."""
    number: int = 0
    """Counts up with each line; given by the ledger."""
    by: str | None = None
    """Name of the credential; none when it is not known."""
    role: str | None = None
    """Its role."""
    address: str | None = None
    """Where the request came from; behind a proxy, what the proxy says."""
    worker_id: str | None = None
    """The worker it was about."""
    process_id: str | None = None
    """The process it was about."""
    batch_id: str | None = None
    """The batch it was part of."""
    device: str | None = None
    """The device it was about."""
    job: str | None = None
    """The job it was about."""
    run_id: str | None = None
    """The run it was about."""
    asked: AskedCommand | None = None
    """What was to be started."""
    error: str | None = None
    """Why it was refused or failed, for people; cut at 500 characters."""
    code: str | None = None
    """The same, stable, for programs."""
    count: int = 1
    """So many like it: attempts that bear no right to the call are counted for a minute after the
    first, so that they fill no disk."""


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of the audit to list."""

    area: AuditArea | None = None
    action: AuditAction | None = None
    by: str | None = None
    worker_id: str | None = None
    process_id: str | None = None
    batch_id: str | None = None
    since: float | None = None
    """Written at this instant or later."""
    until: float | None = None
    """Written before this instant."""
    oldest_first: bool = False
    """Else newest first."""
    after: str | None = None
    limit: int = 100

"""A process: a command started on a worker; and the bodies of `/start`, `/stop` and `/query`."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta


class ProcessState(StrEnum):
    """Where a process stands."""

    WAITING = "waiting"
    """Its turn in a batch has not come."""
    REQUESTED = "requested"
    """Written down; the worker has not answered yet."""
    RUNNING = "running"
    """The worker started it."""
    ENDED = "ended"
    """It ended: see exit status or signal."""
    REFUSED = "refused"
    """The worker did not start it: see `error`."""
    UNKNOWN = "unknown"
    """The worker that ran it restarted and cannot know how it ended: see `error`."""
    SKIPPED = "skipped"
    """Its worker was never given it: see `error`."""


OPEN_STATES: Final = (ProcessState.WAITING, ProcessState.REQUESTED, ProcessState.RUNNING)
"""Those that another follows."""


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far a process may go. A worker's policy has limits too: of each pair the lower holds."""

    wall_seconds: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    """From its start, whatever it does."""
    idle_seconds: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    """Without a byte on either stream."""
    output_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    """Of both streams together; what comes after is read and dropped, and the cut is marked."""
    memory_bytes: Annotated[int, Meta(gt=0, le=1 << 50)] | None = None
    """Of the whole tree where the machine gives it a cgroup with memory, else of each process."""
    cpu_seconds: Annotated[int, Meta(gt=0, le=10**9)] | None = None
    """Of processor time, each process by itself."""
    processors: Annotated[float, Meta(ge=0.01, le=10_000)] | None = None
    """So many at once, the whole tree; only where the machine gives it a cgroup with processors."""
    tasks: Annotated[int, Meta(gt=0, le=1_000_000)] | None = None
    """Processes and threads at once, in the whole tree."""


class StopProof(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen after a stop, or after an end with somebody left behind."""

    method: str
    """How the tree was looked for: `cgroup`, `subreaper` (its children and theirs, and whoever
    bears its id) or `group` (the process group alone)."""
    group_empty: bool
    """Nobody is left in its process group."""
    cgroup_empty: bool | None = None
    """Nobody is left in its cgroup; none where it had none."""
    tree_empty: bool | None = None
    """Nobody is left of all that it started, as far as the method sees; none where it saw nothing
    beyond the group."""
    left: tuple[int, ...] = ()
    """Process ids still there."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process, as the ledger knows it."""

    process_id: str
    """UUID; `job_id` on the fleet API."""
    worker_id: str
    """Where it runs."""
    command: str
    """Executable, by the worker's allowed names."""
    path: str
    """Its first argument: a script, relative to the command's scripts folder; empty: none."""
    state: ProcessState
    """Where it stands."""
    requested_at: float
    """Unix seconds."""
    requested_by: str
    """Name of the credential that asked for it."""
    started_at: float | None = None
    """Unix seconds, by the worker's clock."""
    ended_at: float | None = None
    """Unix seconds, by the worker's clock."""
    exit_status: int | None = None
    """Exit status, when it exited by itself."""
    signal: str | None = None
    """Name of the signal that ended it, such as `killed`, when one did."""
    error: str | None = None
    """Why it was refused, or why its end is not known."""
    cause: str | None = None
    """Which limit ended it, in words; none when it ended by itself or was stopped."""
    stop: StopProof | None = None
    """What was seen of all that it started: by its latest stop, or after its end where somebody was
    left behind; none: nobody was."""
    last_seen_at: float | None = None
    """When its worker last said something of it, Unix seconds."""
    age_seconds: float | None = None
    """How old this knowledge is: 0 while its worker is connected, else since `last_seen_at`; none
    once nothing can change any more. Not kept: worked out when asked."""
    arguments: tuple[str, ...] = ()
    """Further arguments."""
    batch_id: str | None = None
    """The batch it is part of; none when it was started by `/start`."""
    not_after: float | None = None
    """Its worker does not start it after this, Unix seconds."""

    @property
    def done(self) -> bool:
        """Whether nothing of it can run any more."""
        return self.state not in OPEN_STATES

    @property
    def gone(self) -> bool:
        """Whether it has ended and nobody of it was seen since, as far as its worker has said."""
        if self.stop is not None:
            return self.done and not self.stop.left
        return self.done and self.state is not ProcessState.UNKNOWN

    @property
    def error_text(self) -> str:
        """How it ended, in the words of the published contract; empty when well or not yet."""
        if self.error is not None:
            return self.error
        if self.signal is not None:
            return f"signal: {self.signal}"
        if self.exit_status:
            return f"exit status {self.exit_status}"
        return ""


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /start`."""

    worker_id: str
    """Where to run."""
    command: str
    """What to run, by the worker's allowed names."""
    path: str
    """The one argument: a path relative to the worker's scripts folder."""


class StartAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /start`, 201."""

    job_id: str
    """The process' id, for `/stop` and `/query`."""


class ProcessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /stop` and `POST /query`."""

    worker_id: str
    """Where it runs."""
    job_id: str
    """The process' id."""


class StopAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /stop`, 200."""

    success: bool
    """Always true: anything else is an error body."""


class QueryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /query`, 200."""

    done: bool
    """Whether it has ended."""
    error: bool
    """Whether it ended otherwise than well."""
    error_text: str
    """How it ended, empty when well or not yet."""


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error on every surface."""

    error: str
    """For people; on the fleet API in the words of the published contract."""
    code: str = ""
    """Stable, for programs."""


class OutputChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of what a process wrote, in order."""

    number: int
    """Counts up from 1 within the process, across both streams."""
    stream: str
    """`stdout`, `stderr`, or `roundsman` for a remark such as a cut."""
    at: float
    """When the worker read it, Unix seconds."""
    data: bytes
    """The bytes; base64 in JSON."""

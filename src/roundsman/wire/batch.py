"""A batch: one command for one or many workers, and what became of it on each."""

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from roundsman.secret import Secret
from roundsman.wire.control import MAX_INPUT_BYTES
from roundsman.wire.process import Process, ProcessLimits

WORKERS: int = 10_000
"""At most so many in one batch."""
KEY_SECONDS: int = 86_400
"""How long an idempotency key is remembered."""

Text: TypeAlias = Annotated[str, Meta(max_length=131_072)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]


class BatchState(StrEnum):
    """Where a batch stands."""

    RUNNING = "running"
    """Workers are given the command, or it runs on some."""
    DRAINING = "draining"
    """It failed on too many: no further worker is given it, and it runs on some still."""
    STOPPING = "stopping"
    """It was stopped: no further worker is given it, and it is being ended on the others."""
    ENDED = "ended"
    """Nothing of it runs any more."""


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /api/v1/processes`. The workers are named by `workers` or chosen by `on`."""

    command: Name
    """What to run, by the name that the workers' policies have for it."""
    path: Annotated[str, Meta(max_length=4096)] | None = None
    """Its first argument: a path below the command's scripts folder."""
    arguments: Annotated[tuple[Text, ...], Meta(max_length=1000)] = ()
    """Further arguments, after `path`."""
    environment: Annotated[dict[Name, Text], Meta(max_length=1000)] = {}
    """Variables beside those that the worker sets."""
    secret_environment: Annotated[dict[Name, Text], Meta(max_length=1000)] = {}
    """Variables whose values are masked in the output."""
    standard_input: Annotated[bytes, Meta(max_length=MAX_INPUT_BYTES)] = b""
    """What it reads, then the end; base64, at most 262144 bytes."""
    limits: ProcessLimits = ProcessLimits()
    """How far it may go on each worker."""
    time_to_live: Annotated[float, Meta(gt=0, le=604_800)] = 30.0
    """Seconds: a worker whose turn has come and which has not been given the command by then, say
    because it is away, does not start it any more."""
    workers: Annotated[tuple[Name, ...], Meta(max_length=WORKERS)] = ()
    """Ids of workers, in the order in which they have their turn."""
    on: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    """Which workers, by name: an expression such as `tag=dallas and not tag=lab`."""
    width: Annotated[int, Meta(ge=1, le=WORKERS)] = 100
    """On at most so many workers at once."""
    stop_above: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """When it has failed on more than this share of all workers, no further one is given it."""
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """The same key from the same credential with the same body starts nothing again; with another
    body it is refused. Remembered for 24 hours."""


class BatchMember(msgspec.Struct, frozen=True, kw_only=True):
    """One worker of a batch, and the process on it."""

    worker_id: str
    """The worker."""
    process_id: str
    """UUID."""


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /api/v1/processes`, 202."""

    batch_id: str
    """UUID."""
    processes: tuple[BatchMember, ...]
    """One for each worker, in the order of their turns."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch, as the ledger knows it. No values of the environment, nothing of the input."""

    batch_id: str
    """UUID."""
    command: str
    """What is run."""
    path: str | None
    """Its first argument."""
    arguments: tuple[str, ...]
    """Further arguments."""
    environment: tuple[str, ...]
    """Names of the variables that were given."""
    standard_input_bytes: int
    """How much was given to read."""
    limits: ProcessLimits
    """How far it may go on each worker."""
    time_to_live: float
    """Seconds that a start may be on its way."""
    target: str
    """Which workers: the expression, or how many were named."""
    workers: int
    """How many."""
    width: int
    """On at most so many at once."""
    stop_above: float
    """Share of failures above which it stops."""
    requested_at: float
    """Unix seconds."""
    requested_by: str
    """Name of the credential that asked for it."""
    state: BatchState = BatchState.RUNNING
    """Where it stands."""
    reason: str | None = None
    """Why it was stopped before its end; none: it was not."""
    ended_at: float | None = None
    """Unix seconds."""


class BatchWork(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to each worker, and for whom: in the ledger until the batch has ended."""

    environment: dict[str, str]
    secret_environment: dict[str, Secret]
    standard_input: bytes
    role: str
    """Of the credential that asked for it."""
    address: str | None
    """Where that was asked from."""


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """A batch with one result for each worker."""

    batch: Batch
    """What was asked for, and where it stands."""
    succeeded: bool | None
    """Whether it ended with exit status 0 on every worker; none while that is open."""
    failed: int
    """On how many it ended otherwise, or could not be started, or was not."""
    counts: dict[str, int]
    """How many of its processes stand how."""
    processes: tuple[Process, ...]
    """One for each worker, in the order of their turns."""


class StopRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a stop under `/api/v1`; may be left out."""

    grace_seconds: Annotated[float, Meta(ge=0, le=3600)] | None = None
    """From SIGTERM to SIGKILL; none: as the worker has it, 0: SIGKILL at once."""


class StopReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a stop came to."""

    gone: bool
    """Whether it has ended and nothing of it is left, as far as its worker sees, or was seen left
    by a worker that is away."""
    process: Process
    """How it stands now; `stop` says what was looked at, and what is left."""


class BatchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which batches to list, newest first."""

    state: BatchState | None = None
    after: str | None = None
    limit: int = 100


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a request the same as an earlier one of the same credential."""

    key: str
    digest: str
    """Of the request, SHA-256, hexadecimal."""
    since: float
    """Earlier ones are forgotten, Unix seconds."""


class KeptBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The batch that stands for a request."""

    batch_id: str
    digest: str
    """Of the request that it was made by; empty where that had no key."""

"""What travels over the control channel: one WebSocket that the worker opens, JSON both ways."""

from typing import Final

import msgspec

from roundsman.secret import Secret
from roundsman.wire import codec
from roundsman.wire.process import OutputChunk, ProcessLimits, ProcessState, StopProof

MAX_INPUT_BYTES: Final = 256 * 1024
"""Of standard input."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all messages; `type` on the wire names which."""


# Controller to worker


class StartProcess(_Message, frozen=True, kw_only=True, tag="start_process"):
    """Start it, or refuse it: answered by `ProcessChanged`."""

    process_id: str
    command: str
    """By the name that the worker's policy has for it."""
    path: str | None = None
    """Its first argument: a path below the command's scripts folder. None: there is no such
    argument."""
    arguments: tuple[str, ...] = ()
    """Further arguments, after `path`."""
    environment: dict[str, str] = {}
    """Variables beside those that the worker sets itself."""
    secret_environment: dict[str, Secret] = {}
    """Variables whose values are masked in the output."""
    standard_input: bytes = b""
    """What it reads, then the end; base64 in JSON, at most `MAX_INPUT_BYTES`."""
    limits: ProcessLimits = ProcessLimits()
    not_after: float | None = None
    """Unix seconds: refused when it reaches the worker later."""
    requested_by: str = ""
    """Name of the credential that asked for it."""
    roles: tuple[str, ...] = ()
    """What that credential may."""


class StopProcess(_Message, frozen=True, kw_only=True, tag="stop_process"):
    """End it with all that it started: answered by `StopFinished` once that is proven."""

    process_id: str
    grace_seconds: float | None = None
    """From SIGTERM to SIGKILL; none: as the worker has it, 0: SIGKILL at once."""


class ReadOutput(_Message, frozen=True, kw_only=True, tag="read_output"):
    """Send its output, answered by `Output` messages with the same `request_id`."""

    request_id: str
    process_id: str
    after: int = 0
    """Send the chunks numbered above this."""
    follow: bool = False
    """Go on until the process has ended, rather than until what is there has been sent."""


class CancelRead(_Message, frozen=True, kw_only=True, tag="cancel_read"):
    """Nobody reads any more."""

    request_id: str


class Acknowledge(_Message, frozen=True, kw_only=True, tag="acknowledge"):
    """The ledger keeps how this process ended; the worker need not say it again."""

    process_id: str


ToWorker = StartProcess | StopProcess | ReadOutput | CancelRead | Acknowledge

# Worker to controller


class ProcessChanged(_Message, frozen=True, kw_only=True, tag="process_changed"):
    """A process reached a new state; repeated after each reconnect until acknowledged."""

    process_id: str
    state: ProcessState
    at: float
    exit_status: int | None = None
    signal: str | None = None
    error: str | None = None
    cause: str | None = None
    """Which limit ended it, in words; none when it ended by itself or was stopped."""
    left_behind: StopProof | None = None
    """Who of it was still there when it had ended, in a further report of the same end; in the
    next one nobody is. None: nobody was seen."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One of the bounds within which a worker's machine can keep a process."""

    name: str
    """Such as `memory`."""
    given: bool
    """Whether the machine gives it in full."""
    how: str
    """By what it is held, or what is lacking, in words."""


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """First message after each connect: every process this worker knows of."""

    version: str
    tags: tuple[str, ...] = ()
    processes: tuple[ProcessChanged, ...] = ()
    bounds: tuple[Bound, ...] = ()
    """What its machine gives processes, and what it lacks."""
    arrays: bool = False
    """Whether it takes several messages in one frame (`roundsman.wire.framing`)."""


class StopFinished(_Message, frozen=True, kw_only=True, tag="stop_finished"):
    """The stop of a process came to its end."""

    process_id: str
    gone: bool
    """Whether nobody of it is left, as far as this worker can see."""
    left: tuple[int, ...] = ()
    """Process ids still there, when not."""
    proof: StopProof | None = None
    """What was seen; none when the worker never had it."""
    error: str | None = None
    """`job not found` when the worker never had it."""


class Output(_Message, frozen=True, kw_only=True, tag="output"):
    """Chunks of output, for one `ReadOutput`."""

    request_id: str
    chunks: tuple[OutputChunk, ...] = ()
    end: bool = False
    """Whether nothing follows."""
    error: str | None = None
    """Why nothing could be read."""


ToController = Hello | ProcessChanged | StopFinished | Output

to_worker: "msgspec.json.Decoder[ToWorker]" = codec.decoder(ToWorker)  # type: ignore[arg-type]  # a union is no class to mypy
"""Decoder of what a controller says; `codec.encode` is its counterpart."""

"""What travels over the control channel: one WebSocket that the worker opens, JSON both ways."""

import msgspec

from roundsman.wire.process import OutputChunk, ProcessState


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all messages; `type` on the wire names which."""


# Controller to worker


class StartProcess(_Message, frozen=True, kw_only=True, tag="start_process"):
    """Start it, or refuse it: answered by `ProcessChanged`."""

    process_id: str
    command: str
    path: str


class StopProcess(_Message, frozen=True, kw_only=True, tag="stop_process"):
    """End its whole group: answered by `StopFinished` once that is proven."""

    process_id: str


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


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """First message after each connect: every process this worker knows of."""

    version: str
    tags: tuple[str, ...] = ()
    processes: tuple[ProcessChanged, ...] = ()


class StopFinished(_Message, frozen=True, kw_only=True, tag="stop_finished"):
    """The stop of a process came to its end."""

    process_id: str
    gone: bool
    """Whether the whole process group is proven gone."""
    left: tuple[int, ...] = ()
    """Process ids still there, when not."""
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

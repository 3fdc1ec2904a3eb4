"""What the lease loop asks of the part that logs in to devices, and what it hands to it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol, cast

from roundsman.errors import RoundsmanError
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass, SecretFinding
from roundsman.worker.deadline import NO_DEADLINE, LeaseDeadline

IN_MEMORY_BYTES: Final = 1 << 16
"""Up to so many bytes an intermediate file stays in memory: opening one on disk takes 0.2 ms, a
tenth of a session, and most configurations are smaller. 64 MB at 1,000 sessions."""


class RunFailedError(RoundsmanError):
    """A run did not bring back what it should have.

    `text` goes to the controller as the failure, for people: name what was expected and what came,
    never a secret. Whatever the result file holds at that moment goes along as evidence; a runner
    that wants none kept calls `ResultFile.clear()` first.
    """

    code = "run.failed"

    def __init__(self, text: str, failure_class: FailureClass) -> None:
        """Keep the sentence for people and the class for programs."""
        super().__init__(text)
        self.failure_class = failure_class


class ResultTooLargeError(RunFailedError):
    """The result grew beyond what the job, or the worker's disk allowance, permits."""

    code = "run.too_large"

    def __init__(self, limit: int) -> None:
        """Say the limit, in bytes."""
        super().__init__(f"the result is larger than {limit} bytes", FailureClass.TOO_LARGE)


class ResultFile:
    """Where a runner writes what it brings back: a file on disk, bounded, never held in memory.

    Writes are plain calls: they go to the system's page cache. Flushing to disk is the outbox's
    work, once the run has ended.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        max_bytes: int,
        scratch_folder: Path,
        on_growth: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Write to `file`, which is empty and open for writing; whoever opened it closes it.

        `on_growth` hears by how many bytes the file is about to grow (negative when it is
        cleared), and may raise to forbid it.
        """
        self._file = file
        self._scratch_folder = scratch_folder
        self._on_growth = on_growth
        self.max_bytes = max_bytes
        self.size = 0
        self.detected_secrets: tuple[SecretFinding, ...] = ()
        """What looks like a secret in what was written, or was to be."""
        self.recording: str | None = None
        """The session as a recorded dialogue, if one was made."""
        self.broken: OSError | None = None
        """Why the disk took no more: for the caller, who then gives the run up."""
        self._closed = False
        self.on_received: Callable[[int], None] = lambda _: None
        """Told by the runner how many bytes came from the device, whenever some came: from it the
        caller knows whether the run gets on."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; raises `ResultTooLargeError`, having written nothing, beyond `max_bytes`."""
        self._refuse_if_closed()
        length = memoryview(data).nbytes
        if self.size + length > self.max_bytes:
            raise ResultTooLargeError(self.max_bytes)
        self._on_growth(length)
        self.size += length
        try:
            self._file.write(data)
        except OSError as error:
            self.broken = error
            raise

    def clear(self) -> None:
        """Forget everything written so far."""
        self._refuse_if_closed()
        self._file.seek(0)
        self._file.truncate()
        self._on_growth(-self.size)
        self.size = 0

    def close(self) -> None:
        """Take nothing more: for the caller, once the run has ended or was given up."""
        self._closed = True

    def scratch(self) -> IO[bytes]:
        """A nameless file for intermediate steps, on the same disk once it is large.

        It is gone once closed. Use it as a context manager, and bound what goes there: it counts
        towards no limit.
        """
        folder = str(self._scratch_folder)
        # It has all that files have, which its type does not say.
        return cast("IO[bytes]", tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=folder))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ValueError("the run has ended: its result takes nothing more")


class DeviceRunner(Protocol):
    """Runs an execution against its device. One object serves all sessions of a worker at once."""

    async def run(
        self, execution: Execution, result: ResultFile, deadline: LeaseDeadline = NO_DEADLINE
    ) -> None:
        """Log in, do the job, write the scrubbed result, log out.

        Nothing is sent to the device without a look at `deadline` before it.

        Returning means: proven complete, and `result` is the new version. Everything foreseen that
        goes wrong is a `RunFailedError`; any other exception counts as a fault of the worker
        (class `internal`) and nothing of `result` is kept. Evidence is scrubbed like a result.

        The caller cancels the task at the job's `session_timeout` (class `timed_out`, nothing of
        `result` is kept), and when the lease is lost. A cancelled runner lets go of the device at
        once: it aborts rather than waits for a peer. It may answer with a `RunFailedError` that
        says more, and with evidence. After a few seconds more it is left to itself, and what it
        then writes is refused.
        """
        ...

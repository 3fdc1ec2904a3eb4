"""What a worker remembers of its processes on disk, so that a restart can say what became of them.

Each process has a folder of its own, with `record` (one JSON line for each thing that happened; the
last one counts) and `output`. Nothing is flushed: the records are for the worker's own
death; after a power cut every process has ended, and the controller learns that it is unknown.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from roundsman.wire.control import ProcessChanged


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process stands, by its worker."""

    change: ProcessChanged
    """Its latest state."""
    acknowledged: bool = False
    """Whether the controller keeps that state."""
    pid: int | None = None
    """Its leader's process id, which is its group's too; none before it was started, and where its
    cgroup says who is of it."""
    start_ticks: int | None = None
    """When the leader started, in clock ticks since boot."""
    boot_id: str = ""
    """In which life of the machine; process ids of another one mean nothing."""
    keeper: tuple[int, int] = (0, 0)
    """Process id and start of the keeper that has it."""
    cgroup: str = ""
    """Folder of its cgroup; empty where it has none."""
    temporary: str = ""
    """Its folder for temporary files."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ProcessRecord)


class ProcessRecords:
    """The folder of all processes of one worker."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`, which is made when it is not there."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, process_id: str) -> None:
        """Make room for a new process."""
        (self._folder / process_id).mkdir(mode=0o700)

    def write(self, record: ProcessRecord) -> None:
        """Add the latest state of a process."""
        path = f"{self._folder}/{record.change.process_id}/record"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, _encoder.encode(record) + b"\n")
        finally:
            os.close(descriptor)

    def output_path(self, process_id: str) -> Path:
        """Where its output is."""
        return self._folder / process_id / "output"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the worker's other keepers from taking the same lock meanwhile."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def load(self) -> Iterator[ProcessRecord]:
        """The latest record of each process that has a whole one."""
        for folder in list(self._folder.iterdir()):
            if (record := _last_record(folder / "record")) is not None:
                yield record

    def has(self, process_id: str) -> bool:
        """Whether there is a record of that process, whichever keeper has it."""
        return (self._folder / process_id / "record").exists()

    def sweep(self) -> None:
        """Remove folders without a whole record; only while nobody starts anything."""
        for folder in list(self._folder.iterdir()):
            if _last_record(folder / "record") is None:
                self.remove(folder.name)

    def remove(self, process_id: str) -> None:
        """Forget a process and its output."""
        folder = self._folder / process_id
        for name in ("output", "record"):
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()
        with contextlib.suppress(OSError):  # somebody else's file in it: not ours to remove
            folder.rmdir()


def _last_record(path: Path) -> ProcessRecord | None:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        # A line cut short by a crash is passed over: the one before it counts.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return _decoder.decode(line)
    return None

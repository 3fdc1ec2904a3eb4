"""An execution: one due slot, handed to one worker under a lease."""

import msgspec

from roundsman.wire.device import Device
from roundsman.wire.job import Job


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The exclusive right to an execution until it expires."""

    epoch: int
    """Counts the leases of this slot; a result with an older epoch is stale."""
    expires_at: float
    """Unix seconds, by the controller's clock. Renewed by the worker's heartbeat."""
    seconds: float
    """For how long it holds at least, counted from the question: for a worker's own clock."""


class LeaseKey(msgspec.Struct, frozen=True, kw_only=True):
    """What names one lease among all, in heartbeats and completions."""

    device: str
    """Name of the device."""
    job: str
    """Name of the job."""
    epoch: int
    """Epoch of the lease."""


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One element of the answer to `GET /worker/next`."""

    device: Device
    """Where to log in."""
    job: Job
    """What to do there."""
    timestamp: int
    """When it is (or was) due, in Unix seconds; in the past it is run at once."""
    lease: Lease | None = None
    """Absent only in what a foreign controller hands out."""

    @property
    def title(self) -> str:
        """Short text for logs: job, device and due time."""
        return f"{self.job.name} on {self.device.name} due {self.timestamp}"

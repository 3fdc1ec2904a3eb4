"""A breaker: what a device's failures in a row have come to."""

import msgspec

from roundsman.wire.run import FailureClass


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one device since it last answered; open, they hold it back."""

    device: str
    """Name of the device."""
    failures: int
    """How many runs in a row failed because of the device as such, across all of its jobs."""
    failure_class: FailureClass
    """Why the last of them failed, for programs."""
    failure: str
    """The same for people."""
    failed_at: float
    """When that was, Unix seconds."""
    opened_at: float | None = None
    """Since when the device is held back, Unix seconds; none: it is not, so far."""
    probe_at: int | None = None
    """While it is held back: from when on one execution is let through, Unix seconds."""
    probes: int = 0
    """How many of those have failed since then."""

    @property
    def open(self) -> bool:
        """Whether the device is held back."""
        return self.opened_at is not None

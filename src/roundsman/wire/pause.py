"""A pause: a device or a job that is held back."""

from enum import StrEnum

import msgspec


class PauseKind(StrEnum):
    """What a pause is about."""

    DEVICE = "device"
    """Every job of one device."""
    JOB = "job"
    """One job on every device."""


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A device or a job that is held back."""

    kind: PauseKind
    """What is held back."""
    name: str
    """Name of the device or of the job."""
    since: float
    """Unix seconds."""
    by: str
    """Name of the credential that asked for it."""

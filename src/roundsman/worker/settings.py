"""What a worker is told at its start: frozen, checked, complete."""

from enum import StrEnum
from pathlib import Path

import msgspec

from roundsman.secret import Secret


class HostKeyPolicy(StrEnum):
    """Which SSH host keys of devices are accepted."""

    TRUST_ON_FIRST_USE = "trust_on_first_use"
    """The first key seen is pinned in the state folder; a change is a failure."""
    KNOWN = "known"
    """Only keys pinned already, or given with the device."""


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait on disk for the controller before no more work is taken."""

    max_bytes: int = 2 << 30
    """Bytes of finished and of running results together."""
    max_count: int = 10_000
    """Finished results."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker is told."""

    controller: str | tuple[str, ...]
    """Address of the controller, such as `https://roundsman.example.net:9400`, or of several."""
    token: Secret | None = None
    """The token for enrolment; none towards an open controller. Afterwards the worker has its
    own."""
    name: str
    """For people; the host name unless set."""
    state: Path
    """Folder of identity, outbox, pinned host keys and outputs; this worker's alone."""
    tags: tuple[str, ...] = ()
    """Serve devices with any of these; none: every device."""
    sessions: int = 200
    """Sessions at once whose devices get on; with those of devices that are slow or do not answer
    there are up to five times as many."""
    host_keys: HostKeyPolicy = HostKeyPolicy.TRUST_ON_FIRST_USE
    """Which host keys of devices are accepted."""
    ssh_agent: Path | None = None
    """Socket of the SSH agent whose keys devices may be shown whose credentials say so; none: no
    agent is used."""
    policy: Path | None = None
    """File of what may be started on demand; none: nothing."""
    outbox: OutboxSettings = OutboxSettings()
    """Results waiting on disk."""
    ca_file: Path | None = None
    """PEM file of authorities that may sign the controller's certificate, instead of the
    system's."""

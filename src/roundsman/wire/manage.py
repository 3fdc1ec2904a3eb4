"""What `/api/v1` tells and takes beside the records that travel anyway. Never a secret."""

import msgspec

from roundsman.wire.breaker import Breaker
from roundsman.wire.device import Protocol, ProtocolType
from roundsman.wire.job import JobType, MissedPolicy, Schedule
from roundsman.wire.pause import Pause
from roundsman.wire.run import Run, RunNow, Slot


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The controller itself."""

    name: str
    """Always `roundsman`."""
    version: str
    """Release that the controller runs."""
    time: float
    """The controller's clock, Unix seconds."""
    devices: int
    """How many devices are configured."""
    jobs: int
    """How many jobs are configured."""
    slots: int
    """How many (device, job) pairs are configured."""
    workers: int
    """How many workers are enrolled."""
    workers_connected: int
    """How many of them have their control channel open now."""


class DeviceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One device in a list."""

    name: str
    """Unique name."""
    host: str
    """Host name or IP address that workers connect to."""
    protocol: ProtocolType
    """How it is spoken to."""
    tags: tuple[str, ...]
    """Its tags; workers choose devices by them."""
    jobs: tuple[str, ...]
    """Names of its jobs."""
    paused: bool
    """Whether the device itself is paused."""
    breaker: Breaker | None
    """Why, and until when, its breaker holds it back; none: it does not."""


class DeviceJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a device: what is next, and how it went last."""

    slot: Slot
    """What is next, and who holds it."""
    last_run: Run | None
    """The last run that a worker ended, well or not; none before the first."""


class DeviceDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One device, without its secrets."""

    name: str
    """Unique name."""
    host: str
    """Host name or IP address that workers connect to."""
    protocol: Protocol
    """How it is spoken to."""
    tags: tuple[str, ...]
    """Its tags; workers choose devices by them."""
    user: str | None
    """Login name; none where the device asks for nothing."""
    pause: Pause | None
    """Since when, and by whom, the device is paused."""
    breaker: Breaker | None
    """Its failures in a row; while its breaker is open, they hold it back. None when it is well."""
    jobs: tuple[DeviceJob, ...]
    """Its jobs, by name."""


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One job in a list."""

    name: str
    """Unique name."""
    type: JobType
    """What it brings back."""
    schedule: Schedule
    """When it is due, as configured; a device may override it."""
    devices: int
    """How many devices have it."""
    paused: bool
    """Whether the job itself is held back."""


class JobDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as it reads before any device overrides it."""

    name: str
    """Unique name."""
    type: JobType
    """What it brings back."""
    schedule: Schedule
    """When it is due, as configured."""
    next_due: tuple[int, ...]
    """The next times at which it is due by that schedule, Unix seconds; at most five."""
    commands: tuple[str, ...]
    """Its commands, in order. Template values, which may be secret, read `{{name}}`."""
    files: tuple[str, ...]
    """Paths of the files that it fetches, in order."""
    scrubbers: int
    """How many scrubbers it has; what they look for may itself be secret."""
    command_timeout: int
    """Seconds that one command, or the fetch of one file, may take."""
    session_timeout: int
    """Seconds that a whole run may take."""
    max_bytes: int
    """Largest result accepted, in bytes."""
    missed: MissedPolicy
    """What becomes of due times that passed unserved."""
    devices: int
    """How many devices have it."""
    pause: Pause | None
    """Since when, and by whom, the job is held back."""


class RunNowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the wish to run a slot now."""

    result: RunNow
    """`queued`, `already_due` or `running`."""


class PauseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a pause did."""

    changed: bool
    """False when it was held back already."""


class ResumeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a resume did."""

    changed: bool
    """False when it was not held back."""
    slots: int = 0
    """How many slots were set free; one whose other half is paused too stays held."""
    missed: int = 0
    """How many due times had passed meanwhile; each is recorded as missed, reason `paused`."""
    next_due: int | None = None
    """The earliest next due time among the slots set free, Unix seconds."""


class ReleaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What closing a breaker by hand did."""

    changed: bool
    """False when the device was not held back."""


class AcceptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What accepting a quarantined result did."""

    version: str
    """Commit in the archive that holds the result."""
    changed: bool
    """Whether it differed from the version before."""


class ReloadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload brought."""

    devices: int
    """How many devices are configured now."""
    jobs: int
    """How many jobs are configured now."""
    slots: int
    """How many (device, job) pairs are configured now."""
    added: int
    """Slots that are new."""
    changed: int
    """Slots whose schedule or tags changed."""
    removed: int
    """Slots that are gone."""
    needs_restart: tuple[str, ...]
    """Settings that changed and take effect only when the controller starts anew."""


class ConfigurationProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a configuration file, and where."""

    code: str
    """Stable, for programs."""
    file: str
    """The file."""
    line: int | None
    """Line in the file, from 1; none when it is about the file as a whole."""
    path: str
    """Path in the document, such as `devices.edge1.protocol.ssh.port`."""
    text: str
    """What is wrong and what was expected."""
    suggestion: str | None
    """What to do, when that can be said."""


class ReloadRefused(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of a reload with a bad configuration, 422: the old one goes on serving."""

    error: str
    """For people."""
    code: str
    """Stable, for programs."""
    problems: tuple[ConfigurationProblem, ...]
    """Everything that is wrong, in file order."""

"""What a valid configuration is, once read: frozen, expanded, without generics or references."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from roundsman.schedules.interface import Schedule
from roundsman.schedules.windows import ALWAYS, Windows
from roundsman.secret import Secret
from roundsman.wire.device import Device
from roundsman.wire.job import DetectedSecrets, Job


class Role(StrEnum):
    """What the bearer of a token may do."""

    ADMINISTRATOR = "administrator"
    """Everything."""
    READER = "reader"
    """Read the lists under `/api/v1`, never a secret."""
    WORKER = "worker"
    """Enrol, lease and complete; an enrolled worker's own token also serves its own id only."""


class _FromFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is read from a file as it is: a key that is not named is wrong."""


class Token(_FromFile, frozen=True, kw_only=True):
    """One credential of the controller."""

    name: str
    """Who it is given to; the user name in HTTP basic authentication."""
    role: Role
    """What it may do: `administrator`, everything; `reader`, read the lists under `/api/v1`, never
    a secret; `worker`, enrol, lease and complete."""
    hash: str
    """`sha256:` and the hexadecimal SHA-256 of the token; `roundsman token` prints both."""
    tags: tuple[str, ...] = ()
    """For workers: only devices with any of these. None: every device."""


class Tls(_FromFile, frozen=True, kw_only=True):
    """The controller's own TLS."""

    certificate: Path
    """PEM file, chain included."""
    private_key: Path
    """PEM file."""


class Listen(_FromFile, frozen=True, kw_only=True):
    """Where the controller serves."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 9400
    """TCP port; 0 takes a free one."""
    tls: Tls | None = None
    """Serve HTTPS with this."""
    behind_proxy: bool = False
    """A proxy in front provides TLS: allow plain HTTP on an address beyond loopback."""
    drain_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    """At a stop everything is served for so long yet, while `/readyz` answers 503: longer than a
    load balancer takes to find that out. 0: nothing new is taken from the stop on."""


class LeaseSettings(_FromFile, frozen=True, kw_only=True):
    """How long an execution belongs to a worker."""

    seconds: Annotated[int, Meta(ge=1, le=604_800)] = 120
    """For workers that renew by heartbeat."""
    seconds_without_heartbeat: Annotated[int, Meta(ge=1, le=604_800)] = 900
    """For clients of the published contract, which cannot renew."""


class TagLimits(_FromFile, frozen=True, kw_only=True):
    """How much may be going on at once among the devices that have a tag."""

    sessions: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """At most so many executions are out at once. Default: as many as workers take."""
    starts_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """At most so many are handed out a minute, and of these a tenth at once. Default: any
    number."""


class Limits(_FromFile, frozen=True, kw_only=True):
    """Ceilings of the worker API, and how much may be going on at once."""

    result_bytes: Annotated[int, Meta(ge=1, le=1 << 50)] = 1 << 30
    """Largest result accepted, in bytes."""
    executions_per_call: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Ceiling of `max`."""
    seconds_ahead: Annotated[int, Meta(ge=1, le=604_800)] = 3600
    """Ceiling of `seconds`."""
    sessions_per_device: Annotated[int, Meta(ge=1, le=1000)] = 1
    """At most so many of a device's jobs are out at once, whichever workers have them."""
    sessions_per_worker: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """At most so many executions an enrolled worker has at once. Default: as many as it asks for;
    its own settings bound its sessions."""
    tags: dict[str, TagLimits] = {}
    """How much may be going on among the devices that have a tag, by tag."""


class BreakerSettings(_FromFile, frozen=True, kw_only=True):
    """When a device that fails again and again is held back, so that it delays no other."""

    enabled: bool = True
    """Whether devices are held back at all."""
    failures: Annotated[int, Meta(ge=1, le=1000)] = 5
    """After so many runs in a row that failed because of the device as such (it could not be
    reached, refused, said nothing, or has another host key), across all of its jobs."""
    login_failures: Annotated[int, Meta(ge=1, le=1000)] = 2
    """After so many when the last of them failed at the login, or at the privileged mode: more of
    these lock accounts."""
    seconds: Annotated[int, Meta(ge=1, le=604_800)] = 300
    """For so long; then one execution is let through. When that fails too, for twice as long."""
    longest_seconds: Annotated[int, Meta(ge=1, le=604_800)] = 3600
    """But never longer than this. Up to a quarter is added by chance."""


class CommitPer(StrEnum):
    """What a commit of the archive holds."""

    RESULT = "result"
    """One changed result."""
    BATCH = "batch"
    """All results that are written together."""


class PointerSettings(_FromFile, frozen=True, kw_only=True):
    """Which contents are kept beside the repository, named by a pointer file as git LFS has it."""

    above_bytes: Annotated[int, Meta(ge=1024, le=1 << 50)] = 50 << 20
    """Those larger than this, in bytes."""
    binary: bool = False
    """And, whatever their size, those that are not text: a NUL is among their first 8,000 bytes."""


class RemoteSettings(_FromFile, frozen=True, kw_only=True):
    """A git repository elsewhere that every result is pushed to."""

    url: str
    """Where it is: `https://host/path`, `http://host/path`, `ssh://user@host/path`,
    `file:///folder`, or the folder itself. Never with a password in it."""
    user: str | None = None
    """For HTTP: user name; with a token often any name."""
    password: Secret | None = msgspec.field(default=None, name="pass")
    """For HTTP: password or token, as `env:NAME` or `file:PATH`."""
    private_key: Secret | None = None
    """For SSH: the key in OpenSSH's format, without a passphrase, as `env:NAME` or `file:PATH`."""
    host_keys: tuple[str, ...] = ()
    """For SSH: the keys that the server may show, each `ssh-ed25519 AAAA...` as `ssh-keyscan`
    prints it behind the name."""


class Acknowledge(StrEnum):
    """When a worker is told that its result is kept."""

    KEPT = "kept"
    """When it is on the disk of the controller."""
    PUSHED = "pushed"
    """When every remote has it, too."""


class ArchiveSettings(_FromFile, frozen=True, kw_only=True):
    """How results stand in git."""

    paths: tuple[str, ...] = ()
    """Templates of the paths of a result, each with `{device}` and `{job}`; `{tag}` stands for each
    tag of the device in turn, `{shard}` for two hexadecimal digits that follow from its name. At
    least one without `{tag}`. Default: `by_device/{device}/{job}`, and above 4,000 devices
    `by_device/{shard}/{device}/{job}`."""
    commit_per: CommitPer = CommitPer.RESULT
    """What a commit holds: `result`, one changed result; `batch`, all that are written together."""
    overviews: bool = False
    """Whether each folder of the repository has a README.md that lists what is in it and when it
    last changed, for people who read it on a git server's pages."""
    pointers: PointerSettings = PointerSettings()
    """Which contents are kept beside the repository, named by a pointer file as git LFS has it."""
    remotes: dict[str, RemoteSettings] = {}
    """Repositories elsewhere that every result is pushed to, by names of your choice."""
    acknowledge: Acknowledge = Acknowledge.KEPT
    """When a worker is told that its result is kept: `kept`, when it is on the controller's disk;
    `pushed`, when every remote has it. While one cannot be reached workers are then told to come
    again later."""


class EvidenceSettings(_FromFile, frozen=True, kw_only=True):
    """How long to keep what failed runs left behind: transcripts, and results in quarantine."""

    days: Annotated[int, Meta(ge=1, le=36_500)] = 30
    """So long."""
    megabytes: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1000
    """And no more than so many; the oldest goes first."""


class LedgerSettings(_FromFile, frozen=True, kw_only=True):
    """Where slots, leases, runs, workers and processes are kept."""

    url: str | None = None
    """A PostgreSQL database, `postgresql://user@host/database`; several hosts with commas, of which
    the one that can be written is taken. Never with a password in it. Default: a file of SQLite in
    the data folder."""
    password: Secret | None = msgspec.field(default=None, name="pass")
    """The user's password there, as `env:NAME` or `file:PATH`."""


class HistorySettings(_FromFile, frozen=True, kw_only=True):
    """How long to keep runs; afterwards their sums by day and job are left."""

    days: Annotated[int, Meta(ge=1, le=36_500)] = 400
    """So long."""
    runs: Annotated[int, Meta(ge=1000, le=10_000_000_000)] = 20_000_000
    """And no more than so many; the oldest go first."""


class LogFormat(StrEnum):
    """How events are written."""

    TEXT = "text"
    """For eyes."""
    JSON = "json"
    """One JSON object a line."""


class LogSettings(_FromFile, frozen=True, kw_only=True):
    """The controller's logs, on standard error."""

    level: str = "info"
    """debug, info, warning or error."""
    format: LogFormat = LogFormat.TEXT
    """How events are written."""


class ControllerSettings(_FromFile, frozen=True, kw_only=True):
    """The controller's own settings, `controller:` in the file."""

    data: Path = Path("roundsman-data")
    """Folder of ledger, archive and spool; relative to the configuration file."""
    ledger: LedgerSettings = LedgerSettings()
    """Where slots, leases and runs are kept, if not in the data folder."""
    listen: Listen = Listen()
    """Where it serves."""
    address: str | None = None
    """URL at which other controllers on the same database reach it, such as
    `https://controller1.example.net:9400`. Default: where it listens; by the machine's name where
    that is every address."""
    tokens: tuple[Token, ...] = ()
    """Who may do what. None at all: open, which only loopback allows."""
    leases: LeaseSettings = LeaseSettings()
    """How long an execution belongs to a worker."""
    limits: Limits = Limits()
    """Ceilings of the worker API."""
    breaker: BreakerSettings = BreakerSettings()
    """When devices are held back."""
    archive: ArchiveSettings = ArchiveSettings()
    """How results stand in git."""
    evidence: EvidenceSettings = EvidenceSettings()
    """How long what failed runs left behind is kept."""
    history: HistorySettings = HistorySettings()
    """How long runs are kept."""
    log: LogSettings = LogSettings()
    """Its logs."""
    detected_secrets: DetectedSecrets = DetectedSecrets.REPORT
    """For jobs that do not say so themselves: what becomes of a result in which something looks
    like a secret after all filters: `report`, `refuse` or `ignore`."""


class Priority(StrEnum):
    """Which jobs go first when more is due than workers take."""

    HIGH = "high"
    """Before the others."""
    NORMAL = "normal"
    """As they fall due."""
    LOW = "low"
    """After the others."""


class Retries(_FromFile, frozen=True, kw_only=True):
    """How often a run is tried again that failed for a reason which may pass."""

    attempts: Annotated[int, Meta(ge=0, le=20)] = 2
    """At most so many more attempts at one due time; 0: none."""
    delay: Annotated[int, Meta(ge=1, le=86_400)] = 60
    """Seconds until the first of them; each further one waits twice as long, up to an hour."""


class ShrinkGuard(_FromFile, frozen=True, kw_only=True):
    """When a result that lost much of what was there is not believed at once."""

    percent: Annotated[int, Meta(ge=1, le=100)] = 50
    """When it lost more than so many percent of the lines; 100: never."""
    least_lines: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    """What had fewer lines than this may lose any of them."""


class Day(StrEnum):
    """A day of the week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


class WeeklyTime(_FromFile, frozen=True, kw_only=True):
    """A part of some days of the week."""

    days: tuple[Day, ...] = ()
    """On which days it starts. Default: on every day."""
    start: str = "00:00"
    """Time of the day."""
    end: str = "24:00"
    """Time of the day; where it is not later than the start, of the next day."""


class OneTime(_FromFile, frozen=True, kw_only=True):
    """One time only."""

    start: str
    """Date and time, such as `2026-12-20T18:00`."""
    end: str
    """Likewise, later."""


class WindowKind(StrEnum):
    """What a window means to scheduled runs."""

    BLACKOUT = "blackout"
    """None is started in it."""
    ALLOWED = "allowed"
    """None is started out of it; where there are several, out of all of them."""


class WindowSettings(_FromFile, frozen=True, kw_only=True):
    """Times at which scheduled runs may be started, or may not."""

    kind: WindowKind = WindowKind.BLACKOUT
    """`blackout`: no scheduled run is started in it. `allowed`: none is started out of it, and of
    all others of that kind that are for the same device and job."""
    weekly: tuple[WeeklyTime, ...] = ()
    """Each week; parts of days."""
    once: tuple[OneTime, ...] = ()
    """From an instant to another."""
    timezone: str | None = None
    """IANA time zone of these times. Default: UTC."""
    devices: tuple[str, ...] = ()
    """For these devices alone. Default: for all."""
    tags: tuple[str, ...] = ()
    """For devices with any of these tags alone. Default: for all."""
    jobs: tuple[str, ...] = ()
    """For these jobs alone. Default: for all."""


class ConfiguredSlot(msgspec.Struct, frozen=True, kw_only=True):
    """One (device, job) pair."""

    device: Device
    """Expanded device; shared by all its slots."""
    job: Job
    """Expanded job; shared by all devices for which it reads the same."""
    schedule: Schedule
    """Its due times; shared likewise, unless they are splayed."""
    plan: str
    """The same as a text (`schedules.plans`); changes when the due times do."""
    priority: Priority = Priority.NORMAL
    """Whether it goes before others."""
    retries: Retries = Retries()
    """How often it is tried again."""
    shrink_guard: ShrinkGuard = ShrinkGuard()
    """When a result that shrank is not believed at once."""
    windows: Windows = ALWAYS
    """When its scheduled runs may be started; shared by all that are under the same."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration, frozen."""

    devices: Mapping[str, Device]
    """By name."""
    jobs: Mapping[str, Job]
    """By name, as they read before any device overrides them. Template values, which may be
    secret, are still written as `{{name}}`."""
    slots: Mapping[tuple[str, str], ConfiguredSlot]
    """By (device name, job name)."""
    controller: ControllerSettings
    """The controller's own settings."""
    warnings: tuple[str, ...] = ()
    """What is allowed but had better be otherwise; one sentence each."""

"""A job: what to do on a device, and when."""

from enum import StrEnum

import msgspec

from roundsman.wire.device import Prompt
from roundsman.wire.fields import always


class JobType(StrEnum):
    """What a job brings back."""

    COMMAND = "command"
    """The output of commands."""
    FILE = "file"
    """The content of files."""


class MissedPolicy(StrEnum):
    """What becomes of due times that passed while nobody could run them."""

    LATEST = "latest"
    """One run now stands for all of them; the others are recorded as coalesced into it."""
    ALL = "all"
    """Each is run, oldest first, up to `missed_cap`; older ones are recorded as missed."""
    NONE = "none"
    """Each later than `missed_grace_seconds` is recorded as missed; the next due time is run."""


class Compression(StrEnum):
    """How a fetched file is compressed on the device."""

    GZIP = "gzip"
    """RFC 1952; unpacked by the worker."""


class Transfer(StrEnum):
    """By which protocol files are fetched."""

    SFTP = "sftp"
    """Over SSH."""
    SCP = "scp"
    """Over SSH, for devices without SFTP."""
    TFTP = "tftp"
    """RFC 1350: in the clear, and nobody logs in."""
    FTP = "ftp"
    """RFC 959: in the clear, the password too."""
    FTPS = "ftps"
    """FTP over TLS (RFC 4217)."""
    HTTP = "http"
    """GET: in the clear, the password too unless the device asks for digest authentication."""
    HTTPS = "https"
    """GET over TLS."""

    @property
    def over_ssh(self) -> bool:
        """Whether it needs the device's SSH."""
        return self in (Transfer.SFTP, Transfer.SCP)


class ScrubberType(StrEnum):
    """How a scrubber finds what it removes."""

    SIMPLE = "simple"
    """`search` is literal text."""
    REGEX = "regex"
    """`search` is a regular expression; `replace` is literal text."""
    REGEX_SUBSTITUTE = "regex_substitute"
    r"""`search` is a regular expression; `replace` may refer to its groups (`\1`, `\g<name>`)."""


class DetectedSecrets(StrEnum):
    """What becomes of a result in which something looks like a secret."""

    REPORT = "report"
    """It is kept, and the run says what was found."""
    REFUSE = "refuse"
    """It does not leave the worker: the run fails."""
    IGNORE = "ignore"
    """Nothing is looked for."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a job is due, as configured. Exactly one of the four kinds is set."""

    cron: str | None = None
    """Five fields, or six with seconds first."""
    timezone: str | None = None
    """IANA time zone in which `cron` is read; UTC when absent. Only with `cron`."""
    duration: str | None = None
    """Such as `15 minutes`; aligned to 1970-01-01T00:00:00Z."""
    iso_8601: str | None = None
    """Repeating interval of ISO 8601, such as `R/2026-01-01T00:00:00Z/PT1H`."""
    fixed: int | None = None
    """One instant, in Unix seconds."""
    splay: str | None = None
    """Such as `30 minutes`: each device is due that much later at most, always by the same share of
    it. What a worker is handed is the time that follows from it."""


class InlineCommands(msgspec.Struct, frozen=True, kw_only=True):
    """The commands of a job as plain lines, as the published contract has them."""

    inline: tuple[str, ...]
    """Command lines, in order."""


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command and what its output must look like."""

    command: str
    """The line to send."""
    expect: tuple[str, ...] = always(())
    """Regular expressions; at least one must match the output, else the run fails."""
    expect_not: tuple[str, ...] = always(())
    """Regular expressions; none may match the output, else the run fails."""
    timeout: int | None = always(None)
    """Seconds that this command may take; the job's `command_timeout` when absent."""
    implicit_enter: bool = always(True)
    """Whether a line end is sent after the command."""
    end: str | None = None
    """Regular expression that the end of the output must match (blank lines after it aside), else
    the run fails as unverified. Not checked when absent."""
    passphrase: bool = False
    """The command ends with a passphrase: the `enable` secret of the credentials is sent behind it,
    in quotes where it needs them. Only of platforms without a shell (`exec`)."""
    optional: bool = False
    """Not every device of the platform knows the command: when it is rejected, the run goes on
    without its output."""


class CommandSet(msgspec.Struct, frozen=True, kw_only=True):
    """The commands of a job in full."""

    commands: tuple[Command, ...]
    """In the order in which they are sent."""


class File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file to fetch."""

    name: str
    """Absolute path on the device, or what the transfer takes for one."""
    compression: Compression | None = None
    """Unpack it by this method after fetching."""


class FileSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The files of a job."""

    files: tuple[File, ...] = msgspec.field(name="Files")
    """`Files` on the wire; concatenated in this order."""
    transfer: Transfer = Transfer.SFTP
    """By which protocol they are fetched; no other is tried."""


class Scrubber(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that removes secrets or noise from a result, on the worker."""

    type: ScrubberType
    """How `search` is read."""
    search: str
    """What to find."""
    replace: str = ""
    """What to put there instead."""


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job for one device, everything expanded: no generics, no template values left."""

    name: str
    """Unique name, see `wire.names`."""
    schedule: Schedule
    """When it is due, as configured."""
    type: JobType = JobType.COMMAND
    """What it brings back."""
    standard: str | None = None
    """The standard job of a platform that it stands for. Never set where a job is handed out: the
    device's platform has given the commands there."""
    command: InlineCommands | None = None
    """The command lines, for jobs of type `command`."""
    command_set: CommandSet | None = None
    """The same commands with their expectations."""
    file_set: FileSet | None = None
    """The files, for jobs of type `file`."""
    prompt: Prompt | None = None
    """The prompt after each command."""
    scrubbers: tuple[Scrubber, ...] = ()
    """Applied to the whole result, in order."""
    detected_secrets: DetectedSecrets = DetectedSecrets.REPORT
    """What becomes of the result if something in it looks like a secret after the scrubbers."""
    command_timeout: int = 60
    """Seconds that one command, or the fetch of one file, may take."""
    session_timeout: int = 600
    """Seconds that the whole run may take, from connecting on."""
    max_bytes: int = 1 << 30
    """Largest result accepted, in bytes."""
    missed: MissedPolicy = MissedPolicy.LATEST
    """What becomes of due times that passed unserved."""
    missed_cap: int = 24
    """With `all`: at most so many overdue times are run."""
    missed_grace_seconds: int = 60
    """With `none`: a due time counts as missed when it is older than this."""

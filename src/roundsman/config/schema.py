"""What a configuration file may say: every key, its type and its meaning.

These records are the file, not the configuration: any key may be left to a generic, and an empty
value (null) takes away what a generic said. `docs/reference/configuration.md` is made from them.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from roundsman.config.records import ControllerSettings, Priority, WindowSettings
from roundsman.wire.device import ProtocolType
from roundsman.wire.job import (
    Compression,
    DetectedSecrets,
    JobType,
    MissedPolicy,
    ScrubberType,
    Transfer,
)

Seconds: TypeAlias = Annotated[int, Meta(ge=1, le=604_800)]
Values: TypeAlias = dict[str, str | int | None]


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """Base of the records of a file: a key that is not named is wrong."""


class Prompt(_Record):
    """How the end of a command's output is recognised."""

    ends_with: str | None = None
    """The prompt is reached when what was read ends with this text (trailing blanks aside).
    Needed."""


class Schedule(_Record):
    """When a job is due. Exactly one of `cron`, `duration`, `iso_8601` and `fixed`."""

    cron: str | None = None
    """Five fields (minute, hour, day of month, month, day of week), or six with the second
    first."""
    timezone: str | None = None
    """IANA time zone in which `cron` is read. Default: UTC."""
    duration: str | None = None
    """A whole number and a unit (second, minute, hour, day), such as `15 minutes`; counted from
    1970-01-01T00:00:00Z."""
    iso_8601: str | None = None
    """Repeating interval, such as `R/2026-01-01T00:00:00Z/PT1H`; due at the start of each."""
    fixed: Annotated[int, Meta(ge=0, le=253_402_300_799)] | None = None
    """One instant, in Unix seconds."""
    splay: str | None = None
    """Spread the devices over so long after each of these times, such as `30 minutes`, so that they
    do not all come at once. Each device waits its own part of it, always the same, and never up to
    the next time. Default: all at once."""


class InlineCommands(_Record):
    """Commands as plain lines."""

    inline: list[str] | None = None
    """Command lines, in order."""


class Command(_Record):
    """One command and what its output must look like."""

    command: str
    """The line to send. May hold template variables."""
    expect: list[str] | None = None
    """Regular expressions; at least one must match the output, else the run fails. May hold
    template variables."""
    expect_not: list[str] | None = None
    """Regular expressions; none may match the output, else the run fails. May hold template
    variables."""
    timeout: Seconds | None = None
    """Seconds that this command may take. Default: the job's `command_timeout`."""
    enter: bool | None = None
    """Whether a line end is sent after the command. Default: true."""
    implicit_enter: bool | None = None
    """The same as `enter`, under its name in the worker API."""


class FileOptions(_Record):
    """How one file is fetched."""

    compression: Compression | None = None
    """How it is compressed on the device; it is unpacked after fetching."""


class File(_Record):
    """One file to fetch."""

    name: str
    """Path on the device."""
    compression: Compression | None = None
    """How it is compressed on the device; it is unpacked after fetching."""


class Scrubber(_Record):
    r"""One rule that removes secrets or noise from a result, on the worker."""

    type: ScrubberType
    r"""How `search` is read: `simple` literally, `regex` as a regular expression;
    `regex_substitute` likewise, and `replace` may refer to its groups (`\1`, `\g<name>`)."""
    search: str
    """What to find. May hold template variables."""
    replace: str | None = None
    """What to put there instead. Default: nothing. May hold template variables."""


class Retries(_Record):
    """How often a run is tried again that failed for a reason which may pass."""

    attempts: Annotated[int, Meta(ge=0, le=20)] | None = None
    """At most so many more attempts at one due time; 0: none. Default: 2."""
    delay: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    """Seconds until the first of them; each further one waits twice as long, up to an hour. Up to
    a quarter is added by chance. Default: 60."""


class ShrinkGuard(_Record):
    """When a result that lost much of what was there is kept aside until it is confirmed."""

    percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    """When it lost more than so many percent of the lines of the version before (of what is no
    text, of the bytes); 100: never. Default: 50."""
    least_lines: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """A version that had fewer lines than this may lose any of them. Default: 10."""


class JobOverride(_Record):
    """What a device says of a job: it goes before what the job says."""

    schedule: Schedule | None = None
    """When it is due. Needed, here or in a generic."""
    type: JobType | None = None
    """What it brings back: the output of commands, or the content of files. Default: command."""
    standard: str | None = None
    """Instead of commands: the name of a standard job, such as `backup`, of which each device's
    platform has the commands, and the filters for noise."""
    keep_secrets: bool | None = None
    """Leave in the result what the device's platform knows to be secret. Default: false."""
    detected_secrets: DetectedSecrets | None = None
    """What becomes of a result in which something looks like a secret after all filters: `report`,
    it is kept and the run says so; `refuse`, the run fails and nothing of it is kept; `ignore`,
    nothing is looked for. Default: `ignore` with `keep_secrets`, else the controller's."""
    command: InlineCommands | None = None
    """The commands of a job of type `command`, as plain lines."""
    commands: list[str | Command] | None = None
    """The same, where a command may be given with its expectations."""
    file: dict[str, FileOptions | None] | None = None
    """The files of a job of type `file`: path on the device to options."""
    files: list[File] | None = None
    """The same as a list. They are concatenated in this order."""
    transfer: Transfer | None = None
    """By which protocol the files are fetched: `sftp`, `scp` (for devices without SFTP), `tftp`,
    `ftp`, `ftps`, `http` or `https`. No other is tried. Default: sftp."""
    prompt: Prompt | None = None
    """The prompt after each command. Default: the prompt of the device's credentials."""
    scrubbers: list[Scrubber] | None = None
    """Applied to the whole result, in order."""
    template_values: Values | None = None
    """Values for `{{name}}`: texts or whole numbers."""
    command_timeout: Seconds | None = None
    """Seconds that one command, or the fetch of one file, may take. Default: 60."""
    session_timeout: Seconds | None = None
    """Seconds that the whole run may take, from connecting on. Default: 600."""
    max_bytes: Annotated[int, Meta(ge=1, le=1 << 50)] | None = None
    """Largest result accepted, in bytes. Default: 1073741824 (1 GiB)."""
    missed: MissedPolicy | None = None
    """What becomes of due times that passed while nobody could run them: `latest`, one run now
    stands for all; `all`, each is run, oldest first, up to `missed_cap`; `none`, those later than
    `missed_grace_seconds` are recorded as missed. Default: latest."""
    missed_cap: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """With `missed: all`, at most so many overdue times are run. Default: 24."""
    missed_grace_seconds: Annotated[int, Meta(ge=0, le=604_800)] | None = None
    """With `missed: none`, how late a run may still begin. Default: 60."""
    shrink_guard: ShrinkGuard | None = None
    """When a result that lost much of what was there is not believed at once: it is kept aside, the
    job is run again, and it is stored when the next result or a person confirms it."""
    priority: Priority | None = None
    """Which jobs go first when more is due than workers take: `high` before `normal` before `low`;
    what a person asks for goes before all. A quarter is handed out by age alone, so that nothing
    waits for ever. Default: normal."""
    retries: Retries | None = None
    """How often a run is tried again that failed for a reason which may pass, such as a device that
    did not answer; each time only if that comes before the next due time."""


class Job(JobOverride):
    """What to do on a device, and when."""

    generic: str | None = None
    """Name of the job generic that this one builds on. Default: `default`, when there is one."""


class Ssh(_Record):
    """Settings of SSH towards a device."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """TCP port. Default: 22."""
    include_cbc_ciphers: bool | None = None
    """Offer CBC ciphers too, for devices that know nothing newer. Default: false."""
    host_keys: list[str] | None = None
    """Known host keys in OpenSSH's public key format, such as `ssh-ed25519 AAAA...`. When given,
    no other key is accepted."""
    legacy_algorithms: bool | None = None
    """Offer key exchange with SHA-1 and signatures of type `ssh-rsa` too, for devices that know
    nothing newer. Default: false."""


class Telnet(_Record):
    """Settings of Telnet towards a device."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """TCP port. Default: 23."""


class Tftp(_Record):
    """Settings of files fetched by TFTP."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """UDP port. Default: 69."""


class Ftp(_Record):
    """Settings of files fetched by FTP or FTPS."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """TCP port. With 990, FTPS begins with TLS; elsewhere TLS is asked for. Default: 21."""


class Http(_Record):
    """Settings of files fetched by HTTP."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """TCP port. Default: 80."""


class Https(_Record):
    """Settings of files fetched by HTTPS."""

    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """TCP port. Default: 443."""


class Tls(_Record):
    """How a device's certificate is checked, for files fetched by HTTPS or FTPS."""

    ca_file: str | None = None
    """File of the authorities that may have signed it, certificates in PEM. Default: the system's
    authorities."""
    fingerprints: list[str] | None = None
    """SHA-256 fingerprints of certificates, as `openssl x509 -fingerprint -sha256` prints them.
    When given, only these count, whoever signed the certificate."""


class Protocol(_Record):
    """How a device is spoken to."""

    type: ProtocolType | None = None
    """Which protocol: `ssh`, or `telnet`, by which everything passes in the clear, the password
    too. Default: ssh."""
    ssh: Ssh | None = None
    """Settings when the type is `ssh`."""
    telnet: Telnet | None = None
    """Settings when the type is `telnet`."""
    tftp: Tftp | None = None
    """Settings of files fetched by TFTP."""
    ftp: Ftp | None = None
    """Settings of files fetched by FTP or FTPS."""
    http: Http | None = None
    """Settings of files fetched by HTTP."""
    https: Https | None = None
    """Settings of files fetched by HTTPS."""
    tls: Tls | None = None
    """How the device's certificate is checked."""
    local_address: str | None = None
    """IP address of the worker's machine to connect from. Without effect behind jump hosts: the
    last of them connects. Default: the system chooses."""
    keepalive_seconds: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    """After so many seconds of silence the other side is asked whether it is still there; where it
    does not answer three times in a row, the session fails. 0: never. Default: 30."""


class Credentials(_Record):
    """How to log in to a device."""

    user: str | None = None
    """Login name. Needed."""
    password: str | None = msgspec.field(default=None, name="pass")
    """Password: `env:NAME`, `file:PATH` or literal."""
    private_key: str | None = None
    """Private key in OpenSSH or PEM format: `env:NAME`, `file:PATH` or literal."""
    passphrase: str | None = None
    """Passphrase of the private key: `env:NAME`, `file:PATH` or literal."""
    certificate: str | None = None
    """OpenSSH certificate for the private key: `env:NAME`, `file:PATH` or literal."""
    agent: bool | None = None
    """Try the keys of the SSH agent on the worker's machine too, which the worker's settings must
    permit (`ssh_agent`). Default: false."""
    enable: str | None = None
    """Password of the privileged mode: `env:NAME`, `file:PATH` or literal. Default: `pass`."""
    prompt: Prompt | None = None
    """The prompt expected after login. Default: the prompt of the job."""


class Device(_Record):
    """Something to log in to."""

    generic: str | None = None
    """Name of the device generic that this one builds on. Default: `default`, when there is
    one."""
    host: str | None = None
    """Host name or IP address. Default: the device's name."""
    protocol: Protocol | None = None
    """How it is spoken to."""
    tags: list[str] | None = None
    """Workers choose devices by these."""
    platform: str | None = None
    """Its operating system: a name or alias (`roundsman platform list` shows them), or the path of
    a platform file of your own, such as `./mine.yaml`. Where there is none,
    `netmiko:<device_type>` names one of netmiko's drivers: see docs/how-to/platforms.md."""
    credentials: Credentials | list[Credentials] | None = None
    """How to log in; none where the device asks for nothing. Of a list, one after the other is
    tried; what worked goes first the next time."""
    jump_hosts: str | list[str] | None = None
    """The way to the device: the name of a jump host, or several, the first of which the worker
    connects to. Default: none."""
    jobs: dict[str, JobOverride | None] | list[str] | None = None
    """What is done on it: a list of job names, or a mapping of job names to what is different on
    this device (or nothing)."""
    template_values: Values | None = None
    """Values for `{{name}}` in all jobs of this device: texts or whole numbers."""


class JumpHost(_Record):
    """A host on the way to devices, spoken to by SSH, that connects onwards."""

    host: str | None = None
    """Host name or IP address. Default: the jump host's name."""
    protocol: Protocol | None = None
    """How it is spoken to: by SSH."""
    credentials: Credentials | list[Credentials] | None = None
    """How to log in. Of a list, one after the other is tried."""


class Document(_Record):
    """A configuration file."""

    devices: dict[str, Device | None] | None = None
    """Devices by name."""
    jobs: dict[str, Job | None] | None = None
    """Jobs by name."""
    device_generics: dict[str, Device | None] | None = None
    """What devices have in common, by name of the generic."""
    job_generics: dict[str, Job | None] | None = None
    """What jobs have in common, by name of the generic."""
    jump_hosts: dict[str, JumpHost | None] | None = None
    """Hosts on the way to devices, by the name by which devices refer to them."""
    windows: dict[str, WindowSettings | None] | None = None
    """When scheduled runs may be started, and when not, by name of the window."""
    controller: ControllerSettings | None = None
    """The controller's own settings."""

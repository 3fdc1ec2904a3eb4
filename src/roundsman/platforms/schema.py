"""What a platform file may say: every key, its type and its meaning.

The session's part of it is what travels to the worker (`roundsman.wire.platform`).
`docs/reference/platforms.md` is made from these records.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from roundsman.wire import platform as wire
from roundsman.wire.job import Compression, ScrubberType, Transfer

HIDDEN = "<secret hidden>"
"""What stands where a secret was."""


class Verified(StrEnum):
    """How the facts of a platform are known."""

    RECORDED = "recorded"
    """From dialogues with devices, which the tests replay."""
    DOCUMENTED = "documented"
    """From the vendor's documentation, or from programs in long use; not replayed."""
    UNVERIFIED = "unverified"
    """From experience with relatives or from hearsay; to be tried before it is relied on."""


class Pager(wire.Pager, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pager that stops the output until a key is pressed."""


class Question(wire.Question, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that the device asks, and the answer."""


class Enable(wire.Enable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the privileged mode is reached."""


class Login(wire.Login, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The questions at a login in the terminal: over Telnet, or once more after that of SSH."""


class _FromFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the records of a file: a key that is not named is wrong."""


class Command(_FromFile, frozen=True, kw_only=True):
    """One command of a standard job."""

    command: str
    """The line to send."""
    end: str | None = None
    """Regular expression that the end of the output must match (blank lines after it aside), else
    the run fails as unverified: for outputs that have an end mark of their own."""
    timeout: Annotated[int, Meta(ge=1, le=604_800)] | None = None
    """Seconds that this command may take. Default: the job's `command_timeout`."""
    passphrase: bool = False
    """The command ends with a passphrase: the `enable` secret of the credentials is sent behind it.
    Only with `exec`, where nothing echoes it."""
    optional: bool = False
    """Not every model or version knows it: when it is rejected, the run goes on without its
    output."""


class File(_FromFile, frozen=True, kw_only=True):
    """One file of a standard job."""

    name: str
    """Path on the device, or what the transfer takes for one."""
    compression: Compression | None = None
    """How it is compressed on the device; it is unpacked after fetching."""


class StandardJob(_FromFile, frozen=True, kw_only=True):
    """A job that most users want of this platform: either commands, or files and a transfer."""

    commands: tuple[str | Command, ...] = ()
    """In the order in which they are sent."""
    files: tuple[str | File, ...] = ()
    """Instead of commands, for systems that have none worth reading: what is fetched, in order."""
    transfer: Transfer | None = None
    """By which protocol the files are fetched: `sftp`, `scp`, `tftp`, `ftp`, `ftps`, `http` or
    `https`. Needed with `files`."""


class Filter(_FromFile, frozen=True, kw_only=True):
    r"""One rule that removes secrets or noise from a result, on the worker."""

    search: str
    """What to find. `^` and `$` match at each line."""
    replace: str = ""
    r"""What to put there instead; may refer to groups (`\1`, `\g<name>`)."""
    type: ScrubberType = ScrubberType.REGEX_SUBSTITUTE
    """How `search` is read: `regex_substitute` as a regular expression; `regex` likewise, but
    `replace` is literal; `simple` literally."""


class Examples(_FromFile, frozen=True, kw_only=True):
    """Lines that say what the patterns are meant to match; held against them when loading."""

    prompts: tuple[str, ...] = ()
    """Whole lines that are prompts."""
    not_prompts: tuple[str, ...] = ()
    """Whole lines that may be taken for prompts, and are none."""


class PlatformFile(wire.Platform, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A platform file."""

    name: str = ""
    """What the platform is called. Default: the file's name without its suffix."""
    description: str
    """Vendor and system, in a few words."""
    names: tuple[str, ...] = ()
    """Other names by which it may be called, such as those it has in other programs."""
    verified: Verified = Verified.UNVERIFIED
    """How the facts are known: `recorded`, from dialogues with devices; `documented`, from the
    vendor's documentation or from programs in long use; `unverified`, from relatives or hearsay."""
    remarks: str | None = None
    """What is not certain, which versions were seen, what to know before using it."""
    examples: Examples = Examples()
    """Lines that say what `prompts` is meant to match."""
    login: Login = Login()
    questions: tuple[Question, ...] = ()
    enable: Enable | None = None
    more: tuple[Pager, ...] = ()
    standard: dict[str, StandardJob] = msgspec.field(default_factory=dict)
    """What a job may name as `standard`, by name. `backup` is what most users want."""
    noise: tuple[str | Filter, ...] = ()
    """What changes although the device does not, in the outputs of standard jobs: uptimes,
    counters, clocks. A plain text is a regular expression of which every match is removed."""
    secrets: tuple[str | Filter, ...] = ()
    """What must not leave the worker, in any output. A plain text is a regular expression of which
    every match is replaced by what its first group matched and `<secret hidden>`. Of what is hidden
    already nothing is matched behind that group."""

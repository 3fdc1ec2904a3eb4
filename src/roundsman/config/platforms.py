"""The platforms of devices, and jobs with what a platform adds to them."""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Final, NamedTuple

import msgspec

from roundsman.config.netmiko import driver_of
from roundsman.documents.problems import (
    ConfigurationError,
    Finding,
    Path,
    Problem,
    and_more,
    did_you_mean,
    one_of,
)
from roundsman.platforms import load
from roundsman.platforms.load import Platform, UnknownPlatformError
from roundsman.wire.device import Credentials, Device, ProtocolType
from roundsman.wire.job import CommandSet, InlineCommands, Job, JobType


class Platforms:
    """Finds what devices name as their platform, each once."""

    def __init__(self, folder: FilePath) -> None:
        """Take the folder that paths of platform files are relative to."""
        self._folder = folder
        self._found: dict[str, Platform | Finding] = {}
        self.problems: list[Problem] = []
        """What is wrong within platform files."""

    def find(self, reference: str) -> Platform | Finding:
        """The platform, or why there is none."""
        if reference not in self._found:
            self._found[reference] = self._find(reference)
        return self._found[reference]

    def _find(self, reference: str) -> Platform | Finding:
        try:
            return load.find(reference, self._folder)
        except UnknownPlatformError as error:
            return Finding("config.unknown_platform", ("platform",), error.text, error.remedy)
        except ConfigurationError as error:
            self.problems += error.problems
            return Finding("config.platform", ("platform",), f"{reference} cannot be used")


_NOBODY: Final = Credentials(user="")


class NoStandardJob(NamedTuple):
    """Why a device's platform does not give a standard job."""

    text: str
    suggestion: str | None


def unfit(job: Job, device: Device) -> Finding | None:
    """What a job needs that the device's entry does not have."""
    files = job.file_set
    if files and files.transfer.over_ssh and device.protocol.type is ProtocolType.TELNET:
        return Finding(
            "config.transfer",
            ("transfer",),
            "the files come by sftp or scp, which need SSH, and the device's protocol is telnet",
            "set transfer to one that the device offers, or its protocol to ssh",
        )
    commands = job.command_set.commands if job.command_set else ()
    if any(command.passphrase for command in commands) and not all(
        credentials.enable for credentials in device.all_credentials or (_NOBODY,)
    ):
        return Finding(
            "config.passphrase",
            ("standard",),
            "the platform's command takes a passphrase, which is the enable secret of the "
            "device's credentials, and there is none",
            "set enable in the credentials to a passphrase of your own",
        )
    return None


_NO_PLATFORM: Final = NoStandardJob(
    "the commands of a standard job come from the device's platform, and there is none",
    "set platform on the device or its generic; roundsman platform list shows them",
)


_NETMIKO: Final = NoStandardJob(
    "the commands of a standard job come from the device's platform, and netmiko has none",
    "give the job commands of its own on these devices",
)


class PlatformJobs:
    """Jobs with what platforms add to them; one record for all devices of a platform."""

    def __init__(self, platforms: Platforms) -> None:
        """Take where platforms are found."""
        self._platforms = platforms
        self._made: dict[tuple[int, Platform], tuple[Job, Job]] = {}
        self._missing: dict[tuple[Path, NoStandardJob], list[str]] = {}

    def make(self, job: Job, reference: str | None, *, keep_secrets: bool) -> Job | NoStandardJob:
        """The job as it is on devices that name this platform."""
        if driver_of(reference) is not None:
            return _NETMIKO if job.standard is not None else job
        platform = self._platforms.find(reference) if reference is not None else None
        if not isinstance(platform, Platform):
            return _NO_PLATFORM if job.standard is not None else job
        known = platform.file.standard
        if job.standard is not None and job.standard not in known:
            text = f'the platform {reference} has no standard job "{job.standard}", {one_of(known)}'
            return NoStandardJob(text, did_you_mean(job.standard, known))
        key = (id(job), platform)
        if key not in self._made:  # the job is kept, so that its id remains its own
            self._made[key] = (job, _on_platform(job, platform, keep_secrets=keep_secrets))
        return self._made[key][1]

    def note(self, missing: NoStandardJob, path: Path, device: str) -> None:
        """Remember a device that goes without; `path` is where the job is asked for."""
        self._missing.setdefault((path, missing), []).append(device)

    def findings(self) -> Iterator[Finding]:
        """What was noted, each reason once for all devices."""
        for (path, why), devices in self._missing.items():
            text = f"{and_more(devices)}: {why.text}"
            yield Finding("config.no_standard_job", path, text, why.suggestion)


def _on_platform(job: Job, platform: Platform, *, keep_secrets: bool) -> Job:
    secrets = () if keep_secrets else platform.secrets
    if job.standard is None:
        return msgspec.structs.replace(job, scrubbers=(*secrets, *job.scrubbers))
    scrubbers = (*platform.noise, *secrets, *job.scrubbers)
    if job.standard in platform.files:
        return msgspec.structs.replace(
            job,
            standard=None,
            type=JobType.FILE,
            file_set=platform.files[job.standard],
            scrubbers=scrubbers,
        )
    commands = platform.standard[job.standard]
    return msgspec.structs.replace(
        job,
        standard=None,
        command=InlineCommands(inline=tuple(command.command for command in commands)),
        command_set=CommandSet(commands=commands),
        scrubbers=scrubbers,
    )

"""Finds a platform by name, alias or path, and reads it.

Each platform of the program is read once. One that is asked for by its own name costs the reading
of one file; an alias costs the reading of all, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import regex

from roundsman.documents import document
from roundsman.documents.formats import SUFFIXES
from roundsman.documents.problems import did_you_mean
from roundsman.errors import NotFoundError
from roundsman.platforms.hidden import once
from roundsman.platforms.schema import HIDDEN, Filter, PlatformFile, StandardJob
from roundsman.platforms.validate import findings
from roundsman.wire import platform as wire
from roundsman.wire.job import Command, File, FileSet, Scrubber, ScrubberType, Transfer

_DATA: Final = Path(__file__).parent / "data"


class UnknownPlatformError(NotFoundError):
    """There is no platform of that name."""

    code = "platform.unknown"


@dataclass(frozen=True, eq=False)
class Platform:
    """A platform, ready for use."""

    path: Path
    """Its file."""
    file: PlatformFile
    """What its file says."""
    session: wire.Platform
    """What travels to the worker with a device."""
    standard: Mapping[str, tuple[Command, ...]]
    """The commands of each standard job that runs commands."""
    files: Mapping[str, FileSet]
    """The files of each standard job that fetches files."""
    noise: tuple[Scrubber, ...]
    """Removes what changes although the device does not."""
    secrets: tuple[Scrubber, ...]
    """Removes secrets."""


def is_path(reference: str) -> bool:
    """Whether a platform is named by the path of a file.

    >>> is_path("cisco_ios"), is_path("./mine.yaml"), is_path("mine.yaml"), is_path("a.b")
    (False, True, True, False)
    """
    return "/" in reference or Path(reference).suffix in SUFFIXES


def find(reference: str, folder: Path) -> Platform:
    """The platform of that name or alias, or of the file at that path, taken from `folder`.

    Raises `UnknownPlatformError`, or `ConfigurationError` with all that is wrong with the file.
    """
    return read(folder / reference) if is_path(reference) else by_name(reference)


@cache
def by_name(name: str) -> Platform:
    """The platform that comes with the program. Raises `UnknownPlatformError`."""
    if name not in own_names():
        if name not in aliases():
            known = [*own_names(), *aliases()]
            raise UnknownPlatformError(
                f'there is no platform "{name}"',
                remedy=did_you_mean(name, known)
                or "roundsman platform list shows them all; a path (./name.yaml) names your own",
            )
        return by_name(aliases()[name])
    return read(_DATA / f"{name}.yaml")


@cache
def own_names() -> tuple[str, ...]:
    """The names of the platforms that come with the program, aliases aside."""
    return tuple(sorted(file.stem for file in _DATA.glob("*.yaml")))


@cache
def aliases() -> Mapping[str, str]:
    """Every other name of a platform, and the name it stands for."""
    return MappingProxyType(
        {
            alias: name
            for name in own_names()
            for alias in document.read(_DATA / f"{name}.yaml", PlatformFile).says.get("names", ())
        }
    )


def read(path: Path) -> Platform:
    """The platform that a file describes.

    Raises `ConfigurationError` with everything that is wrong with it.
    """
    given = document.read(path, PlatformFile)
    try:
        says = msgspec.convert({"name": path.stem, **given.says}, PlatformFile)
    except msgspec.ValidationError:  # something needed is not there: found already
        raise given.error(given.findings) from None
    if found := [*given.findings, *findings(says)]:
        raise given.error(found)
    return Platform(
        path=path,
        file=says,
        session=_session(says),
        standard={name: _commands(job) for name, job in says.standard.items() if job.commands},
        files={name: _files(job) for name, job in says.standard.items() if job.files},
        noise=tuple(_scrubber(rule, "") for rule in says.noise),
        secrets=tuple(_scrubber(rule, HIDDEN) for rule in says.secrets),
    )


def _session(says: PlatformFile) -> wire.Platform:
    """The part that travels, as records of the wire."""
    said = msgspec.to_builtins(says)
    return msgspec.convert({key: said[key] for key in _TRAVELS if key in said}, wire.Platform)


_TRAVELS: Final = wire.Platform.__struct_fields__


def _commands(job: StandardJob) -> tuple[Command, ...]:
    return tuple(
        Command(command=command)
        if isinstance(command, str)
        else Command(
            command=command.command,
            end=command.end,
            timeout=command.timeout,
            optional=command.optional,
            passphrase=command.passphrase,
        )
        for command in job.commands
    )


def _files(job: StandardJob) -> FileSet:
    return FileSet(
        files=tuple(
            File(name=file)
            if isinstance(file, str)
            else File(name=file.name, compression=file.compression)
            for file in job.files
        ),
        transfer=job.transfer or Transfer.SFTP,
    )


def _scrubber(rule: str | Filter, instead: str) -> Scrubber:
    """A rule as it travels: of a text's matches the first group is kept, if it has groups."""
    if not isinstance(rule, str):
        return Scrubber(type=rule.type, search=rule.search, replace=rule.replace)
    keeps = instead and regex.compile(rule.encode()).groups
    return Scrubber(
        type=ScrubberType.REGEX_SUBSTITUTE,
        search=once(rule) if keeps else rule,
        replace=rf"\1{instead}" if keeps else instead,
    )

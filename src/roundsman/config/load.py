"""A configuration file to a configuration, or to everything that is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from roundsman.config.assemble import Assembly
from roundsman.config.platforms import Platforms
from roundsman.config.records import Configuration
from roundsman.config.schema import Document
from roundsman.config.secrets import Secrets
from roundsman.documents import document
from roundsman.documents.problems import ConfigurationError
from roundsman.documents.problems import Path as Location


def load(path: Path, *, environ: Mapping[str, str]) -> Configuration:
    """Read, expand and check a configuration file.

    `environ` is where `env:NAME` is looked up. Relative paths in the file are taken from its
    folder. Raises `ConfigurationError` with every problem found; nothing else.
    """
    read = document.read(path, Document)
    secrets = Secrets(environ, path.parent)
    spoiled = {_entry(finding.path) for finding in read.findings}
    platforms = Platforms(path.parent)
    assembly = Assembly(read.says, secrets, platforms, spoiled)
    configuration = assembly.run(path.parent)
    findings = [*read.findings, *assembly.findings]
    if findings:
        raise ConfigurationError([*read.error(findings).problems, *platforms.problems])
    return msgspec.structs.replace(
        configuration,
        warnings=(*read.warnings(holds_secrets=secrets.literal), *configuration.warnings),
    )


def _entry(path: Location) -> Location:
    """The device, job or generic that a path leads into; the controller is one by itself."""
    return path[:1] if path[:1] == ("controller",) else path[:2]

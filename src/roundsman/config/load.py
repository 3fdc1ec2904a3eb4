"""A configuration file to a configuration, or to everything that is wrong with it."""

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from roundsman.config import lines
from roundsman.config.assemble import Assembly
from roundsman.config.check import check
from roundsman.config.formats import SUFFIXES, UnreadableError, parse
from roundsman.config.problems import ConfigurationError, Finding, Problem, path_text
from roundsman.config.problems import Path as Location
from roundsman.config.records import Configuration
from roundsman.config.schema import Document
from roundsman.config.secrets import Secrets


def load(path: Path, *, environ: Mapping[str, str]) -> Configuration:
    """Read, expand and check a configuration file.

    `environ` is where `env:NAME` is looked up. Relative paths in the file are taken from its
    folder. Raises `ConfigurationError` with every problem found; nothing else.
    """
    text = _read(path)
    try:
        document = parse(text, path.suffix)
    except UnreadableError as error:
        raise ConfigurationError(
            _problem(path, finding, line) for finding, line in error.findings
        ) from None
    document, findings = check({} if document is None else document, Document)
    secrets = Secrets(environ, path.parent)
    spoiled = {_entry(finding.path) for finding in findings}
    assembly = Assembly(document, secrets, spoiled)
    configuration = assembly.run(path.parent)
    findings += assembly.findings
    if findings:
        raise ConfigurationError(_placed(path, text, findings))
    return msgspec.structs.replace(configuration, warnings=tuple(_warnings(path, secrets)))


def _entry(path: Location) -> Location:
    """The device, job or generic that a path leads into; the controller is one by itself."""
    return path[:1] if path[:1] == ("controller",) else path[:2]


def _read(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        text = f"expected a file name that ends in {', '.join(SUFFIXES)}"
        raise ConfigurationError([_problem(path, Finding("config.format", (), text), None)])
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text, at byte {error.start}"
    except ValueError:
        text = "cannot be read: not a path"
    raise ConfigurationError([_problem(path, Finding("config.unreadable", (), text), None)])


def _problem(path: Path, finding: Finding, line: int | None) -> Problem:
    return Problem(
        code=finding.code,
        file=str(path),
        line=line,
        path=path_text(finding.path),
        text=finding.text,
        suggestion=finding.suggestion,
    )


def _placed(path: Path, text: str, findings: Iterable[Finding]) -> list[Problem]:
    """The findings with their lines, in the order of the file."""
    findings = list(findings)
    found = lines.find(text, path.suffix, [finding.path for finding in findings])
    problems = [_problem(path, finding, found.get(finding.path)) for finding in findings]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _warnings(path: Path, secrets: Secrets) -> Iterable[str]:
    if secrets.literal and path.stat().st_mode & stat.S_IROTH:
        yield (
            f"{path} holds secrets and everybody on this machine may read it: "
            "take that right away (chmod o-r), or refer to the secrets by env: or file:"
        )

"""A file read, parsed and held against a record of what it may say."""

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from roundsman.documents import lines
from roundsman.documents.check import check
from roundsman.documents.formats import SUFFIXES, UnreadableError, parse
from roundsman.documents.problems import ConfigurationError, Finding, Problem, path_text


class Document(NamedTuple):
    """A file's content, and what is wrong with it so far."""

    path: Path
    text: str
    says: dict[str, Any]
    """What of it the record allows."""
    findings: list[Finding]

    def error(self, findings: Iterable[Finding]) -> ConfigurationError:
        """These findings with their lines, in the order of the file."""
        findings = list(findings)
        found = lines.find(self.text, self.path.suffix, [finding.path for finding in findings])
        problems = [_problem(self.path, finding, found.get(finding.path)) for finding in findings]
        return ConfigurationError(sorted(problems, key=lambda problem: problem.line or 0))

    def warnings(self, *, holds_secrets: bool) -> Iterable[str]:
        """What its reader should know although nothing is wrong."""
        if holds_secrets and self.path.stat().st_mode & stat.S_IROTH:
            yield (
                f"{self.path} holds secrets and everybody on this machine may read it: "
                "take that right away (chmod o-r), or refer to the secrets by env: or file:"
            )


def read(path: Path, record: type) -> Document:
    """Read a file and hold it against a record of what it may say.

    Raises `ConfigurationError` when there is nothing to hold against it.
    """
    text = _read(path)
    try:
        parsed = parse(text, path.suffix)
    except UnreadableError as error:
        raise ConfigurationError(
            _problem(path, finding, line) for finding, line in error.findings
        ) from None
    says, findings = check({} if parsed is None else parsed, record)
    return Document(path, text, says, findings)


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

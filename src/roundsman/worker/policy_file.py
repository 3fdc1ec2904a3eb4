"""The policy file of a worker's machine, read strictly, and only where nobody else can write it."""

import os
import pwd
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from roundsman.documents import document
from roundsman.documents.check import as_value
from roundsman.documents.problems import ConfigurationError, Finding, Problem
from roundsman.wire.process import ProcessLimits
from roundsman.worker.policy import CommandPolicy, OnStop, Policy
from roundsman.worker.signers import read_signer

OURS: Final = "ROUNDSMAN_"
"""Variables that begin so are the worker's own."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """Base of the records of a file: a key that is not named is wrong."""


class Limits(_Record):
    """How far a command may go; who starts it may ask for less."""

    wall_seconds: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    """From its start to its end. Default: none."""
    idle_seconds: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    """Without a byte of output. Default: none."""
    output_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    """Of output that is kept; the rest is read and dropped. Default: 16777216 (16 MiB)."""
    memory_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] | None = None
    """Of the whole tree by its cgroup, else of each process. Default: none."""
    cpu_seconds: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    """Of processor time, of each process. Default: none."""
    processors: Annotated[float, Meta(ge=0.01, le=10_000)] | None = None
    """So many at once, of the whole tree by its cgroup; not held without one. Default: none."""
    tasks: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Processes and threads at once. Default: none."""


class Command(_Record):
    """What may run under one name."""

    executable: str | None = None
    """What is executed: a name searched for in the system's folders, an absolute path, or a path
    from `scripts` on. Default: the name of the entry."""
    scripts: Path | None = None
    """Folder of scripts, one of which it is given as its first argument, and in which it runs.
    Default: none; the first argument is then one of `arguments`."""
    arguments: list[str] | None = None
    """Regular expressions; each argument has to match one of them as a whole. Default: none, and no
    arguments are taken."""
    environment: list[str] | None = None
    """Variables that whoever starts it may set. Default: none."""
    roles: list[str] | None = None
    """Roles of those who may start it, as the controller knows them. Default: all that the
    controller lets."""
    tags: list[str] | None = None
    """Only on workers that serve any of these tags. Default: on every worker."""
    user: str | None = None
    """User as whom it runs; only a worker that is root can do that. Default: the worker's own."""
    limits: Limits | None = None
    """How far it may go. Default: only the output is limited."""
    grace_seconds: Annotated[int, Meta(ge=0, le=3600)] | None = None
    """From SIGTERM to SIGKILL when it is stopped. Default: 3."""


class PolicyFile(_Record):
    """A worker's policy file."""

    commands: dict[str, Command] | None = None
    """What may run, by the name under which it is asked for. Default: nothing."""
    signers: list[str] | None = None
    """Lines as in an `allowed_signers` file of OpenSSH. When there are any, a script runs only with
    a signature by one of them beside it (`SCRIPT.sig`, namespace `roundsman`). Default: none;
    scripts need no signature."""
    on_stop: OnStop | None = None
    """What becomes of processes when the worker is stopped: `leave` them running, to be found again
    at its next start, or `stop` them. Default: `leave`."""


def load_policy(file: Path) -> Policy:
    """The policy of a file; relative paths are taken from its folder.

    Raises `ConfigurationError` with every problem found; one is that others may write it.
    """
    read = document.read(file, PolicyFile)
    entries = dict(read.says.get("commands") or {})
    findings = [
        *read.findings,
        *(finding for name, entry in entries.items() for finding in _check(name, entry)),
        *_check_signers(read.says.get("signers")),
    ]
    problems = [*_check_rights(file), *read.error(findings).problems]
    if problems:
        raise ConfigurationError(problems)
    return Policy(
        commands={name: _command(name, said, file) for name, said in entries.items()},
        signers=tuple(map(read_signer, read.says.get("signers") or ())),
        on_stop=OnStop(read.says.get("on_stop") or OnStop.LEAVE),
    )


def _check_rights(file: Path) -> list[Problem]:
    """Who may write the file, or put another in its place, decides what runs."""
    ours = {0, os.geteuid()}
    problems = []
    for path in (file, file.absolute().parent):
        said = path.stat()
        sticky = path != file and said.st_mode & stat.S_ISVTX
        if said.st_uid not in ours:
            text = f"{path} belongs to user {said.st_uid}: expected root or the worker's own user"
        elif said.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            text = f"{path} may be written by others than its owner"
        else:
            continue
        problems.append(
            Problem(
                code="policy.rights",
                file=str(file),
                line=None,
                path="",
                text=text,
                suggestion=f"chmod go-w {path}" if said.st_uid in ours else None,
            )
        )
    return problems


def _check(name: str, entry: Any) -> list[Finding]:
    if not isinstance(entry, dict):
        return []
    findings = []
    at = ("commands", name)
    for index, pattern in enumerate(entry.get("arguments") or ()):
        try:
            re.compile(pattern)
        except re.error as error:
            text = f"not a regular expression: {error}"
            findings.append(Finding("policy.pattern", (*at, "arguments", index), text))
    for index, variable in enumerate(entry.get("environment") or ()):
        if not _VARIABLE.fullmatch(variable) or variable.startswith(OURS):
            text = f"expected the name of a variable that does not begin with {OURS}"
            findings.append(Finding("policy.variable", (*at, "environment", index), text))
    executable = entry.get("executable") or name
    if "/" in executable and not executable.startswith("/") and not entry.get("scripts"):
        text = "a relative path is taken from `scripts`, which is not given"
        findings.append(Finding("policy.executable", at, text))
    if (user := entry.get("user")) is not None:
        try:
            pwd.getpwnam(user)
        except KeyError:
            findings.append(Finding("policy.user", (*at, "user"), "no such user on this machine"))
        else:
            if os.geteuid() != 0 and pwd.getpwnam(user).pw_uid != os.geteuid():
                text = "the worker does not run as root, and cannot become another user"
                findings.append(Finding("policy.user", (*at, "user"), text))
    return findings


def _check_signers(lines: Any) -> list[Finding]:
    findings = []
    if lines is not None and not lines:
        text = "nobody is listed: no script would run; without `signers` all do"
        findings.append(Finding("policy.signers", ("signers",), text))
    for index, line in enumerate(lines or ()):
        try:
            read_signer(line)
        except ValueError as error:
            findings.append(Finding("policy.signer", ("signers", index), str(error)))
    return findings


def _command(name: str, says: Any, file: Path) -> CommandPolicy:
    said = msgspec.convert(says or {}, Command, dec_hook=as_value)
    return CommandPolicy(
        executable=said.executable or name,
        scripts=file.absolute().parent / said.scripts if said.scripts else None,
        arguments=tuple(said.arguments or ()),
        environment=frozenset(said.environment or ()),
        roles=frozenset(said.roles or ()),
        tags=frozenset(said.tags or ()),
        user=said.user,
        limits=ProcessLimits(**msgspec.structs.asdict(said.limits or Limits())),
        **({} if said.grace_seconds is None else {"grace_seconds": said.grace_seconds}),
    )

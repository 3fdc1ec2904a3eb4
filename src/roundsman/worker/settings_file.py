"""A worker's settings from its file and from the command line, or everything that is wrong."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from roundsman.client.transport import AddressError, parse_address
from roundsman.config.devices import tag_findings
from roundsman.config.secrets import Secrets
from roundsman.documents import document
from roundsman.documents.check import as_value, check
from roundsman.documents.problems import ConfigurationError, Finding, Problem, path_text
from roundsman.secret import Secret
from roundsman.worker.settings import (
    HostKeyPolicy,
    OutboxSettings,
    WorkerSettings,
)

STATE_FOLDER: Final = "roundsman-worker"
COMMAND_LINE: Final = "command line"
"""Where a problem is said to be that no file has."""
LONGEST_NAME: Final = 200
"""As the controller takes it."""


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """Base of the records of a file: a key that is not named is wrong."""


class Outbox(_Record):
    """How much may wait on disk for the controller before no more work is taken."""

    max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] | None = None
    """Bytes of finished and of running results together. Default: 2147483648 (2 GiB)."""
    max_count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Finished results. Default: 10000."""


class WorkerFile(_Record):
    """A worker's settings file."""

    controller: str | list[str] | None = None
    """Address of the controller, such as `https://roundsman.example.net:9400`. Needed. A list where
    there are several controllers: one of them is taken by chance, and another when it is away."""
    token: str | None = None
    """Token for enrolment, or where it is: `env:NAME`, `file:PATH`."""
    name: str | None = None
    """For people. Default: the host name."""
    state: Path | None = None
    """Folder of identity, outbox, pinned host keys and outputs. Default: `roundsman-worker`."""
    tags: list[str] | None = None
    """Serve devices with any of these. Default: every device."""
    sessions: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Sessions at once with devices that get on; slow ones do not count, up to five times as many.
    Default: 200."""
    host_keys: HostKeyPolicy | None = None
    """Which SSH host keys are accepted. Default: `trust_on_first_use`."""
    ssh_agent: str | None = None
    """Socket of an SSH agent, or where its name is: `env:SSH_AUTH_SOCK`. Its keys are shown to
    devices whose credentials say `agent: true`. Default: none, and no agent is used."""
    policy: Path | None = None
    """Policy file: what may be started on this worker on demand. Default: none, and nothing is."""
    outbox: Outbox | None = None
    """Results waiting on disk."""
    ca_file: Path | None = None
    """PEM file of authorities that may sign the controller's certificate. Default: the system's."""


class LoadedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, and what their reader should know although nothing is wrong."""

    settings: WorkerSettings
    warnings: tuple[str, ...] = ()


def load(
    file: Path | None, *, given: Mapping[str, object], environ: Mapping[str, str]
) -> LoadedSettings:
    """The settings: what is `given` on the command line, else in the file, else the defaults.

    `given` has the keys and types of the file; none counts as not given. Relative paths are taken
    from the file's folder, and from the current one in `given`. Raises `ConfigurationError` with
    every problem found.
    """
    said: dict[str, Any] = {}
    problems: list[Problem] = []
    warnings: tuple[str, ...] = ()
    if file is not None:
        read = document.read(file, WorkerFile)
        secrets = Secrets(environ, file.parent)
        said, findings = _resolve(read.says, file.parent, secrets)
        problems += read.error([*read.findings, *findings]).problems
        warnings = tuple(read.warnings(holds_secrets=secrets.literal))
    spoken, findings = check(_without_nothing(given), WorkerFile)
    here, more = _resolve(spoken, Path.cwd(), Secrets(environ, Path.cwd()))
    problems += [_problem(finding, COMMAND_LINE) for finding in (*findings, *more)]
    said = _over(here, said)
    if "controller" not in said and not problems:
        missing = Finding("config.missing", (), "controller is needed: its address")
        problems.append(_problem(missing, COMMAND_LINE if file is None else str(file)))
    if problems:
        raise ConfigurationError(problems)
    return LoadedSettings(settings=_settings(said), warnings=warnings)


def _resolve(
    says: dict[str, Any], folder: Path, secrets: Secrets
) -> tuple[dict[str, Any], list[Finding]]:
    """What was said with paths and references followed, and what is wrong with it."""
    said = _without_nothing(msgspec.to_builtins(_record_of(says), enc_hook=str))
    findings = [
        *_check_address(said),
        *_check_name(said),
        *tag_findings(tuple(said.get("tags", ()))),
    ]
    for key in ("state", "ca_file", "policy"):
        if key in said:
            said[key] = folder.absolute() / said[key]
    for key in ("token", "ssh_agent"):
        if key in said:
            try:
                said[key] = _fetch(said[key], folder, secrets, is_path=key == "ssh_agent")
            except ValueError as error:
                findings.append(Finding("config.secret", (key,), str(error)))
    return said, findings


def _fetch(reference: str, folder: Path, secrets: Secrets, *, is_path: bool) -> Secret | Path:
    """What a reference stands for; a path may stand there by itself."""
    if not is_path:
        return secrets.fetch(reference)
    if reference.startswith(("env:", "file:")):
        reference = secrets.fetch(reference).reveal()
    return folder.absolute() / reference


def _record_of(says: dict[str, Any]) -> WorkerFile:
    return msgspec.convert(says, WorkerFile, dec_hook=as_value)


def _without_nothing(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing said for a key is the key not said, at every level; and a path is a text."""
    return {
        key: _without_nothing(value) if isinstance(value, Mapping) else _plain(value)
        for key, value in mapping.items()
        if value is not None
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _over(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One over the other, key by key at every level."""
    both = {**second, **first}
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict):
            both[key] = _over(first[key], second[key])
    return both


def _check_address(said: dict[str, Any]) -> list[Finding]:
    given = said.get("controller", ())
    findings = []
    if given == []:
        text = "expected the address of a controller, or several"
        findings.append(Finding("config.address", ("controller",), text))
    for address in [given] if isinstance(given, str) else given:
        try:
            parse_address(address)
        except AddressError as error:
            findings.append(Finding("config.address", ("controller",), error.text, error.remedy))
    return findings


def _check_name(said: dict[str, Any]) -> list[Finding]:
    name = said.get("name", "worker")
    if 0 < len(name) <= LONGEST_NAME and name.isprintable():
        return []
    text = f"expected 1 to {LONGEST_NAME} printable characters"
    return [Finding("config.name", ("name",), text)]


def _problem(finding: Finding, file: str) -> Problem:
    return Problem(
        code=finding.code,
        file=file,
        line=None,
        path=path_text(finding.path),
        text=finding.text,
        suggestion=finding.suggestion,
    )


def _settings(said: dict[str, Any]) -> WorkerSettings:
    controller = said["controller"]
    return WorkerSettings(
        controller=controller if isinstance(controller, str) else tuple(controller),
        token=said.get("token"),
        name=said.get("name") or platform.node() or "worker",
        state=said.get("state") or Path(STATE_FOLDER).absolute(),
        tags=tuple(said.get("tags", ())),
        host_keys=HostKeyPolicy(said.get("host_keys", HostKeyPolicy.TRUST_ON_FIRST_USE)),
        ssh_agent=said.get("ssh_agent"),
        policy=said.get("policy"),
        outbox=OutboxSettings(**said.get("outbox", {})),
        ca_file=said.get("ca_file"),
        **({"sessions": said["sessions"]} if "sessions" in said else {}),
    )

"""Expanded entries of jobs to the records that travel."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import regex

from roundsman.config.contents import commands_of, expressions_of, files_of, texts_of
from roundsman.config.plans import Planned, Schedules
from roundsman.config.records import Priority, Retries, ShrinkGuard
from roundsman.config.template import fill, variables
from roundsman.documents.problems import Finding, Path
from roundsman.wire import job as wire
from roundsman.wire.device import Prompt

Fill = Callable[[str], str]


class Built(NamedTuple):
    """A job with its values filled in; none, and why, when that is not possible."""

    job: wire.Job | None
    findings: tuple[Finding, ...]


class JobTemplate:
    """A job with its generics and overrides merged in, before template values are filled in."""

    def __init__(self, name: str, says: dict[str, Any], schedules: Schedules) -> None:
        """Take the merged entry; what is wrong with it, whatever the values, is in `findings`."""
        self.name = name
        self._says = says
        self._built: dict[tuple[str | None, ...], Built] = {}
        self.findings: list[Finding] = []
        self.values: Mapping[str, Any] = says.get("template_values", {})
        """What the job and its generics set."""
        self.uses: dict[str, Path] = {}
        """Every variable, and the first text that holds it."""
        for path, text in texts_of(says):
            self._note_variables(path, text)
        self.standard: str | None = says.get("standard")
        """The platform's job that gives the commands."""
        self.keep_secrets: bool = says.get("keep_secrets", False)
        """Whether what the platform knows to be secret stays in the result."""
        self.priority = Priority(says.get("priority", Priority.NORMAL))
        """Whether it goes before others."""
        self.retries = Retries(**says.get("retries", {}))
        """How often a failed run is tried again."""
        self.shrink_guard = ShrinkGuard(**says.get("shrink_guard", {}))
        """When a result that shrank is not believed at once."""
        self.planned = self._plan(schedules)
        self._check_type()
        self._check_prompt()

    def build(self, values: tuple[str | None, ...]) -> Built:
        """The job with a value for each variable of `uses`; where there is none it stays."""
        if values not in self._built:
            self._built[values] = self._fill(values)
        return self._built[values]

    def _note_variables(self, path: Path, text: str) -> None:
        try:
            for name in variables(text):
                self.uses.setdefault(name, path)
        except ValueError as error:
            self.findings.append(
                Finding(
                    "config.template",
                    path,
                    f'"{error}" is no template variable such as {{{{name}}}}',
                    "write {{{{ for two braces as they are",
                )
            )

    def _plan(self, schedules: Schedules) -> Planned | None:
        says = self._says.get("schedule")
        if not says:
            self.findings.append(
                Finding("config.missing", ("schedule",) if says == {} else (), "schedule is needed")
            )
            return None
        try:
            return schedules.plan(says)
        except ValueError as error:
            # The text begins with the key that it is about, unless it is about several.
            key = str(error).partition(" ")[0]
            path = ("schedule", key) if key in says else ("schedule",)
            self.findings.append(Finding("config.schedule", path, str(error)))
            return None

    def _check_type(self) -> None:
        says = self._says
        commands = [key for key in ("standard", "command", "commands") if key in says]
        files = [key for key in ("file", "files") if key in says]
        for both in (commands, files):
            if len(both) > 1:
                text = f"expected either {both[0]} or {both[1]}, got both"
                self.findings.append(Finding("config.conflict", (both[1],), text))
        kind = wire.JobType(says.get("type", wire.JobType.COMMAND))
        needed, other, content = (
            (commands, files, commands_of(says))
            if kind is wire.JobType.COMMAND
            else (files, commands, files_of(says))
        )
        if other:
            text = f"a job of type {kind} has no {other[0]}"
            fix = f"set type: {'file' if kind is wire.JobType.COMMAND else 'command'}"
            self.findings.append(Finding("config.conflict", (other[0],), text, fix))
        elif "transfer" in says and kind is wire.JobType.COMMAND:
            text = "a transfer is how files are fetched, and a job of type command has none"
            of_platform = "standard" in says
            fix = "leave it out: the platform says it" if of_platform else "set type: file"
            self.findings.append(Finding("config.conflict", ("transfer",), text, fix))
        elif not content and "standard" not in says:
            names = "commands" if kind is wire.JobType.COMMAND else "files"
            self.findings.append(
                Finding(
                    "config.missing",
                    (needed[0],) if needed else (),
                    f"a job of type {kind} needs {names}, or the name of a standard job, got none",
                    "give them, or set standard: backup where the platform has it",
                )
            )
        for path, command in commands_of(says):
            if "enter" in command and "implicit_enter" in command:
                text = "expected either enter or implicit_enter, got both"
                self.findings.append(Finding("config.conflict", (*path, "implicit_enter"), text))

    def _check_prompt(self) -> None:
        self.findings += [
            Finding(code, ("prompt", *path), text)
            for code, path, text, _ in prompt_findings(self._says.get("prompt"))
        ]

    def _fill(self, values: tuple[str | None, ...]) -> Built:
        known = {
            name: value for name, value in zip(self.uses, values, strict=True) if value is not None
        }
        if self.findings or self.planned is None:
            return Built(None, ())
        findings: list[Finding] = []
        if len(known) == len(self.uses):
            findings = _check_expressions(self._says, known)
        if findings:
            return Built(None, tuple(findings))
        return Built(
            _job(self.name, self._says, self.planned.configured, lambda text: fill(text, known)),
            (),
        )


def prompt_findings(says: Mapping[str, Any] | None) -> list[Finding]:
    """What is wrong with a prompt."""
    if says is None:
        return []
    if "ends_with" not in says:
        return [Finding("config.missing", (), "ends_with is needed")]
    if not says["ends_with"].strip():
        return [Finding("config.prompt", ("ends_with",), "expected more than blanks")]
    return []


def _check_expressions(says: Mapping[str, Any], values: Mapping[str, str]) -> list[Finding]:
    findings = []
    for path, text in expressions_of(says):
        try:
            _compiled(text, values)
        except ValueError as error:
            findings.append(Finding("config.regex", path, str(error)))
            continue
        if path[0] != "scrubbers":
            continue
        rule = says["scrubbers"][path[1]]
        if rule["type"] != wire.ScrubberType.REGEX_SUBSTITUTE:
            continue
        replace = rule.get("replace") or ""
        try:
            # A replacement is only read when something matches: here, nothing does.
            _compiled(f"(?:{text}\n)|", values).sub(fill(replace, values).encode(), b"")
        except (regex.error, IndexError) as error:
            reason = _reason(error, variables(replace))
            place = (*path[:2], "replace")
            findings.append(Finding("config.regex", place, f"not a replacement{reason}"))
    return findings


def _compiled(text: str, values: Mapping[str, str]) -> "regex.Pattern[bytes]":
    """As the worker reads it: on bytes, by `regex`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later version may read differently
            return regex.compile(fill(text, values).encode(), regex.MULTILINE)
    except (regex.error, OverflowError, RecursionError) as error:
        reason = _reason(error, variables(text))
        raise ValueError(f"not a regular expression{reason}") from None


def _reason(error: Exception, names: tuple[str, ...]) -> str:
    """What is wrong with an expression; nothing of it where it holds values: they may be secret."""
    return " when its template values are filled in" if names else f": {error}"


def _job(name: str, says: Mapping[str, Any], schedule: wire.Schedule, filled: Fill) -> wire.Job:
    """The record; `says` is known to be right."""
    kind = wire.JobType(says.get("type", wire.JobType.COMMAND))
    commands = tuple(_command(command, filled) for _, command in commands_of(says))
    files = tuple(
        wire.File(
            name=file["name"],
            compression=wire.Compression(file["compression"]) if file.get("compression") else None,
        )
        for file in files_of(says)
    )
    is_command = kind is wire.JobType.COMMAND
    prompt = says.get("prompt")
    return wire.Job(
        name=name,
        schedule=schedule,
        type=kind,
        standard=says.get("standard"),
        command=wire.InlineCommands(inline=tuple(c.command for c in commands))
        if commands
        else None,
        command_set=wire.CommandSet(commands=commands) if commands else None,
        file_set=None
        if is_command
        else wire.FileSet(
            files=files, transfer=wire.Transfer(says.get("transfer", wire.Transfer.SFTP))
        ),
        prompt=Prompt(**prompt) if prompt else None,
        scrubbers=tuple(
            wire.Scrubber(
                type=wire.ScrubberType(rule["type"]),
                search=filled(rule["search"]),
                replace=filled(rule.get("replace") or ""),
            )
            for rule in says.get("scrubbers", ())
        ),
        missed=wire.MissedPolicy(says.get("missed", wire.MissedPolicy.LATEST)),
        detected_secrets=wire.DetectedSecrets(
            says.get("detected_secrets", wire.DetectedSecrets.REPORT)
        ),
        **{key: says[key] for key in _AS_THEY_ARE if key in says},
    )


_AS_THEY_ARE = (
    "command_timeout",
    "session_timeout",
    "max_bytes",
    "missed_cap",
    "missed_grace_seconds",
)


def _command(says: Mapping[str, Any], filled: Fill) -> wire.Command:
    return wire.Command(
        command=filled(says["command"]),
        expect=tuple(map(filled, says.get("expect", ()))),
        expect_not=tuple(map(filled, says.get("expect_not", ()))),
        timeout=says.get("timeout"),
        implicit_enter=says.get("enter", says.get("implicit_enter", True)),
    )

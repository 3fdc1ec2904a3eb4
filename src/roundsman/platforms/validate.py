"""What is wrong with a platform file beyond its keys and types."""

import warnings
from collections.abc import Iterator
from typing import Final

import regex

from roundsman.documents.problems import Finding, Path
from roundsman.platforms.schema import Filter, PlatformFile
from roundsman.wire.job import ScrubberType
from roundsman.wire.names import NAME_RULE, is_valid_name

_LISTS: Final = ("prompts", "expired", "notices", "errors")


def findings(says: PlatformFile) -> list[Finding]:
    """Everything that is wrong with it."""
    found = [*_expression_findings(says), *_filter_findings(says), *_name_findings(says)]
    return found or [*_standard_findings(says), *_example_findings(says)]


def _name_findings(says: PlatformFile) -> Iterator[Finding]:
    named = [(("name",), says.name)] if says.name else []
    for path, name in [*named, *((("names", i), name) for i, name in enumerate(says.names))]:
        if not is_valid_name(name):
            yield Finding("config.name", path, f"expected {NAME_RULE}")


def _expressions(says: PlatformFile) -> Iterator[tuple[Path, str]]:
    """Every regular expression, with where it stands; those of filters aside."""
    for key in _LISTS:
        for position, text in enumerate(getattr(says, key)):
            yield (key, position), text
    for key in ("user", "password", "failed"):
        yield ("login", key), getattr(says.login, key)
    if says.enable is not None:
        yield ("enable", "prompt"), says.enable.prompt
        yield ("enable", "password"), says.enable.password
    for position, pager in enumerate(says.more):
        yield ("more", position, "pattern"), pager.pattern
    for position, question in enumerate(says.questions):
        yield ("questions", position, "pattern"), question.pattern
    for name, job in says.standard.items():
        for position, command in enumerate(job.commands):
            if not isinstance(command, str) and command.end is not None:
                yield ("standard", name, "commands", position, "end"), command.end


def _expression_findings(says: PlatformFile) -> Iterator[Finding]:
    for path, text in _expressions(says):
        try:
            _compiled(text)
        except ValueError as error:
            yield Finding("config.regex", path, str(error))


def _filter_findings(says: PlatformFile) -> Iterator[Finding]:
    for key in ("noise", "secrets"):
        for position, rule in enumerate(getattr(says, key)):
            yield from _one_filter_findings((key, position), rule)


def _one_filter_findings(path: Path, rule: str | Filter) -> Iterator[Finding]:
    place = path if isinstance(rule, str) else (*path, "search")
    rule = Filter(search=rule) if isinstance(rule, str) else rule
    if not rule.search:
        yield Finding("config.regex", place, "expected more than nothing")
        return
    if rule.type is ScrubberType.SIMPLE:
        return
    try:
        expression = _compiled(rule.search)
    except ValueError as error:
        yield Finding("config.regex", place, str(error))
        return
    if rule.type is ScrubberType.REGEX_SUBSTITUTE:
        try:
            expression.sub(rule.replace.encode(), b"")
        except (regex.error, IndexError) as error:
            yield Finding("config.regex", (*path, "replace"), f"not a replacement: {error}")


def _standard_findings(says: PlatformFile) -> Iterator[Finding]:
    for name, job in says.standard.items():
        path = ("standard", name)
        if job.commands and job.files:
            text = "expected either commands or files, got both"
            yield Finding("config.conflict", (*path, "files"), text)
        elif not job.commands and not job.files:
            text = "a standard job needs commands or files, got none"
            yield Finding("config.missing", path, text)
        for position, command in enumerate(job.commands):
            if not isinstance(command, str) and command.passphrase and not says.exec:
                where = (*path, "commands", position, "passphrase")
                text = "a shell would echo the passphrase: expected exec: true with it"
                yield Finding("config.conflict", where, text)
        if bool(job.files) != (job.transfer is not None):
            text = "files and a transfer go together"
            yield Finding("config.conflict", path, text)


def _example_findings(says: PlatformFile) -> Iterator[Finding]:
    prompts = [_compiled(text) for text in says.prompts]
    for position, line in enumerate(says.examples.prompts):
        if not any(_is_all_of(line, prompt) for prompt in prompts):
            path = ("examples", "prompts", position)
            yield Finding("platform.example", path, "none of the prompts matches the whole of it")
    for position, line in enumerate(says.examples.not_prompts):
        for text, prompt in zip(says.prompts, prompts, strict=True):
            if _is_all_of(line, prompt):
                path = ("examples", "not_prompts", position)
                yield Finding("platform.example", path, f"the prompt {text!r} matches it")


def _is_all_of(line: str, prompt: "regex.Pattern[bytes]") -> bool:
    """Whether a line is that prompt, as a worker sees it: blanks around it aside."""
    texts = {line, line.strip(), f"{line.strip()} "}
    return any(prompt.fullmatch(text.encode()) is not None for text in texts)


def _compiled(text: str) -> "regex.Pattern[bytes]":
    """The expression as a worker reads it. Raises `ValueError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later version may read differently
            return regex.compile(text.encode(), regex.MULTILINE)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None

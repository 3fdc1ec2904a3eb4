"""Writes the reference pages made from the code: `python -m scripts.generate_reference NAME...`.

Every key with its type, its default and its meaning comes from the records that read the file and
the docstrings beside their fields, so that the page cannot say anything else than the program
does. A test compares the committed page with what this prints.
"""

import ast
import enum
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from roundsman.config import records, schema
from roundsman.secret import Secret
from roundsman.worker import policy_file, settings_file
from scripts import platform_reference
from scripts.command_reference import command_line
from scripts.http_reference import http_api

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
HEAD = """\
# Configuration reference

<!-- Made by scripts/generate_reference.py from the records in roundsman.config: do not edit. -->

A configuration is one file in YAML, JSON or TOML, by its suffix: `.yaml`, `.yml`, `.json` or
`.toml`. How generics, template values, secrets and schedules work is told in
[Configuration](../explanation/configuration.md). Any key that is not needed may be left out; an
empty value (null) takes away what a generic says.
"""
SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("The file", schema.Document),
    ("Device: `devices.NAME`, `device_generics.NAME`", schema.Device),
    ("Jump host: `jump_hosts.NAME`", schema.JumpHost),
    ("`protocol` of a device or jump host", schema.Protocol),
    ("`protocol.ssh` of a device or jump host", schema.Ssh),
    ("`protocol.telnet` of a device", schema.Telnet),
    ("`protocol.tftp` of a device", schema.Tftp),
    ("`protocol.ftp` of a device", schema.Ftp),
    ("`protocol.http` of a device", schema.Http),
    ("`protocol.https` of a device", schema.Https),
    ("`protocol.tls` of a device", schema.Tls),
    ("`credentials` of a device or jump host, each", schema.Credentials),
    ("`prompt` of a job or of credentials", schema.Prompt),
    ("Job: `jobs.NAME`, `job_generics.NAME`, `devices.NAME.jobs.NAME`", schema.Job),
    ("`schedule` of a job", schema.Schedule),
    ("`command` of a job", schema.InlineCommands),
    ("`commands` of a job, each", schema.Command),
    ("`file` of a job, each", schema.FileOptions),
    ("`files` of a job, each", schema.File),
    ("`scrubbers` of a job, each", schema.Scrubber),
    ("`retries` of a job", schema.Retries),
    ("`shrink_guard` of a job", schema.ShrinkGuard),
    ("Window: `windows.NAME`", records.WindowSettings),
    ("`weekly` of a window, each", records.WeeklyTime),
    ("`once` of a window, each", records.OneTime),
    ("`controller`", records.ControllerSettings),
    ("`controller.listen`", records.Listen),
    ("`controller.listen.tls`", records.Tls),
    ("`controller.tokens`, each", records.Token),
    ("`controller.leases`", records.LeaseSettings),
    ("`controller.limits`", records.Limits),
    ("`controller.limits.tags.NAME`", records.TagLimits),
    ("`controller.breaker`", records.BreakerSettings),
    ("`controller.archive`", records.ArchiveSettings),
    ("`controller.archive.pointers`", records.PointerSettings),
    ("`controller.archive.remotes.NAME`", records.RemoteSettings),
    ("`controller.evidence`", records.EvidenceSettings),
    ("`controller.ledger`", records.LedgerSettings),
    ("`controller.history`", records.HistorySettings),
    ("`controller.log`", records.LogSettings),
)

WORKER_HEAD = """\
# Worker settings reference

<!-- Made by scripts/generate_reference.py from roundsman.worker.settings_file: do not edit. -->

A worker's settings are one file in YAML, JSON or TOML, by its suffix, options of
`roundsman worker`, or both; options win. Relative paths are taken from the file's folder.
What may be started on it on demand is said in a policy file, which only its owner may write.
"""
WORKER_SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("The file", settings_file.WorkerFile),
    ("`outbox`", settings_file.Outbox),
    ("The policy file", policy_file.PolicyFile),
    ("`commands.<name>`", policy_file.Command),
    ("`commands.<name>.limits`", policy_file.Limits),
)


def field_docs(record: type) -> dict[str, str]:
    """What stands beneath each field of a record and of those it extends."""
    docs: dict[str, str] = {}
    for owner in reversed(record.__mro__):
        if owner is msgspec.Struct or not issubclass(owner, msgspec.Struct):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for field, doc in zip(body.body, body.body[1:], strict=False):
            match field, doc:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = " ".join(text.split())
    return docs


def type_text(kind: msgspec.inspect.Type) -> str:
    """A type in words."""
    match kind:
        case msgspec.inspect.UnionType():
            others = [t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType)]
            return " or ".join(map(type_text, others))
        case msgspec.inspect.IntType():
            return "whole number" + (
                f", {kind.ge} to {kind.le}" if kind.ge is not None and kind.le is not None else ""
            )
        case msgspec.inspect.EnumType():
            return " or ".join(f"`{member.value}`" for member in kind.cls)
        case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
            return f"list ({type_text(kind.item_type)})"
        case msgspec.inspect.DictType():
            return f"names to {type_text(kind.value_type)}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.CustomType():
            return "secret" if kind.cls is Secret else "path"
        case msgspec.inspect.StructType():
            return "mapping"
    return "text"


def default_text(field: msgspec.inspect.Field) -> str:
    """A default as it would be written in a file; empty where it is said in the meaning."""
    if field.required:
        return "needed"
    default: Any = field.default
    if default is None or isinstance(
        default, dict | tuple | msgspec.Struct | type(msgspec.NODEFAULT)
    ):
        return ""
    if isinstance(default, enum.Enum):
        default = default.value
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def meaning(doc: str, default: str) -> tuple[str, str]:
    """The meaning, and the default when the meaning says it."""
    text, _, said = doc.partition(" Default: ")
    if said:
        value, dot, more = said.partition(". ")
        return (text + (f" {more}" if dot else "")), value.removesuffix(".")
    if text.endswith(" Needed."):
        return text.removesuffix(" Needed."), "needed"
    if " Needed, " in text:
        text, _, how = text.partition(" Needed, ")
        return text, f"needed, {how.removesuffix('.')}"
    return text, default


def section(title: str, record: type[msgspec.Struct]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield f"{' '.join((inspect.getdoc(record) or '').split())}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    info = msgspec.inspect.type_info(record)
    assert isinstance(info, msgspec.inspect.StructType)
    docs = field_docs(record)
    for field in info.fields:
        said, default = meaning(docs[field.name], default_text(field))
        cells = (f"`{field.encode_name}`", type_text(field.type), default, said)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page(head: str, sections: Iterable[tuple[str, type[msgspec.Struct]]]) -> str:
    lines = [head.rstrip("\n")]
    for title, record in sections:
        lines += section(title, record)
    return "\n".join([*lines, ""])


PAGES: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "configuration": lambda: page(HEAD, SECTIONS),
    "http-api": http_api,
    "platforms": lambda: (
        "\n".join(
            [
                page(platform_reference.HEAD, platform_reference.SECTIONS),
                *platform_reference.platforms(),
            ]
        )
        + "\n"
    ),
    "worker": lambda: page(WORKER_HEAD, WORKER_SECTIONS),
}


def main() -> int:
    names = sys.argv[1:]
    if not names or not PAGES.keys() >= set(names):
        print(f"usage: python -m scripts.generate_reference {' | '.join(PAGES)}", file=sys.stderr)
        return 2
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name in names:
        (REFERENCE / f"{name}.md").write_text(PAGES[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main())

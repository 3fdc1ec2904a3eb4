"""The page `docs/reference/http-api.md`, from the OpenAPI document that the controller serves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roundsman.clock import SystemClock
from roundsman.config.records import Configuration, ControllerSettings
from roundsman.controller.api.app import build_app
from roundsman.controller.api.document import finished_document
from roundsman.controller.service import Controller
from roundsman.ledger.memory import MemoryLedger
from roundsman.testing.memory_archive import MemoryArchive

Json = dict[str, Any]

HEAD = """\
# HTTP API reference

<!-- Made by scripts/generate_reference.py from the OpenAPI document: do not edit. -->

A running controller serves this as a page to read and try at `/api/docs`, and as an OpenAPI
document at `/api/openapi.json`.
"""


def document() -> Json:
    """The OpenAPI document of a controller that is never opened."""
    controller = Controller(
        Configuration(devices={}, jobs={}, slots={}, controller=ControllerSettings()),
        ledger=MemoryLedger(),
        archive=MemoryArchive(),
        clock=SystemClock(),
        data=Path("unused"),
    )
    found: Json = json.loads(finished_document(build_app(controller)))
    return found


def http_api() -> str:
    found = document()
    lines = [HEAD, found["info"]["description"]]
    operations = [
        (method.upper(), path, operation)
        for path, item in found["paths"].items()
        for method, operation in item.items()
    ]
    for tag in found["tags"]:
        lines += [f"## {tag['name']}\n", f"{tag['description']}\n"]
        for method, path, operation in operations:
            if operation["tags"] == [tag["name"]]:
                lines += _operation(method, path, operation)
    lines.append("## Records\n")
    for name, schema in sorted(found["components"]["schemas"].items()):
        lines += _record(name, schema)
    return "\n".join(lines).rstrip("\n") + "\n"


def _operation(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"### `{method} {path}`\n"
    yield f"**{operation['summary']}.** {operation['description']}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | default | meaning |"
        yield "|---|---|---|---|---|"
        for each in parameters:
            schema = each["schema"]
            default = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
            if each["required"]:
                default = "needed"
            yield _row(f"`{each['name']}`", each["in"], _type(schema), default, each["description"])
        yield ""
    if body := operation.get("requestBody"):
        for kind, content in body["content"].items():
            yield f"Body, `{kind}`: {_type(content['schema'])}\n"
            if "properties" in content["schema"]:
                yield from _fields(content["schema"], asked=True)
    yield "| code | body | meaning |"
    yield "|---|---|---|"
    for code, response in operation["responses"].items():
        kinds = [
            f"`{kind}`" if kind != "application/json" else _type(content["schema"])
            for kind, content in response.get("content", {}).items()
        ]
        yield _row(code, ", ".join(kinds), response["description"])
    yield ""


def _record(name: str, schema: Json) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{schema['description']}\n"
    if "properties" in schema:
        yield from _fields(schema, asked=name.endswith("Request"))


def _fields(schema: Json, *, asked: bool = False) -> Iterator[str]:
    """A record's fields; of one that is asked for, also which may be left out."""
    needed = schema.get("required", ())
    yield "| field | type | default | meaning |" if asked else "| field | type | meaning |"
    yield "|---|---|---|---|" if asked else "|---|---|---|"
    for name, field in schema["properties"].items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        middle = ("needed" if name in needed else default,) if asked else ()
        yield _row(f"`{name}`", _type(field), *middle, field.get("description", ""))
    yield ""


def _type(schema: Json) -> str:
    """A type in words; records as links."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "oneOf" in schema:
        return " or ".join(map(_type, schema["oneOf"]))
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema['items'])}"
        case "integer":
            return f"whole number{_bounds(schema)}"
        case "number":
            return f"number{_bounds(schema)}"
        case "string":
            return "bytes" if "contentMediaType" in schema else "text"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "mapping"


def _bounds(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return ""
    return f" from {low:.0f}" + (f" to {int(high)}" if high is not None else "")


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

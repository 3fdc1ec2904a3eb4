"""Finishes the OpenAPI document: what the framework cannot know of errors, fields and names."""

import re
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from roundsman.config.records import Role
from roundsman.controller.api.docstrings import Meaning, meanings
from roundsman.controller.api.guards import Allow

Json = dict[str, Any]

_ERROR: Final[Json] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
# What any route may answer; a route that means something particular by a code says so itself.
_DESCRIPTIONS: Final = {
    "400": "A parameter or the body is malformed; the text names it.",
    "401": "No credential, or one that is not known.",
    "403": "The credential may not do this.",
    "404": "What the path names is not known.",
    "413": "The body is too large.",
    "503": "The ledger or the archive cannot serve now; try again after `Retry-After` seconds.",
}
_SUCCESSES: Final = {
    "200": "Success.",
    "201": "Created.",
    "202": "Accepted.",
    "204": "Done; the answer has no body.",
}
_PUBLIC: Final = "health"
_PAGE: Final = re.compile(rb"Page_roundsman\.(?:\w+\.)*(\w+?)_(?=\")")


def finished_document(app: Litestar) -> bytes:
    """The document of an application as JSON, complete."""
    document: Json = app.openapi_schema.to_schema()
    document.pop("servers")  # the one that answers this
    components = document["components"]["schemas"]
    known = meanings()
    callers = _roles(app)
    for name, schema in components.items():
        _describe(schema, known.get(name.partition("_")[0]))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operation["description"] += _callers(callers.get((method.upper(), path), ()))
            _tidy_parameters(operation)
            _tidy_successes(operation)
            _add_errors(path, operation)
    components["ErrorAnswer"] = _error_answer(known["ErrorAnswer"])
    document["components"]["schemas"] = _referred_to(document)
    return _PAGE.sub(rb"\1Page", msgspec.json.encode(document))


def _roles(app: Litestar) -> dict[tuple[str, str], tuple[Role, ...]]:
    """Who may call, by method and path."""
    return {
        (method, route.path_format): guard.roles
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        for guard in handler.resolve_guards()
        if isinstance(guard, Allow)
    }


def _callers(roles: tuple[Role, ...]) -> str:
    if not roles:
        return ""
    return f"\n\nFor the role{'s' * (len(roles) > 1)} {' and '.join(sorted(roles))}."


def _referred_to(document: Json) -> Json:
    """The schemas that something refers to: a route may have put its own in place of one."""
    text = msgspec.json.encode(document)
    schemas: Json = document["components"]["schemas"]
    return {
        name: schema
        for name, schema in sorted(schemas.items())
        if f'"#/components/schemas/{name}"'.encode() in text
    }


def _describe(schema: Json, meaning: Meaning | None) -> None:
    if meaning is None:
        return
    schema["description"] = meaning.text
    if "enum" in schema:
        listed = [f"- `{value}`: {meaning.parts.get(value, '')}" for value in schema["enum"]]
        schema["description"] = "\n".join([meaning.text, "", *listed])
    for name, part in schema.get("properties", {}).items():
        if text := meaning.parts.get(name):
            part["description"] = text


def _error_answer(meaning: Meaning) -> Json:
    text = {"type": "string"}
    schema: Json = {
        "type": "object",
        "title": "ErrorAnswer",
        "required": ["error"],
        "properties": {"error": dict(text), "code": dict(text)},
    }
    _describe(schema, meaning)
    return schema


def _tidy_parameters(operation: Json) -> None:
    """Say of each parameter only what holds: an absent one is left out, never null."""
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        schema.pop("description", None)
        if "oneOf" in schema:
            parameter["schema"] = schema["oneOf"][0]
        for name in ("deprecated", "allowEmptyValue", "allowReserved"):
            parameter.pop(name, None)
    operation.pop("deprecated", None)


def _tidy_successes(operation: Json) -> None:
    for code, response in operation["responses"].items():
        if response["description"] == HTTPStatus(int(code)).description:
            response["description"] = _SUCCESSES.get(code, response["description"])
        if not response.get("headers"):
            response.pop("headers", None)


def _add_errors(path: str, operation: Json) -> None:
    public = _PUBLIC in operation.get("tags", ())
    applies = {
        "400": "parameters" in operation or "requestBody" in operation,
        "401": not public,
        "403": not public,
        "404": "{" in path,
        "413": "requestBody" in operation,
        "503": not public,
    }
    responses = operation["responses"]
    # The framework's own idea of a 400 is not what is answered here.
    responses.pop("400", None)
    for code, description in _DESCRIPTIONS.items():
        if applies[code] and code not in responses:
            responses[code] = {"description": description, "content": _ERROR}
    operation["responses"] = dict(sorted(responses.items()))

"""The OpenAPI document tells of every route all there is; its page needs nothing from elsewhere."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.routes import HTTPRoute

from roundsman.controller.api.app import build_app
from scripts.http_reference import document
from tests.controller.site import Site, open_site

Json = dict[str, Any]
HIDDEN = re.compile(r"/api/(docs|openapi\.json|v1/peers).*")
# Their fields are said in the published contracts; a mapping of texts needs no record.
BODIES_WITHOUT_RECORD = {"healthz", "ping"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def spec() -> Json:
    return document()


def operations(spec: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


async def test_every_route_is_in_the_document(site: Site, spec: Json) -> None:
    told = {(method, path) for method, path, _ in operations(spec)}
    served = {
        (method, route.path_format)
        for route in build_app(site.controller).routes
        if isinstance(route, HTTPRoute) and not HIDDEN.fullmatch(route.path_format)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS" and handler.handler_name != "other_method"
    }
    assert told == served


def test_every_operation_says_what_it_does_and_takes(spec: Json) -> None:
    tags = {tag["name"] for tag in spec["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(set(names)) == len(names)
    for method, path, operation in operations(spec):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), where
        assert len(operation["tags"]) == 1, where
        assert operation["tags"][0] in tags, where
        in_path = re.findall(r"\{(\w+)\}", path)
        parameters = operation.get("parameters", [])
        assert {each["name"] for each in parameters if each["in"] == "path"} == set(in_path), where
        for parameter in parameters:
            assert parameter["description"], (where, parameter)
            assert "null" not in json.dumps(parameter["schema"].get("oneOf", "")), where


def test_every_answer_has_a_record_and_every_error_the_same(spec: Json) -> None:
    error = {"$ref": "#/components/schemas/ErrorAnswer"}
    for method, path, operation in operations(spec):
        where = f"{method} {path}"
        for code, response in operation["responses"].items():
            assert response["description"], (where, code)
            content = response.get("content", {}).get("application/json")
            if code.startswith(("4", "5")) and code != "422" and path != "/readyz":
                assert content is not None, (where, code)
                assert content["schema"] == error, (where, code)
            elif content is not None and operation["operationId"] not in BODIES_WITHOUT_RECORD:
                assert "$ref" in json.dumps(content["schema"]), (where, code)
        if "{" in path:
            assert "404" in operation["responses"], where
        if operation["tags"] != ["health"]:
            assert {"401", "403", "503"} <= operation["responses"].keys(), where


def test_every_field_and_value_has_its_meaning(spec: Json) -> None:
    for name, schema in spec["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Za-z]+", name)
        assert schema["description"], name
        for field, part in schema.get("properties", {}).items():
            assert part.get("description"), f"{name}.{field}"
        for value in schema.get("enum", ()):
            assert re.search(rf"^- `{value}`: .", schema["description"], re.MULTILINE), (
                name,
                value,
            )


def test_every_reference_leads_somewhere(spec: Json) -> None:
    text = json.dumps(spec)
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert referred == spec["components"]["schemas"].keys()


def test_both_ways_to_show_a_token_are_declared(spec: Json) -> None:
    schemes = spec["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"bearer", "basic"}
    assert spec["paths"]["/healthz"]["get"]["security"] == [{}]


async def test_the_served_document_is_the_referenced_one(site: Site, spec: Json) -> None:
    first = await site.client.get("/api/openapi.json")
    again = await site.client.get("/api/openapi.json")
    assert first.content == again.content
    assert first.json() == spec


async def test_the_page_loads_only_what_is_served_here(site: Site) -> None:
    page = await site.client.get("/api/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "://" not in page.text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        assert (await site.client.get(path)).status_code == 200, path
    assert not re.search(r"<script(?! src=)|\son\w+=|style=", page.text)
    assert "://" not in (await site.client.get("/api/docs/page.js")).text


async def test_other_paths_below_api_are_answered_as_everywhere(site: Site) -> None:
    for path in ("/api", "/api/v2", "/api/v1/nothing", "/api/nothing.json"):
        answer = await site.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "http.not_found")

"""Every route of the application, and who may call it: a new route without an entry fails."""

import re
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from litestar.routes import HTTPRoute, WebSocketRoute

from roundsman.config.records import ControllerSettings, Role, Token
from roundsman.controller.access import token_hash
from roundsman.controller.api.app import build_app
from tests.controller.serving import Served, fleet, served


class Caller(StrEnum):
    NOBODY = "no credential"
    STRANGER = "wrong credential"
    READER = "reader"
    WORKER = "worker token"
    OWN = "enrolled worker, own id"
    OTHER = "enrolled worker, another's id"
    ADMINISTRATOR = "administrator"


UNKNOWN: Final = {Caller.NOBODY, Caller.STRANGER}
# Who is let in, by kind of route; of the others, the unknown are told 401 and the known 403.
PUBLIC: Final = set(Caller)
READ: Final = {Caller.READER, Caller.ADMINISTRATOR}
CHANGE: Final = {Caller.ADMINISTRATOR}
ENROL: Final = {Caller.WORKER, Caller.ADMINISTRATOR}
LEASE: Final = {Caller.WORKER, Caller.OWN, Caller.OTHER, Caller.ADMINISTRATOR}
OWN: Final = {Caller.OWN}
PEERS: Final[set[Caller]] = set()  # other controllers, which show no token

MATRIX: Final = {
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /api/docs": PUBLIC,
    "GET /api/docs/page.js": PUBLIC,
    "GET /api/docs/assets/{file_path}": PUBLIC,
    "HEAD /api/docs/assets/{file_path}": PUBLIC,
    "GET /api/openapi.json": PUBLIC,
    "GET /worker/ping": LEASE,
    "GET /worker/next": LEASE,
    "POST /worker/complete": LEASE,
    "POST /start": CHANGE,
    "POST /stop": CHANGE,
    "POST /query": READ,
    "GET /api/v1": READ,
    "GET /api/v1/controllers": READ,
    "GET /api/v1/peers/processes/{process_id}/output": PEERS,
    "GET /api/v1/peers/runs/{run_id}/evidence": PEERS,
    "GET /api/v1/workers": READ,
    "POST /api/v1/workers": ENROL,
    "GET /api/v1/workers/{worker_id}": READ,
    "DELETE /api/v1/workers/{worker_id}": CHANGE,
    "POST /api/v1/workers/{worker_id}/heartbeat": OWN,
    "WEBSOCKET /api/v1/workers/{worker_id}/control": OWN,
    "GET /api/v1/devices": READ,
    "GET /api/v1/devices/{device}": READ,
    "POST /api/v1/devices/{device}/pause": CHANGE,
    "POST /api/v1/devices/{device}/resume": CHANGE,
    "POST /api/v1/devices/{device}/release": CHANGE,
    "POST /api/v1/devices/{device}/jobs/{job}/run": CHANGE,
    "GET /api/v1/devices/{device}/jobs/{job}/latest": READ,
    "GET /api/v1/devices/{device}/jobs/{job}/versions": READ,
    "POST /api/v1/lfs/objects/batch": READ,
    "GET /api/v1/lfs/objects/{digest}": READ,
    "GET /api/v1/devices/{device}/jobs/{job}/versions/{version}": READ,
    "GET /api/v1/devices/{device}/jobs/{job}/versions/{version}/content": READ,
    "GET /api/v1/devices/{device}/jobs/{job}/diff": READ,
    "GET /api/v1/devices/{device}/jobs/{job}/diff/words": READ,
    "GET /api/v1/devices/{device}/jobs/{job}/blame": READ,
    "GET /api/v1/archive/versions": READ,
    "GET /api/v1/archive/search": READ,
    "GET /api/v1/archive/snapshot": READ,
    "GET /api/v1/jobs": READ,
    "GET /api/v1/jobs/{job}": READ,
    "POST /api/v1/jobs/{job}/pause": CHANGE,
    "POST /api/v1/jobs/{job}/resume": CHANGE,
    "GET /api/v1/slots": READ,
    "GET /api/v1/audit/days": READ,
    "GET /api/v1/audit/slots": READ,
    "GET /api/v1/audit/slots/totals": READ,
    "GET /api/v1/slots/{device}/{job}": READ,
    "GET /api/v1/runs": READ,
    "GET /api/v1/runs/{run_id}": READ,
    "GET /api/v1/runs/{run_id}/transcript": READ,
    "GET /api/v1/runs/{run_id}/recording": READ,
    "POST /api/v1/runs/{run_id}/accept": CHANGE,
    "GET /api/v1/processes": READ,
    "POST /api/v1/processes": CHANGE,
    "POST /api/v1/processes/{process_id}/stop": CHANGE,
    "GET /api/v1/batches": READ,
    "GET /api/v1/batches/{batch_id}": READ,
    "GET /api/v1/batches/{batch_id}/events": READ,
    "POST /api/v1/batches/{batch_id}/stop": CHANGE,
    "GET /api/v1/processes/{process_id}": READ,
    "GET /api/v1/processes/{process_id}/output": READ,
    "GET /api/v1/pauses": READ,
    "GET /api/v1/archive": READ,
    "GET /api/v1/remotes": READ,
    "POST /api/v1/reload": CHANGE,
    "GET /api/v1/audit": CHANGE,
    "GET /api/v1/audit/processes": CHANGE,
}
# Methods that no route answers but with 405, whoever calls.
REFUSED_METHODS: Final = re.compile(r"(?!POST )[A-Z]+ /(start|stop|query)")

SETTINGS: Final = ControllerSettings(
    tokens=tuple(
        Token(name=name, role=role, hash=token_hash(f"token-of-{name}"))
        for name, role in (
            ("ada", Role.ADMINISTRATOR),
            ("rita", Role.READER),
            ("walter", Role.WORKER),
        )
    )
)


class Site:
    """A controller with two enrolled workers."""

    def __init__(self, running: Served) -> None:
        self.running = running
        self.tokens = {
            Caller.STRANGER: "token-of-nobody",
            Caller.READER: "token-of-rita",
            Caller.WORKER: "token-of-walter",
            Caller.ADMINISTRATOR: "token-of-ada",
        }
        self.worker_id = ""

    async def enrol(self) -> None:
        for caller in (Caller.OWN, Caller.OTHER):
            async with self.running.http.post(
                "/api/v1/workers", json={"name": caller.name}, headers=self.headers(Caller.WORKER)
            ) as answer:
                enrolled = await answer.json()
            self.tokens[caller] = enrolled["token"]
            self.worker_id = self.worker_id or enrolled["worker_id"]

    def headers(self, caller: Caller) -> dict[str, str]:
        token = self.tokens.get(caller)
        return {"Authorization": f"Bearer {token}"} if token is not None else {}

    async def call(self, route: str, caller: Caller) -> int:
        """The status; 101 for a WebSocket that was opened."""
        method, path = route.split(" ")
        if route.startswith("DELETE"):  # the worker is needed by others
            path = path.replace("{worker_id}", "none")
        path = path.replace("{worker_id}", self.worker_id)
        path = re.sub(r"\{\w+\}", "none", path)
        http = self.running.http
        if method == "WEBSOCKET":
            try:
                async with http.ws_connect(path, headers=self.headers(caller)):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        body = {"name": "x"} if method == "POST" else None
        headers = self.headers(caller)
        async with http.request(method, path, headers=headers, json=body) as answer:
            return answer.status


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with served(fleet(1, settings=SETTINGS), tmp_path) as running:
        opened = Site(running)
        await opened.enrol()
        yield opened


def routes_of(running: Served) -> set[str]:
    found: set[str] = set()
    for route in build_app(running.controller).routes:
        path = re.sub(r":\w+\}", "}", route.path)
        if isinstance(route, HTTPRoute):
            # OPTIONS is answered by the framework with the methods there are, nothing more.
            found |= {f"{method} {path}" for method in route.methods if method != "OPTIONS"}
        elif isinstance(route, WebSocketRoute):
            found.add(f"WEBSOCKET {path}")
        else:
            found.add(f"{type(route).__name__} {path}")
    return {route for route in found if not REFUSED_METHODS.fullmatch(route)}


async def test_every_route_has_an_entry(site: Site) -> None:
    assert routes_of(site.running) == set(MATRIX)


@pytest.mark.parametrize("caller", Caller, ids=lambda caller: caller.name.lower())
async def test_each_caller_is_let_in_where_it_may(site: Site, caller: Caller) -> None:
    wrong = {}
    for route, allowed in MATRIX.items():
        status = await site.call(route, caller)
        # A WebSocket is refused before it is opened, and that has one code, whoever calls.
        known = caller not in UNKNOWN or route.startswith("WEBSOCKET")
        refusal = 403 if known else 401
        fine = status not in {401, 403} if caller in allowed else status == refusal
        if not fine:
            wrong[route] = status
    assert wrong == {}

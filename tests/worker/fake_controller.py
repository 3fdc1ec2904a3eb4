"""A controller over real HTTP that records what it is told, and misbehaves when asked to."""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import BodyPartReader, web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Completed:
    """One completion as it came in."""

    fields: dict[str, str]
    order: list[str]
    filename: str | None = None
    size: int | None = None
    digest: str | None = None
    content: bytes = b""


def error(status: int, code: str = "fake.error", **headers: str) -> Answer:
    """Answer with an error in a controller's own words."""

    async def answer(_: web.Request) -> web.StreamResponse:
        body = {"error": f"the fake says {status}", "code": code}
        return web.json_response(body, status=status, headers=headers)

    return answer


async def proxy_error(_: web.Request) -> web.StreamResponse:
    """Answer 404 as a proxy without a controller behind it does."""
    return web.Response(status=404, text="<html>no such site</html>", content_type="text/html")


async def drop(request: web.Request) -> web.StreamResponse:
    """Break the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class FakeController:
    """`async with FakeController() as controller: …`; `plan` tells it what to do next."""

    due: deque[object] = field(default_factory=deque)
    """What `/worker/next` hands out, in order."""
    completed: list[Completed] = field(default_factory=list)
    """What was answered 200."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Worker token to worker id."""
    enrolment_token: str | None = None
    beats: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Every request, as `METHOD path`."""
    lost: list[dict[str, Any]] = field(default_factory=list)
    """Leases to call lost in the next heartbeat."""
    failing: set[str] = field(default_factory=set)
    """Devices whose completions are answered 500, always."""
    plans: dict[str, deque[Answer]] = field(default_factory=dict)
    port: int = 0
    _runner: web.AppRunner | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        await self.appear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def appear(self) -> None:
        """Listen, on the same port as before."""
        app = web.Application(middlewares=[self._watch])
        app.router.add_get("/worker/ping", self._ping)
        app.router.add_get("/worker/next", self._next)
        app.router.add_post("/worker/complete", self._complete)
        app.router.add_post("/api/v1/workers", self._enrol)
        app.router.add_post("/api/v1/workers/{worker_id}/heartbeat", self._heartbeat)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def vanish(self) -> None:
        """Listen no more and break every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def plan(self, path: str, *answers: Answer) -> None:
        """Answer the next requests to `path` like this, then well again."""
        self.plans.setdefault(path, deque()).extend(answers)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until that is so; looked at after each request."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    @web.middleware
    async def _watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        planned = self.plans.get(request.path)
        try:
            return await (planned.popleft() if planned else handler)(request)
        finally:
            async with self._changed:
                self._changed.notify_all()

    def _worker_of(self, request: web.Request) -> str | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return self.tokens.get(token) if kind == "Bearer" else None

    async def _ping(self, _: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _enrol(self, request: web.Request) -> web.StreamResponse:
        said = await request.json()
        shown = request.headers.get("Authorization")
        if self.enrolment_token is not None and shown != f"Bearer {self.enrolment_token}":
            return await error(401, "access.unauthenticated")(request)
        number = len(self.tokens) + 1
        worker_id, token = f"00000000-0000-4000-8000-{number:012d}", f"{said['name']}-{number}"
        self.tokens[token] = worker_id
        return web.json_response({"worker_id": worker_id, "token": token}, status=201)

    async def _heartbeat(self, request: web.Request) -> web.StreamResponse:
        said = await request.json()
        worker_id = self._worker_of(request)
        if worker_id is None:
            return await error(401, "access.unauthenticated")(request)
        assert worker_id == request.match_info["worker_id"]
        self.beats.append(said)
        lost, self.lost = self.lost, []
        return web.json_response({"expires_at": 0.0, "seconds": 120.0, "lost": lost})

    async def _next(self, request: web.Request) -> web.StreamResponse:
        if self._worker_of(request) is None:
            return await error(401, "access.unauthenticated")(request)
        limit = int(request.query["max"])
        self.asked.append(
            {
                "max": limit,
                "seconds": int(request.query["seconds"]),
                "tags": request.query.getall("tag", []),
            }
        )
        handed = [self.due.popleft() for _ in range(min(limit, len(self.due)))]
        if not handed:
            return web.Response(status=204)
        return web.Response(body=json.dumps(handed).encode(), content_type="application/json")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if self._worker_of(request) is None:
            return await error(401, "access.unauthenticated")(request)
        done = Completed(fields={}, order=[])
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            assert part.name is not None
            done.order.append(part.name)
            if part.name != "file":
                done.fields[part.name] = await part.text()
                continue
            done.filename, done.size, digest = part.filename, 0, hashlib.sha256()
            while chunk := await part.read_chunk(1 << 18):
                digest.update(chunk)
                done.size += len(chunk)
                if done.size < 1 << 20:
                    done.content += chunk
            done.digest = digest.hexdigest()
        if done.fields["device"] in self.failing:
            return await error(500)(request)
        self.completed.append(done)
        return web.Response()

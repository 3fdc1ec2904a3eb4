"""A controller over real HTTP, with real workers and silent ones on its control channel."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from roundsman.client.transport import Transport
from roundsman.clock import SystemClock
from roundsman.config.records import ControllerSettings, Role, Token
from roundsman.controller.access import token_hash
from roundsman.ledger.interface import Ledger, ProcessChange
from roundsman.ledger.memory import MemoryLedger
from roundsman.secret import Secret
from roundsman.wire.audit import AuditEntry
from roundsman.wire.control import Hello, ProcessChanged, ToController, ToWorker, to_worker
from roundsman.wire.process import ProcessState
from roundsman.worker.control_channel import ControlChannel
from roundsman.worker.runners.process import ProcessRunner
from tests.controller.serving import Served, configuration, served
from tests.policies import policy

ADMINISTRATOR = {"Authorization": "Bearer token-of-ada"}
SETTINGS = ControllerSettings(
    tokens=tuple(
        Token(name=name, role=role, hash=token_hash(f"token-of-{name}"))
        for name, role in (
            ("ada", Role.ADMINISTRATOR),
            ("rita", Role.READER),
            ("walter", Role.WORKER),
        )
    )
)


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class WatchedLedger(MemoryLedger):
    """Tells when a process' state was written."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Condition()

    async def change_processes(
        self, changes: Sequence[ProcessChange], audit: Sequence[AuditEntry] = ()
    ) -> list[ProcessState | None]:
        written = await super().change_processes(changes, audit)
        async with self.changed:
            self.changed.notify_all()
        return written


class FleetSite:
    """A served controller and how to call it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.controller = served.controller

    async def call(
        self, path: str, body: Any = None, *, method: str = "POST", **options: Any
    ) -> Answer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        options.setdefault("headers", ADMINISTRATOR)
        # As clients of the published contract: without a content type unless given.
        skip = ["Content-Type"]
        async with self.served.http.request(
            method, path, data=data, skip_auto_headers=skip, **options
        ) as response:
            text = await response.read()
            said = msgspec.json.decode(text) if text else None
            return Answer(response.status, said, response.headers)

    async def start(self, worker_id: str, command: str, path: str = "") -> str:
        body = {"worker_id": worker_id, "command": command, "path": path}
        answer = await self.call("/start", body)
        assert answer.status == 201, answer.body
        job_id: str = answer.body["job_id"]
        return job_id

    async def stop(self, worker_id: str, job_id: str) -> Answer:
        return await self.call("/stop", {"worker_id": worker_id, "job_id": job_id})

    async def query(self, worker_id: str, job_id: str) -> Any:
        answer = await self.call("/query", {"worker_id": worker_id, "job_id": job_id})
        assert answer.status == 200, answer.body
        return answer.body

    async def ended(self, worker_id: str, job_id: str) -> Any:
        """What the query says once it says done."""
        ledger = self.controller.ledger
        assert isinstance(ledger, WatchedLedger)
        async with ledger.changed:
            while not (answer := await self.query(worker_id, job_id))["done"]:
                await ledger.changed.wait()
        return answer

    async def enrol(self, name: str = "ams-1") -> tuple[str, Secret]:
        headers = {"Authorization": "Bearer token-of-walter"}
        answer = await self.call("/api/v1/workers", {"name": name}, headers=headers)
        assert answer.status == 201, answer.body
        return answer.body["worker_id"], Secret(answer.body["token"])

    async def is_connected(self, worker_id: str, *, connected: bool = True) -> None:
        # Nothing of the product's tells it: let the event loop turn until it is so.
        connection = self.controller.fleet.is_connected
        while connection(worker_id) is not connected:  # noqa: ASYNC110 - as said above
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def fleet_site(
    data: Path, *, ledger: Ledger | None = None, port: int = 0
) -> AsyncIterator[FleetSite]:
    empty = configuration([], SETTINGS)
    listen = msgspec.structs.replace(empty.controller.listen, port=port)
    settings = msgspec.structs.replace(empty.controller, listen=listen)
    async with served(
        msgspec.structs.replace(empty, controller=settings),
        data,
        ledger=ledger or WatchedLedger(),
        clock=SystemClock(),
    ) as controller:
        yield FleetSite(controller)


class RealWorker:
    """The worker's own end: a process runner, and the control channel to it."""

    def __init__(
        self,
        url: str,
        identity: tuple[str, Secret],
        folder: Path,
        *commands: str,
    ) -> None:
        self.worker_id, token = identity
        self.scripts = folder / "scripts"
        self.scripts.mkdir(parents=True, exist_ok=True)
        self.client = Transport(url, token=token)
        self.runner = ProcessRunner(
            policy(self.scripts, *commands),
            folder=folder / "processes",
            clock=SystemClock(),
        )
        self.refused = asyncio.Event()
        self.channel = ControlChannel(
            client=self.client,
            worker_id=lambda: self.worker_id,
            runner=self.runner,
            clock=SystemClock(),
            chance=random.Random(1),
            tags=("ams",),
            on_refused=self.refused.set,
        )

    def script(self, text: str, name: str = "script.sh") -> str:
        (self.scripts / name).write_text(text)
        return name

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        await self.runner.open()
        self.running = asyncio.create_task(self.channel.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.stop()
        await self.running
        await self.runner.detach()
        await self.client.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def real_worker(site: FleetSite, folder: Path, *commands: str) -> AsyncIterator[RealWorker]:
    """A worker enrolled at the site and connected."""
    commands = commands or ("sh", "true", "sleep", "cat", "no-such-command")
    async with RealWorker(site.served.url, await site.enrol(), folder, *commands) as worker:
        await site.is_connected(worker.worker_id)
        yield worker


class FakeWorker:
    """A worker's end of the control channel that does only what it is told to."""

    def __init__(self, worker_id: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.worker_id = worker_id
        self.socket = socket

    async def say(self, message: ToController) -> None:
        await self.socket.send_str(msgspec.json.encode(message).decode())

    async def hear(self) -> ToWorker:
        return to_worker.decode(await self.socket.receive_str())


@contextlib.asynccontextmanager
async def fake_worker(
    site: FleetSite, identity: tuple[str, Secret], *processes: ProcessChanged
) -> AsyncIterator[FakeWorker]:
    worker_id, token = identity
    async with site.served.http.ws_connect(
        f"/api/v1/workers/{worker_id}/control",
        headers={"Authorization": f"Bearer {token.reveal()}"},
    ) as socket:
        worker = FakeWorker(worker_id, socket)
        await worker.say(Hello(version="1", processes=processes))
        await site.is_connected(worker_id)
        yield worker
        await socket.close()


def unknown() -> str:
    return str(uuid.uuid4())

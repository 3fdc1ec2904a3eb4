"""Commands asked of controllers that are killed: what was asked, told, and done."""

import asyncio
import contextlib
import random
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from roundsman.client import ControllerClient
from roundsman.testing.postgresql_server import PASSWORD
from roundsman.wire.process import Process, ProcessState
from roundsman.worker.service import WorkerService
from roundsman.worker.settings import WorkerSettings
from tests.acceptance.controllers import ControllerProcess
from tests.proxies import Proxy

CONTROLLERS: Final = 2
CLIENTS: Final = 6
POLL_SECONDS: Final = 0.1
STOPPED: Final = "signal: killed"
NOTE: Final = """#!/bin/sh
echo "$1" >> {notes}
case $1 in
*-long) exec sleep 3600 ;;
*) exit ${{1##*-}} ;;
esac
"""
POLICY: Final = """
commands:
  note: {{executable: {program}, arguments: ['.*'], grace_seconds: 0}}
on_stop: stop
"""


class Controller:
    """A controller that is found in one place, however often it is started anew."""

    def __init__(self, folder: Path, document: dict[str, object]) -> None:
        folder.mkdir()
        self.file = folder / "roundsman.json"
        self.file.touch(mode=0o600)
        self.file.write_bytes(msgspec.json.encode(document))
        self._process = ControllerProcess(self.file)
        self.front = Proxy(lambda: int(self._process.url.rpartition(":")[2]))

    @property
    def url(self) -> str:
        return self.front.url

    async def start(self) -> None:
        await self._process.start()

    async def kill(self) -> None:
        if self._process.is_running:
            await self._process.signal(signal.SIGKILL)


@dataclass
class Order:
    """A command that was asked for once."""

    name: str
    worker_id: str
    process_id: str | None = None
    """What was answered; none: an error, or nothing."""
    answer: str = ""
    end: str | None = None
    """What was told of its end; none: nobody asked so long."""

    @property
    def expected(self) -> str:
        """How it ends if it runs."""
        status = self.name.rpartition("-")[2]
        return STOPPED if status == "long" else "" if status == "0" else f"exit status {status}"


@dataclass
class Site:
    """Two controllers, a worker at each, and clients that ask either of them for either worker."""

    folder: Path
    database: str
    rng: random.Random
    controllers: list[Controller] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    @property
    def notes(self) -> Path:
        """Where each command that runs writes its name."""
        return self.folder / "notes"

    def _document(self, number: int) -> dict[str, object]:
        return {
            "controller": {
                "data": str(self.folder / str(number) / "data"),
                "listen": {"port": 0},
                "log": {"level": "info", "format": "json"},
                "ledger": {"url": self.database, "pass": f"file:{self.folder / 'password'}"},
                "archive": {
                    "remotes": {"shared": {"url": str(self.folder / "shared.git")}},
                    "acknowledge": "pushed",
                },
            },
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Start all of it; nothing is left afterwards."""
        (self.folder / "password").write_text(PASSWORD.reveal())
        self.notes.touch()
        program = self.folder / "note"
        program.write_text(NOTE.format(notes=self.notes))
        program.chmod(0o755)
        (self.folder / "policy.yaml").write_text(POLICY.format(program=program))
        (self.folder / "policy.yaml").chmod(0o600)
        shared = str(self.folder / "shared.git")
        subprocess.run(["git", "init", "--quiet", "--bare", shared], check=True)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(CONTROLLERS):
                controller = Controller(self.folder / str(number), self._document(number))
                stack.push_async_callback(controller.kill)
                await controller.start()
                await stack.enter_async_context(controller.front)
                self.controllers.append(controller)
            for number in range(CONTROLLERS):
                await stack.enter_async_context(self._worker(number))
            await self._connected()
            yield self

    @contextlib.asynccontextmanager
    async def _worker(self, number: int) -> AsyncIterator[None]:
        """One that dials one of them first."""
        urls = [each.url for each in self.controllers]
        service = WorkerService(
            WorkerSettings(
                controller=tuple(urls[number:] + urls[:number]),
                name=f"worker-{number}",
                state=self.folder / f"worker-{number}",
                policy=self.folder / "policy.yaml",
            )
        )
        working = asyncio.create_task(service.run())
        try:
            yield
        finally:
            service.cancel()
            await working

    async def _connected(self) -> None:
        """Until every worker is."""
        async with ControllerClient(self.controllers[0].url) as client:
            while True:
                known = (await client.manage.workers()).items
                self.workers = [each.worker_id for each in known if each.connected]
                if len(self.workers) == CONTROLLERS:
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def rage(self, kills: int, pause: float) -> None:
        """Ask for commands, and kill controllers, one at a time, meanwhile."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._ask_again(ended))
            for _ in range(kills):
                await asyncio.sleep(self.rng.uniform(0, pause))
                controller = self.rng.choice(self.controllers)
                await controller.kill()
                await asyncio.sleep(self.rng.uniform(0, pause))
                await controller.start()
            ended.set()
        await self._connected()

    async def _ask_again(self, ended: asyncio.Event) -> None:
        async with aiohttp.ClientSession() as http:
            while not ended.is_set():
                status = self.rng.choice(["0", "0", "3", "long"])
                worker = self.rng.choice(self.workers)
                order = Order(f"{len(self.orders)}-{status}", worker)
                self.orders.append(order)
                await self._ask(http, order)
                if order.process_id is None:
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                if status == "long":
                    await self._persist(http, "/stop", order)
                order.end = await self._end(http, order)

    async def _ask(self, http: aiohttp.ClientSession, order: Order) -> None:
        body = {"worker_id": order.worker_id, "command": "note", "path": order.name}
        url = self.rng.choice(self.controllers).url
        try:
            async with http.post(f"{url}/start", json=body) as response:
                said = await response.json()
        except (aiohttp.ClientError, OSError) as error:
            order.answer = f"no answer: {error!r}"
            return
        order.process_id = said.get("job_id")
        order.answer = said.get("error", "")

    async def _end(self, http: aiohttp.ClientSession, order: Order) -> str:
        while True:
            said = await self._persist(http, "/query", order)
            if said["done"]:
                return str(said["error_text"])
            await asyncio.sleep(POLL_SECONDS)

    async def _persist(self, http: aiohttp.ClientSession, path: str, order: Order) -> Any:
        """Ask any of them until one answers."""
        body = {"worker_id": order.worker_id, "job_id": order.process_id}
        while True:
            url = self.rng.choice(self.controllers).url
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with http.post(f"{url}{path}", json=body) as response:
                    if response.status == 200:
                        return await response.json()
            await asyncio.sleep(POLL_SECONDS)

    async def settled(self) -> list[Process]:
        """What the ledger says, once nothing runs any more that nobody wants to run."""
        async with ControllerClient(self.controllers[0].url) as client:
            while True:
                processes: list[Process] = []
                after = None
                while True:
                    page = await client.manage.processes(after=after, limit=500)
                    processes += page.items
                    after = page.next
                    if after is None:
                        break
                if all(process.done for process in processes):
                    return processes
                for process in processes:
                    # Nobody was told of these: the client that asked lost its controller.
                    if process.state is ProcessState.RUNNING and process.path.endswith("-long"):
                        await client.fleet.stop(
                            worker_id=process.worker_id, job_id=process.process_id
                        )
                await asyncio.sleep(POLL_SECONDS)


def judge(site: Site, processes: list[Process]) -> tuple[Counter[str], list[str]]:
    """How it went, and what is not as it was told."""
    done = Counter(site.notes.read_text().split())
    rows = {process.path: process for process in processes}
    by_id = {process.process_id: process for process in processes}
    counts: Counter[str] = Counter(orders=len(site.orders))
    faults = [f"{name} was executed {times} times" for name, times in done.items() if times > 1]
    faults += [f"{len(processes)} rows, {len(rows)} names"] * (len(processes) != len(rows))
    for order in site.orders:
        row = rows.get(order.name)
        about = f"{order} executed {done[order.name]} times, row {row}"
        if order.process_id is not None:
            counts["started"] += 1
            if order.process_id not in by_id or row is not by_id[order.process_id]:
                faults.append(f"lost: {about}")
            elif done[order.name] != 1:
                faults.append(f"told to run, and did not: {about}")
            elif order.end != order.expected:
                faults.append(f"told another end: {about}")
        elif order.answer.startswith("no answer"):
            counts["without an answer"] += 1
        else:
            counts["refused"] += 1
        if row is None:
            if done[order.name]:
                faults.append(f"nobody knows of it: {about}")
            counts["nothing kept"] += 1
        elif row.state is ProcessState.ENDED:
            # Of what nobody waited for the stop may have come before its first line.
            if row.error_text != STOPPED and (
                row.error_text != order.expected or not done[order.name]
            ):
                faults.append(f"another end in the ledger: {about}")
        elif row.state is not ProcessState.REFUSED or done[order.name]:
            faults.append(f"not true: {about}")
    return counts, faults

"""The processes, and the network between them."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer
from tests.acceptance.controllers import ControllerProcess
from tests.archive.git_servers import bare
from tests.archive.stock_git import StockGit
from tests.proxies import Proxy

JOB: Final = "backup"
START_SECONDS: Final = 120.0
"""A controller waits for its database; one that has not come up by then is started anew."""
AGAIN_SECONDS: Final = 0.5
"""After which a supervisor starts anew what ended."""
DRAINED_SECONDS: Final = 1200.0
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large, and how long."""

    controllers: int
    workers: int
    slots: int
    period: int
    """Seconds between two due times of a slot."""
    lease: int
    """Seconds."""
    acknowledge: str
    """When results are: `kept`, or `pushed`."""
    remotes: int = 1

    @property
    def is_settled_later(self) -> bool:
        """Whether a result may be written twice, and one of them is withdrawn later."""
        return self.acknowledge == "kept" or self.remotes > 1


class Process:
    """One that is killed, stopped and started again, one thing at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        """Held while something is done to it."""
        self.started = False
        """Whether it ever was."""

    @property
    def pid(self) -> int:
        raise NotImplementedError

    @property
    def log(self) -> Path:
        """Where it writes what happens."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start it, and return when it is there."""
        raise NotImplementedError

    async def kill(self) -> None:
        """SIGKILL."""
        raise NotImplementedError

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so many seconds later."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)


class Controller(Process):
    """One controller, with a network to the database of its own."""

    def __init__(self, number: int, folder: Path, database: PostgresqlServer) -> None:
        super().__init__(f"controller {number}")
        self.folder = folder / f"controller-{number}"
        self.folder.mkdir()
        self.to_database = Proxy(database.port)
        self._process = ControllerProcess(self.folder / "roundsman.json")
        self.port: int | None = None
        """Where it serves; none while it does not."""

    @property
    def url(self) -> str:
        return self._process.url

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "roundsman.log"

    @property
    def archive(self) -> StockGit:
        return StockGit(self.folder / "data" / "archive.git")

    def configure(self, document: dict[str, object]) -> None:
        file = self.folder / "roundsman.json"
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(document))

    async def start(self) -> None:
        while True:
            try:
                async with asyncio.timeout(START_SECONDS):
                    url = await self._process.start()
            except (TimeoutError, AssertionError):  # as with a supervisor: once more
                await self._process.signal(signal.SIGKILL)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self.started = True
                self.port = int(url.rsplit(":", 1)[1])
                return

    async def kill(self) -> None:
        self.port = None
        await self._process.signal(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM."""
        self.port = None
        return await self._process.signal(signal.SIGTERM)


class Worker(Process):
    """One worker."""

    def __init__(self, number: int, folder: Path, url: str, devices: int) -> None:
        super().__init__(f"worker-{number}")
        self.state = folder / self.name
        self._log = folder / f"{self.name}.log"
        self.clock = folder / f"{self.name}.clock"
        self.clock.write_text("0")
        self._arguments = (url, str(self.state), self.name, str(devices), str(self.clock))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._log

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.torture.fire.worker", *self._arguments),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.started = True
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"ready\n", self.log.read_text()

    async def kill(self) -> None:
        await self._signal(signal.SIGKILL)

    async def drain(self) -> set[int]:
        """SIGTERM: what runs ends, and results are handed over; the exit statuses.

        A worker that was refused for long tries again ever more seldom, and may leave some of them
        on its disk: then it is started once more, as a supervisor would.
        """
        async with asyncio.timeout(DRAINED_SECONDS):
            statuses = {await self._signal(signal.SIGTERM)}
            while left := self._results():
                await self.start()
                while left & self._results():  # noqa: ASYNC110 - another process writes them
                    await asyncio.sleep(POLL_SECONDS)
                statuses.add(await self._signal(signal.SIGTERM))
        return statuses

    def _results(self) -> set[str]:
        return {path.name for path in (self.state / "outbox").glob("*.json")}

    async def _signal(self, number: signal.Signals) -> int:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self._process.wait()

    def set_clock(self, ahead: float) -> None:
        beside = self.clock.with_suffix(".new")
        beside.write_text(str(ahead))
        beside.rename(self.clock)


class Site:
    """All of it. Workers come to whichever controller the network leads them to, as through a load
    balancer, each connection anew."""

    def __init__(self, folder: Path, size: Size, database: PostgresqlServer, seed: str) -> None:
        self.folder = folder
        self.size = size
        self.database = database
        self.trace = folder / "devices.trace"
        self.remotes = [bare(folder / f"remote-{number}.git") for number in range(size.remotes)]
        self.front = Proxy(self._any_controller)
        self._chance = random.Random(f"{seed} network")
        self._seed = seed
        self.controllers: list[Controller] = []
        self.workers: list[Worker] = []

    @property
    def processes(self) -> list[Process]:
        return [*self.controllers, *self.workers]

    @property
    def repositories(self) -> list[StockGit]:
        """All that hold the results."""
        return [*self.remotes, *(each.archive for each in self.controllers)]

    def _any_controller(self) -> int:
        ports = [each.port for each in self.controllers if each.port is not None]
        if not ports:
            raise ConnectionRefusedError
        return self._chance.choice(ports)

    @contextlib.asynccontextmanager
    async def running(self, name: str) -> AsyncIterator["Site"]:
        """Start it on the database of that name; nothing of it is left afterwards."""
        await self.database.run(f"CREATE DATABASE {name}")
        (self.folder / "password").write_text(PASSWORD.reveal())
        async with contextlib.AsyncExitStack() as stack:
            devices = await stack.enter_async_context(self._devices())
            await stack.enter_async_context(self.front)
            for number in range(self.size.controllers):
                controller = Controller(number, self.folder, self.database)
                await stack.enter_async_context(controller.to_database)
                url = f"postgresql://roundsman@127.0.0.1:{controller.to_database.port}/{name}"
                controller.configure(self._document(controller, url))
                self.controllers.append(controller)
            for number in range(self.size.workers):
                self.workers.append(Worker(number, self.folder, self.front.url, devices))
            try:
                await asyncio.gather(*(process.start() for process in self.processes))
                yield self
            finally:
                await asyncio.gather(*(each.kill() for each in self.processes if each.started))

    @contextlib.asynccontextmanager
    async def _devices(self) -> AsyncIterator[int]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.torture.fire.devices"),
            *(str(self.trace), self._seed, str(self.size.lease * 0.7)),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            yield int(await process.stdout.readline())
        finally:
            process.terminate()
            await process.communicate()  # to its end, so that nothing of it stays open

    def _document(self, controller: Controller, url: str) -> dict[str, object]:
        period = f"{self.size.period} seconds"
        return {
            "controller": {
                "data": str(controller.folder / "data"),
                "listen": {"port": 0},
                "log": {"level": "info", "format": "json"},
                "leases": {
                    "seconds": self.size.lease,
                    "seconds_without_heartbeat": 2 * self.size.lease,
                },
                "breaker": {"enabled": False},
                "ledger": {"url": url, "pass": f"file:{self.folder / 'password'}"},
                "archive": {
                    "remotes": {
                        remote.folder.stem: {"url": str(remote.folder)} for remote in self.remotes
                    },
                    "acknowledge": self.size.acknowledge,
                },
            },
            "jobs": {
                JOB: {
                    "schedule": {"duration": period, "splay": period},
                    "command": {"inline": ["show running-config"]},
                    "prompt": {"ends_with": "#"},
                    "retries": {"attempts": 1, "delay": 1},
                }
            },
            "device_generics": {"default": {"credentials": {"user": "u", "pass": "p"}}},
            "devices": {f"edge{number}": {"jobs": [JOB]} for number in range(self.size.slots)},
        }

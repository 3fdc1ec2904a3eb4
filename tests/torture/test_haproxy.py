"""A rolling restart of two controllers behind HAProxy, as the how-to has it: no request fails.

Runs where Debian's haproxy is installed; otherwise it says that it is not.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from roundsman.testing.postgresql_server import PASSWORD
from tests.acceptance.controllers import ControllerProcess
from tests.ledger.conftest import postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]

HAPROXY: Final = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
HOW_TO: Final = Path(__file__).parents[2] / "docs/how-to/controllers.md"
CLIENTS: Final = 4
ROUNDS: Final = 3


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def configured(front: int, ports: list[int]) -> str:
    """The how-to's configuration, on ports of this machine and without certificates."""
    [text] = re.findall(r"```haproxy\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    text = re.sub(r"bind :9400 ssl crt \S+", f"bind 127.0.0.1:{front}", text)
    text = re.sub(r" ssl verify required ca-file \S+", "", text)
    for number, port in enumerate(ports, start=1):
        text = text.replace(f"controller{number}.example.net:9400", f"127.0.0.1:{port}")
    assert "example.net" not in text
    return text


class Behind:
    """Two controllers, and HAProxy before them."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._database = database
        self._ports = [free_port(), free_port()]
        self.front = free_port()
        self.controllers: list[ControllerProcess] = []

    def _document(self, number: int) -> dict[str, object]:
        return {
            "controller": {
                "data": str(self._folder / str(number)),
                "listen": {"port": self._ports[number], "drain_seconds": 10, "behind_proxy": True},
                "ledger": {"url": self._database, "pass": f"file:{self._folder / 'password'}"},
                "archive": {"remotes": {"shared": {"url": str(self._folder / "shared.git")}}},
            },
        }

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Behind"]:
        (self._folder / "password").write_text(PASSWORD.reveal())
        shared = str(self._folder / "shared.git")
        subprocess.run(["git", "init", "--quiet", "--bare", shared], check=True)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(2):
                file = self._folder / f"{number}.json"
                file.touch(mode=0o600)
                file.write_bytes(msgspec.json.encode(self._document(number)))
                controller = ControllerProcess(file)
                self.controllers.append(controller)
                stack.push_async_callback(_kill, controller)
                await controller.start()
            file = self._folder / "haproxy.cfg"
            file.write_text(configured(self.front, self._ports))
            assert HAPROXY is not None
            haproxy = await asyncio.create_subprocess_exec(HAPROXY, "-db", "-f", str(file))
            stack.push_async_callback(haproxy.wait)
            stack.callback(haproxy.terminate)
            yield self

    async def restart(self) -> None:
        """One after the other, as an upgrade does."""
        for controller in self.controllers:
            assert await controller.signal(signal.SIGTERM) == 0
            await controller.start()


async def _kill(controller: ControllerProcess) -> None:
    if controller.is_running:
        await controller.signal(signal.SIGKILL)


async def ask(front: int, counts: Counter[str], *, kept: bool) -> None:
    """Ask on and on, on one connection or on one each; count what becomes of it."""
    connector = aiohttp.TCPConnector(force_close=not kept)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{front}", connector=connector) as http:
        while True:
            for path in ("/worker/next?max=1", "/api/v1/workers"):
                try:
                    async with http.get(path) as response:
                        await response.read()
                        counts[str(response.status)] += 1
                except aiohttp.ClientError as error:
                    counts[repr(error)] += 1


@pytest.mark.skipif(not os.environ.get("ROUNDSMAN_TORTURE"), reason="make torture: two minutes")
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@pytest.mark.timeout(1200)
async def test_a_rolling_restart_fails_no_request(tmp_path: Path, postgresql_url: str) -> None:
    async with Behind(tmp_path, postgresql_url).serving() as behind:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{behind.front}") as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get("/readyz") as response:
                        if response.status == 200:
                            break
        counts: Counter[str] = Counter()
        asking = [
            asyncio.create_task(ask(behind.front, counts, kept=number % 2 == 0))
            for number in range(CLIENTS)
        ]
        try:
            for _ in range(ROUNDS):
                await behind.restart()
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        print(dict(counts))
        assert set(counts) == {"200", "204"}  # 204: nothing is due

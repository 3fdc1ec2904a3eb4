"""Large results pass through the controller without being held in memory."""

import asyncio
import hashlib
import random
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.acceptance.controllers import controller_process
from tests.controller import multipart

AT_ONCE = 4
SIZE = 24 << 20
CHUNK = 1 << 16


def document(data: Path) -> dict[str, object]:
    return {
        "controller": {"data": str(data), "listen": {"port": 0}},
        "jobs": {
            "show": {
                "schedule": {"duration": "1 second"},
                "command": {"inline": ["show tech-support"]},
                "prompt": {"ends_with": "#"},
            }
        },
        "device_generics": {"default": {"credentials": {"user": "u", "pass": "p"}}},
        "devices": {f"edge{number}": {"jobs": ["show"]} for number in range(AT_ONCE)},
    }


class Large:
    """A large result, made as it is sent: a chunk that git cannot shrink, again and again."""

    def __init__(self, name: str) -> None:
        chance = random.Random(name)
        self._chunks = [chance.randbytes(CHUNK) for _ in range(16)]
        self.digest = hashlib.sha256()

    async def body(self, device: str, due: int) -> AsyncIterator[bytes]:
        whole = multipart.completion(device, "show", due, b"@@@")
        head, _, tail = whole.partition(b"@@@")
        yield head
        for number in range(SIZE // CHUNK):
            chunk = self._chunks[number % 16]
            self.digest.update(chunk)
            yield chunk
        yield tail


async def test_four_large_results_at_once_are_not_held_in_memory(tmp_path: Path) -> None:
    """Fault 18: four results at once took 4.5 times their size, and were never given back."""
    data = tmp_path / "data"
    results = {f"edge{number}": Large(f"edge{number}") for number in range(AT_ONCE)}
    async with controller_process(tmp_path, document(data)) as controller:
        async with aiohttp.ClientSession(await controller.start()) as http:
            async with http.get("/worker/next", params={"seconds": 15}) as response:
                executions = await response.json()
            before = controller.peak_memory()

            async def upload(name: str, due: int) -> int:
                async with http.post(
                    "/worker/complete",
                    data=results[name].body(name, due),
                    headers=multipart.HEADERS,
                ) as response:
                    await response.read()
                    return response.status

            statuses = await asyncio.gather(
                *(upload(item["device"]["name"], item["timestamp"]) for item in executions)
            )
        growth = controller.peak_memory() - before
        assert await controller.signal(signal.SIGTERM) == 0
    assert statuses == [200] * AT_ONCE
    print(f"grew by {growth >> 20} MB for {AT_ONCE} times {SIZE >> 20} MB")
    assert growth < SIZE  # one held whole would show, four all the more
    for name, result in results.items():
        stored = subprocess.run(
            ["git", "--git-dir", data / "archive.git", "show", f"HEAD:by_device/{name}/show"],
            check=True,
            capture_output=True,
        ).stdout
        assert hashlib.sha256(stored).hexdigest() == result.digest.hexdigest()

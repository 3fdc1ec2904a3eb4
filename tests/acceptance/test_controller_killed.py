"""A controller that is killed in the middle of 500 completions loses none and doubles none."""

import asyncio
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import aiohttp

from tests.acceptance.controllers import controller_process
from tests.controller import multipart

DEVICES = 500
AT_ONCE = 64


def document(data: Path) -> dict[str, object]:
    return {
        "controller": {"data": str(data), "listen": {"port": 0}},
        "jobs": {
            "show": {
                "schedule": {"duration": "1 second"},
                "command": {"inline": ["show running-config"]},
                "prompt": {"ends_with": "#"},
            }
        },
        "device_generics": {"default": {"credentials": {"user": "u", "pass": "p"}}},
        "devices": {f"edge{number}": {"jobs": ["show"]} for number in range(DEVICES)},
    }


def git(repository: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "--git-dir", str(repository), *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


class Uploads:
    """Every completion of one lease of every device, and which of them were answered 200."""

    def __init__(self, due: dict[str, int]) -> None:
        self.bodies = {
            name: multipart.completion(name, "show", at, content(name)) for name, at in due.items()
        }
        self.kept: set[str] = set()

    async def send(self, url: str, *, enough: asyncio.Event, after: int) -> None:
        """Send what was not answered yet; set `enough` once so many were. Ends on a lost server."""
        waiting = [name for name in self.bodies if name not in self.kept]
        async with aiohttp.ClientSession(url) as http:
            await asyncio.gather(
                *(self._send(http, waiting, enough, after) for _ in range(AT_ONCE))
            )

    async def _send(
        self, http: aiohttp.ClientSession, waiting: list[str], enough: asyncio.Event, after: int
    ) -> None:
        while waiting:
            name = waiting.pop()
            try:
                async with http.post(
                    "/worker/complete", data=self.bodies[name], headers=multipart.HEADERS
                ) as response:
                    assert response.status == 200, await response.text()
            except aiohttp.ClientError:
                return
            self.kept.add(name)
            if len(self.kept) >= after:
                enough.set()


def content(name: str) -> bytes:
    return random.Random(name).randbytes(2000).hex().encode()


async def lease_all(url: str) -> dict[str, int]:
    async with (
        aiohttp.ClientSession(url) as http,
        http.get("/worker/next", params={"max": 1000, "seconds": 15}) as response,
    ):
        assert response.status == 200
        return {item["device"]["name"]: item["timestamp"] for item in await response.json()}


async def test_killed_during_500_completions(tmp_path: Path, rng: random.Random) -> None:
    """Faults 4, 5, 7 and 17: what was answered 200 is in git, the rest is kept by a retry."""
    data = tmp_path / "data"
    repository = data / "archive.git"
    async with controller_process(tmp_path, document(data)) as controller:
        due = await lease_all(await controller.start())
        assert len(due) == DEVICES
        uploads = Uploads(due)
        moment = asyncio.Event()
        sending = asyncio.create_task(
            uploads.send(controller.url, enough=moment, after=rng.randrange(1, DEVICES - AT_ONCE))
        )
        await moment.wait()
        await asyncio.sleep(rng.random() / 50)  # any moment of a batch
        await controller.signal(signal.SIGKILL)
        await sending
        answered = set(uploads.kept)
        print(f"killed after {len(answered)} answers")
        assert answered
        assert len(answered) < DEVICES
        assert answered <= set(paths(repository))

        uploads.kept = set(random.Random(0).sample(sorted(answered), len(answered) // 2))
        await controller.start()  # and half of what was answered is sent again
        await uploads.send(controller.url, enough=asyncio.Event(), after=DEVICES)
        assert uploads.kept == set(due)
        outcomes = await history(controller.url)
        assert await controller.signal(signal.SIGTERM) == 0

    # A slow start may let due times pass before the claim: they are coalesced into these runs.
    assert outcomes.keys() <= {"succeeded", "coalesced"}
    assert outcomes["succeeded"] == DEVICES
    assert sorted(paths(repository)) == sorted(due)
    changes = git(repository, "log", "--name-only", "--format=").split()
    assert Counter(changes) == Counter(f"by_device/{name}/show" for name in due)
    for name in rng.sample(sorted(due), 20):
        assert git(repository, "show", f"HEAD:by_device/{name}/show").encode() == content(name)
    git(repository, "fsck", "--strict")


def paths(repository: Path) -> list[str]:
    """The devices that have a result in the repository."""
    listed = git(repository, "ls-tree", "-r", "--name-only", "HEAD").split()
    return [path.split("/")[1] for path in listed if path.startswith("by_device/")]


async def history(url: str) -> Counter[str]:
    """How many runs there are, by outcome."""
    outcomes: Counter[str] = Counter()
    query = {"limit": "1000"}
    async with aiohttp.ClientSession(url) as http:
        while True:
            async with http.get("/api/v1/runs", params=query) as response:
                assert response.status == 200, await response.text()
                page = await response.json()
            outcomes.update(item["outcome"] for item in page["items"])
            if not page.get("next"):
                return outcomes
            query["after"] = page["next"]

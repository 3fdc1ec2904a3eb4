"""A real controller, killed and starved while results stream in: nothing acknowledged is lost.

In the suite a short form; `make torture` runs the long one. The seed is printed with each run.
"""

import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.controllers import ControllerProcess, controller_process
from tests.archive.git_servers import bare
from tests.controller import multipart

TORTURE = bool(os.environ.get("ROUNDSMAN_TORTURE"))
KILLS = int(os.environ.get("ROUNDSMAN_KILLS", "200" if TORTURE else "2"))
LIVES_APART = 20 if TORTURE else 1
"""Lives of a controller while its remote, or its disk, is away; and times that a disk is full."""
SPARE_BYTES = 600_000 if TORTURE else 60_000
"""Less than this is left of a disk that is full: once is enough for a result to be refused."""
DEVICES = 60
AT_ONCE = 32
MEBIBYTE = 1 << 20


def document(data: Path, **archive: object) -> dict[str, object]:
    return {
        "controller": {
            "data": str(data),
            "listen": {"port": 0},
            "log": {"level": "warning"},
            "archive": archive,
        },
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


def content(name: str, at: int) -> bytes:
    """Different for each execution; some are large."""
    rng = random.Random(f"{name} {at}")
    size = 400_000 if rng.random() < 0.02 else rng.randrange(10, 5000)
    return f"{name} {at}\n".encode() + rng.randbytes(size).hex().encode()


def blob(body: bytes) -> str:
    made = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False)
    return made.hexdigest()


class Load:
    """Executions that were leased, and which of them were acknowledged."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, int], bytes] = {}
        self.kept: dict[tuple[str, int], str] = {}
        self.refused = 0
        self.reasons: set[str] = set()
        """What was answered when a result could not be kept."""

    async def lease(self, url: str) -> None:
        async with (
            aiohttp.ClientSession(url) as http,
            http.get("/worker/next", params={"max": 1000, "seconds": 15}) as response,
        ):
            if response.status == 204:  # everything that is due is leased already: it waits here
                assert self.waiting
                return
            assert response.status == 200, await response.text()
            for item in await response.json():
                key = (item["device"]["name"], item["timestamp"])
                self.waiting[key] = content(*key)

    async def send(self, url: str, *, enough: asyncio.Event, after: int) -> None:
        """Send what waits; set `enough` once so many were kept. Ends on a lost server."""
        queue = sorted(self.waiting, key=lambda key: key[1])
        goal = len(self.kept) + after

        async def client(http: aiohttp.ClientSession) -> None:
            while queue:
                key = queue.pop(0)
                body = multipart.completion(key[0], "show", key[1], self.waiting[key])
                try:
                    async with http.post(
                        "/worker/complete", data=body, headers=multipart.HEADERS
                    ) as response:
                        status = response.status
                        if status >= 500:
                            self.reasons.add((await response.text())[:300])
                except (aiohttp.ClientError, TimeoutError):
                    return
                if status == 200:
                    self.kept[key] = blob(self.waiting.pop(key))
                elif status < 500:  # the lease was lost: another result took its place
                    del self.waiting[key]
                else:
                    self.refused += 1
                if len(self.kept) >= goal:
                    enough.set()

        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(60)) as http:
            await asyncio.gather(*(client(http) for _ in range(AT_ONCE)))
        enough.set()

    async def send_all(self, controller: ControllerProcess) -> None:
        await self.send(controller.url, enough=asyncio.Event(), after=1 << 30)


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--git-dir", str(repository), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def expect_kept_once(repository: Path, load: Load) -> None:
    """Every acknowledged result is in the history, none of them twice, and git has no complaint."""
    git(repository, "fsck", "--strict", "--no-dangling")
    if not load.kept:
        return
    raw = git(repository, "log", "--raw", "--no-abbrev", "--no-renames", "--format=", "main")
    changes: Counter[tuple[str, str]] = Counter()
    for line in raw.splitlines():
        said, _, path = line.partition("\t")
        changes[path.split("/")[1], said.split()[3]] += 1
    assert set(changes.values()) == {1}
    missing = {key for key, made in load.kept.items() if (key[0], made) not in changes}
    assert not missing
    runs = git(repository, "log", "--format=%(trailers:key=Roundsman-Run,valueonly)", "main")
    assert set(Counter(runs.split()).values()) == {1}


@pytest.mark.timeout(7200 if TORTURE else 300)
async def test_killed_again_and_again(tmp_path: Path, rng: random.Random) -> None:
    """Faults 4, 5, 7 and 17."""
    data = tmp_path / "data"
    load = Load()
    async with controller_process(tmp_path, document(data)) as controller:
        for life in range(KILLS):
            await controller.start()
            await load.lease(controller.url)
            moment = asyncio.Event()
            after = rng.randrange(1, DEVICES)
            sending = asyncio.create_task(load.send(controller.url, enough=moment, after=after))
            await moment.wait()
            await asyncio.sleep(rng.random() / 20)  # any moment of a batch, or of maintenance
            await controller.signal(signal.SIGKILL)
            await sending
            expect_kept_once(data / "archive.git", load)
            print(f"life {life}: {len(load.kept)} kept, {len(load.waiting)} wait")
        await controller.start()
        await load.send_all(controller)
        assert not load.waiting
        assert await controller.signal(signal.SIGTERM) == 0
    assert len(load.kept) >= KILLS
    expect_kept_once(data / "archive.git", load)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of its own, of so many bytes; skips where that cannot be had."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def test_the_disk_is_full_and_then_it_is_not(tmp_path: Path, rng: random.Random) -> None:
    """Fault 17: acknowledged results dropped when the repository could not be written."""
    with small_disk(tmp_path / "disk", 256 * MEBIBYTE) as disk:
        data = disk / "data"
        load = Load()
        async with controller_process(tmp_path, document(data)) as controller:
            await controller.start()
            for _ in range(LIVES_APART):
                await load.lease(controller.url)
                ballast = disk / "ballast"
                free = shutil.disk_usage(disk).free - rng.randrange(SPARE_BYTES)
                with suppress(OSError):  # it is full already: the controller was quicker
                    ballast.write_bytes(bytes(max(0, free)))
                await load.send_all(controller)
                ballast.unlink()
                expect_kept_once(data / "archive.git", load)
                await load.send_all(controller)
                assert not load.waiting
            assert load.refused
            assert await controller.signal(signal.SIGTERM) == 0
        expect_kept_once(data / "archive.git", load)


async def test_the_disk_cannot_be_written_and_then_it_can(tmp_path: Path) -> None:
    data = tmp_path / "data"
    load = Load()
    async with controller_process(tmp_path, document(data)) as controller:
        await controller.start()
        frozen = data / "archive.git" / "objects" / "pack"
        if not freeze(frozen, frozen=True):
            pytest.skip("to refuse writing to root needs a file system with immutable folders")
        freeze(frozen, frozen=False)
        for _ in range(LIVES_APART):
            await load.lease(controller.url)
            freeze(frozen, frozen=True)
            try:
                before = len(load.kept)
                await load.send_all(controller)
                assert len(load.kept) == before
            finally:
                freeze(frozen, frozen=False)
            await load.send_all(controller)
            assert not load.waiting
        assert load.refused
        assert await controller.signal(signal.SIGTERM) == 0
    expect_kept_once(data / "archive.git", load)


def freeze(folder: Path, *, frozen: bool) -> bool:
    """Have the kernel refuse every change of a folder, even to root; whether it does."""
    command = ["chattr", "+i" if frozen else "-i", str(folder)]
    if shutil.which("chattr") is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def test_a_read_only_disk_at_the_start_is_said_and_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 512 * MEBIBYTE) as disk:
        data = disk / "data"
        load = Load()
        async with controller_process(tmp_path, document(data)) as controller:
            await controller.start()
            await load.lease(controller.url)
            await load.send_all(controller)
            await controller.signal(signal.SIGTERM)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(AssertionError, match=r"[Rr]ead-only"):
                await controller.start()
            await controller.signal(signal.SIGKILL)
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            await controller.start()
            await load.lease(controller.url)
            await load.send_all(controller)
            assert not load.waiting, load.reasons
            assert await controller.signal(signal.SIGTERM) == 0
        expect_kept_once(data / "archive.git", load)


async def remote_state(url: str) -> dict[str, object]:
    async with aiohttp.ClientSession(url) as http, http.get("/api/v1/remotes") as response:
        [state] = (await response.json())["items"]
        return dict(state)


@pytest.mark.timeout(3600 if TORTURE else 300)
@pytest.mark.parametrize("acknowledge", ["kept", "pushed"])
async def test_the_remote_is_away_for_the_whole_run_and_comes_back(
    tmp_path: Path, rng: random.Random, acknowledge: str
) -> None:
    remote, away, data = tmp_path / "far.git", tmp_path / "away.git", tmp_path / "data"
    bare(away)
    settings = document(data, remotes={"far": {"url": str(remote)}}, acknowledge=acknowledge)
    load = Load()
    async with controller_process(tmp_path, settings) as controller:
        for _ in range(LIVES_APART):
            await controller.start()
            await load.lease(controller.url)
            moment = asyncio.Event()
            after = rng.randrange(1, DEVICES)
            sending = asyncio.create_task(load.send(controller.url, enough=moment, after=after))
            await moment.wait()
            await asyncio.sleep(rng.random() / 20)
            await controller.signal(signal.SIGKILL)
            await sending
        assert bool(load.kept) == (acknowledge == "kept")
        await controller.start()
        await load.lease(controller.url)
        await load.send_all(controller)
        while not (await remote_state(controller.url))["failures"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)  # what is kept is pushed a moment later
        away.rename(remote)
        while load.waiting or (await remote_state(controller.url))["behind"]:
            await load.send_all(controller)
            await asyncio.sleep(0.2)  # it is tried again after some seconds
        assert await controller.signal(signal.SIGTERM) == 0
    for repository in (data / "archive.git", remote):
        expect_kept_once(repository, load)
    tips = [git(each, "rev-parse", "main") for each in (data / "archive.git", remote)]
    assert tips[0] == tips[1]


@contextmanager
def failing_disk(image: Path, place: Path) -> Iterator[Path]:
    """A file system that can be had to refuse all writing; skips where that cannot be had."""
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(512 * MEBIBYTE)
        made = ["mkfs.ext4", "-q", str(image)]
        if shutil.which(made[0]) is None or subprocess.run(made, check=False).returncode:
            pytest.skip("a file system of its own needs mkfs.ext4")
    place.mkdir(exist_ok=True)
    mounted = ["mount", "-o", "loop", str(image), str(place)]
    if shutil.which("mount") is None or subprocess.run(mounted, check=False).returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        yield place
    finally:
        # A killed controller's writer and git end a moment after it; the same file system may not
        # be mounted a second time before they have.
        while (gone := unmount(place)).returncode:
            assert "busy" in gone.stderr, gone.stderr
            time.sleep(0.02)


def unmount(place: Path) -> "subprocess.CompletedProcess[str]":
    command = ["umount", str(place)]
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.timeout(3600 if TORTURE else 300)
async def test_the_file_system_goes_read_only_under_way_and_is_mended(
    tmp_path: Path, rng: random.Random
) -> None:
    """As the kernel does it after an error of the disk; writing goes on only when mounted anew."""
    image, place = tmp_path / "image", tmp_path / "disk"
    load = Load()
    async with controller_process(tmp_path, document(place / "data")) as controller:
        for life in range(LIVES_APART):
            with failing_disk(image, place):
                await controller.start()
                await load.lease(controller.url)
                moment = asyncio.Event()
                after = rng.randrange(1, DEVICES)
                sending = asyncio.create_task(load.send(controller.url, enough=moment, after=after))
                await moment.wait()
                await asyncio.sleep(rng.random() / 20)
                subprocess.run(["mount", "-o", "remount,abort", str(place)], check=True)
                await sending
                before = len(load.kept)
                await load.send_all(controller)
                assert len(load.kept) == before
                await controller.signal(signal.SIGTERM if rng.random() < 0.5 else signal.SIGKILL)
            with failing_disk(image, place) as disk:
                expect_kept_once(disk / "data" / "archive.git", load)
                await controller.start()
                await load.send_all(controller)
                assert not load.waiting, load.reasons
                assert await controller.signal(signal.SIGTERM) == 0
                expect_kept_once(disk / "data" / "archive.git", load)
            print(f"life {life}: {len(load.kept)} kept")
    assert load.kept

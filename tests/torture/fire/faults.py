"""What is done to a site. Which, in which order and to whom follows from the seed alone."""

import asyncio
import contextlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.archive.git_servers import commit
from tests.torture.fire.site import AGAIN_SECONDS, Controller, Process, Site, Worker

AT_ONCE = 3
AT_ONCE_WHILE_EACH = 5
DAY = 86_400


class Faults:
    """Each begins, lasts for a while, and ends: afterwards all is whole again."""

    def __init__(self, site: Site, rng: random.Random, longest: float) -> None:
        """Do it to this site; what lasts does so for `longest` seconds at the most."""
        self._site = site
        self._rng = rng
        self._longest = longest
        self._begun: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._at_once = AT_ONCE
        self._database = asyncio.Lock()
        self._remote = asyncio.Lock()
        self.done: Counter[str] = Counter()
        """How many there were, by name."""
        self.kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (6, self.kill_worker),
            (6, self.freeze_worker),
            (3, self.kill_controller),
            (3, self.freeze_controller),
            (1, self.restart_database),
            (1, self.crash_database),
            (1, self.freeze_database),
            (3, self.cut_workers_off),
            (2, self.slow_workers_down),
            (3, self.cut_database_off),
            (2, self.slow_database_down),
            (3, self.set_clock),
            (1, self.take_remote_away),
            (1, self.push_to_remote),
        ]

    async def each_once(self) -> None:
        """One of each kind, in some order; but first those whose processes take long to start."""
        kinds = [kind for _, kind in self.kinds]
        self._rng.shuffle(kinds)
        kinds.sort(key=lambda kind: kind not in (self.kill_controller, self.kill_worker))
        self._at_once = AT_ONCE_WHILE_EACH
        for kind in kinds:
            await self._begin(kind)
        await self.over()

    async def rage(self, seconds: float, pause: float) -> None:
        """One after the other, `pause` seconds apart in the mean, for so long."""
        weights = [weight for weight, _ in self.kinds]
        kinds = [kind for _, kind in self.kinds]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._rng.uniform(0, 2 * pause))
            await self._begin(self._rng.choices(kinds, weights)[0])
        await self.over()

    async def over(self) -> None:
        """Until all is whole again."""
        await asyncio.gather(*self._begun)

    async def _begin(self, kind: Callable[[], Awaitable[None]]) -> None:
        """Begin one as soon as few enough are under way: something has to work, too."""
        while len(self._under_way) >= self._at_once:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

        async def do() -> None:
            await kind()
            self.done[kind.__name__] += 1

        task = asyncio.create_task(do(), name=kind.__name__)
        self._begun.append(task)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _while(self) -> float:
        """Mostly short: a network that is mostly away shows little."""
        return self._rng.uniform(0, 1) ** 2 * self._longest

    def _worker(self) -> Worker:
        return self._rng.choice(self._site.workers)

    def _controller(self) -> Controller:
        return self._rng.choice(self._site.controllers)

    async def kill_worker(self) -> None:
        await self._kill(self._worker(), self._while())

    async def kill_controller(self) -> None:
        await self._kill(self._controller(), self._rng.uniform(0, self._longest / 2))

    async def _kill(self, process: Process, seconds: float) -> None:
        async with process.lock:
            await process.kill()
            await asyncio.sleep(seconds)
            await process.start()

    async def freeze_worker(self) -> None:
        await self._freeze(self._worker(), self._rng.uniform(0.2, self._longest))

    async def freeze_controller(self) -> None:
        await self._freeze(self._controller(), self._rng.uniform(0.2, self._longest))

    async def _freeze(self, process: Process, seconds: float) -> None:
        async with process.lock:
            await process.freeze(seconds)

    async def restart_database(self) -> None:
        await self._stop_database(signal.SIGINT)

    async def crash_database(self) -> None:
        await self._stop_database(signal.SIGQUIT)

    async def _stop_database(self, how: signal.Signals) -> None:
        seconds = self._rng.uniform(0, self._longest / 2)
        async with self._database:
            await asyncio.to_thread(self._site.database.stop, how)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._site.database.start)

    async def freeze_database(self) -> None:
        seconds = self._rng.uniform(0, self._longest / 2)
        async with self._database:
            self._site.database.pause()
            await asyncio.sleep(seconds)
            self._site.database.resume()

    async def cut_workers_off(self) -> None:
        seconds = self._while()
        self._site.front.refusing = True
        self._site.front.cut()
        await asyncio.sleep(seconds)
        self._site.front.refusing = False

    async def slow_workers_down(self) -> None:
        self._site.front.delay = self._rng.uniform(0, 0.5)
        await asyncio.sleep(self._while())
        self._site.front.delay = 0.0

    async def cut_database_off(self) -> None:
        seconds, way = self._while(), self._controller().to_database
        way.refusing = True
        way.cut()
        await asyncio.sleep(seconds)
        way.refusing = False

    async def slow_database_down(self) -> None:
        way = self._controller().to_database
        way.delay = self._rng.uniform(0, 0.3)
        await asyncio.sleep(self._while())
        way.delay = 0.0

    async def set_clock(self) -> None:
        """A second, a minute, a day, ahead or behind; it stays so."""
        step = self._rng.choice([1, 60, 3600, DAY, 400 * DAY])
        self._worker().set_clock(self._rng.uniform(-step, step))
        await asyncio.sleep(AGAIN_SECONDS)

    async def take_remote_away(self) -> None:
        seconds = self._while()
        folder: Path = self._rng.choice(self._site.remotes).folder
        away = folder.with_suffix(".away")
        async with self._remote:
            shutil.move(folder, away)
            await asyncio.sleep(seconds)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.move(away, folder)

    async def push_to_remote(self) -> None:
        """Somebody else does, to one of them, as soon as no controller is faster."""
        async with self._remote:
            remote = self._rng.choice(self._site.remotes)
            files = {f"notes/{self._rng.random()}": "by hand"}
            while remote.run("for-each-ref"):
                with contextlib.suppress(AssertionError):
                    await asyncio.to_thread(commit, remote, files)
                    return

"""An hour of ordinary work, and whether anything grows: `python -m bench.soak [--seconds 3600]`.

One controller, two workers, and simulated devices of all kinds, of which some change, one is slow
and one refuses its password; beside that somebody reads. Every few seconds it is looked up what
each process holds: memory (its own, and its share of what it shares), open files and threads; and
what an execution has cost the ledger since: rows and pages read by PostgreSQL, or the instructions
of SQLite's machine.

A figure is flat when a line through the second half rises by no more than its limit, or by less
than the line's own uncertainty. Exit status 1 when one is not. The controller's figures are those
of its lasting children, too.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench import site
from bench.counting_controller import Counts
from roundsman.client import ControllerClient
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.testing.postgresql_server import PASSWORD, PostgresqlServer
from roundsman.wire.run import Outcome

DEVICES: Final = 60
EVERY: Final = "5 seconds"
WORKERS: Final = 2
SAMPLES: Final = 240
SOME: Final = 15
"""Fewer executions do not say what one costs."""
ENOUGH: Final = 12
"""Fewer samples in the second half say nothing."""
CERTAINTY: Final = 2.0
"""Standard errors: what a line rises beyond so many of them is no accident."""


@dataclass(frozen=True)
class Limit:
    """How much a figure may rise during the second half and still be called flat."""

    share: float
    """Of its mean."""
    amount: float
    """And so much in its own unit."""
    warming: float
    """And so much more in the first second, falling off: caches fill, code is met for the first
    time."""

    def of(self, mean: float, seconds: float) -> float:
        """For a soak of that length."""
        return self.share * mean + self.amount + self.warming / seconds


MEMORY: Final = Limit(0.02, 1.0, 600)
FILES: Final = Limit(0, 1.0, 100)
COST: Final = Limit(0.1, 0, 0)


@dataclass(frozen=True)
class Verdict:
    """What a line through the second half of a series says."""

    first: float
    """Mean of the first tenth of the second half."""
    last: float
    """Mean of its last tenth."""
    rise: float
    """By how much the line rises from the middle to the end."""
    doubt: float
    """The standard error of that."""
    limit: float
    """What it may rise."""
    samples: int
    """How many there are in the second half."""

    @property
    def rises(self) -> bool:
        """Whether it is certain to have risen by more than it may."""
        return self.samples >= ENOUGH and self.rise - CERTAINTY * self.doubt > self.limit

    @property
    def text(self) -> str:
        """In one word, or two."""
        return "RISES" if self.rises else "flat" if self.samples >= ENOUGH else "too few"


def judge(series: Sequence[tuple[float, float]], limit: Limit) -> Verdict:
    """Least squares over the second half of what was seen when, in seconds since the beginning."""
    end = series[-1][0]
    half = [(t, v) for t, v in series if t >= end / 2]
    mean_time, mean = fmean(t for t, _ in half), fmean(v for _, v in half)
    spread = sum((t - mean_time) ** 2 for t, _ in half) or 1.0
    slope = sum((t - mean_time) * (v - mean) for t, v in half) / spread
    left = sum((v - mean - slope * (t - mean_time)) ** 2 for t, v in half)
    length = half[-1][0] - half[0][0]
    tenth = max(1, len(half) // 10)
    return Verdict(
        first=fmean(v for _, v in half[:tenth]),
        last=fmean(v for _, v in half[-tenth:]),
        rise=slope * length,
        doubt=length * (left / max(1, len(half) - 2) / spread) ** 0.5,
        limit=limit.of(mean, end),
        samples=len(half),
    )


class Family:
    """A process, and its children that last: what comes and goes is nobody's growth."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: set[int] = set()
        self._lasting = {pid}

    def look(self) -> None:
        """Those that were there at the last look, and still are."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        there = set(map(int, children))
        self._lasting = {self._pid, *(there & self._seen)}
        self._seen = there

    def add_up(self, figure: Callable[[int], float]) -> float:
        """The sum over all of them; one that has gone this moment has nothing."""
        total = 0.0
        for pid in self._lasting:
            with suppress(FileNotFoundError, ProcessLookupError):
                total += figure(pid)
        return total


class Soak:
    """The site, and the series of what was seen of it."""

    def __init__(self, seconds: float, database: PostgresqlServer | None, rng: random.Random):
        """For so long, on that database, or on SQLite."""
        self._seconds = seconds
        self._database = database
        self._rng = rng
        self.seconds = 0.0
        """How long it was."""
        self.series: dict[str, list[tuple[float, float]]] = {}
        self.limits: dict[str, Limit] = {}
        self.executions = 0
        self.known = False
        """Whether it is known what an execution costs: until then it goes on."""

    async def run(self, folder: Path) -> None:
        """From the start to the end."""
        fleet = SimulatedFleet(DEVICES)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(fleet)
            file = folder / "fleet.json"
            file.touch(mode=0o600)
            document = {**fleet.configuration(every=EVERY), "controller": self._settings(folder)}
            file.write_bytes(msgspec.json.encode(document))
            counts = Counts(folder / "counts")
            controller = await asyncio.to_thread(
                stack.enter_context,
                site.controller(file, ("bench.counting_controller", str(counts.file))),
            )
            pids = {"controller": controller.pid}
            for number in range(WORKERS):
                worker = _worker(controller.url, folder / f"worker-{number}")
                pids[f"worker {number}"] = stack.enter_context(worker)
            await stack.enter_async_context(_beside(self._change(fleet)))
            await stack.enter_async_context(_beside(self._read(controller.url)))
            await self._watch(pids, fleet, counts)

    def _settings(self, folder: Path) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "data": str(folder / "data"),
            "listen": {"port": 0},
            "log": {"level": "error"},
        }
        if self._database is not None:
            secret = folder / "password"
            secret.touch(mode=0o600)
            secret.write_text(PASSWORD.reveal())
            url = self._database.url("postgres")
            settings["ledger"] = {"url": url, "pass": f"file:{secret}"}
        return settings

    async def _change(self, fleet: SimulatedFleet) -> None:
        while True:
            await asyncio.sleep(0.3)
            self._rng.choice(fleet.devices).edit()

    async def _read(self, url: str) -> None:
        """What people look at, once a second."""
        async with ControllerClient(url) as client:
            while True:
                await asyncio.sleep(1)
                await client.manage.overview()
                runs = (await client.manage.runs(outcome=Outcome.SUCCEEDED, limit=50)).items
                if runs:
                    run = self._rng.choice(runs)
                    await client.manage.versions(run.device, run.job)
                    await client.manage.latest(run.device, run.job)

    async def _watch(self, pids: Mapping[str, int], fleet: SimulatedFleet, counts: Counts) -> None:
        began = time.monotonic()
        async with self._ledger_cost(counts) as cost:
            families = {name: Family(pid) for name, pid in pids.items()}
            before, sessions = await cost(), _sessions(fleet)
            while self.seconds < self._seconds or not self.known:
                await asyncio.sleep(max(0.5, self._seconds / SAMPLES))
                if self.seconds < self._seconds:
                    self.seconds = time.monotonic() - began
                    self._look(families)
                now, done = await cost(), _sessions(fleet)
                if done < sessions + SOME:
                    continue
                self.known = True
                for name, value in now.items():
                    each = (value - before[name]) / (done - sessions)
                    self._note(f"{name} an execution", each, COST)
                before, sessions = now, done
        self.executions = _sessions(fleet)

    def _look(self, families: Mapping[str, Family]) -> None:
        for name, family in families.items():
            family.look()
            self._note(f"{name}: memory (PSS), MB", family.add_up(_megabytes), MEMORY)
            self._note(f"{name}: open files", family.add_up(_open_files), FILES)
            self._note(f"{name}: threads", family.add_up(_threads), FILES)

    def _note(self, name: str, value: float, limit: Limit) -> None:
        self.series.setdefault(name, []).append((self.seconds, value))
        self.limits[name] = limit

    def verdicts(self) -> dict[str, Verdict]:
        """One for each series."""
        return {name: judge(seen, self.limits[name]) for name, seen in self.series.items()}

    @asynccontextmanager
    async def _ledger_cost(
        self, counts: Counts
    ) -> AsyncIterator[Callable[[], Awaitable[dict[str, float]]]]:
        """What asks for the ledger's counters, which only ever rise."""
        if self._database is None:

            async def read() -> dict[str, float]:
                return {
                    "instructions to write, for": counts.instructions(read_only=False),
                    "instructions to read, for": counts.instructions(read_only=True),
                }

            yield read
            return
        connection = await self._database.connect()

        async def ask() -> dict[str, float]:
            [row] = await connection.fetch(_COUNTERS)
            return {"rows read, for": float(row["rows"]), "pages read, for": float(row["pages"])}

        try:
            yield ask
        finally:
            await connection.close()


_COUNTERS: Final = """
SELECT pg_stat_clear_snapshot(), tup_returned + tup_fetched AS rows, blks_hit + blks_read AS pages
FROM pg_stat_database WHERE datname = 'postgres'
"""


def _sessions(fleet: SimulatedFleet) -> int:
    return sum(device.sessions for device in fleet.devices)


def _open_files(pid: int) -> float:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _threads(pid: int) -> float:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def _megabytes(pid: int) -> float:
    """What a process holds by itself, its share of what it shares included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024 / 1e6


@contextmanager
def _worker(url: str, state: Path) -> Iterator[int]:
    """Run `roundsman worker`; its process id."""
    command = (sys.executable, "-m", "roundsman", "worker", "--log-level", "error")
    with subprocess.Popen([*command, "--controller", url, "--state", str(state)]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this meanwhile; what goes wrong with it is raised at the end."""
    task = asyncio.create_task(work)
    yield
    if task.done():
        task.result()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def table(soak: Soak) -> Table:
    """What became of it, for people."""
    made = Table(title=f"{soak.executions:,} executions in {soak.seconds:,.0f} s")
    for column in ("second half of", "began at", "ended at", "the line rises", "limit", ""):
        made.add_column(column, justify="left" if column in {"", "second half of"} else "right")
    for name, verdict in soak.verdicts().items():
        made.add_row(
            name,
            f"{verdict.first:,.1f}",
            f"{verdict.last:,.1f}",
            f"{verdict.rise:+,.2f} ± {CERTAINTY * verdict.doubt:,.2f}",
            f"{verdict.limit:,.2f}",
            verdict.text,
        )
    return made


def main() -> None:
    """Soak, print the table, and say by the exit status whether all is flat."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="default: %(default)s")
    parser.add_argument("--postgresql", action="store_true", help="rather than SQLite")
    parser.add_argument("--seed", default="1", help="which device changes when, default: 1")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(site.folder())
        database = stack.enter_context(PostgresqlServer()) if asked.postgresql else None
        soak = Soak(asked.seconds, database, random.Random(asked.seed))
        asyncio.run(soak.run(folder))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(soak))
    sys.exit(any(verdict.rises for verdict in soak.verdicts().values()))


if __name__ == "__main__":
    main()

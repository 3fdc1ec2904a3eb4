"""What every peer does: take the routers, and have a session with each whenever asked.

A peer is started as `python -m bench.peers.NAME`. It reads the routers as one line of JSON, answers
with an empty line, and for every further line logs in to each of them twice, turns paging off,
reads the configuration, logs out, and answers with a line of JSON: see `Round`. Nothing here is
imported from the project: peers may run in an environment of their own.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

THREADS: Final = 30
AT_ONCE: Final = 200
VISITS: Final = 2
COMMANDS: Final = (b"terminal length 0\n", b"show running-config\n")
SMALLEST: Final = 20_000
"""A configuration of fewer bytes was not read to its end."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A router to log in to."""

    name: str
    host: str
    port: int
    telnet_port: int
    user: str
    password: str
    living: bool


@dataclass(frozen=True, kw_only=True)
class Round:
    """A session with each router."""

    seconds: float
    cpu_seconds: float
    """Of this process and of its children that have ended."""
    done: int
    """Sessions that brought the whole configuration."""
    failures: list[str]
    """Why the others did not."""


Outcome = int | BaseException


def in_threads(session: Callable[[Target], int]) -> None:
    """Have sessions in so many threads; each returns the bytes of the configuration."""

    def guarded(target: Target) -> Outcome:
        try:
            return session(target)
        except Exception as error:  # noqa: BLE001  # whatever went wrong is a failure to count
            return error

    with ThreadPoolExecutor(THREADS) as threads:
        _answer(lambda targets: list(threads.map(guarded, targets)))


def at_once(session: Callable[[Target], Awaitable[int]], *, most: int = AT_ONCE) -> None:
    """Have so many sessions at once in one event loop."""

    async def all_of(targets: list[Target]) -> list[Outcome]:
        room = asyncio.Semaphore(most)

        async def guarded(target: Target) -> int:
            async with room:
                return await session(target)

        return await asyncio.gather(*map(guarded, targets), return_exceptions=True)

    with asyncio.Runner() as runner:
        _answer(lambda targets: runner.run(all_of(targets)))


def _answer(sessions: Callable[[list[Target]], list[Outcome]]) -> None:
    targets = [Target(**fields) for fields in json.loads(sys.stdin.readline())] * VISITS
    print(flush=True)
    while sys.stdin.readline():
        began, used = time.perf_counter(), _cpu_seconds()
        outcomes = sessions(targets)
        seconds, cpu = time.perf_counter() - began, _cpu_seconds() - used
        bad = [o for o in outcomes if not isinstance(o, int) or o < SMALLEST]
        done = Round(
            seconds=seconds,
            cpu_seconds=cpu,
            done=len(outcomes) - len(bad),
            failures=[f"{o} bytes" if isinstance(o, int) else repr(o) for o in bad],
        )
        print(json.dumps(asdict(done)), flush=True)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)

"""The same promises on the drivers that serve: SQLite, and git as the git program reads it."""

import asyncio
import contextlib
import random
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from roundsman.archive.git import GitArchive
from roundsman.config.records import Configuration, Retries
from roundsman.ledger.drivers import open_ledger
from roundsman.ledger.interface import RunQuery, SlotQuery
from roundsman.testing.clock import ManualClock
from roundsman.wire.job import MissedPolicy
from roundsman.wire.run import Outcome, Slot
from tests.controller import multipart
from tests.controller.serving import PERIOD, START, Served, fleet, served

DUE = START + PERIOD


@contextlib.asynccontextmanager
async def really_served(
    configuration: Configuration, data: Path, clock: ManualClock
) -> AsyncIterator[Served]:
    ledger = await open_ledger(data)
    archive = GitArchive(data / "archive.git", clock)
    async with served(configuration, data, ledger=ledger, archive=archive, clock=clock) as running:
        yield running


def git(data: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "--git-dir", str(data / "archive.git"), *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def kept_in_git(data: Path) -> dict[str, str]:
    """Path to content, as the git program reads it."""
    paths = git(data, "ls-tree", "-r", "--name-only", "HEAD", "by_device").split()
    return {path: git(data, "show", f"HEAD:{path}") for path in paths}


async def lease(running: Served, query: str = "?max=1000") -> list[tuple[str, int]]:
    async with running.http.get(f"/worker/next{query}") as response:
        if response.status == 204:
            return []
        executions = await response.json()
        return [(item["device"]["name"], item["timestamp"]) for item in executions]


async def post(running: Served, body: bytes) -> int:
    async with running.http.post(
        "/worker/complete", data=body, headers=multipart.HEADERS
    ) as response:
        await response.read()
        return response.status


async def outcomes(running: Served, **query: Any) -> Counter[Outcome]:
    """How many due times there are, by outcome."""
    counted: Counter[Outcome] = Counter()
    after: str | None = None
    while True:
        page = await running.controller.ledger.runs(RunQuery(limit=500, after=after, **query))
        for run in page.items:
            counted[run.outcome] += run.count
        after = page.next
        if after is None:
            return counted


async def test_500_at_once_are_all_in_git(tmp_path: Path) -> None:
    """Fault 4: of 500 that were answered 200, 3 to 19 were in the repository."""
    clock = ManualClock(START)
    async with really_served(fleet(500), tmp_path, clock) as running:
        clock.advance(PERIOD)
        names = [name for name, _ in await lease(running)]
        bodies = [multipart.completion(name, "show", DUE, name.encode() * 50) for name in names]
        statuses = await asyncio.gather(*(post(running, body) for body in bodies))
        assert statuses == [200] * 500
        listed = git(tmp_path, "ls-tree", "-r", "HEAD", "by_device").splitlines()  # before any stop
        assert len(listed) == 500
        assert await outcomes(running) == Counter({Outcome.SUCCEEDED: 500})
    for name in random.Random(0).sample(names, 10):
        assert git(tmp_path, "show", f"HEAD:by_device/{name}/show") == name * 50
    changes = git(tmp_path, "log", "--name-only", "--format=").split()
    assert Counter(changes) == Counter(f"by_device/{name}/show" for name in names)
    git(tmp_path, "fsck", "--strict")


async def test_a_pair_completed_twice_at_once_is_committed_once(tmp_path: Path) -> None:
    """Faults 5 and 7: neither empty commits for ever, nor a store that never answers again."""
    clock = ManualClock(START)
    async with really_served(fleet(2), tmp_path, clock) as running:
        for round_number in range(3):
            clock.advance(PERIOD)
            due = dict(await lease(running))["edge0"]
            content = b"round %d" % round_number
            bodies = [multipart.completion("edge0", "show", due, content)] * 5
            bodies += [multipart.completion("edge0", "show", due, content + b" else")] * 5
            statuses = await asyncio.gather(*(post(running, body) for body in bodies))
            assert Counter(statuses) == {200: 5, 409: 5}
            assert await post(running, multipart.completion("edge1", "show", due, b"same")) == 200
    assert git(tmp_path, "rev-list", "--count", "HEAD").strip() == "4"  # and one for edge1
    trees = git(tmp_path, "log", "--format=%T").split()
    assert len(trees) == len(set(trees))  # none is empty


async def test_unchanged_content_commits_nothing(tmp_path: Path) -> None:
    clock = ManualClock(START)
    async with really_served(fleet(1), tmp_path, clock) as running:
        for _ in range(4):
            clock.advance(PERIOD)
            [(name, due)] = await lease(running)
            assert await post(running, multipart.completion(name, "show", due, b"same")) == 200
        runs = (await running.controller.ledger.runs(RunQuery())).items
    assert [run.changed for run in runs] == [False, False, False, True]
    assert git(tmp_path, "rev-list", "--count", "HEAD").strip() == "1"


async def test_hostile_names_reach_neither_git_nor_the_disk(tmp_path: Path) -> None:
    """Fault 6."""
    clock = ManualClock(START)
    data = tmp_path / "site" / "data"
    async with really_served(fleet(1), data, clock) as running:
        clock.advance(PERIOD)
        await lease(running)
        for name in ["../../../../x", "../../escaped", "/tmp/escaped", "edge0/../x", "x\0", "HEAD"]:
            assert await post(running, multipart.completion(name, "show", DUE, b"x")) == 404
            assert await post(running, multipart.completion("edge0", name, DUE, b"x")) == 404
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert not list(data.rglob("*escaped*"))


@pytest.mark.parametrize(
    "lock", ["HEAD.lock", "index.lock", "packed-refs.lock", "refs/heads/main.lock"]
)
async def test_a_leftover_lock_keeps_nothing_from_serving(tmp_path: Path, lock: str) -> None:
    """Fault 17: an empty repository, and a lock that a crash left."""
    clock = ManualClock(START)
    git(tmp_path, "init", "--bare", "--quiet", "--initial-branch=main")
    (tmp_path / "archive.git" / lock).touch()
    async with really_served(fleet(1), tmp_path, clock) as running:
        clock.advance(PERIOD)
        await lease(running)
        assert await post(running, multipart.completion("edge0", "show", DUE, b"x")) == 200
    assert kept_in_git(tmp_path) == {"by_device/edge0/show": "x"}


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Faults 2 and 13: leases, due times and history outlive the controller."""
    clock = ManualClock(START)
    async with really_served(fleet(3), tmp_path, clock) as running:
        clock.advance(PERIOD)
        assert len(await lease(running, "?max=2")) == 2
        assert await post(running, multipart.completion("edge0", "show", DUE, b"x")) == 200
    clock.advance(10)
    async with really_served(fleet(3), tmp_path, clock) as running:
        assert await lease(running) == [("edge2", DUE)]
        assert await post(running, multipart.completion("edge1", "show", DUE, b"y")) == 200
        assert await post(running, multipart.completion("edge0", "show", DUE, b"x")) == 200
        assert await outcomes(running) == Counter({Outcome.SUCCEEDED: 2})
    assert kept_in_git(tmp_path) == {"by_device/edge0/show": "x", "by_device/edge1/show": "y"}


@pytest.mark.parametrize("policy", MissedPolicy)
async def test_planned_is_the_sum_of_outcomes_under_faults(
    tmp_path: Path, policy: MissedPolicy, rng: random.Random
) -> None:
    """Workers that die, come late, repeat themselves and fail; and a controller that restarts."""
    clock = ManualClock(START)
    retries = Retries(attempts=2, delay=20)
    setup = fleet(3, retries=retries, missed=policy, missed_cap=3, missed_grace_seconds=150)
    seen: Counter[Outcome] = Counter()
    slots: Sequence[Slot] = ()
    for _ in range(2):
        async with really_served(setup, tmp_path, clock) as running:
            for _ in range(7):
                clock.advance(rng.randrange(1, 400))
                for number, (name, due) in enumerate(await lease(running)):
                    content = rng.choice([b"a", b"b"])
                    fate = rng.random()
                    if fate < 0.2:
                        continue  # the worker died
                    failure = {"failure": "broken", "failure_class": "prompt"}
                    said = failure if fate < 0.5 else {}
                    # No two attempts begin at the same time.
                    content += b" %d %f" % (number, clock.now())
                    body = multipart.completion(name, "show", due, content, **said)
                    for _ in range(rng.choice([1, 1, 2])):
                        assert await post(running, body) == 200
            seen = await outcomes(running)
            slots = (await running.controller.ledger.slots(SlotQuery(), clock.now())).items
    planned = sum((slot.due - DUE) // PERIOD for slot in slots if slot.due is not None)
    assert seen.total() - seen[Outcome.RETRIED] == planned

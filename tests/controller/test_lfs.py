"""Stock git-lfs against the controller: contents that pointers stand for, for readers only."""

import asyncio
import hashlib
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.config.records import (
    ArchiveSettings,
    ControllerSettings,
    PointerSettings,
    Role,
    Token,
)
from roundsman.controller.access import token_hash
from roundsman.ledger.drivers import open_ledger
from roundsman.testing.clock import ManualClock
from tests.controller import multipart
from tests.controller.serving import PERIOD, START, Served, fleet, served

DUE = START + PERIOD
SETTINGS = ArchiveSettings(pointers=PointerSettings(above_bytes=300_000))
TOKENS = tuple(
    Token(name=name, role=role, hash=token_hash(f"of-{name}"))
    for name, role in (("rita", Role.READER), ("walter", Role.WORKER))
)
CONTENT = random.Random(8).randbytes(700_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer of-{name}"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    """A controller that keeps one large result beside its repository."""
    data = tmp_path / "data"
    clock = ManualClock(START)
    async with served(
        fleet(1, settings=ControllerSettings(tokens=TOKENS)),
        data,
        clock=clock,
        ledger=await open_ledger(data),
        archive=GitArchive(data / "archive.git", clock, SETTINGS),
    ) as running:
        clock.advance(PERIOD)
        async with running.http.get("/worker/next", headers=bearer("walter")) as answer:
            assert answer.status == 200
        body = multipart.completion("edge0", "show", DUE, CONTENT)
        async with running.http.post(
            "/worker/complete", data=body, headers={**multipart.HEADERS, **bearer("walter")}
        ) as answer:
            assert answer.status == 200
        yield running


async def ask(site: Served, operation: str, *digests: str) -> tuple[int, dict[str, object]]:
    objects = [{"oid": digest, "size": 5} for digest in digests]
    async with site.http.post(
        "/api/v1/lfs/objects/batch",
        json={"operation": operation, "transfers": ["basic"], "objects": objects},
        headers={**bearer("rita"), "Content-Type": "application/vnd.git-lfs+json"},
    ) as answer:
        told: dict[str, object] = await answer.json(content_type=None)
        return answer.status, told


async def test_what_is_here_has_an_address_and_what_is_not_an_error(site: Served) -> None:
    unknown = "0" * 64
    status, told = await ask(site, "download", DIGEST, unknown, "../../HEAD")
    assert status == 200
    assert told == {
        "transfer": "basic",
        "objects": [
            {
                "oid": DIGEST,
                "size": len(CONTENT),
                "actions": {"download": {"href": f"{site.url}/api/v1/lfs/objects/{DIGEST}"}},
            },
            *(
                {
                    "oid": digest,
                    "size": 5,
                    "error": {"code": 404, "message": f"no content has the SHA-256 {digest!r}"},
                }
                for digest in (unknown, "../../HEAD")
            ),
        ],
    }
    async with site.http.get(f"/api/v1/lfs/objects/{DIGEST}", headers=bearer("rita")) as answer:
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        assert await answer.read() == CONTENT
    async with site.http.get(f"/api/v1/lfs/objects/{unknown}", headers=bearer("rita")) as answer:
        assert answer.status == 404


async def test_nothing_can_be_uploaded(site: Served) -> None:
    assert (await ask(site, "upload", DIGEST))[0] == 403
    assert (await ask(site, "download", *["0" * 64] * 1001))[0] == 400


async def test_the_latest_result_is_the_content_not_the_pointer(site: Served) -> None:
    async with site.http.get(
        "/api/v1/devices/edge0/jobs/show/latest", headers=bearer("rita")
    ) as answer:
        assert answer.content_type == "application/octet-stream"
        assert await answer.read() == CONTENT


@pytest.mark.skipif(
    shutil.which("git-lfs") is None, reason="git-lfs is not installed; scripts/system-packages does"
)
async def test_stock_git_lfs_pulls_from_the_controller(site: Served, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }

    async def git(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            env=environment,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    await git("lfs", "install", "--skip-repo", "--skip-smudge")
    clone = str(tmp_path / "clone")
    assert (await git("clone", "--quiet", str(tmp_path / "data" / "archive.git"), clone))[0] == 0
    address = site.url.removeprefix("http://")
    for user, allowed in (("walter", False), ("rita", True)):
        url = f"http://{user}:of-{user}@{address}/api/v1/lfs"
        status, said = await git("-C", clone, "-c", f"lfs.url={url}", "lfs", "pull")
        assert (status == 0) == allowed, said
    assert (tmp_path / "clone" / "by_device" / "edge0" / "show").read_bytes() == CONTENT

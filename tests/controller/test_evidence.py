"""What failed runs left behind: shown as a transcript, and not kept for ever."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from roundsman.config.records import EvidenceSettings
from roundsman.controller import evidence as module
from roundsman.controller import retention
from roundsman.worker.recording import pack, unpack
from tests.controller import multipart
from tests.controller.site import START, Site, bearer, open_real_site

DAY: Final = 86_400


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_real_site(tmp_path) as site:
        yield site


async def fail(site: Site, left: bytes | None, **more: str) -> str:
    """A run on edge2 that failed an hour later; its id."""
    site.clock.advance(3600)
    leased = await site.client.get("/worker/next?tag=fra", headers=bearer("walter"))
    [execution] = leased.json()
    form = multipart.completion("edge2", "show", execution["timestamp"], left, failure="no", **more)
    done = await site.client.post(
        "/worker/complete", content=form, headers={**multipart.HEADERS, **bearer("walter")}
    )
    assert done.status_code == 200, done.text
    run_id: str = done.json()["run_id"]
    return run_id


def configure(site: Site, **bounds: Any) -> None:
    before = site.controller.configuration
    settings = msgspec.structs.replace(before.controller, evidence=EvidenceSettings(**bounds))
    site.controller.planner.replace(msgspec.structs.replace(before, controller=settings))


def watch(site: Site, monkeypatch: pytest.MonkeyPatch) -> "asyncio.Queue[int]":
    """How many were removed each time that the controller looked, from now on."""
    removed: asyncio.Queue[int] = asyncio.Queue()
    prune = site.controller.evidence.prune

    async def watched(**bounds: Any) -> int:
        count = await prune(**bounds)
        removed.put_nowait(count)
        return count

    monkeypatch.setattr(site.controller.evidence, "prune", watched)
    return removed


async def test_a_transcript_is_shown_as_text_and_as_nothing_else(site: Site) -> None:
    left = b"\x1b[31m<script>alert(1)</script>\xff\n"
    run_id = await fail(site, left)
    answer = await site.get(f"/runs/{run_id}/transcript")
    assert answer.status_code == 200
    assert answer.content == left
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["content-disposition"].startswith("inline")
    assert (await site.get(f"/runs/{run_id}/transcript", by="walter")).status_code == 403


async def test_a_recording_is_given_as_it_was_packed(site: Site) -> None:
    packed = pack("# a dialogue\n")
    assert packed is not None
    run_id = await fail(site, b"x", recording=packed)
    answer = await site.get(f"/runs/{run_id}/recording")
    assert answer.headers["content-type"] == "application/gzip"
    assert unpack(answer.content) == "# a dialogue\n"
    assert (await site.get(f"/runs/{run_id}/recording", by="walter")).status_code == 403
    site.controller.evidence.drop(run_id)
    answer = await site.get(f"/runs/{run_id}/recording")
    assert (answer.status_code, answer.json()["code"]) == (404, "recording.not_found")


async def test_where_there_is_none_the_answer_says_so(site: Site) -> None:
    run_id = await fail(site, None)
    answer = await site.get(f"/runs/{run_id}/transcript")
    assert (answer.status_code, answer.json()["code"]) == (404, "transcript.not_found")
    assert "left nothing behind" in answer.json()["error"]
    run_id = await fail(site, b"x")
    site.controller.evidence.path(run_id).unlink()
    answer = await site.get(f"/runs/{run_id}/transcript")
    assert (answer.status_code, answer.json()["code"]) == (404, "transcript.not_found")
    assert "no longer kept" in answer.json()["error"]
    assert (await site.get("/runs/none/transcript")).json()["code"] == "run.not_found"


async def test_it_is_removed_when_it_is_old(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = await fail(site, b"old"), await fail(site, b"new")
    kept = site.controller.evidence
    for run_id, days in ((old, 31), (new, 29)):
        at = START - days * DAY
        os.utime(kept.path(run_id), (at, at))
    site.clock.step(START - site.clock.now())
    await site.clock.sleeper(retention.EVERY_SECONDS)
    removed = watch(site, monkeypatch)
    site.clock.advance(3600)
    assert await removed.get() == 1
    assert not kept.path(old).exists()
    assert kept.path(new).exists()
    assert (await site.get(f"/runs/{old}/transcript")).status_code == 404
    assert (await site.get(f"/runs/{old}")).json()["failure"] == "no"


async def test_the_oldest_goes_when_it_is_too_much(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROWTH_BYTES", 1_500_000)
    configure(site, megabytes=1)
    first = await fail(site, b"x" * 800_000)
    os.utime(site.controller.evidence.path(first), (START, START))
    await site.clock.sleeper(retention.EVERY_SECONDS)
    removed = watch(site, monkeypatch)
    second = await fail(site, b"y" * 800_000)
    while await removed.get() == 0:
        pass  # the hour has passed before it came
    assert not site.controller.evidence.path(first).exists()
    assert site.controller.evidence.path(second).exists()

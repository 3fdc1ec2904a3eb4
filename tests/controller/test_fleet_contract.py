"""`/start`, `/stop`, `/query`, row by row of the published contract and of how it is read."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.controller.fleet_site import (
    FleetSite,
    RealWorker,
    fleet_site,
    real_worker,
    unknown,
)

EVERY_CALL = ("/start", "/stop", "/query")
RUNNING = {"done": False, "error": False, "error_text": ""}
WELL = {"done": True, "error": False, "error_text": ""}


# One controller and one worker for all: each test starts processes of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FleetSite]:
    async with fleet_site(tmp_path_factory.mktemp("controller")) as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(
    site: FleetSite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RealWorker]:
    async with real_worker(site, tmp_path_factory.mktemp("worker")) as worker:
        yield worker


def body_for(path: str, worker_id: str, job_id: str = "") -> dict[str, str]:
    if path == "/start":
        return {"worker_id": worker_id, "command": "true", "path": ""}
    return {"worker_id": worker_id, "job_id": job_id}


async def test_start_answers_201_with_a_uuid(site: FleetSite, worker: RealWorker) -> None:
    answer = await site.call("/start", body_for("/start", worker.worker_id))
    assert answer.status == 201
    assert list(answer.body) == ["job_id"]
    assert str(uuid.UUID(answer.body["job_id"])) == answer.body["job_id"]
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_running_process_and_one_that_ended_well(
    site: FleetSite, worker: RealWorker
) -> None:
    job_id = await site.start(worker.worker_id, "sleep", "1000")
    answer = await site.call("/query", body_for("/query", worker.worker_id, job_id))
    assert (answer.status, answer.body) == (200, RUNNING)
    assert answer.headers["Content-Type"] == "application/json"
    assert await site.ended(worker.worker_id, await site.start(worker.worker_id, "true")) == WELL


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 3", "exit status 3"),
        ("exit 255", "exit status 255"),
        ("kill -KILL $$", "signal: killed"),
        ("kill -TERM $$", "signal: terminated"),
        ("kill -INT $$", "signal: interrupt"),
        ("kill -HUP $$", "signal: hangup"),
    ],
)
async def test_how_a_process_ended_badly(
    site: FleetSite, worker: RealWorker, script: str, text: str
) -> None:
    job_id = await site.start(worker.worker_id, "sh", worker.script(script))
    ended = await site.ended(worker.worker_id, job_id)
    assert ended == {"done": True, "error": True, "error_text": text}


async def test_stop_kills_and_answers_when_it_is_gone(site: FleetSite, worker: RealWorker) -> None:
    job_id = await site.start(worker.worker_id, "sleep", "1000")
    answer = await site.stop(worker.worker_id, job_id)
    assert (answer.status, answer.body) == (200, {"success": True})
    assert answer.headers["Content-Type"] == "application/json"
    killed = {"done": True, "error": True, "error_text": "signal: killed"}
    assert await site.query(worker.worker_id, job_id) == killed


async def test_stopping_what_has_ended_is_a_success_and_changes_nothing(
    site: FleetSite, worker: RealWorker
) -> None:
    job_id = await site.start(worker.worker_id, "true")
    await site.ended(worker.worker_id, job_id)
    for _ in range(2):
        assert (await site.stop(worker.worker_id, job_id))[:2] == (200, {"success": True})
    assert await site.query(worker.worker_id, job_id) == WELL


@pytest.mark.parametrize("path", EVERY_CALL)
@pytest.mark.parametrize(
    "worker_id", ["d5feef60-3029-11e9-b210-d663bd873d93", "", "not a uuid", "\0", "ü" * 300]
)
async def test_an_unknown_worker(site: FleetSite, path: str, worker_id: str) -> None:
    answer = await site.call(path, body_for(path, worker_id, unknown()))
    assert (answer.status, answer.body) == (500, {"error": "worker not found"})
    assert answer.headers["Content-Type"] == "application/json"
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("path", EVERY_CALL[1:])
@pytest.mark.parametrize("job_id", ["8ba78fe2-a770-47ef-baa1-35750ec8c171", "", "not a uuid", "\0"])
async def test_an_unknown_job(site: FleetSite, worker: RealWorker, path: str, job_id: str) -> None:
    answer = await site.call(path, body_for(path, worker.worker_id, job_id))
    assert (answer.status, answer.body) == (500, {"error": "job not found"})


async def test_ids_are_compared_as_they_are_given(site: FleetSite, worker: RealWorker) -> None:
    job_id = await site.start(worker.worker_id, "true")
    answer = await site.stop(worker.worker_id, job_id.upper())
    assert (answer.status, answer.body) == (500, {"error": "job not found"})
    answer = await site.stop(worker.worker_id.upper(), job_id)
    assert (answer.status, answer.body) == (500, {"error": "worker not found"})


async def test_the_job_of_another_worker(
    site: FleetSite, worker: RealWorker, tmp_path: Path
) -> None:
    job_id = await site.start(worker.worker_id, "sleep", "1000")
    async with real_worker(site, tmp_path / "other") as other:
        for path in EVERY_CALL[1:]:
            answer = await site.call(path, body_for(path, other.worker_id, job_id))
            assert (answer.status, answer.body) == (500, {"error": "job not found"})
    assert await site.query(worker.worker_id, job_id) == RUNNING


@pytest.mark.parametrize(
    ("command", "path", "reason"),
    [
        ("bash", "x", "command not allowed: bash"),
        ("no-such-command", "x", "no such executable: no-such-command"),
        ("sh", "../x", "path leaves the scripts folder: ../x"),
        ("sh", "/etc/passwd", "path leaves the scripts folder: /etc/passwd"),
        ("sh", "a\0b", "path contains a NUL byte"),
    ],
)
async def test_a_refusal_is_500_with_the_worker_s_reason(
    site: FleetSite, worker: RealWorker, command: str, path: str, reason: str
) -> None:
    """Fault 12: any executable, any path."""
    body = {"worker_id": worker.worker_id, "command": command, "path": path}
    answer = await site.call("/start", body)
    assert (answer.status, answer.body) == (500, {"error": reason})


async def test_a_worker_that_is_away(site: FleetSite, tmp_path: Path) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        job_id = await site.start(worker.worker_id, "true")
        await site.ended(worker.worker_id, job_id)
    await site.is_connected(worker.worker_id, connected=False)
    answer = await site.call("/start", body_for("/start", worker.worker_id))
    assert (answer.status, answer.body) == (500, {"error": "worker not connected"})
    assert await site.query(worker.worker_id, job_id) == WELL
    assert (await site.stop(worker.worker_id, job_id)).body == {"success": True}


@pytest.mark.parametrize("path", EVERY_CALL)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the body is not JSON: Input data was truncated"),
        (b"{", "the body is not JSON: Input data was truncated"),
        (b"{'worker_id': 1}", "the body is not JSON: JSON is malformed"),
        (b"worker_id=1", "the body is not JSON: JSON is malformed"),
        (b'{"worker_id": "\\ud800", "x": 1}', "the body is not JSON: "),
        (b"\xff\xfe", "the body is not UTF-8 from byte 0 on"),
        (b'{"worker_id": "\xc3\x28"}', "the body is not UTF-8 from byte 15 on"),
        (b"null", "the body: expected object, got null"),
        (b"[]", "the body: expected object, got array"),
        (b'"text"', "the body: expected object, got str"),
        (b'{"x": ' + b"[" * 30_000, "the body is "),
    ],
)
async def test_what_is_not_a_json_object_is_400(
    site: FleetSite, path: str, body: bytes, text: str
) -> None:
    answer = await site.call(path, body)
    assert answer.status == 400
    assert list(answer.body) == ["error"]
    assert answer.body["error"].startswith(text)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", EVERY_CALL)
async def test_each_missing_or_wrongly_typed_field_is_400_and_named(
    site: FleetSite, worker: RealWorker, path: str
) -> None:
    good: dict[str, Any] = body_for(path, worker.worker_id, unknown())
    for field in good:
        answer = await site.call(path, {key: good[key] for key in good if key != field})
        assert (answer.status, answer.body) == (400, {"error": f"{field}: missing, expected str"})
        for wrong, kind in ((1, "int"), (None, "null"), ([], "array"), (True, "bool")):
            answer = await site.call(path, {**good, field: wrong})
            assert (answer.status, answer.body) == (
                400,
                {"error": f"{field}: expected str, got {kind}"},
            )


@pytest.mark.parametrize("path", EVERY_CALL)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_another_method_is_405(site: FleetSite, path: str, method: str) -> None:
    answer = await site.call(path, b"", method=method)
    assert (answer.status, answer.body) == (
        405,
        {"error": f"method {method} not allowed, expected POST"},
    )
    assert answer.headers["Allow"] == "POST"
    assert (await site.call(path, b"", method="HEAD")).status == 405


@pytest.mark.parametrize("path", EVERY_CALL)
async def test_credentials(site: FleetSite, worker: RealWorker, path: str) -> None:
    async def status(authorization: str | None) -> int:
        headers = {} if authorization is None else {"Authorization": authorization}
        body = body_for(path, worker.worker_id, unknown())
        answer = await site.call(path, body, headers=headers)
        if answer.status != 201:
            assert list(answer.body) == ["error"]
        return answer.status

    good = 201 if path == "/start" else 500  # job not found
    basic = base64.b64encode(b"ada:token-of-ada").decode()
    assert await status(None) == 401
    assert await status("Bearer wrong") == 401
    assert await status("Bearer token-of-walter") == 403
    assert await status("Bearer token-of-rita") == (500 if path == "/query" else 403)
    assert await status("Bearer token-of-ada") == good
    assert await status(f"Basic {basic}") == good


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "text/plain", "application/x-www-form-urlencoded"]
)
async def test_any_content_type_and_more_fields(
    site: FleetSite, worker: RealWorker, content_type: str | None
) -> None:
    headers = {"Authorization": "Bearer token-of-ada"}
    if content_type is not None:
        headers["Content-Type"] = content_type
    more = {"shell": True, "nested": {"worker_id": 1}}
    started = await site.call(
        "/start", {**body_for("/start", worker.worker_id), **more}, headers=headers
    )
    assert started.status == 201
    named = {**body_for("/stop", worker.worker_id, started.body["job_id"]), **more}
    assert (await site.call("/stop", named, headers=headers)).status == 200
    assert (await site.call("/query", named, headers=headers)).status == 200


@pytest.mark.parametrize("path", EVERY_CALL)
async def test_too_large_a_body_is_413(site: FleetSite, path: str) -> None:
    answer = await site.call(path, b'{"x": "' + b"x" * 70_000 + b'"}')
    assert answer.status == 413
    assert list(answer.body) == ["error"]


@pytest.mark.parametrize("path", ["", "worker/scripts/count.sh", "a b; $HOME *"])
async def test_the_path_is_one_argument_even_when_empty(
    site: FleetSite, tmp_path: Path, path: str
) -> None:
    async with real_worker(site, tmp_path / "worker", "./show") as worker:
        shown = tmp_path / "shown"
        worker.script(f'#!/bin/sh\nprintf "%s|" "$#" "$@" > {shown}\n', "show")
        (worker.scripts / "show").chmod(0o700)
        job_id = await site.start(worker.worker_id, "./show", path)
        assert await site.ended(worker.worker_id, job_id) == WELL
        assert shown.read_text() == f"1|{path}|"


async def test_what_a_start_leaves_in_the_ledger(site: FleetSite, worker: RealWorker) -> None:
    job_id = await site.start(worker.worker_id, "sh", worker.script("exit 3"))
    await site.ended(worker.worker_id, job_id)
    row = await site.controller.ledger.process(job_id)
    assert row is not None
    assert (row.worker_id, row.command, row.path) == (worker.worker_id, "sh", "script.sh")
    assert (row.requested_by, row.exit_status) == ("ada", 3)
    assert row.started_at is not None
    assert row.ended_at is not None
    assert row.requested_at <= row.started_at <= row.ended_at


async def test_many_calls_at_once(site: FleetSite, worker: RealWorker) -> None:
    async def one(number: int) -> None:
        script = worker.script(f"exit {number}", f"{number}.sh")
        job_id = await site.start(worker.worker_id, "sh", script)
        ended = await site.ended(worker.worker_id, job_id)
        assert ended["error_text"] == f"exit status {number}"

    await asyncio.gather(*(one(number) for number in range(1, 31)))

"""What somebody with bad intentions sends: refused in words, executed by nobody, in the audit."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roundsman.controller import protocol
from roundsman.controller.api import bodies
from roundsman.ledger.interface import AuditQuery
from roundsman.wire.audit import AuditEntry, AuditOutcome
from roundsman.wire.control import StartProcess
from tests.controller.fleet_site import (
    ADMINISTRATOR,
    FleetSite,
    RealWorker,
    fleet_site,
    real_worker,
    unknown,
)

MARK = "echo executed >> executed"
DEEP = b'{"worker_id": ' + b"[" * 60_000
DEEP_OBJECT = b'{"x": ' * 10_000
PATHS = [
    "../outside.sh",
    "../scripts/mark.sh/../../outside.sh",
    "/etc/passwd",
    "/proc/self/exe",
    "mark.sh\0.txt",
    "a" * 4096,
    "a/" * 2048,
    "; sh mark.sh",
    "$(sh mark.sh)",
    "`sh mark.sh`",
    "mark.sh; sh mark.sh",
    "mark.sh\nsh mark.sh",
    "| sh mark.sh",
    "-c sh mark.sh",
    "--rcfile=mark.sh",
    "*.sh",
    "..",
    ".",
    "link.sh",
    "\u202emark.sh",
    "mark.sh ",
]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FleetSite]:
    async with fleet_site(tmp_path / "controller") as site:
        yield site


@pytest.fixture
async def worker(site: FleetSite, tmp_path: Path) -> AsyncIterator[RealWorker]:
    async with real_worker(site, tmp_path / "worker") as worker:
        worker.script(MARK, "mark.sh")
        (worker.scripts.parent / "outside.sh").write_text(MARK)
        (worker.scripts / "link.sh").symlink_to(worker.scripts.parent / "outside.sh")
        yield worker
        assert not list(tmp_path.rglob("executed"))
        assert not list(Path().glob("executed"))


async def last_line(site: FleetSite) -> AuditEntry:
    [line] = (await site.controller.ledger.audit(AuditQuery(limit=1))).items
    return line


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_that_is_no_script_runs_nothing(
    site: FleetSite, worker: RealWorker, path: str
) -> None:
    body = {"worker_id": worker.worker_id, "command": "sh", "path": path}
    answer = await site.call("/start", body)
    assert answer.status == 500
    assert list(answer.body) == ["error"]
    line = await last_line(site)
    assert (line.outcome, line.by) == (AuditOutcome.REFUSED, "ada")
    assert line.error == answer.body["error"][:500]
    assert line.asked is not None
    assert line.asked.arguments == (path[:1000],)


async def test_the_same_paths_run_nothing_as_a_batch(site: FleetSite, worker: RealWorker) -> None:
    for path in PATHS[:5]:
        body = {"on": "all", "command": "sh", "path": path}
        answer = await site.call("/api/v1/processes", body)
        assert answer.status == 202, answer.body
        url = f"/api/v1/batches/{answer.body['batch_id']}"
        async with site.served.http.get(f"{url}/events", headers=ADMINISTRATOR) as events:
            await events.read()
        report = (await site.call(url, method="GET")).body
        assert report["counts"] == {"refused": 1}
        assert (await last_line(site)).outcome is AuditOutcome.REFUSED


@pytest.mark.parametrize("command", ["sh mark.sh", "/bin/sh", "../sh", "sh\0", "", "s" * 4096])
async def test_a_command_that_is_not_allowed_runs_nothing(
    site: FleetSite, worker: RealWorker, command: str
) -> None:
    body = {"worker_id": worker.worker_id, "command": command, "path": "mark.sh"}
    assert (await site.call("/start", body)).status == 500
    assert (await last_line(site)).outcome is AuditOutcome.REFUSED


@pytest.mark.parametrize(
    "forged",
    [
        "../../etc/passwd",
        "' OR 1=1 --",
        "a" * 4096,
        "\0",
        "00000000-0000-0000-0000-000000000000",
        "",
    ],
)
async def test_a_forged_id_stops_and_shows_nothing(
    site: FleetSite, worker: RealWorker, forged: str
) -> None:
    job_id = await site.start(worker.worker_id, "sleep", "1000")
    ids = [
        (worker.worker_id, forged, "job not found"),
        (forged, job_id, "worker not found"),
        (forged, forged, "worker not found"),
    ]
    for worker_id, process_id, text in ids:
        body = {"worker_id": worker_id, "job_id": process_id}
        for path in ("/stop", "/query"):
            answer = await site.call(path, body)
            assert answer[:2] == (500, {"error": text})
        line = await last_line(site)
        assert (line.action, line.outcome) == ("process.stop", AuditOutcome.REFUSED)
        start = {"worker_id": worker_id, "command": "sh", "path": "mark.sh"}
        if worker_id == forged:
            assert (await site.call("/start", start)).status == 500
    assert (await site.query(worker.worker_id, job_id))["done"] is False


async def test_a_start_that_is_replayed_starts_once(
    site: FleetSite, worker: RealWorker, tmp_path: Path
) -> None:
    """On its way to the worker: a second one of the same id is answered as the first."""
    worker.script("echo started >> started; echo go; sleep 1000", "once.sh")
    message = StartProcess(process_id=unknown(), command="sh", path="once.sh")
    for _ in range(3):
        await site.controller.fleet.give(message, worker.worker_id)
    output = worker.runner.read(message.process_id, follow=True)
    assert [chunk.data for chunk in await anext(output)] == [b"go\n"]
    await worker.runner.stop(message.process_id)
    assert [file.read_text() for file in tmp_path.rglob("started")] == ["started\n"]
    assert len(worker.runner.to_report()) <= 1  # none once the controller has heard of its end


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (DEEP, 400),
        (DEEP_OBJECT[:65_000], 400),
        (b"x" * 100_000, 413),
        (b"\xff\xfe{}", 400),
        (b'{"worker_id": 1e999, "command": 1, "path": null}', 400),
        (b"null", 400),
        (b"[]", 400),
        (b"", 400),
        (b'{"worker_id"', 400),
    ],
    ids=str,
)
async def test_a_body_that_is_none_is_refused(
    site: FleetSite, worker: RealWorker, body: bytes, status: int
) -> None:
    for path, action in (("/start", "process.start"), ("/stop", "process.stop")):
        answer = await site.call(path, body)
        assert answer.status == status, answer.body
        line = await last_line(site)
        assert (line.action, line.outcome) == (action, AuditOutcome.REFUSED)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"on": "all", "command": ' + b"[" * 200_000, 400),
        (b'{"command": "true", "environment": {"a": ' + b"[" * 200_000, 400),
        (b'{"command": "' + b"x" * 2_000_000 + b'"}', 413),
        (b"\xff\xfe{}", 400),
        (b"", 400),
        (b"nul", 400),
        (b'{"on": "all", "command": "true", "limits": {"tasks": 1e99}}', 400),
        (b'{"on": "all", "command": "true", "limits": {"memory_bytes": %d}}' % 10**30, 400),
        (b'{"on": "all", "command": "true", "limits": {"cpu_seconds": %d}}' % 2**62, 400),
        (b'{"on": "%s", "command": "true"}' % (b"(" * 900), 400),
        (b'{"on": "%s all", "command": "true"}' % (b"not " * 200), 400),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_batch_that_is_none_is_refused(
    site: FleetSite, worker: RealWorker, body: bytes, status: int
) -> None:
    async with site.served.http.post(
        "/api/v1/processes", data=io.BytesIO(body), headers=ADMINISTRATOR
    ) as answer:
        assert answer.status == status, await answer.text()
        said = msgspec.json.decode(await answer.read())
    line = await last_line(site)
    assert (line.action, line.outcome) == ("batch.start", AuditOutcome.REFUSED)
    assert (line.code, line.error) == (said["code"], said["error"])


async def test_what_is_wrong_with_a_batch_is_said_by_its_field(
    site: FleetSite, worker: RealWorker
) -> None:
    right = {"on": "all", "command": "true"}
    for wrong, text in (
        (b"", "the body is missing"),
        (b"[]", "the body: expected object, got array"),
        (b"{", "the body is not JSON: Input data was truncated"),
        ({**right, "width": 0}, "width: expected int >= 1"),
        ({**right, "arguments": ["a", 5]}, "arguments[1]: expected str, got int"),
        ({**right, "limits": {"tasks": 0}}, "limits.tasks: expected int >= 1"),
    ):
        answer = await site.call("/api/v1/processes", wrong)
        assert answer[:2] == (400, {"error": text, "code": "body.invalid"})


@pytest.mark.parametrize("path", ["/start", "/stop", "/api/v1/processes"])
async def test_a_body_that_trickles_is_given_up(
    site: FleetSite, worker: RealWorker, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies.read, "__kwdefaults__", {"seconds": 0.2})
    reader, writer = await asyncio.open_connection(*site.served.address)
    head = "".join(f"{name}: {value}\r\n" for name, value in ADMINISTRATOR.items())
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 500\r\n\r\n".encode())
    answering = asyncio.create_task(reader.readuntil(b"\r\n"))
    while not answering.done():  # a byte now and then keeps no call open
        writer.write(b" ")
        await asyncio.wait({answering}, timeout=0.02)
    assert b" 408 " in answering.result()
    writer.close()
    assert (await last_line(site)).code == "body.slow"


HALF = b"POST /start HTTP/1.1\r\nHost: x\r\nX-Slow: "


@pytest.mark.parametrize("sent", [b"", HALF, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" + HALF])
async def test_a_head_that_does_not_come_is_given_up(
    site: FleetSite, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(*site.served.address)
    writer.write(sent)
    closing = asyncio.create_task(reader.read())
    while sent and not closing.done():  # a byte now and then keeps no connection open
        writer.write(b"a")
        await asyncio.wait({closing}, timeout=0.02)
    with contextlib.suppress(ConnectionResetError):  # what was on its way had no reader any more
        assert (await closing).count(b"HTTP/1.1") == sent.startswith(b"GET")
    writer.close()


async def test_a_hundred_silent_bodies_delay_nobody(site: FleetSite, worker: RealWorker) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in ADMINISTRATOR.items())
    held = []
    for _ in range(100):
        _, writer = await asyncio.open_connection(*site.served.address)
        writer.write(f"POST /start HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 9\r\n\r\n".encode())
        held.append(writer)
    job_id = await site.start(worker.worker_id, "true", "")
    await site.ended(worker.worker_id, job_id)
    for writer in held:
        writer.close()


async def test_output_of_what_is_not_there_is_not_found(
    site: FleetSite, worker: RealWorker
) -> None:
    answer: Any
    for forged in ("..%2f..%2fetc%2fpasswd", "%00", "a" * 4096, unknown()):
        async with site.served.http.get(
            f"/api/v1/processes/{forged}/output", headers=ADMINISTRATOR
        ) as answer:
            assert answer.status in (400, 404), await answer.text()
            assert msgspec.json.decode(await answer.read())["code"]

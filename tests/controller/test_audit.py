"""The audit: who tried what, from where, and what became of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roundsman.controller.api import bodies
from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.wire.audit import AuditAction, AuditEntry, AuditOutcome, AuditQuery
from roundsman.wire.control import ProcessChanged
from roundsman.wire.process import ProcessState
from tests.controller.fleet_site import (
    ADMINISTRATOR,
    SETTINGS,
    FleetSite,
    fake_worker,
    fleet_site,
    real_worker,
    unknown,
)
from tests.controller.serving import configuration, served
from tests.controller.site import Site, bearer, open_real_site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FleetSite]:
    async with fleet_site(tmp_path / "controller") as site:
        yield site


async def lines(site: FleetSite, query: str = "") -> list[dict[str, Any]]:
    """Oldest first, without what each has alike."""
    answer = await site.call(f"/api/v1/audit/processes{query}", method="GET")
    assert answer.status == 200, answer.body
    found = []
    for item in reversed(answer.body["items"]):
        assert item.pop("at") > 0
        assert item.pop("number") > 0
        assert item.pop("address") == "127.0.0.1"
        found.append(item)
    return found


ADA = {"by": "ada", "role": "administrator"}


async def test_a_start_and_a_stop_are_written_before_and_after(
    site: FleetSite, tmp_path: Path
) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        job_id = await site.start(worker.worker_id, "sleep", "1000")
        await site.stop(worker.worker_id, job_id)
        about = {**ADA, "worker_id": worker.worker_id, "process_id": job_id}
        asked = {"asked": {"command": "sleep", "arguments": ["1000"]}}
        assert await lines(site) == [
            {"action": "process.start", "outcome": "requested", **about, **asked},
            {"action": "process.start", "outcome": "done", **about, **asked},
            {"action": "process.stop", "outcome": "requested", **about},
            {"action": "process.stop", "outcome": "done", **about},
        ]
        assert len(await lines(site, f"?process_id={job_id}&action=process.stop")) == 2
        assert await lines(site, f"?worker_id={unknown()}") == []


async def test_a_start_is_two_transactions_before_its_answer(
    site: FleetSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = site.controller.ledger
    written: list[str] = []

    def counted(name: str) -> Any:
        do = getattr(ledger, name)

        def count(*given: Any) -> Any:
            written.append(name)
            return do(*given)

        return count

    async with real_worker(site, tmp_path / "worker") as worker:
        for name in ("add_process", "change_processes", "add_audit"):
            monkeypatch.setattr(ledger, name, counted(name))
        await site.start(worker.worker_id, "sleep", "1000")
        assert written == ["add_process", "change_processes"]


async def test_a_fault_of_ours_in_a_start_is_answered_and_written(
    site: FleetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    worker_id, _ = await site.enrol()
    monkeypatch.setattr(site.controller.fleet, "start", fails)
    body = {"worker_id": worker_id, "command": "true", "path": ""}
    answer = await site.call("/start", body)
    assert (answer.status, list(answer.body)) == (500, ["error"])
    [line] = await lines(site)
    assert (line["outcome"], line["code"], line["worker_id"]) == ("failed", "internal", worker_id)


async def test_what_is_refused_is_written_with_the_reason(site: FleetSite, tmp_path: Path) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        body = {"worker_id": worker.worker_id, "command": "reboot", "path": ""}
        assert (await site.call("/start", body)).status == 500
        [requested, refused] = await lines(site)
        assert refused["outcome"] == "refused"
        assert "reboot" in refused["error"]
        assert refused["process_id"] == requested["process_id"]
        nowhere = unknown()
        assert (await site.call("/start", {**body, "worker_id": nowhere})).status == 500
        [*_, unknown_worker] = await lines(site)
        assert unknown_worker == {
            "action": "process.start",
            "outcome": "refused",
            **ADA,
            "worker_id": nowhere,
            "asked": {"command": "reboot", "arguments": [""]},
            "error": "worker not found",
            "code": "fleet.worker_not_found",
        }
        assert (await site.call("/stop", b"{")).status == 400
        [*_, malformed] = await lines(site)
        assert (malformed["action"], malformed["code"]) == ("process.stop", "body.invalid")


async def test_a_worker_that_does_not_answer_is_a_failure(site: FleetSite) -> None:
    async with fake_worker(site, await site.enrol()) as worker:
        body = {"worker_id": worker.worker_id, "command": "true", "path": ""}
        start = asyncio.create_task(site.call("/start", body))
        await worker.hear()
        await worker.socket.close()
        assert (await start).status == 500
        [requested, failed] = await lines(site)
        assert (requested["outcome"], failed["outcome"]) == ("requested", "failed")
        assert failed["code"] == "worker.not_connected"


async def test_who_has_no_right_is_written_once_and_then_counted(site: FleetSite) -> None:
    body = {"worker_id": unknown(), "command": "sh", "path": ""}
    for _ in range(20):
        answer = await site.call("/start", body, headers={})
        assert answer.status == 401
        answer = await site.call("/start", body, headers=bearer("rita"))
        assert answer.status == 403
    await site.controller.audit.run_once()
    found = await lines(site)
    assert [(line.get("by"), line["outcome"], line.get("count", 1)) for line in found] == [
        (None, "refused", 1),
        ("rita", "refused", 1),
        (None, "refused", 19),
        ("rita", "refused", 19),
    ]
    assert found[1]["code"] == "access.forbidden"


async def test_a_flood_from_many_places_is_bounded(site: FleetSite) -> None:
    audit = site.controller.audit
    for number in range(3000):
        entry = audit.entry(
            AuditAction.START_PROCESS, AuditOutcome.REFUSED, by=None, code="access.unauthenticated"
        )
        await audit.count(msgspec.structs.replace(entry, address=f"192.0.2.{number}"))
    await audit.run_once()
    page = await site.controller.ledger.audit(AuditQuery(limit=1000, oldest_first=True))
    rest = await site.controller.ledger.audit(
        AuditQuery(limit=1000, oldest_first=True, after=page.next)
    )
    assert len(page.items) + len(rest.items) == 1002
    assert rest.items[-1].count == 1999
    assert rest.items[-1].address is None


async def test_credentials_of_a_worker_open_nothing_of_anothers(
    site: FleetSite, tmp_path: Path
) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        job_id = await site.start(worker.worker_id, "sleep", "1000")
        other_id, token = await site.enrol("other")
        other = {"Authorization": f"Bearer {token.reveal()}"}
        body = {"worker_id": worker.worker_id, "job_id": job_id, "command": "sh", "path": ""}
        for path in ("/start", "/stop", "/query"):
            assert (await site.call(path, body, headers=other)).status == 403
        for path in ("", f"/{job_id}", f"/{job_id}/output"):
            answer = await site.call(f"/api/v1/processes{path}", method="GET", headers=other)
            assert answer.status == 403
        control = f"/api/v1/workers/{worker.worker_id}/control"
        with pytest.raises(Exception, match="403"):
            await site.served.http.ws_connect(control, headers=other)
        refused = [line for line in await lines(site) if line.get("by") == other_id]
        assert {line["action"] for line in refused} == {
            "process.start",
            "process.stop",
            "process.read",
            "worker.connect",
        }
        assert {line["outcome"] for line in refused} == {"refused"}
        assert refused[-1]["worker_id"] == worker.worker_id
        assert (await site.query(worker.worker_id, job_id))["done"] is False


async def test_a_worker_that_speaks_of_anothers_process_is_not_believed(
    site: FleetSite, tmp_path: Path
) -> None:
    async with real_worker(site, tmp_path / "worker") as worker:
        job_id = await site.start(worker.worker_id, "sleep", "1000")
        async with fake_worker(site, await site.enrol("liar")) as liar:
            await liar.say(
                ProcessChanged(process_id=job_id, state=ProcessState.ENDED, at=1.0, exit_status=0)
            )
            await liar.hear()  # acknowledged, so that it does not say it again
            assert (await site.query(worker.worker_id, job_id))["done"] is False
            [*_, line] = await lines(site)
            assert (line["action"], line["by"]) == ("process.report", liar.worker_id)
            assert line["process_id"] == job_id


async def test_a_body_that_does_not_come_is_given_up(
    site: FleetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies.read, "__kwdefaults__", {"seconds": 0.05})
    reader, writer = await asyncio.open_connection(*site.served.address)
    head = "".join(f"{name}: {value}\r\n" for name, value in ADMINISTRATOR.items())
    writer.write(f"POST /start HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 99\r\n\r\n{{".encode())
    answer = await reader.readuntil(b"\r\n")
    assert b" 408 " in answer
    writer.close()
    [line] = await lines(site)
    assert (line["outcome"], line["code"]) == ("refused", "body.slow")


async def test_behind_a_proxy_its_own_word_counts_and_not_the_clients(tmp_path: Path) -> None:
    """A client may send addresses of its own; the proxy adds the true one behind them."""
    empty = configuration([], SETTINGS)
    listen = msgspec.structs.replace(empty.controller.listen, behind_proxy=True)
    settings = msgspec.structs.replace(empty.controller, listen=listen)
    async with served(msgspec.structs.replace(empty, controller=settings), tmp_path) as site:
        for sent in ("192.0.2.7", "127.0.0.1, 203.0.113.1:99, 192.0.2.7", "[2001:db8::1]:80"):
            headers = {**ADMINISTRATOR, "X-Forwarded-For": sent}
            await site.http.post("/api/v1/reload", headers=headers)
        page = await site.controller.ledger.audit(AuditQuery())
        assert [entry.address for entry in page.items] == ["2001:db8::1", "192.0.2.7", "192.0.2.7"]


async def test_lines_stream_as_json_lines_oldest_first(site: FleetSite) -> None:
    await site.controller.ledger.add_audit(
        [
            AuditEntry(at=float(number), action=AuditAction.RELOAD, outcome=AuditOutcome.DONE)
            for number in range(2500)
        ]
    )
    accept = {**ADMINISTRATOR, "Accept": "application/jsonl"}
    async with site.served.http.get("/api/v1/audit?since=10", headers=accept) as answer:
        assert answer.headers["Content-Type"].startswith("application/jsonl")
        found = msgspec.json.Decoder(AuditEntry).decode_lines(await answer.read())
    assert [entry.at for entry in found] == [float(number) for number in range(10, 2500)]
    async with site.served.http.get("/api/v1/audit/processes", headers=accept) as answer:
        assert await answer.read() == b""


async def test_a_ledger_that_cannot_write_does_not_hide_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(tmp_path) as site:

        async def fails(_: object) -> None:
            raise LedgerUnavailableError("the disk is full")

        monkeypatch.setattr(site.ledger, "add_audit", fails)
        assert (await site.post("/devices/core1/pause")).status_code == 200


@pytest.mark.parametrize("opened", [open_site, open_real_site], ids=["memory", "real"])
async def test_what_a_person_changes_is_in_the_same_audit(tmp_path: Path, opened: Any) -> None:
    async with opened(tmp_path) as site:
        await changes(site)


async def changes(site: Site) -> None:
    for path, status in (
        ("/devices/core1/pause", 200),
        ("/devices/core1/jobs/show/run", 409),
        ("/devices/core1/resume", 200),
        ("/devices/nowhere/release", 404),
        ("/jobs/show/pause", 200),
        ("/jobs/show/resume", 200),
        ("/runs/none/accept", 404),
        ("/reload", 200),
    ):
        assert (await site.post(path)).status_code == status, path
    enrolled = await site.client.post(
        "/api/v1/workers", json={"name": "w"}, headers=bearer("walter")
    )
    worker_id = enrolled.json()["worker_id"]
    await site.client.delete(f"/api/v1/workers/{worker_id}", headers=bearer("ada"))
    answer = await site.client.get("/api/v1/audit", headers=bearer("ada"))
    said = [
        (item["action"], item["outcome"], item.get("code"))
        for item in reversed(answer.json()["items"])
    ]
    assert said == [
        ("device.pause", "done", None),
        ("slot.run_now", "refused", "slot.paused"),
        ("device.resume", "done", None),
        ("device.release", "refused", "device.not_found"),
        ("job.pause", "done", None),
        ("job.resume", "done", None),
        ("run.accept", "refused", "run.not_found"),
        ("configuration.reload", "done", None),
        ("worker.enrol", "done", None),
        ("worker.remove", "done", None),
    ]
    assert answer.json()["items"][-1]["device"] == "core1"
    assert {item["worker_id"] for item in answer.json()["items"][:2]} == {worker_id}
    assert enrolled.json()["token"] not in answer.text

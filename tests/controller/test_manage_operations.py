"""Run now, pause, resume and reload under `/api/v1`; runs and results."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roundsman.archive.interface import Entry
from roundsman.ledger.interface import LedgerUnavailableError
from roundsman.wire.process import Process, ProcessState
from tests.controller import multipart
from tests.controller.site import CONFIGURATION, START, Site, bearer, open_real_site, open_site


@pytest.fixture(params=[open_site, open_real_site], ids=["memory", "real"])
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with request.param(tmp_path) as opened:
        yield opened


async def said(site: Site, path: str, status: int = 200) -> dict[str, Any]:
    answer = await site.post(path)
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def lease(site: Site, query: str = "") -> list[dict[str, Any]]:
    answer = await site.client.get(f"/worker/next{query}", headers=bearer("walter"))
    return answer.json() if answer.status_code == 200 else []


async def complete(site: Site, execution: dict[str, Any], **how: Any) -> dict[str, Any]:
    names = execution["device"]["name"], execution["job"]["name"]
    answer = await site.client.post(
        "/worker/complete",
        content=multipart.completion(*names, execution["timestamp"], **how),
        headers={**multipart.HEADERS, **bearer("walter")},
    )
    assert answer.status_code == 200, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


# run now


async def test_run_now_makes_a_slot_due_beside_its_schedule(site: Site) -> None:
    path = "/devices/edge2/jobs/show/run"
    assert await lease(site) == []
    assert await said(site, path, 202) == {"result": "queued"}
    assert await said(site, path, 202) == {"result": "already_due"}
    [execution] = await lease(site)
    assert (execution["device"]["name"], execution["timestamp"]) == ("edge2", START)
    assert await said(site, path, 202) == {"result": "running"}
    kept = await complete(site, execution, content=b"version 1\n")
    run = (await site.get(f"/runs/{kept['run_id']}")).json()
    assert (run["on_demand"], run["outcome"]) == (True, "succeeded")
    slot = (await site.get("/slots/edge2/show")).json()
    assert (slot["due"], slot["state"], slot["on_demand"]) == (START + 3600, "waiting", False)


async def test_what_is_paused_is_not_run_now(site: Site) -> None:
    for pause in ("/devices/edge2/pause", "/jobs/show/pause"):
        await said(site, pause)
        refused = await said(site, "/devices/edge2/jobs/show/run", 409)
        assert refused["code"] == "slot.paused"
    assert await lease(site) == []


# pause and resume


@pytest.mark.parametrize(("kind", "name"), [("devices", "edge2"), ("jobs", "show")])
async def test_a_pause_holds_back_and_a_resume_records_what_was_missed(
    site: Site, kind: str, name: str
) -> None:
    assert await said(site, f"/{kind}/{name}/pause") == {"changed": True}
    assert await said(site, f"/{kind}/{name}/pause") == {"changed": False}
    [pause] = (await site.get("/pauses")).json()["items"]
    assert pause == {"kind": kind.removesuffix("s"), "name": name, "since": START, "by": "ada"}
    site.clock.advance(2.5 * 3600)
    assert await lease(site, "?tag=fra") == []
    slots = {"devices": 1, "jobs": 4}[kind]
    assert await said(site, f"/{kind}/{name}/resume") == {
        "changed": True,
        "slots": slots,
        "missed": 2 * slots,
        "next_due": START + 3 * 3600,
    }
    assert (await said(site, f"/{kind}/{name}/resume"))["changed"] is False
    assert (await site.get("/pauses")).json() == {"items": [], "next": None}
    runs = (await site.get("/runs", device="edge2")).json()["items"]
    assert [(run["outcome"], run["count"], run["failure"]) for run in runs] == [
        ("missed", 2, "paused")
    ]
    assert (runs[0]["due"], runs[0]["last_due"]) == (START + 3600, START + 7200)
    site.clock.advance(3600)
    assert len(await lease(site, "?tag=fra")) == 1


async def test_what_is_paused_twice_stays_held_until_both_are_lifted(site: Site) -> None:
    await said(site, "/devices/edge2/pause")
    await said(site, "/jobs/show/pause")
    assert (await said(site, "/jobs/show/resume"))["slots"] == 3
    assert (await site.get("/slots/edge2/show")).json()["state"] == "paused"
    assert (await said(site, "/devices/edge2/resume"))["slots"] == 1


async def test_what_runs_when_it_is_paused_runs_to_its_end(site: Site) -> None:
    site.clock.advance(3600)
    [execution] = await lease(site, "?tag=fra")
    await said(site, "/devices/edge2/pause")
    assert (await complete(site, execution, content=b"version 1\n"))["outcome"] == "succeeded"


@pytest.mark.parametrize(
    "path",
    [
        "/devices/none/pause",
        "/devices/none/resume",
        "/jobs/none/pause",
        "/jobs/none/resume",
        "/devices/edge2/jobs/backup/run",
        "/devices/none/jobs/show/run",
    ],
)
async def test_unknown_names_are_404(site: Site, path: str) -> None:
    assert (await said(site, path, 404))["code"].endswith(".not_found")


async def test_pauses_come_in_pages(site: Site) -> None:
    for path in ("/jobs/show", "/devices/edge2", "/devices/core1"):
        await said(site, f"{path}/pause")
    first = (await site.get("/pauses", limit=2)).json()
    assert [pause["name"] for pause in first["items"]] == ["core1", "edge2"]
    rest = (await site.get("/pauses", limit=2, after=first["next"])).json()
    assert [pause["name"] for pause in rest["items"]] == ["show"]


# reload


async def test_a_reload_puts_the_file_in_force(site: Site) -> None:
    site.file.write_text(
        CONFIGURATION.replace("  edge2: {tags: [fra], jobs: [show]}\n", "  edge3: {jobs: [show]}\n")
        .replace('cron: "0 * * * *"', 'cron: "30 * * * *"')
        .replace("{name: ada,", "{name: eve,")
    )
    assert await said(site, "/reload") == {
        "devices": 4,
        "jobs": 2,
        "slots": 5,
        "added": 1,
        "changed": 3,
        "removed": 1,
        "needs_restart": [],
    }
    names = [device["name"] for device in (await site.get("/devices")).json()["items"]]
    assert names == ["2001:db8::1", "core1", "edge1", "edge3"]
    assert (await site.get("/slots/edge1/show")).json()["due"] == START + 1800
    assert (await site.get("/slots/edge2/show")).status_code == 404
    pause = await site.post("/jobs/show/pause")
    assert pause.status_code == 200
    assert (await site.get("/pauses")).json()["items"][0]["by"] == "eve"


async def test_a_bad_reload_tells_every_problem_and_the_old_one_serves_on(site: Site) -> None:
    site.file.write_text(CONFIGURATION.replace("jobs: [show]", "jbos: [show]") + "\nmore: 1\n")
    refused = await said(site, "/reload", 422)
    assert refused["code"] == "config.invalid"
    assert len(refused["problems"]) == 4  # three devices, and a key at the top
    assert {problem["code"] for problem in refused["problems"]} == {"config.unknown_key"}
    assert all(problem["line"] for problem in refused["problems"])
    assert 'did you mean "jobs"?' in refused["problems"][0]["suggestion"]
    assert (await site.get("")).json()["slots"] == 5
    site.clock.advance(3600)
    assert len(await lease(site)) == 5


async def test_a_reload_that_the_ledger_cannot_take_leaves_the_old_one_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise LedgerUnavailableError("the disk is full")

    monkeypatch.setattr(site.ledger, "sync_slots", refuse)
    site.file.write_text(CONFIGURATION.replace("edge2:", "edge3:"))
    answer = await site.post("/reload")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert (await site.get("/devices/edge2")).status_code == 200
    assert (await site.get("/devices/edge3")).status_code == 404


async def test_a_reload_names_what_only_a_restart_takes_over(site: Site) -> None:
    text = CONFIGURATION.replace("controller:", "controller:\n  listen: {port: 9500}")
    site.file.write_text(text)
    assert (await said(site, "/reload"))["needs_restart"] == ["controller.listen"]
    head, _, tail = CONFIGURATION.partition("jobs:")
    assert "tokens" in head
    site.file.write_text("jobs:" + tail)  # without tokens: open, which a reload must not bring
    assert "controller.tokens" in (await said(site, "/reload"))["needs_restart"]
    assert (await site.client.get("/api/v1")).status_code == 401


# what came of it


async def test_runs_are_filtered_and_come_in_pages_newest_first(site: Site) -> None:
    for hour in range(3):
        site.clock.advance(3600)
        for execution in await lease(site, "?tag=ams"):
            how = {"failure": "no answer"} if execution["device"]["name"] == "edge1" else {}
            await complete(site, execution, content=b"version %d\n" % hour, **how)

    async def count(**parameters: Any) -> int:
        return len((await site.get("/runs", **parameters)).json()["items"])

    assert await count() == 7
    assert await count(outcome="failed") == await count(device="edge1") == 3
    assert await count(device="core1", job="backup") == 1
    assert await count(since=START + 7200) == 4
    assert await count(until=START + 7200) == 3
    assert await count(worker_id="none") == 0
    found: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        after = {"after": page["next"]} if page["next"] else {}
        page = (await site.get("/runs", limit=2, **after)).json()
        found += [run["run_id"] for run in page["items"]]
    assert len(set(found)) == len(found) == 7


async def test_results_are_read_as_they_are(site: Site, tmp_path: Path) -> None:
    async def store(content: bytes) -> None:
        spool = tmp_path / "spooled"
        spool.write_bytes(content)
        entry = Entry(
            device="core1",
            job="backup",
            content=spool,
            due=START,
            started_at=START,
            ended_at=START,
            run_id="r",
        )
        await site.archive.store(entry)
        site.clock.advance(1)

    path = "/devices/core1/jobs/backup"
    for content, kind in (
        ("hostname zürich\n".encode() * 20_000, "text/plain; charset=utf-8"),
        (b"\x1f\x8b\x08\x00\xff", "application/octet-stream"),
        (b"nul\0byte", "application/octet-stream"),
        (b"latin \xfc 1", "application/octet-stream"),
    ):
        await store(content)
        answer = await site.get(f"{path}/latest")
        assert answer.content == content
        assert answer.headers["content-type"] == kind
        assert answer.headers["x-content-type-options"] == "nosniff"
    said = (await site.get("/archive")).json()
    assert said["bytes"] > 0
    assert (said["loose"], said["set_aside"]) == (0, [])
    versions = (await site.get(f"{path}/versions")).json()["items"]
    assert [version["at"] for version in versions] == [START + n for n in (3, 2, 1, 0)]
    assert (await site.get(f"{path}/versions", limit=2)).json()["items"] == versions[:2]


async def test_processes_are_filtered_and_shown(site: Site) -> None:
    for number, state in enumerate((ProcessState.RUNNING, ProcessState.ENDED)):
        await site.ledger.add_process(
            Process(
                process_id=f"p{number}",
                worker_id=f"w{number}",
                command="bash",
                path="count.sh",
                state=state,
                requested_at=START + number,
                requested_by="ada",
            )
        )
    listed = (await site.get("/processes")).json()["items"]
    assert [process["process_id"] for process in listed] == ["p1", "p0"]
    for parameters in ({"state": "running"}, {"worker_id": "w0"}):
        assert (await site.get("/processes", **parameters)).json()["items"] == listed[1:]
    assert (await site.get("/processes/p0")).json() == listed[1]

"""Devices, jobs and slots as `/api/v1` shows them, and how parameters are read."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from roundsman.wire.run import Outcome
from tests.controller import multipart
from tests.controller.serving import fleet, served
from tests.controller.site import START, Site, bearer, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def names(site: Site, path: str, **parameters: Any) -> list[str]:
    answer = await site.get(path, **parameters)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


async def test_the_controller_says_what_it_is_and_looks_after(site: Site) -> None:
    said = (await site.get("")).json()
    assert said.pop("version")
    assert said == {
        "name": "roundsman",
        "time": START,
        "devices": 4,
        "jobs": 2,
        "slots": 5,
        "workers": 0,
        "workers_connected": 0,
    }


async def test_devices_are_listed_by_name_and_filtered(site: Site) -> None:
    assert await names(site, "/devices") == ["2001:db8::1", "core1", "edge1", "edge2"]
    assert await names(site, "/devices", tag="ams") == ["core1", "edge1"]
    assert await names(site, "/devices", name="DGE") == ["edge1", "edge2"]
    assert await names(site, "/devices", name="edge", tag="fra") == ["edge2"]
    assert await names(site, "/devices", tag="none") == []
    [core, *_] = (await site.get("/devices", name="core1")).json()["items"]
    assert core == {
        "name": "core1",
        "host": "core1",
        "protocol": "ssh",
        "tags": ["ams", "core"],
        "jobs": ["backup", "show"],
        "paused": False,
        "breaker": None,
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
async def test_pages_hold_each_device_once_whatever_their_size(site: Site, limit: int) -> None:
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await site.get("/devices", limit=limit, **after)).json()
        assert 1 <= len(page["items"]) <= limit
        found += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == ["2001:db8::1", "core1", "edge1", "edge2"]


async def test_a_device_shows_its_jobs_and_never_its_password(site: Site) -> None:
    await site.post("/devices/core1/pause")
    site.clock.advance(3600)
    answer = await site.get("/devices/core1")
    said = answer.json()
    jobs = said.pop("jobs")
    assert said == {
        "name": "core1",
        "host": "core1",
        "protocol": {
            "type": "ssh",
            "ssh": {"port": 22, "include_cbc_ciphers": False, "host_keys": []},
        },
        "tags": ["ams", "core"],
        "user": "backup",
        "pause": {"kind": "device", "name": "core1", "since": START, "by": "ada"},
        "breaker": None,
    }
    assert [(each["slot"]["job"], each["slot"]["state"]) for each in jobs] == [
        ("backup", "paused"),
        ("show", "paused"),
    ]
    assert "hunter2" not in answer.text


async def test_a_device_shows_the_last_run_that_ended_not_what_was_coalesced(site: Site) -> None:
    site.clock.advance(2 * 3600)  # two hours overdue: one due time is coalesced into the run
    leased = await site.client.get("/worker/next?tag=fra", headers=bearer("walter"))
    [execution] = leased.json()
    done = await site.client.post(
        "/worker/complete",
        content=multipart.completion("edge2", "show", execution["timestamp"], b"version 1\n"),
        headers={**multipart.HEADERS, **bearer("walter")},
    )
    assert done.status_code == 200, done.text
    outcomes = [run["outcome"] for run in (await site.get("/runs")).json()["items"]]
    assert sorted(outcomes) == [Outcome.COALESCED, Outcome.SUCCEEDED]
    [job] = (await site.get("/devices/edge2")).json()["jobs"]
    assert job["last_run"]["outcome"] == Outcome.SUCCEEDED
    assert job["last_run"]["run_id"] == done.json()["run_id"]
    assert job["slot"]["due"] == START + 3 * 3600


async def test_a_job_shows_its_next_due_times_and_leaves_template_values_out(site: Site) -> None:
    await site.post("/jobs/show/pause")
    said = (await site.get("/jobs/show")).json()
    assert said["next_due"] == [START + hour * 3600 for hour in range(1, 6)]
    assert said["commands"] == ["terminal length 0", "show {{what}}"]
    assert said["schedule"] == {"cron": "0 * * * *"}
    assert said["devices"] == 4
    assert said["pause"]["by"] == "ada"
    backup = (await site.get("/jobs/backup")).json()
    assert (backup["commands"], backup["files"], backup["scrubbers"]) == ([], ["/config.gz"], 1)
    assert await names(site, "/jobs", name="ack") == ["backup"]
    assert [job["paused"] for job in (await site.get("/jobs")).json()["items"]] == [False, True]


async def test_slots_are_filtered_by_what_they_are_and_how_they_stand(site: Site) -> None:
    async def pairs(**parameters: Any) -> list[tuple[str, str]]:
        items = (await site.get("/slots", **parameters)).json()["items"]
        return [(item["device"], item["job"]) for item in items]

    assert len(await pairs()) == 5
    assert await pairs(job="backup") == [("core1", "backup")]
    assert await pairs(device="core1", state="waiting") == [("core1", "backup"), ("core1", "show")]
    assert await pairs(tag="fra") == [("edge2", "show")]
    assert await pairs(state="due") == []
    site.clock.advance(3600)
    await site.client.get("/worker/next?tag=fra", headers=bearer("walter"))
    assert await pairs(state="leased") == [("edge2", "show")]
    assert len(await pairs(state="due")) == 4
    assert await pairs(worker_id="nobody") == []
    first = (await site.get("/slots", limit=2)).json()
    rest = (await site.get("/slots", limit=1000, after=first["next"])).json()
    assert len(first["items"] + rest["items"]) == 5


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/devices/none", "device.not_found"),
        ("/jobs/none", "job.not_found"),
        ("/slots/core1/none", "slot.not_found"),
        ("/slots/edge1/backup", "slot.not_found"),
        ("/runs/none", "run.not_found"),
        ("/runs/none/transcript", "run.not_found"),
        ("/processes/none", "process.not_found"),
        ("/workers/none", "worker.not_found"),
        ("/devices/core1/jobs/show/latest", "archive.version_not_found"),
        ("/devices/core1/jobs/show/versions", "archive.version_not_found"),
        ("/devices/%2e%2e/jobs/show/latest", "archive.version_not_found"),
        ("/devices/core1%00/jobs/show/latest", "archive.version_not_found"),
        ("/devices/core1%2500", "device.not_found"),
    ],
)
async def test_names_are_looked_up_and_never_paths(site: Site, path: str, code: str) -> None:
    """Fault 6: a name with dots and slashes reaches the disk in the original."""
    answer = await site.client.get(f"/api/v1{path}", headers=bearer("rita"))
    assert answer.status_code == 404
    assert answer.json()["code"] == code


async def test_a_name_is_decoded_once(tmp_path: Path) -> None:
    # Over HTTP: in process, the test client itself decodes once too often.
    async with served(fleet(1), tmp_path) as running:
        for path, status in (("edge0", 200), ("edge%30", 200), ("edge%2530", 404), ("a%2F0", 404)):
            url = URL(f"{running.url}/api/v1/devices/{path}", encoded=True)
            async with running.http.get(url) as answer:
                assert answer.status == status, path


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit: expected a whole number from 1 to 1000, got '0'"),
        ("limit=1001", "limit: expected a whole number from 1 to 1000, got '1001'"),
        ("limit=-1", "limit: expected a whole number from 1 to 1000, got '-1'"),
        ("limit=1.5", "limit: expected a whole number from 1 to 1000, got '1.5'"),
        ("limit=", "limit: expected a whole number from 1 to 1000, got ''"),
        ("limit=null", "limit: expected a whole number from 1 to 1000, got 'null'"),
        ("limit=" + "9" * 5000, "limit: expected a whole number from 1 to 1000, got '999"),
        ("limit=1&limit=1", "limit: expected once, got 2 times"),
        ("lmit=1", 'did you mean "limit"?'),
        ("zzz=1", "zzz: unknown parameter, expected one of after, device, job"),
        ("outcome=good", "outcome: expected one of succeeded, failed, coalesced"),
        ("outcome=null", "outcome: expected one of succeeded, failed, coalesced"),
        ("since=soon", "since: expected a number of seconds (Unix time) from 0"),
        ("since=nan", "since: expected a number of seconds (Unix time) from 0"),
        ("until=-1", "until: expected a number of seconds (Unix time) from 0"),
        ("device=", "device: expected a text, got ''"),
        ("after=nonsense", "after='nonsense'"),
    ],
)
async def test_a_wrong_parameter_is_named_with_its_value_and_bound(
    site: Site, query: str, says: str
) -> None:
    answer = await site.client.get(f"/api/v1/runs?{query}", headers=bearer("rita"))
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert len(answer.json()["error"]) < 500


async def test_an_address_without_parameters_takes_none(site: Site) -> None:
    answer = await site.client.post("/api/v1/reload?force=1", headers=bearer("ada"))
    assert answer.json()["error"] == "force: unknown parameter, this address takes none"


async def test_a_filter_may_be_the_word_null(site: Site) -> None:
    assert await names(site, "/devices", name="null") == []

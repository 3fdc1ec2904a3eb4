"""Enrolment, heartbeats and removal of workers under `/api/v1/workers`."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roundsman.ledger.memory import MemoryLedger
from tests.controller.site import START, Site, bearer, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def enrol(site: Site, *, by: str = "walter", **says: Any) -> dict[str, Any]:
    answer = await site.post("/workers", {"name": "ams-1", **says}, by=by)
    assert answer.status_code == 201, answer.text
    enrolled: dict[str, Any] = answer.json()
    return enrolled


def own(enrolled: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {enrolled['token']}"}


async def beat(site: Site, enrolled: dict[str, Any], *leases: dict[str, Any]) -> dict[str, Any]:
    answer = await site.client.post(
        f"/api/v1/workers/{enrolled['worker_id']}/heartbeat",
        json={"leases": leases},
        headers=own(enrolled),
    )
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def lease(site: Site, enrolled: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    answer = await site.client.get(f"/worker/next{query}", headers=own(enrolled))
    return answer.json() if answer.status_code == 200 else []


async def test_an_enrolled_worker_has_a_lasting_id_and_a_token_that_is_not_kept(
    site: Site,
) -> None:
    enrolled = await enrol(site, tags=["core", "ams", "core"], version="1.2.3")
    assert uuid.UUID(enrolled["worker_id"]).version == 4
    assert len(enrolled["token"]) >= 43
    [kept] = (await site.get("/workers")).json()["items"]
    assert kept == (await site.get(f"/workers/{enrolled['worker_id']}")).json()
    assert kept == {
        "worker_id": enrolled["worker_id"],
        "name": "ams-1",
        "tags": ["ams", "core"],
        "version": "1.2.3",
        "enrolled_at": START,
        "seen_at": START,
        "address": kept["address"],
        "connected": False,
        "allowed_tags": [],
        "bounds": [],
    }
    [digest] = await site.ledger.worker_tokens()
    assert digest.startswith("sha256:")
    assert enrolled["token"] not in digest


async def test_workers_enrolled_at_once_all_hold_their_tokens(site: Site) -> None:
    enrolled = await asyncio.gather(*(enrol(site, name=f"w{n}") for n in range(30)))
    assert len({each["worker_id"] for each in enrolled}) == 30
    await asyncio.gather(*(beat(site, each) for each in enrolled))


async def test_enrolling_one_more_does_not_read_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of them, each enrolment took as long as they were many."""
    first = await enrol(site)
    with monkeypatch.context() as patched:
        patched.setattr(site.ledger, "worker_tokens", None)
        second = await enrol(site)
    for enrolled in (first, second):
        await beat(site, enrolled)


async def test_the_enrolling_tokens_tags_narrow_the_worker_even_after_a_restart(
    tmp_path: Path,
) -> None:
    """Fault 13: the original forgets its workers when the controller restarts."""
    ledger = MemoryLedger()
    async with open_site(tmp_path, ledger=ledger) as site:
        enrolled = await enrol(site, by="ams", tags=["fra"])
        kept = (await site.get(f"/workers/{enrolled['worker_id']}")).json()
        assert kept["allowed_tags"] == ["ams"]
        site.clock.advance(3600)
        assert {each["device"]["name"] for each in await lease(site, enrolled)} == {
            "core1",
            "edge1",
        }
    async with open_site(tmp_path, ledger=ledger) as site:
        await beat(site, enrolled)
        site.clock.advance(7200)
        assert await lease(site, enrolled, "?tag=fra") == []
        assert {each["device"]["name"] for each in await lease(site, enrolled)} == {
            "core1",
            "edge1",
        }


@pytest.mark.parametrize(
    ("says", "named"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "tags": [""]}, "tags"),
        ({"name": "a", "tags": ["t"] * 101}, "tags"),
        ({"name": "a", "tags": "t"}, "tags"),
        ({"name": "a", "version": "v" * 201}, "version"),
        ([], "body"),
    ],
)
async def test_what_a_worker_says_of_itself_is_bounded(site: Site, says: Any, named: str) -> None:
    answer = await site.post("/workers", says, by="walter")
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert (await site.get("/workers")).json()["items"] == []


async def test_an_enrolled_worker_enrols_no_other(site: Site) -> None:
    enrolled = await enrol(site)
    answer = await site.client.post("/api/v1/workers", json={"name": "b"}, headers=own(enrolled))
    assert answer.status_code == 403
    assert answer.json()["code"] == "access.forbidden"


async def test_a_heartbeat_renews_what_is_held_and_names_what_is_lost(site: Site) -> None:
    enrolled = await enrol(site)
    site.clock.advance(3600)
    held = await lease(site, enrolled, "?tag=fra")
    key = {"device": "edge2", "job": "show", "epoch": held[0]["lease"]["epoch"]}
    old = {**key, "epoch": 0}
    other = {"device": "nowhere", "job": "show", "epoch": 1}
    site.clock.advance(100)
    said = await beat(site, enrolled, key, old, other)
    assert said == {"expires_at": START + 3700 + 120, "seconds": 120, "lost": [old, other]}
    slot = (await site.get("/slots/edge2/show")).json()
    assert slot["state"] == "leased"
    assert slot["lease_expires_at"] == START + 3700 + 120
    assert slot["worker_id"] == enrolled["worker_id"]
    assert (await site.get(f"/workers/{enrolled['worker_id']}")).json()["seen_at"] == START + 3700


async def test_a_lease_is_renewed_by_its_holder_alone(site: Site) -> None:
    holder, other = await enrol(site), await enrol(site, name="ams-2")
    site.clock.advance(3600)
    [held] = await lease(site, holder, "?tag=fra")
    key = {"device": "edge2", "job": "show", "epoch": held["lease"]["epoch"]}
    assert (await beat(site, other, key))["lost"] == [key]
    assert (await beat(site, holder, key))["lost"] == []


async def test_a_heartbeat_has_a_bound(site: Site) -> None:
    enrolled = await enrol(site)
    answer = await site.client.post(
        f"/api/v1/workers/{enrolled['worker_id']}/heartbeat",
        content=b'{"leases": [' + b" " * (1 << 20) + b"]}",
        headers=own(enrolled),
    )
    assert answer.status_code == 413


async def test_a_removed_workers_token_opens_nothing_at_once(site: Site) -> None:
    enrolled, stays = await enrol(site), await enrol(site, name="ams-2")
    assert (await site.delete(f"/workers/{enrolled['worker_id']}")).status_code == 204
    for method, path in (
        ("GET", "/worker/next"),
        ("POST", f"/api/v1/workers/{enrolled['worker_id']}/heartbeat"),
    ):
        answer = await site.client.request(method, path, headers=own(enrolled), json={})
        assert answer.status_code == 401
    await beat(site, stays)
    gone = await site.delete(f"/workers/{enrolled['worker_id']}")
    assert (gone.status_code, gone.json()["code"]) == (404, "worker.not_found")
    assert (await site.get(f"/workers/{enrolled['worker_id']}")).status_code == 404


async def test_workers_come_in_pages_by_name(site: Site) -> None:
    for name in ("c", "a", "b", "a"):
        await enrol(site, name=name)
    first = (await site.get("/workers", limit=3)).json()
    assert [worker["name"] for worker in first["items"]] == ["a", "a", "b"]
    last = (await site.get("/workers", limit=3, after=first["next"])).json()
    assert [worker["name"] for worker in last["items"]] == ["c"]
    assert last["next"] is None


async def test_a_worker_is_addressed_by_its_own_token_as_basic_credentials_too(
    site: Site,
) -> None:
    enrolled = await enrol(site)
    answer = await site.client.get("/worker/next", auth=(enrolled["worker_id"], enrolled["token"]))
    assert answer.status_code == 204
    assert (await site.client.get("/worker/next", headers=bearer("nobody"))).status_code == 401

"""Versions, differences and origins of results, and the fleet at a time, under `/api/v1`."""

import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roundsman.archive.interface import Entry, VersionNotFoundError
from tests.controller.site import START, Site, open_real_site

PATH = "/devices/core1/jobs/show"
CONTENTS = [b"hostname core1\nmtu 1500\n", b"hostname core1\nmtu 9000\n", b"hostname core1\n"]


def entry(content: bytes, device: str = "core1", job: str = "show") -> Entry:
    return Entry(
        device=device,
        job=job,
        content=content,
        due=START,
        started_at=START,
        ended_at=START,
        run_id="run",
    )


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_real_site(tmp_path) as opened:
        for content in CONTENTS:
            await opened.archive.store(entry(content))
            opened.clock.advance(60)
        yield opened


async def test_versions_come_in_pages(site: Site) -> None:
    first = (await site.get(f"{PATH}/versions", limit=2)).json()
    assert [item["number"] for item in first["items"]] == [3, 2]
    second = (await site.get(f"{PATH}/versions", limit=2, after=first["next"])).json()
    assert [item["number"] for item in second["items"]] == [1]
    assert second["next"] is None
    for wrong in ("x", "WyJ4IiwgIiJd"):
        refused = await site.get(f"{PATH}/versions", after=wrong)
        assert (refused.status_code, refused.json()["code"]) == (400, "page.cursor")


async def test_any_version_is_told_and_read(site: Site) -> None:
    items = (await site.get(f"{PATH}/versions")).json()["items"]
    for item, content in zip(items, reversed(CONTENTS), strict=True):
        assert (await site.get(f"{PATH}/versions/{item['version']}")).json() == item
        read = await site.get(f"{PATH}/versions/{item['version']}/content")
        assert read.content == content
        assert item["size"] == len(content)
    for wrong in ("0" * 40, "main", "HEAD~1", "--help", "1"):
        for what in ("", "/content"):
            refused = await site.get(f"{PATH}/versions/{wrong}{what}")
            assert refused.status_code == 404, wrong


async def test_differences_are_told_as_text_and_for_pages(site: Site) -> None:
    _, second, first = [
        item["version"] for item in (await site.get(f"{PATH}/versions")).json()["items"]
    ]
    text = await site.get(f"{PATH}/diff", **{"from": first, "to": second})
    assert text.headers["content-type"].startswith("text/x-diff")
    assert text.text == (
        f"--- core1/show\t{first}\n+++ core1/show\t{second}\n"
        "@@ -1,2 +1,2 @@\n hostname core1\n-mtu 1500\n+mtu 9000\n"
    )
    latest = (await site.get(f"{PATH}/diff", context=0)).text
    assert latest.endswith("@@ -2 +1,0 @@ hostname core1\n-mtu 9000\n")
    words = (await site.get(f"{PATH}/diff/words", **{"from": first, "to": second})).json()
    assert (words["added"], words["removed"], words["truncated"]) == (1, 1, False)
    [hunk] = words["hunks"]
    assert [
        (line["kind"], line["old"], line["new"], line["text"], line["changed"])
        for line in hunk["lines"]
    ] == [
        ("context", 1, 1, "hostname core1", []),
        ("removed", 2, None, "mtu 1500", [{"start": 4, "end": 8}]),
        ("added", None, 2, "mtu 9000", [{"start": 4, "end": 8}]),
    ]
    assert (await site.get(f"{PATH}/diff", **{"from": first, "to": first})).text == ""
    assert (await site.get(f"{PATH}/diff", to=first)).status_code == 404
    assert (await site.get(f"{PATH}/diff", context=-1)).status_code == 400


async def test_each_line_has_its_version(site: Site) -> None:
    told = (await site.get(f"{PATH}/blame")).json()
    assert [(line["text"], line["number"], line["at"]) for line in told["lines"]] == [
        ("hostname core1", 1, START)
    ]
    assert (told["count"], told["next"]) == (1, None)


async def test_lines_are_told_by_pages_of_one_version(site: Site) -> None:
    texts = [f"line {number}" for number in range(7)]
    await site.archive.store(entry("\n".join(texts).encode(), "core1"))
    page = (await site.get(f"{PATH}/blame", limit=3)).json()
    seen = page["lines"]
    await site.archive.store(entry(b"another", "core1"))
    while page["next"] is not None:
        page = (await site.get(f"{PATH}/blame", limit=3, after=page["next"])).json()
        assert page["count"] == 7
        seen += page["lines"]
    assert [line["text"] for line in seen] == texts
    for wrong in ({"after": "no place"}, {"limit": 0}, {"limit": 10_001}):
        assert (await site.get(f"{PATH}/blame", **wrong)).status_code == 400


async def test_the_fleet_is_told_as_it_was(site: Site) -> None:
    await site.archive.store(entry(b"x", "edge2"))
    await site.archive.store(entry(b"x", "edge1"))

    async def fleet(**asked: Any) -> list[tuple[str, int]]:
        items = (await site.get("/archive/versions", **asked)).json()["items"]
        return [(item["device"], item["version"]["number"]) for item in items]

    assert await fleet() == [("core1", 3), ("edge1", 1), ("edge2", 1)]
    assert await fleet(at=START + 60) == [("core1", 2)]
    assert await fleet(at=START - 1) == []
    assert await fleet(device="edge*") == [("edge1", 1), ("edge2", 1)]
    assert await fleet(tag="ams", job="s*") == [("core1", 3), ("edge1", 1)]
    page = (await site.get("/archive/versions", limit=2)).json()
    assert await fleet(after=page["next"]) == [("edge2", 1)]


async def test_the_fleet_is_packed(site: Site) -> None:
    await site.archive.store(entry(b"x", "edge2"))
    answer = await site.get("/archive/snapshot", at=START + 60)
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames() == ["core1/show"]
        file = tar.extractfile("core1/show")
        assert file is not None
        assert file.read() == CONTENTS[1]


async def test_the_fleet_is_searched(site: Site) -> None:
    await site.archive.store(entry(b"mtu 9000\nend\n", "edge2"))
    await site.archive.store(entry(b"MTU 1500\n", "edge1"))

    async def devices(text: str, **asked: Any) -> list[tuple[str, int]]:
        answer = await site.get("/archive/search", text=text, **asked)
        assert answer.status_code == 200, answer.text
        return [(item["device"], item["number"]) for item in answer.json()["items"]]

    assert await devices("mtu") == [("edge2", 1)]
    assert await devices("mtu", ignore_case="true") == [("edge2", 1), ("edge1", 1)]
    assert await devices("mtu", history="true") == [("core1", 1), ("core1", 2), ("edge2", 1)]
    assert await devices("^m.u [0-9]+$", regex="true", device="e*", tag="fra") == [("edge2", 1)]
    page = (await site.get("/archive/search", text="mtu", context=1)).json()
    assert [line["text"] for line in page["items"][0]["lines"]] == ["mtu 9000", "end"]
    for wrong in ({"text": "(", "regex": "true"}, {"text": "x", "after": "y"}, {}):
        assert (await site.get("/archive/search", **wrong)).status_code == 400
    assert (await site.get("/archive/search", by="walter", text="mtu")).status_code == 403


async def test_who_is_narrowed_to_tags_sees_no_other_devices(site: Site) -> None:
    await site.archive.store(entry(b"x", "edge2"))
    await site.archive.store(entry(b"x", "gone"))
    results = site.controller.results
    for device in ("core1", "gone"):
        with pytest.raises(VersionNotFoundError):
            await results.version(device, "show", "0" * 40, within={"fra"})
        with pytest.raises(VersionNotFoundError):
            await results.content(device, "show", None, within={"fra"})
    page = await results.as_of(
        None, within={"fra"}, device=None, job=None, tag=None, after=None, limit=9
    )
    assert [item.device for item in page.items] == ["edge2"]
    everywhere: dict[str, Any] = {
        "device": None,
        "job": None,
        "tag": None,
        "after": None,
        "limit": 9,
    }
    how: dict[str, Any] = {"is_pattern": False, "ignore_case": False, "context": 0, "history": True}
    found = await results.search("x", within={"fra"}, **how, **everywhere)
    assert [item.device for item in found.items] == ["edge2"]

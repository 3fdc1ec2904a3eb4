"""`/worker/ping`, `/worker/next` and `/worker/complete` as the published contract is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.config.records import ControllerSettings, Limits
from roundsman.ledger.interface import LedgerUnavailableError, RunQuery
from roundsman.ledger.memory import MemoryLedger
from roundsman.schedules.duration import Duration
from roundsman.testing.clock import ManualClock
from roundsman.testing.memory_archive import MemoryArchive
from roundsman.wire.job import MissedPolicy
from roundsman.wire.run import FailureClass, Outcome, Run, SecretFinding
from tests.controller import multipart
from tests.controller.serving import (
    PERIOD,
    START,
    Served,
    configuration,
    device,
    fleet,
    job,
    served,
    slot,
)

DUE = START + PERIOD


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def archive(clock: ManualClock) -> MemoryArchive:
    return MemoryArchive(clock)


@pytest.fixture
async def two(tmp_path: Path, clock: ManualClock, archive: MemoryArchive) -> AsyncIterator[Served]:
    """Two devices, edge0 and edge1, with the job `show`; both are due."""
    settings = ControllerSettings(limits=Limits(result_bytes=100_000))
    async with served(
        fleet(2, settings=settings), tmp_path, clock=clock, archive=archive
    ) as running:
        clock.advance(PERIOD)
        yield running


async def lease(served: Served, query: str = "") -> list[dict[str, Any]]:
    async with served.http.get(f"/worker/next{query}") as response:
        assert response.status in (200, 204)
        if response.status == 204:
            assert await response.read() == b""
            return []
        assert response.content_type == "application/json"
        answer: list[dict[str, Any]] = await response.json()
        assert answer
        return answer


async def complete(served: Served, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    async with served.http.post(
        "/worker/complete", data=body, headers={**multipart.HEADERS, **headers}
    ) as response:
        assert response.content_type == "application/json"
        answer: dict[str, Any] = await response.json()
        if response.status != 200:
            assert set(answer) == {"error", "code"}
        return response.status, answer


async def history(served: Served, **query: Any) -> tuple[Run, ...]:
    return (await served.controller.ledger.runs(RunQuery(**query))).items


def contents(archive: MemoryArchive) -> dict[tuple[str, str], list[bytes]]:
    return {pair: [version.content for version in kept] for pair, kept in archive.kept.items()}


# GET /worker/ping


async def test_ping_answers_200(two: Served) -> None:
    async with two.http.get("/worker/ping") as response:
        assert response.status == 200


# GET /worker/next


async def test_an_element_is_device_job_timestamp_and_lease(two: Served) -> None:
    executions = await lease(two, "?max=1")
    assert executions == [
        {
            "device": {
                "name": "edge0",
                "host": "edge0.example.net",
                "protocol": {
                    "type": "ssh",
                    "ssh": {"port": 22, "include_cbc_ciphers": False, "host_keys": []},
                },
                "tags": [],
                "credentials": {
                    "user": "backup",
                    "pass": "hunter2",
                    "prompt": {"ends_with": "#"},
                },
            },
            "job": {
                "name": "show",
                "schedule": {"duration": "100 seconds"},
                "command": {"inline": ["show running-config"]},
                "command_set": {
                    "commands": [
                        {
                            "command": "show running-config",
                            "expect": [],
                            "expect_not": [],
                            "timeout": None,
                            "implicit_enter": True,
                        }
                    ]
                },
                "prompt": {"ends_with": "#"},
            },
            "timestamp": DUE,
            "lease": {"epoch": 1, "expires_at": DUE + 900.0, "seconds": 900.0},
        }
    ]


async def test_nothing_due_is_204_without_a_body(two: Served) -> None:
    assert len(await lease(two)) == 2
    assert await lease(two) == []


async def test_leased_work_is_offered_again_after_its_lease_and_only_then(
    two: Served, clock: ManualClock
) -> None:
    """Fault 2: handing out consumes nothing."""
    first = await lease(two)
    clock.advance(899)
    assert await lease(two) == []
    clock.advance(1)
    second = await lease(two)
    assert [(item["device"]["name"], item["timestamp"]) for item in second] == [
        (item["device"]["name"], item["timestamp"]) for item in first
    ]
    assert [item["lease"]["epoch"] for item in second] == [2, 2]


async def test_nobody_polling_for_long_loses_no_slot(two: Served, clock: ManualClock) -> None:
    """Fault 2: 13 s without a poll must not cost the slot and the next."""
    clock.advance(1000)
    executions = await lease(two)
    assert [item["timestamp"] for item in executions] == [DUE, DUE]
    for item in executions:
        status, _ = await complete(
            two, multipart.completion(item["device"]["name"], "show", DUE, b"x")
        )
        assert status == 200
    [one] = [run for run in await history(two, device="edge0") if run.outcome is Outcome.COALESCED]
    assert (one.due, one.last_due, one.count) == (DUE + PERIOD, DUE + 1000, 10)


async def test_times_missed_by_policy_give_way_to_others_in_the_same_call(
    tmp_path: Path, clock: ManualClock
) -> None:
    """What is too late is recorded, not run; the room it leaves is filled."""
    setup = fleet(20, missed=MissedPolicy.NONE, missed_grace_seconds=60)
    async with served(setup, tmp_path, clock=clock) as running:
        clock.advance(PERIOD + 70)
        assert await lease(running, "?seconds=0") == []
        clock.advance(70)
        executions = await lease(running, "?max=20")
        assert [item["timestamp"] for item in executions] == [DUE + PERIOD] * 20
        missed = await history(running, outcome=Outcome.MISSED)
        assert sorted(run.device for run in missed) == sorted(f"edge{n}" for n in range(20))
        assert {(run.due, run.count, run.failure) for run in missed} == {
            (DUE, 1, "no worker for these tags; overdue by more than 60 s")
        }


async def test_seconds_look_ahead_and_zero_means_now(two: Served, clock: ManualClock) -> None:
    await lease(two)
    for number in range(2):
        await complete(two, multipart.completion(f"edge{number}", "show", DUE, b"x"))
    clock.advance(PERIOD - 20)
    assert await lease(two, "?seconds=0") == []
    assert await lease(two) == []  # 15 by default
    assert await lease(two, "?seconds=19") == []
    assert [item["timestamp"] for item in await lease(two, "?seconds=20")] == [DUE + PERIOD] * 2


async def test_max_is_15_by_default_and_0_is_204(tmp_path: Path, clock: ManualClock) -> None:
    async with served(fleet(40), tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        assert await lease(running, "?max=0") == []
        assert len(await lease(running)) == 15
        assert len(await lease(running, "?max=20")) == 20
        assert len(await lease(running, "?max=20")) == 5


async def test_above_the_ceilings_means_the_ceilings(tmp_path: Path, clock: ManualClock) -> None:
    """Fault 1: asking for 10,000,000,000 asks for the ceiling."""
    limits = Limits(executions_per_call=3, seconds_ahead=10)
    settings = ControllerSettings(limits=limits)
    async with served(fleet(5, settings=settings), tmp_path, clock=clock) as running:
        clock.advance(PERIOD - 11)
        assert await lease(running, "?seconds=9223372036854775807") == []
        clock.advance(1)
        assert len(await lease(running, "?seconds=9223372036854775807&max=10000000000")) == 3


BAD_NUMBERS = [
    ("max=-1", "max", "'-1'"),
    ("seconds=-1", "seconds", "'-1'"),
    ("max=1.5", "max", "'1.5'"),
    ("max=", "max", "''"),
    ("max=abc", "max", "'abc'"),
    ("max=9223372036854775808", "max", "'9223372036854775808'"),
    ("seconds=" + "9" * 5000, "seconds", "9" * 100),
    ("max=%D9%A3", "max", "'\N{ARABIC-INDIC DIGIT THREE}'"),
    ("max=+1", "max", "' 1'"),
    ("max=1&max=1", "max", "it 2 times"),
    ("seconds=1&seconds=2", "seconds", "it 2 times"),
]


async def test_a_bad_number_is_400_and_names_parameter_value_and_bound(two: Served) -> None:
    """Fault 1: never a panic, never unbounded work."""
    for query, name, shown in BAD_NUMBERS:
        async with two.http.get(f"/worker/next?{query}") as response:
            assert response.status == 400, query
            text = (await response.json())["error"]
        assert text.startswith(f"{name}: expected a whole number from 0 to 9223372036854775807")
        assert shown in text
    assert len(await lease(two)) == 2  # and nothing was leased by it


async def test_other_parameters_are_ignored(two: Served) -> None:
    assert len(await lease(two, "?colour=blue&max=9223372036854775807&Max=x")) == 2


@pytest.fixture
async def tagged(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Served]:
    show = job("show")
    devices = [
        device("d0"),
        device("d1", "a"),
        device("d2", "a", "b c"),
        device("d3", "b c"),
        device("d4", "z"),
    ]
    slots = (slot(each, show, Duration("100 seconds")) for each in devices)
    async with served(configuration(slots), tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        yield running


TAGS: list[tuple[str, set[str]]] = [
    ("", {"d0", "d1", "d2", "d3", "d4"}),
    ("?tag=", {"d0", "d1", "d2", "d3", "d4"}),
    ("?tag=a", {"d1", "d2"}),
    ("?tag=a&tag=z", {"d1", "d2", "d4"}),
    ("?tag=b+c", {"d2", "d3"}),
    ("?tag=b%20c&tag=", {"d2", "d3"}),
    ("?tag=nobody", set()),
]


async def test_tags_choose_devices_that_have_any(tagged: Served, clock: ManualClock) -> None:
    """Fault 3: no tag means every device, tagged or not."""
    for query, expected in TAGS:
        assert {item["device"]["name"] for item in await lease(tagged, query)} == expected, query
        clock.advance(1000)  # the leases expire


async def test_no_tag_starves_another(tmp_path: Path, clock: ManualClock) -> None:
    """Fault 9: the first tag is not drained first."""
    show, schedule = job("show"), Duration("100 seconds")
    slots = [slot(device(f"a{n}", "a"), show, schedule) for n in range(50)]
    slots += [slot(device(f"b{n}", "b"), show, schedule) for n in range(5)]
    async with served(configuration(slots), tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        first = await lease(running, "?tag=a&tag=b&max=10")
    assert sum(item["device"]["name"].startswith("b") for item in first) >= 2


async def test_the_query_of_the_contracts_own_worker(tagged: Served) -> None:
    async with tagged.http.get(
        f"{tagged.url}/worker/next?max=2000&seconds=15&tag=a&tag=b+c",
        headers={
            "Accept": "application/json",
            "Authorization": aiohttp.encode_basic_auth("worker1", "anything"),
        },
    ) as response:
        assert response.status == 200
        assert len(await response.json()) == 3


async def test_a_slot_that_left_the_configuration_is_not_handed_out(
    two: Served, tmp_path: Path
) -> None:
    two.controller.planner.replace(fleet(1))  # the ledger has not heard yet
    assert [item["device"]["name"] for item in await lease(two)] == ["edge0"]


async def test_wrong_methods_and_paths_are_json_errors(two: Served) -> None:
    for method, path, status in [
        ("HEAD", "/worker/next", 405),
        ("POST", "/worker/next", 405),
        ("GET", "/worker/complete", 405),
        ("GET", "/worker/nothing", 404),
        ("GET", "/", 404),
    ]:
        async with two.http.request(method, path) as response:
            assert response.status == status
            assert response.content_type == "application/json"
            if method != "HEAD":
                assert set(await response.json()) == {"error", "code"}
    assert len(await lease(two)) == 2  # HEAD leased nothing


# POST /worker/complete


async def test_kept_means_in_the_archive_and_in_the_ledger(
    two: Served, archive: MemoryArchive
) -> None:
    """Fault 4: 200 is more than "in memory"."""
    await lease(two)
    status, answer = await complete(
        two, multipart.completion("edge0", "show", DUE, b"hostname edge0\n")
    )
    assert status == 200
    assert contents(archive) == {("edge0", "show"): [b"hostname edge0\n"]}
    [run] = await history(two)
    assert run.run_id == answer["run_id"]
    assert (run.outcome, run.due, run.size, run.changed) == (Outcome.SUCCEEDED, DUE, 15, True)
    assert (run.started_at, run.ended_at) == (DUE + 1, DUE + 3)
    assert run.version == archive.kept["edge0", "show"][0].version.version
    assert not list((two.controller.evidence.path("x").parent.parent / "spool").iterdir())


async def test_the_next_due_time_follows(two: Served, clock: ManualClock) -> None:
    await lease(two)
    await complete(two, multipart.completion("edge0", "show", DUE, b"x"))
    clock.advance(PERIOD)
    assert [item["timestamp"] for item in await lease(two)] == [DUE + PERIOD]


async def test_the_same_again_is_200_and_kept_once(two: Served, archive: MemoryArchive) -> None:
    """Fault 7: the same slot completed twice is not committed twice."""
    await lease(two)
    body = multipart.completion("edge0", "show", DUE, b"x")
    first = await complete(two, body)
    again = await complete(two, body)
    with_epoch = await complete(two, multipart.completion("edge0", "show", DUE, b"x", epoch="1"))
    assert first[0] == again[0] == with_epoch[0] == 200
    assert first[1]["run_id"] == again[1]["run_id"] == with_epoch[1]["run_id"]
    assert contents(archive) == {("edge0", "show"): [b"x"]}
    assert len(await history(two)) == 1


async def test_another_result_for_an_ended_lease_is_409_and_changes_nothing(
    two: Served, archive: MemoryArchive
) -> None:
    await lease(two)
    await complete(two, multipart.completion("edge0", "show", DUE, b"x"))
    status, answer = await complete(two, multipart.completion("edge0", "show", DUE, b"y"))
    assert (status, answer["code"]) == (409, "lease.lost")
    assert contents(archive) == {("edge0", "show"): [b"x"]}
    assert [run.outcome for run in await history(two)] == [Outcome.STALE, Outcome.SUCCEEDED]


async def test_two_at_once_for_one_execution_keep_exactly_one(
    two: Served, archive: MemoryArchive
) -> None:
    """Fault 5: two completions for one pair while the first is written."""
    await lease(two)
    bodies = [multipart.completion("edge0", "show", DUE, b"%d" % (n % 4)) for n in range(12)]
    statuses = [status for status, _ in await asyncio.gather(*(complete(two, b) for b in bodies))]
    assert sorted(statuses) == [200] * 3 + [409] * 9
    assert len(archive.kept["edge0", "show"]) == 1
    kept = [run for run in await history(two) if run.outcome is Outcome.SUCCEEDED]
    assert len(kept) == 1
    status, _ = await complete(two, multipart.completion("edge1", "show", DUE, b"x"))
    assert status == 200  # and the store goes on answering


async def test_never_leased_or_wrong_time_or_old_epoch_is_409(
    two: Served, archive: MemoryArchive, clock: ManualClock
) -> None:
    never = multipart.completion("edge0", "show", DUE, b"x")
    assert (await complete(two, never))[0] == 409
    await lease(two)
    assert (await complete(two, multipart.completion("edge0", "show", DUE - 1, b"x")))[0] == 409
    clock.advance(1000)
    await lease(two)
    stale = multipart.completion("edge0", "show", DUE, b"x", epoch="1")
    status, answer = await complete(two, stale)
    assert status == 409
    assert "show on edge0 due 1700000100, epoch 1" in answer["error"]
    assert archive.kept == {}
    ours = multipart.completion("edge0", "show", DUE, b"x", epoch="2")
    assert (await complete(two, ours))[0] == 200


async def test_an_expired_lease_that_nobody_claimed_still_holds(
    two: Served, clock: ManualClock
) -> None:
    await lease(two)
    clock.advance(5000)
    assert (await complete(two, multipart.completion("edge0", "show", DUE, b"x")))[0] == 200


async def test_fields_come_in_any_order_and_unknown_ones_are_ignored(
    two: Served, archive: MemoryArchive
) -> None:
    await lease(two)
    listed = multipart.parts("edge0", "show", DUE, b"a\r\n--b\r\n", colour="blue")
    assert (await complete(two, multipart.body(reversed(listed))))[0] == 200
    assert contents(archive) == {("edge0", "show"): [b"a\r\n--b\r\n"]}


async def test_the_filename_alone_names_the_job(two: Served, archive: MemoryArchive) -> None:
    """The contract as printed: there is no field `job`."""
    await lease(two)
    listed = multipart.parts("edge0", "show", DUE, b"x")[1:]
    assert (await complete(two, multipart.body(listed)))[0] == 200
    assert list(archive.kept) == [("edge0", "show")]


def without(name: str) -> bytes:
    listed = multipart.parts("edge0", "show", DUE, b"x")
    mark = f'name="{name}"'.encode()
    return multipart.body(part for part in listed if mark not in part)


def changed(name: str, value: str | bytes) -> bytes:
    listed = multipart.parts("edge0", "show", DUE, b"x")
    mark = f'name="{name}"'.encode()
    return multipart.body(multipart.field(name, value) if mark in part else part for part in listed)


def doubled(name: str) -> bytes:
    listed = multipart.parts("edge0", "show", DUE, b"x")
    mark = f'name="{name}"'.encode()
    return multipart.body(each for part in listed for each in [part] * (1 + (mark in part)))


NO_FILE = multipart.parts("edge0", "show", DUE)

MALFORMED = {
    "no device": (without("device"), "device: missing"),
    "no job_timestamp": (without("job_timestamp"), "job_timestamp: missing"),
    "no start_timestamp": (without("start_timestamp"), "start_timestamp: missing"),
    "no end_timestamp": (without("end_timestamp"), "end_timestamp: missing"),
    "neither file nor failure": (multipart.body(NO_FILE), "file: missing"),
    "empty file": (multipart.completion("edge0", "show", DUE, b""), "file: empty"),
    "empty failure": (
        multipart.completion("edge0", "show", DUE, failure=" "),
        "file: missing",
    ),
    "failure without job": (
        multipart.body([*NO_FILE[1:], multipart.field("failure", "no route")]),
        "job: missing",
    ),
    "two jobs": (
        changed("job", "other"),
        "job: the field says 'other', the file's filename 'show'",
    ),
    "letters in a time": (changed("job_timestamp", "soon"), "job_timestamp: expected a Unix time"),
    "a fraction of a due time": (changed("job_timestamp", "1.5"), "job_timestamp: expected"),
    "a negative time": (changed("start_timestamp", "-5"), "start_timestamp: expected"),
    "other digits": (changed("end_timestamp", "\N{ARABIC-INDIC DIGIT THREE}"), "end_timestamp: "),
    "beyond 64 bits": (changed("job_timestamp", "9" * 20), "job_timestamp: expected"),
    "a bad epoch": (
        multipart.completion("edge0", "show", DUE, b"x", epoch="first"),
        "epoch: expected a whole number, got 'first'",
    ),
    "no UTF-8": (changed("device", b"\xff\xfe"), "device: expected UTF-8"),
    "a long field": (changed("device", "d" * 70_000), "device: longer than 65536 bytes"),
    "device twice": (doubled("device"), "device: given twice"),
    "file twice": (doubled("file"), "file: given twice"),
    "many parts": (
        multipart.body([*NO_FILE, *[multipart.field("x", "")] * 100]),
        "body: more than 64 parts",
    ),
    "no end": (
        multipart.body(multipart.parts("edge0", "show", DUE, b"x"), closed=False),
        "body: it ended before its last boundary",
    ),
    "another boundary": (
        multipart.completion("edge0", "show", DUE, b"x").replace(b"--8f2c", b"--9f2c"),
        "body: not multipart/form-data",
    ),
    "nothing": (b"", "body: it ended"),
}


async def test_missing_or_malformed_is_400_and_named(two: Served, archive: MemoryArchive) -> None:
    await lease(two)
    for case, (body, text) in MALFORMED.items():
        status, answer = await complete(two, body)
        assert (status, answer["code"]) == (400, "completion.invalid"), case
        assert answer["error"].startswith(text), case
    assert archive.kept == {}
    assert await history(two) == ()
    good = multipart.completion("edge0", "show", DUE, b"x")
    assert (await complete(two, good))[0] == 200  # the lease is as it was


async def test_another_content_type_is_400(two: Served) -> None:
    for content_type in ["application/json", "multipart/form-data", "text/plain; boundary=x"]:
        status, answer = await complete(two, b"{}", **{"Content-Type": content_type})
        assert status == 400
        assert "multipart/form-data" in answer["error"]


HOSTILE = [
    *("../../../../x", "/etc/passwd", "..", "edge0/../edge1"),
    *("a\0b", ".git", "unknown", "edge0 "),
]


async def test_unknown_names_are_404_and_write_nothing_anywhere(
    two: Served, archive: MemoryArchive, tmp_path: Path
) -> None:
    """Fault 6: names are looked up, never used as paths."""
    await lease(two)
    before = sorted(tmp_path.rglob("*"))
    for name in HOSTILE:
        for body in [
            multipart.completion(name, "show", DUE, b"x"),
            multipart.completion("edge0", name, DUE, b"x"),
            multipart.completion(name, "show", DUE, b"x", failure="broken"),
        ]:
            status, answer = await complete(two, body)
            assert (status, answer["code"]) == (404, "slot.not_found"), name
    assert archive.kept == {}
    assert await history(two) == ()
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_failure_without_a_file_is_a_failed_run(
    two: Served, archive: MemoryArchive
) -> None:
    await lease(two)
    body = multipart.completion(
        "edge0", "show", DUE, failure="no route to host", failure_class="unreachable"
    )
    assert (await complete(two, body))[0] == 200
    [run] = await history(two)
    assert (run.outcome, run.failure) == (Outcome.FAILED, "no route to host")
    assert (run.failure_class, run.evidence) == (FailureClass.UNREACHABLE, False)
    assert archive.kept == {}


async def test_what_looks_like_a_secret_is_told_with_the_run(two: Served) -> None:
    await lease(two)
    found = '[{"detector":"jwt","line":3,"count":2,"more":1}]'
    body = multipart.completion("edge0", "show", DUE, b"x", detected_secrets=found)
    assert (await complete(two, body))[0] == 200
    [run] = await history(two)
    assert run.detected_secrets == (SecretFinding(detector="jwt", line=3, count=2),)
    body = multipart.completion("edge1", "show", DUE, b"x", detected_secrets="no JSON")
    status, answer = await complete(two, body)
    assert (status, answer["code"]) == (400, "completion.invalid")


async def test_a_failure_with_a_file_keeps_it_as_evidence_not_as_a_version(
    two: Served, archive: MemoryArchive
) -> None:
    await lease(two)
    body = multipart.completion("edge0", "show", DUE, b"half a conf", failure="closed\0early")
    status, answer = await complete(two, body)
    assert status == 200
    assert (await complete(two, body))[1] == answer
    [run] = await history(two)
    assert (run.outcome, run.evidence, run.version) == (Outcome.FAILED, True, None)
    assert run.failure == "closed\N{REPLACEMENT CHARACTER}early"
    assert run.failure_class is FailureClass.OTHER
    assert two.controller.evidence.path(run.run_id).read_bytes() == b"half a conf"
    assert archive.kept == {}


async def test_too_large_is_413_as_soon_as_it_shows(two: Served, archive: MemoryArchive) -> None:
    await lease(two)
    largest = multipart.completion("edge0", "show", DUE, b"x" * 100_000)
    larger = multipart.completion("edge1", "show", DUE, b"x" * 100_001)
    assert (await complete(two, largest))[0] == 200
    status, answer = await complete(two, larger)
    assert (status, answer["code"]) == (413, "completion.too_large")
    assert "100000 bytes" in answer["error"]
    assert ("edge1", "show") not in archive.kept


async def test_too_large_is_said_before_the_body_is_read_when_it_is_announced(two: Served) -> None:
    reader, writer = await asyncio.open_connection(*two.address)
    writer.write(
        b"POST /worker/complete HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 600000000\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 413 ")  # the words after it are the Python release's


async def test_who_asks_first_is_told_to_go_on(two: Served) -> None:
    await lease(two)
    body = multipart.completion("edge0", "show", DUE, b"x" * 50_000)
    reader, writer = await asyncio.open_connection(*two.address)
    writer.write(
        b"POST /worker/complete HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n"
        % (multipart.HEADERS["Content-Type"].encode(), len(body))
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_who_drips_holds_nobody_up(two: Served, archive: MemoryArchive) -> None:
    await lease(two)
    body = multipart.completion("edge0", "show", DUE, b"x" * 50_000)
    reader, writer = await asyncio.open_connection(*two.address)
    writer.write(
        b"POST /worker/complete HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n"
        % (multipart.HEADERS["Content-Type"].encode(), len(body))
    )
    for start in range(0, 40_000, 10_000):
        writer.write(body[start : start + 10_000])
        await writer.drain()
        # Another result of the same slot, and of another one, go through in between.
        other = multipart.completion("edge0", "show", DUE, b"mine", epoch="1")
        assert (await complete(two, other))[0] == 200
        other = multipart.completion("edge1", "show", DUE, b"theirs")
        assert (await complete(two, other))[0] == 200
    writer.write(body[40_000:])
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 409 ")
    writer.close()
    assert contents(archive) == {("edge0", "show"): [b"mine"], ("edge1", "show"): [b"theirs"]}


async def test_in_a_batch_each_stands_for_itself(
    tmp_path: Path, clock: ManualClock, archive: MemoryArchive
) -> None:
    """A lost lease, a slot that is gone and one told twice beside good ones, all at once."""
    async with served(fleet(40), tmp_path, clock=clock, archive=archive) as running:
        clock.advance(PERIOD)
        await lease(running, "?max=1000")
        good = [f"edge{number}" for number in range(30)]
        bodies = [multipart.completion(name, "show", DUE, name.encode()) for name in good]
        bodies += [
            multipart.completion("edge30", "show", DUE, b"late", epoch="7"),
            multipart.completion("edge31", "show", DUE + 1, b"another time"),
            multipart.completion("edge99", "show", DUE, b"unknown"),
            multipart.completion("edge32", "show", DUE, b"broken", failure="closed early"),
            bodies[0],
        ]
        statuses = [
            status
            for status, _ in await asyncio.gather(*(complete(running, body) for body in bodies))
        ]
        assert statuses == [200] * 30 + [409, 409, 404, 200, 200]
        kept = [
            run for run in await history(running, limit=100) if run.outcome is not Outcome.STALE
        ]
        assert len(kept) == 31
    assert contents(archive) == {(name, "show"): [name.encode()] for name in good}


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(
    two: Served, archive: MemoryArchive
) -> None:
    await lease(two)
    body = multipart.completion("edge0", "show", DUE, b"x" * 50_000)
    _, writer = await asyncio.open_connection(*two.address)
    writer.write(
        b"POST /worker/complete HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n"
        % (multipart.HEADERS["Content-Type"].encode(), len(body))
    )
    writer.write(body[:30_000])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await complete(two, body))[0] == 200
    assert contents(archive) == {("edge0", "show"): [b"x" * 50_000]}
    assert len(await history(two)) == 1


async def test_the_archive_being_away_is_503_and_a_retry_is_kept(
    two: Served, archive: MemoryArchive
) -> None:
    """Fault 17: what cannot be kept is not acknowledged."""
    await lease(two)
    body = multipart.completion("edge0", "show", DUE, b"x")
    archive.failure = ArchiveUnavailableError("the repository is locked", retry_after_seconds=7)
    async with two.http.post("/worker/complete", data=body, headers=multipart.HEADERS) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "7"
        assert (await response.json())["code"] == "archive.unavailable"
    async with two.http.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["parts"]["ledger"] == "ok"
    archive.failure = None
    assert (await complete(two, body))[0] == 200
    assert len(await history(two)) == 1


class LedgerThatCannotFinish(MemoryLedger):
    broken = True

    async def finish(self, *args: Any) -> Any:
        if self.broken:
            raise LedgerUnavailableError("the disk is full")
        return await super().finish(*args)


async def test_the_ledger_being_away_is_503_and_a_retry_is_kept_once(
    tmp_path: Path, clock: ManualClock, archive: MemoryArchive
) -> None:
    """A crash between archive and ledger: the repeat does the rest, and stores nothing twice."""
    ledger = LedgerThatCannotFinish()
    async with served(fleet(1), tmp_path, clock=clock, archive=archive, ledger=ledger) as running:
        clock.advance(PERIOD)
        await lease(running)
        body = multipart.completion("edge0", "show", DUE, b"x")
        assert (await complete(running, body))[0] == 503
        ledger.broken = False
        assert (await complete(running, body))[0] == 200
        [run] = await history(running)
    [version] = archive.kept["edge0", "show"]
    assert version.entry.run_id == run.run_id


async def test_a_spool_that_cannot_be_written_is_503_for_large_results_only(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with served(fleet(2), tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        await lease(running)
        (tmp_path / "spool").rmdir()
        body = multipart.completion("edge0", "show", DUE, b"x" * 300_000)
        status, answer = await complete(running, body)
        assert (status, answer["code"]) == (503, "spool.unavailable")
        small = multipart.completion("edge1", "show", DUE, b"x" * 200_000)
        assert (await complete(running, small))[0] == 200
        (tmp_path / "spool").mkdir()
        assert (await complete(running, body))[0] == 200


async def test_no_room_for_what_is_announced_is_503_before_the_body(
    two: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.controller.spool.SPARE_BYTES", 1 << 60)
    reader, writer = await asyncio.open_connection(*two.address)
    writer.write(
        b"POST /worker/complete HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 503 ")  # without a 100 first
    assert b"retry-after: 30\r\n" in head.lower()


async def test_the_short_way_and_the_route_table_answer_alike(two: Served) -> None:
    """`/worker/complete/` is the same to the framework, and goes through all of it."""
    await lease(two)
    cases = [
        multipart.completion("edge0", "show", DUE, b"x"),
        multipart.completion("edge0", "show", DUE, b"another"),
        multipart.completion("edge9", "show", DUE, b"x"),
        multipart.completion("edge1", "show", DUE, b"x" * 100_001),
        b"nothing",
    ]
    for headers in ({}, {"Origin": "https://example.com"}, {"Authorization": "Bearer wrong"}):
        for body in cases:
            answers = []
            for path in ("/worker/complete", "/worker/complete/"):
                async with two.http.post(
                    path, data=body, headers={**multipart.HEADERS, **headers}
                ) as response:
                    told = {
                        name.lower(): value
                        for name, value in response.headers.items()
                        if name.lower() not in ("date", "content-length")
                    }
                    answers.append((response.status, told, await response.json()))
            assert answers[0] == answers[1]


async def test_500_at_once_are_all_kept(tmp_path: Path, clock: ManualClock) -> None:
    """Fault 4: 500 completions at once, all answered 200, all of them kept."""
    archive = MemoryArchive(clock)
    async with served(fleet(500), tmp_path, clock=clock, archive=archive) as running:
        clock.advance(PERIOD)
        executions = await lease(running, "?max=1000")
        names = [item["device"]["name"] for item in executions]
        bodies = [multipart.completion(n, "show", DUE, n.encode() * 1000) for n in names]
        answers = await asyncio.gather(*(complete(running, body) for body in bodies))
    assert [status for status, _ in answers] == [200] * 500
    assert contents(archive) == {(n, "show"): [n.encode() * 1000] for n in names}


async def test_devices_without_credentials_and_jobs_without_commands_travel(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Fault 15: what is absent is left out or empty, never a surprise."""
    bare = device("bare")
    bare = type(bare)(name="bare", host="bare.example.net")
    empty = job("show", command=None, command_set=None, prompt=None)
    async with served(configuration([slot(bare, empty)]), tmp_path, clock=clock) as running:
        clock.advance(PERIOD)
        [execution] = await lease(running)
    assert json.dumps(execution["job"]) == json.dumps(
        {"name": "show", "schedule": {"duration": "100 seconds"}}
    )
    assert execution["device"]["credentials"] is None

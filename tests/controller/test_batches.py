"""`POST /api/v1/processes`: batches, their targets, keys, turns, ends, and restarts."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roundsman.controller.process_batch import AWAY
from roundsman.ledger.drivers import open_ledger
from roundsman.ledger.interface import AuditQuery
from roundsman.wire.audit import AuditOutcome
from roundsman.wire.batch import BatchQuery, BatchReport
from roundsman.wire.control import (
    Bound,
    Hello,
    ProcessChanged,
    StartProcess,
    StopFinished,
    StopProcess,
)
from roundsman.wire.process import ProcessState, StopProof
from tests.controller.fleet_site import (
    ADMINISTRATOR,
    Answer,
    FakeWorker,
    FleetSite,
    fake_worker,
    fleet_site,
    real_worker,
    unknown,
)
from tests.controller.site import bearer


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FleetSite]:
    async with fleet_site(tmp_path / "controller") as site:
        yield site


@contextlib.asynccontextmanager
async def workers(site: FleetSite, count: int) -> AsyncIterator[list[FakeWorker]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(fake_worker(site, await site.enrol(f"w{number}")))
            for number in range(count)
        ]


async def begin(site: FleetSite, status: int = 202, **fields: Any) -> Any:
    answer = await site.call("/api/v1/processes", {"command": "true", **fields})
    assert answer.status == status, answer.body
    return answer.body


async def report(site: FleetSite, batch_id: str) -> Any:
    answer = await site.call(f"/api/v1/batches/{batch_id}", method="GET")
    assert answer.status == 200, answer.body
    return answer.body


async def ended(site: FleetSite, batch_id: str) -> Any:
    """The report with which the batch's events end."""
    url = f"/api/v1/batches/{batch_id}/events"
    async with site.served.http.get(url, headers=ADMINISTRATOR) as answer:
        *_, last = (await answer.read()).removesuffix(b"\n\n").split(b"\n\n")
    name, _, data = last.partition(b"\ndata: ")
    assert name == b"event: end"
    return msgspec.json.decode(data)


async def started(worker: FakeWorker) -> StartProcess:
    message = await worker.hear()
    assert isinstance(message, StartProcess)
    await worker.say(
        ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)
    )
    return message


async def end(worker: FakeWorker, process_id: str, status: int = 0) -> None:
    await worker.say(
        ProcessChanged(process_id=process_id, state=ProcessState.ENDED, at=2.0, exit_status=status)
    )
    await worker.hear()  # acknowledged


def stopping(site: FleetSite, batch_id: str, **body: Any) -> asyncio.Task[Answer]:
    return asyncio.create_task(site.call(f"/api/v1/batches/{batch_id}/stop", body))


async def test_who_follows_slowly_is_told_of_all_that_changed(site: FleetSite) -> None:
    async with workers(site, 1) as (one,):
        said = await begin(site, workers=[one.worker_id])
        following = site.controller.batches.follow(said["batch_id"])
        first = await anext(following)
        assert not isinstance(first, BatchReport)
        message = await started(one)
        await end(one, message.process_id)
        await ended(site, said["batch_id"])
        *told, last = [each async for each in following]
        assert isinstance(last, BatchReport)
        assert [each.exit_status for each in told if not isinstance(each, BatchReport)][-1:] == [0]


async def test_a_command_goes_to_the_workers_with_all_that_it_needs(site: FleetSite) -> None:
    async with workers(site, 2) as (_, two):
        said = await begin(
            site,
            workers=[two.worker_id],
            command="sh",
            path="count.sh",
            arguments=["1", "two words"],
            environment={"LANG": "C"},
            secret_environment={"TOKEN": "hunter2"},
            standard_input=base64.b64encode(b"\x00in").decode(),
            limits={"wall_seconds": 5},
            time_to_live=60,
        )
        [member] = said["processes"]
        assert member["worker_id"] == two.worker_id
        message = await started(two)
        assert message.process_id == member["process_id"]
        assert (message.command, message.path) == ("sh", "count.sh")
        assert message.arguments == ("1", "two words")
        assert message.environment == {"LANG": "C"}
        assert message.secret_environment["TOKEN"].reveal() == "hunter2"
        assert message.standard_input == b"\x00in"
        assert message.limits.wall_seconds == 5
        assert message.not_after is not None
        assert (message.requested_by, message.roles) == ("ada", ("administrator",))
        await end(two, message.process_id)
        report_ = await ended(site, said["batch_id"])
        assert (report_["succeeded"], report_["failed"]) == (True, 0)
        assert report_["counts"] == {"ended": 1}
        assert report_["batch"]["environment"] == ["LANG", "TOKEN"]
        assert report_["processes"][0]["arguments"] == ["1", "two words"]
        assert await site.controller.ledger.batch_work(said["batch_id"]) is None
        lines = (await site.controller.ledger.audit(AuditQuery(oldest_first=True))).items
        about = [(line.action, line.outcome) for line in lines if line.batch_id]
        assert about == [
            ("process.start", "requested"),
            ("batch.start", "done"),
            ("process.start", "done"),
        ] or about[0] == ("batch.start", "done")
        assert b"hunter2" not in msgspec.json.encode(lines)
        assert lines[-1].asked is not None
        assert lines[-1].asked.environment == ("LANG", "TOKEN")
        assert lines[-1].asked.standard_input_bytes == 3


async def test_it_runs_on_real_workers_and_says_where_it_failed(
    site: FleetSite, tmp_path: Path
) -> None:
    async with (
        real_worker(site, tmp_path / "good") as good,
        real_worker(site, tmp_path / "bad") as bad,
    ):
        good.script("exit 0")
        bad.script("exit 3")
        said = await begin(site, on="all", command="sh", path="script.sh")
        report_ = await ended(site, said["batch_id"])
        assert report_["succeeded"] is False
        results = {each["worker_id"]: each["exit_status"] for each in report_["processes"]}
        assert results == {good.worker_id: 0, bad.worker_id: 3}


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "target.invalid"),
        ({"on": "all", "workers": ["x"]}, 400, "target.invalid"),
        ({"workers": ["no-such-worker"]}, 404, "target.not_found"),
        ({"on": "tag=nowhere"}, 404, "target.not_found"),
        ({"on": "tag=a and"}, 400, "target.syntax"),
        ({"on": "all", "width": 0}, 400, "body.invalid"),
        ({"on": "all", "stop_above": 1.5}, 400, "body.invalid"),
        ({"on": "all", "command": ""}, 400, "body.invalid"),
        ({"on": "all", "shell": "true"}, 400, "body.invalid"),
        ({"on": "all", "standard_input": "*"}, 400, "body.invalid"),
        ({"on": "all", "limits": {"wall_seconds": -1}}, 400, "body.invalid"),
    ],
)
async def test_what_cannot_be_carried_out_is_refused(
    site: FleetSite, fields: Any, status: int, code: str
) -> None:
    async with workers(site, 1):
        said = await begin(site, status, **fields)
        assert said["code"] == code
        assert (await site.controller.ledger.batches(BatchQuery())).items == ()
        [line] = (await site.controller.ledger.audit(AuditQuery(limit=1))).items
        assert (line.outcome, line.by) == (AuditOutcome.REFUSED, "ada")


async def test_a_worker_named_twice_is_refused(site: FleetSite) -> None:
    async with workers(site, 1) as (one,):
        said = await begin(site, 400, workers=[one.worker_id, one.worker_id])
        assert "named 2 times" in said["error"]


async def test_the_same_key_starts_nothing_again(site: FleetSite) -> None:
    async with workers(site, 1) as (one,):
        fields: Any = {"workers": [one.worker_id], "idempotency_key": "k1"}
        first = await begin(site, **fields)
        assert await begin(site, **fields) == first
        again = await asyncio.gather(*(begin(site, **fields) for _ in range(5)))
        assert again == [first] * 5
        refused = await begin(site, 409, **fields, arguments=["x"])
        assert refused["code"] == "batch.key_used"
        message = await started(one)
        await end(one, message.process_id)
        await ended(site, first["batch_id"])
        assert await begin(site, **fields) == first
        removed = await site.call(f"/api/v1/workers/{one.worker_id}", method="DELETE")
        assert removed.status == 204
        assert await begin(site, **fields) == first
        assert len((await site.controller.ledger.batches(BatchQuery())).items) == 1


async def test_no_more_than_its_width_run_at_once(site: FleetSite) -> None:
    async with workers(site, 5) as fleet:
        said = await begin(site, on="all", width=2)
        running = [(worker, await started(worker)) for worker in fleet[:2]]
        for number in range(5):
            counts = (await report(site, said["batch_id"]))["counts"]
            assert counts.get("waiting", 0) == max(0, 3 - number)
            worker, message = running[number]
            await end(worker, message.process_id)
            if number + 2 < 5:
                following = fleet[number + 2]
                running.append((following, await started(following)))
        assert (await ended(site, said["batch_id"]))["succeeded"] is True


async def test_too_many_failures_keep_it_from_the_rest(site: FleetSite) -> None:
    async with workers(site, 5) as fleet:
        said = await begin(site, on="all", width=2, stop_above=0.2)
        first, second = [await started(worker) for worker in fleet[:2]]
        await end(fleet[0], first.process_id, 1)  # one of five: not above the share
        third = await started(fleet[2])
        await end(fleet[1], second.process_id, 1)
        await end(fleet[2], third.process_id)  # what runs goes on
        report_ = await ended(site, said["batch_id"])
        assert report_["succeeded"] is False
        assert report_["counts"] == {"ended": 3, "skipped": 2}
        assert report_["batch"]["reason"] == "failed on 2 of 5 workers"
        assert "failed on 2 of 5" in report_["processes"][4]["error"]


async def test_a_stop_ends_it_everywhere(site: FleetSite) -> None:
    async with workers(site, 3) as fleet:
        said = await begin(site, on="all", width=2)
        messages = [await started(worker) for worker in fleet[:2]]
        stop = stopping(site, said["batch_id"], grace_seconds=7)
        for worker, message in zip(fleet, messages, strict=False):
            asked = await worker.hear()
            assert asked == StopProcess(process_id=message.process_id, grace_seconds=7)
            await worker.say(
                ProcessChanged(
                    process_id=message.process_id,
                    state=ProcessState.ENDED,
                    at=2.0,
                    signal="killed",
                )
            )
            proof = StopProof(method="group", group_empty=True)
            await worker.say(StopFinished(process_id=message.process_id, gone=True, proof=proof))
        answer = await stop
        assert answer.status == 200, answer.body
        assert answer.body["counts"] == {"ended": 2, "skipped": 1}
        assert answer.body["processes"][0]["stop"]["group_empty"] is True
        report_ = await ended(site, said["batch_id"])
        assert report_["batch"]["reason"] == "stopped by ada"
        again = await site.call(f"/api/v1/batches/{said['batch_id']}/stop", b"")
        assert (again.status, again.body["batch"]["state"]) == (200, "ended")


async def test_who_is_away_holds_up_nobody_and_is_given_up_in_time(site: FleetSite) -> None:
    away, _ = await site.enrol("a-away")
    async with workers(site, 2) as fleet:
        said = await begin(site, on="all", width=1, time_to_live=0.5)
        for worker in fleet:
            message = await started(worker)
            await end(worker, message.process_id)
        report_ = await ended(site, said["batch_id"])
        assert report_["counts"] == {"ended": 2, "skipped": 1}
        [skipped] = [each for each in report_["processes"] if each["worker_id"] == away]
        assert skipped["error"] == AWAY


async def test_who_comes_back_in_time_is_given_it(site: FleetSite) -> None:
    identity = await site.enrol("late")
    said = await begin(site, workers=[identity[0]], time_to_live=60)
    async with fake_worker(site, identity) as late:
        message = await started(late)
        await end(late, message.process_id)
        assert (await ended(site, said["batch_id"]))["succeeded"] is True


async def test_a_start_whose_answer_was_lost_is_asked_again_under_the_same_id(
    site: FleetSite,
) -> None:
    identity = await site.enrol("shaky")
    async with fake_worker(site, identity) as worker:
        said = await begin(site, workers=[identity[0]], time_to_live=60)
        first = await worker.hear()
    async with fake_worker(site, identity) as worker:
        again = await started(worker)
        assert again == first
        await end(worker, again.process_id)
        assert (await ended(site, said["batch_id"]))["succeeded"] is True


async def test_who_never_answers_is_given_up_and_stopped_when_it_does(
    site: FleetSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.controller.process_batch.ANSWER_SECONDS", 0.1)
    async with workers(site, 1) as (silent,):
        said = await begin(site, on="all", time_to_live=0.1)
        message = await silent.hear()
        assert isinstance(message, StartProcess)
        report_ = await ended(site, said["batch_id"])
        assert report_["counts"] == {"unknown": 1}
        stop = await silent.hear()
        assert stop == StopProcess(process_id=message.process_id)
        await silent.say(
            ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)
        )
        assert await silent.hear() == stop


async def test_a_restarted_controller_goes_on(tmp_path: Path) -> None:
    """Rows are the truth: one runs, one was asked, one waits; then the controller is gone."""
    data = tmp_path / "controller"
    async with fleet_site(data, ledger=await open_ledger(data)) as site:
        identities = [await site.enrol(f"w{number}") for number in range(3)]
        async with contextlib.AsyncExitStack() as stack:
            one, two, _ = [
                await stack.enter_async_context(fake_worker(site, identity))
                for identity in identities
            ]
            said = await begin(site, on="all", width=2, secret_environment={"TOKEN": "x"})
            running = await started(one)
            lost = await two.hear()
            assert isinstance(lost, StartProcess)
            batch_id = said["batch_id"]
            # Nothing of the product's tells that two of the three have come so far.
            while (await report(site, batch_id))["counts"] != {  # noqa: ASYNC110 - as said above
                "running": 1,
                "requested": 1,
                "waiting": 1,
            }:
                await asyncio.sleep(0)
    async with fleet_site(data, ledger=await open_ledger(data)) as site:
        known = await site.call(f"/api/v1/processes/{running.process_id}", method="GET")
        assert known.body["state"] == "running"
        assert known.body["age_seconds"] > 0
        reported = ProcessChanged(process_id=running.process_id, state=ProcessState.RUNNING, at=1.0)
        async with contextlib.AsyncExitStack() as stack:
            one = await stack.enter_async_context(fake_worker(site, identities[0], reported))
            two = await stack.enter_async_context(fake_worker(site, identities[1]))
            three = await stack.enter_async_context(fake_worker(site, identities[2]))
            known = await site.call(f"/api/v1/processes/{running.process_id}", method="GET")
            assert known.body["age_seconds"] == 0
            again = await started(two)
            assert again.process_id == lost.process_id
            assert again.secret_environment["TOKEN"].reveal() == "x"
            await end(one, running.process_id)
            third = await started(three)
            await end(two, again.process_id)
            await end(three, third.process_id)
            report_ = await ended(site, batch_id)
            assert report_["succeeded"] is True
            assert report_["counts"] == {"ended": 3}


async def test_a_stop_survives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "controller"
    async with fleet_site(data, ledger=await open_ledger(data)) as site:
        identity = await site.enrol("w")
        async with fake_worker(site, identity) as worker:
            said = await begin(site, on="all")
            running = await started(worker)
        await site.is_connected(identity[0], connected=False)
        answer = await site.call(f"/api/v1/batches/{said['batch_id']}/stop", b"")
        assert (answer.status, answer.body["batch"]["state"]) == (200, "stopping")
    async with fleet_site(data, ledger=await open_ledger(data)) as site:
        reported = ProcessChanged(process_id=running.process_id, state=ProcessState.RUNNING, at=1.0)
        async with fake_worker(site, identity, reported) as worker:
            assert await worker.hear() == StopProcess(process_id=running.process_id)
            await end(worker, running.process_id, 1)
            assert (await ended(site, said["batch_id"]))["batch"]["reason"] == "stopped by ada"


async def test_one_process_is_stopped_and_the_answer_says_what_was_proven(
    site: FleetSite,
) -> None:
    async with workers(site, 2) as fleet:
        said = await begin(site, on="all", width=1)
        message = await started(fleet[0])
        path = f"/api/v1/processes/{message.process_id}/stop"
        stop = asyncio.create_task(site.call(path, {"grace_seconds": 0}))
        assert await fleet[0].hear() == StopProcess(process_id=message.process_id, grace_seconds=0)
        proof = StopProof(method="group", group_empty=False, left=(77,))
        await fleet[0].say(
            StopFinished(process_id=message.process_id, gone=False, left=(77,), proof=proof)
        )
        answer = await stop
        assert (answer.status, answer.body["gone"]) == (200, False)
        assert answer.body["process"]["stop"] == msgspec.json.decode(msgspec.json.encode(proof))
        [line] = (await site.controller.ledger.audit(AuditQuery(limit=1))).items
        assert (line.action, line.outcome) == ("process.stop", "failed")
        waiting = said["processes"][1]["process_id"]
        answer = await site.call(f"/api/v1/processes/{waiting}/stop", b"")
        assert (answer.status, answer.body["gone"]) == (200, True)
        assert answer.body["process"]["state"] == "skipped"
        await end(fleet[0], message.process_id)
        assert (await ended(site, said["batch_id"]))["counts"] == {"ended": 1, "skipped": 1}


async def test_a_worker_says_what_its_machine_gives(site: FleetSite) -> None:
    worker_id, token = await site.enrol()
    path = f"/api/v1/workers/{worker_id}"
    async with site.served.http.ws_connect(
        f"{path}/control", headers={"Authorization": f"Bearer {token.reveal()}"}
    ) as socket:
        memory = Bound(name="memory", given=False, how="no cgroup of its own")
        hello = Hello(version="1", bounds=(memory,))
        await socket.send_str(msgspec.json.encode(hello).decode())
        await site.is_connected(worker_id)
        told = await site.call(path, method="GET")
        assert told.body["bounds"] == [
            {"name": "memory", "given": False, "how": "no cgroup of its own"}
        ]
    await site.is_connected(worker_id, connected=False)
    assert (await site.call(path, method="GET")).body["bounds"] == []


async def test_batches_are_listed_and_the_unknown_is_said(site: FleetSite) -> None:
    async with workers(site, 1):
        first = await begin(site, on="all")
        second = await begin(site, on="all")
        listed = await site.call("/api/v1/batches?state=running", method="GET")
        assert [each["batch_id"] for each in listed.body["items"]] == [
            second["batch_id"],
            first["batch_id"],
        ]
        of_batch = await site.call(f"/api/v1/processes?batch_id={first['batch_id']}", method="GET")
        assert len(of_batch.body["items"]) == 1
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/stop")):
            answer = await site.call(f"/api/v1/batches/{unknown()}{path}", b"", method=method)
            assert (answer.status, answer.body["code"]) == (404, "batch.not_found")
        refused = await site.call(
            "/api/v1/processes", {"command": "true", "on": "all"}, headers=bearer("rita")
        )
        assert refused.status == 403

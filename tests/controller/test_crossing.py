"""Commands through a controller that is not the one the worker is connected to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from roundsman.controller.peers import PeerError
from roundsman.ledger.interface import AuditQuery, ProcessChange
from roundsman.testing.postgresql_server import PostgresqlServer
from roundsman.wire.control import (
    Bound,
    ProcessChanged,
    StartProcess,
    StopFinished,
    StopProcess,
)
from roundsman.wire.process import ProcessState, StopProof
from tests.controller.certificates import make_tls
from tests.controller.crossing_site import controller, controllers, knows_workers, pooler
from tests.controller.fleet_site import (
    ADMINISTRATOR,
    FakeWorker,
    FleetSite,
    RealWorker,
    fake_worker,
)


@pytest.fixture
async def sites(postgresql_url: str, tmp_path: Path) -> AsyncIterator[list[FleetSite]]:
    async with controllers(postgresql_url, tmp_path, 2) as sites:
        yield sites


async def running(worker: FakeWorker) -> StartProcess:
    """Have the worker say that it runs what it is told to start next."""
    message = await worker.hear()
    assert isinstance(message, StartProcess)
    await worker.say(
        ProcessChanged(process_id=message.process_id, state=ProcessState.RUNNING, at=1.0)
    )
    return message


async def test_start_stop_and_query_reach_a_worker_at_another_controller(
    sites: list[FleetSite], tmp_path: Path
) -> None:
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    async with RealWorker(two.served.url, identity, tmp_path / "w", "sleep", "sh") as worker:
        await two.is_connected(worker.worker_id)
        for site in sites:
            listed = await site.call("/api/v1/workers", method="GET")
            assert [each["connected"] for each in listed.body["items"]] == [True]
            about = await site.call(f"/api/v1/workers/{worker.worker_id}", method="GET")
            assert about.body["bounds"]
        job_id = await one.start(worker.worker_id, "sleep", "600")
        for site in sites:
            assert (await site.query(worker.worker_id, job_id))["done"] is False
        answer = await one.stop(worker.worker_id, job_id)
        assert (answer.status, answer.body) == (200, {"success": True})
        for site in sites:
            said = await site.query(worker.worker_id, job_id)
            assert said["done"] is True
            assert said["error_text"].startswith("signal: ")
        body = {"worker_id": worker.worker_id, "command": "rm", "path": "x"}
        refused = await one.call("/start", body)
        assert refused.status == 500
        assert "rm" in refused.body["error"]
        # Its output, as it comes, from the controller that has the worker.
        worker.script("echo begun; read line; echo $line")
        begun = await one.call(
            "/api/v1/processes",
            {
                "command": "sh",
                "path": "script.sh",
                "workers": [worker.worker_id],
                "standard_input": "ZW5kZWQK",
            },
        )
        process_id = begun.body["processes"][0]["process_id"]
        batch = f"/api/v1/batches/{begun.body['batch_id']}/events"
        for site in sites:
            async with site.served.http.get(batch, headers=ADMINISTRATOR) as followed:
                assert b"event: end" in await followed.read()
            output = f"/api/v1/processes/{process_id}/output"
            async with site.served.http.get(output, headers=ADMINISTRATOR) as text:
                assert (text.status, await text.read()) == (200, b"begun\nended\n")
            events = f"{output}?follow=true&format=events"
            async with site.served.http.get(events, headers=ADMINISTRATOR) as streamed:
                assert (await streamed.read()).count(b"event: stdout") >= 1


async def test_output_is_live_from_controller_to_controller_and_for_nobody_else(
    sites: list[FleetSite], tmp_path: Path
) -> None:
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    async with RealWorker(two.served.url, identity, tmp_path / "w", "sh") as worker:
        await two.is_connected(worker.worker_id)
        go_on = tmp_path / "go-on"
        worker.script(f"echo one; while [ ! -e {go_on} ]; do sleep 0.01; done; echo two")
        job_id = await one.start(worker.worker_id, "sh", "script.sh")
        url = f"/api/v1/processes/{job_id}/output?follow=true"
        async with one.served.http.get(url, headers=ADMINISTRATOR) as text:
            assert await text.content.readline() == b"one\n"
            go_on.touch()
            assert await text.content.read() == b"two\n"
        inside = f"/api/v1/peers/processes/{job_id}/output?after=0&follow=0&events=0"
        me = one.controller.membership.controller_id
        signed = one.controller.peers._sign(two.controller.membership.controller_id, "GET", inside)
        late = signed.replace(signed.split(":")[1], "1.0")
        assert (await two.call(inside, method="GET")).status == 403
        for headers in [
            {},
            {"Authorization": "Controller x"},
            {"Authorization": f"Controller {me}:1.0:AAAA"},
            {"Authorization": late},
            {"Authorization": signed.replace(me, two.controller.membership.controller_id)},
        ]:
            assert (await two.call(inside, method="GET", headers=headers)).status == 401
        other = inside.replace("after=0", "after=1")
        with_signature = {"Authorization": signed}
        assert (await two.call(other, method="GET", headers=with_signature)).status == 401
        assert (await one.call(inside, method="GET", headers=with_signature)).status == 401
        async with two.served.http.get(inside, headers=with_signature) as text:
            assert await text.read() == b"one\ntwo\n"


async def test_a_start_is_given_to_the_next_connection_and_runs_once(
    sites: list[FleetSite],
) -> None:
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    async with fake_worker(two, identity) as worker:
        starting = asyncio.create_task(one.start(worker.worker_id, "true"))
        first = await worker.hear()
        assert isinstance(first, StartProcess)
    # It went before it answered: whether the worker has it, nobody knows.
    async with fake_worker(one, identity) as worker:
        again = await running(worker)
        assert again == first
        assert await starting == first.process_id
    # Likewise, and the worker had it.
    async with fake_worker(two, identity) as worker:
        starting = asyncio.create_task(one.start(worker.worker_id, "true"))
        second = await worker.hear()
        assert isinstance(second, StartProcess)
    state = ProcessChanged(process_id=second.process_id, state=ProcessState.RUNNING, at=1.0)
    async with fake_worker(one, identity, state) as worker:
        assert await running(worker) == second  # a worker starts an id once
        assert await starting == second.process_id


async def test_an_order_that_is_taken_while_its_worker_becomes_ready_is_given(
    sites: list[FleetSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger knows a moment earlier than the controller itself that the worker is here."""
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    async with fake_worker(two, identity) as worker:
        starting = asyncio.create_task(one.start(worker.worker_id, "true"))
        first = await worker.hear()
    exchange = two.controller.fleet.exchange
    assert exchange is not None
    make_ready = exchange.crossing.make_ready

    async def and_look(worker_id: str, term: int, bounds: Sequence[Bound]) -> bool:
        made = await make_ready(worker_id, term, bounds)
        await exchange._look_for_orders()
        await asyncio.sleep(0)  # it is begun to be given
        return made

    monkeypatch.setattr(exchange.crossing, "make_ready", and_look)
    async with fake_worker(two, identity) as worker:
        assert await running(worker) == first
        assert await starting == first.process_id


async def test_what_was_given_up_is_not_told_to_run(sites: list[FleetSite]) -> None:
    """A worker that refused it, and was asked again by the next controller, may have room now."""
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    async with fake_worker(two, identity) as worker:
        body = {"worker_id": worker.worker_id, "command": "true", "path": ""}
        starting = asyncio.create_task(one.call("/start", body))
        message = await worker.hear()
        assert isinstance(message, StartProcess)
        refused = ProcessChange(
            process_id=message.process_id,
            worker_id=worker.worker_id,
            state=ProcessState.REFUSED,
            at=1.0,
            error="too many",
        )
        await two.controller.ledger.change_process(refused)
    async with fake_worker(one, identity) as worker:
        assert await running(worker) == message
        stop = await worker.hear()
        assert stop == StopProcess(process_id=message.process_id)
        answer = await starting
        assert (answer.status, "given up" in answer.body["error"]) == (500, True)


async def test_a_stop_reaches_the_newest_connection(sites: list[FleetSite]) -> None:
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    async with fake_worker(one, identity) as old:
        job_id = asyncio.create_task(two.start(old.worker_id, "true"))
        started = await running(old)
        await job_id
        report = ProcessChanged(process_id=started.process_id, state=ProcessState.RUNNING, at=1.0)
        async with fake_worker(two, identity, report) as new:
            stopping = asyncio.create_task(one.stop(new.worker_id, started.process_id))
            message = await new.hear()
            assert isinstance(message, StopProcess)
            ended = ProcessChanged(
                process_id=started.process_id, state=ProcessState.ENDED, at=2.0, signal="killed"
            )
            await new.say(ended)
            proof = StopProof(method="group", group_empty=True)
            await new.say(StopFinished(process_id=started.process_id, gone=True, proof=proof))
            assert (await stopping).status == 200
            # Who had it before lets go of it.
            assert (await old.socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert one.controller.fleet.is_connected(new.worker_id) is False
            listed = await one.call("/api/v1/workers", method="GET")
            assert listed.body["items"][0]["connected"] is True


async def test_swallowed_notifications_are_found_out_and_said(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundsman.ledger.postgresql.doorbell.ARRIVAL_SECONDS", 0.1)
    async with (
        pooler(postgresql_url) as (proxy, through),
        controller(through, tmp_path / "one") as one,
        controller(postgresql_url, tmp_path / "two") as two,
    ):
        while True:
            ready = await one.call("/readyz", method="GET")
            assert (ready.status, ready.body["ready"]) == (200, True)
            if "pool_mode = session" in ready.body["parts"]["notifications"]:
                break
        assert proxy.swallowed
        # It goes on, by looking.
        identity = await one.enrol()
        await knows_workers(two)
        async with fake_worker(two, identity) as worker:
            starting = asyncio.create_task(one.start(worker.worker_id, "true"))
            message = await running(worker)
            assert await starting == message.process_id


async def test_a_batch_goes_on_at_another_controller(
    sites: list[FleetSite], postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    one, two = sites
    identities = [await one.enrol(f"w{number}") for number in range(3)]
    await knows_workers(two)
    async with (
        fake_worker(one, identities[0]) as first,
        fake_worker(two, identities[1]) as second,
        fake_worker(one, identities[2]) as third,
    ):
        fleet = [first, second, third]
        body = {
            "command": "true",
            "workers": [worker.worker_id for worker in fleet],
            "width": 1,
            "idempotency_key": "k",
        }
        begun = (await one.call("/api/v1/processes", body)).body
        assert (await two.call("/api/v1/processes", body)).body == begun
        await running(first)
        # The one that carries it is thought dead, though it is not.
        other = two.controller.membership.controller_id
        await postgresql_server.run(
            f"UPDATE batches SET carrier = '{other}', carried_until = 1e11",  # noqa: S608 - a UUID
            postgresql_url.rpartition("/")[2],
        )
        url = f"/api/v1/batches/{begun['batch_id']}/events"
        async with one.served.http.get(url, headers=ADMINISTRATOR) as followed:
            for worker, member in zip(fleet, begun["processes"], strict=True):
                if worker is not first:
                    assert (await running(worker)).process_id == member["process_id"]
                await worker.say(
                    ProcessChanged(
                        process_id=member["process_id"],
                        state=ProcessState.ENDED,
                        at=2.0,
                        exit_status=0,
                    )
                )
            *_, last = (await followed.read()).strip().split(b"\n\n")
        assert last.startswith(b"event: end")
        report = (await two.call(f"/api/v1/batches/{begun['batch_id']}", method="GET")).body
        assert (report["succeeded"], report["counts"]) == (True, {"ended": 3})
        query = AuditQuery(oldest_first=True)
        lines = (await one.controller.ledger.audit(query)).items
        asked = [line.process_id for line in lines if line.outcome == "requested"]
        assert asked == [member["process_id"] for member in begun["processes"]]


async def test_a_batch_is_stopped_through_any_controller(sites: list[FleetSite]) -> None:
    one, two = sites
    identities = [await one.enrol(f"w{number}") for number in range(2)]
    await knows_workers(two)
    async with fake_worker(one, identities[0]) as worker:
        body = {
            "command": "true",
            "workers": [worker_id for worker_id, _ in identities],
            "time_to_live": 600,
        }
        begun = (await one.call("/api/v1/processes", body)).body
        message = await running(worker)
        stopping = asyncio.create_task(
            two.call(f"/api/v1/batches/{begun['batch_id']}/stop", {"grace_seconds": 0})
        )
        while not isinstance(told := await worker.hear(), StopProcess):
            pass
        assert told.process_id == message.process_id
        await worker.say(
            ProcessChanged(
                process_id=told.process_id, state=ProcessState.ENDED, at=2.0, signal="killed"
            )
        )
        proof = StopProof(method="group", group_empty=True)
        await worker.say(StopFinished(process_id=told.process_id, gone=True, proof=proof))
        assert (await stopping).body["counts"] == {"ended": 1, "skipped": 1}
        url = f"/api/v1/batches/{begun['batch_id']}/events"
        async with two.served.http.get(url, headers=ADMINISTRATOR) as followed:
            assert b"event: end" in await followed.read()


async def test_what_is_concluded_under_an_older_term_is_not_written(
    sites: list[FleetSite],
) -> None:
    """A controller that stood still while the worker moved on, and goes on where it was."""
    one, two = sites
    identity = await one.enrol()
    await knows_workers(two)
    stale = one.controller.fleet.exchange
    assert stale is not None
    older = await stale.crossing.connect(identity[0])
    async with fake_worker(two, identity) as worker:
        starting = asyncio.create_task(two.start(worker.worker_id, "true"))
        message = await running(worker)
        await starting
        gone = ProcessChange(
            process_id=message.process_id,
            worker_id=worker.worker_id,
            state=ProcessState.UNKNOWN,
            at=3.0,
            term=older,
        )
        assert await one.controller.ledger.change_process(gone) is None
        assert not await stale.crossing.make_ready(worker.worker_id, older, ())
        await stale.crossing.disconnect(worker.worker_id, older)
        assert (await one.query(worker.worker_id, message.process_id))["done"] is False
        places = await stale.connections()
        assert places[worker.worker_id].controller_id == two.controller.membership.controller_id
        removed = await one.call(f"/api/v1/workers/{worker.worker_id}", method="DELETE")
        assert removed.status == 204
        assert (await worker.socket.receive()).type is aiohttp.WSMsgType.CLOSE
        url = f"/api/v1/workers/{worker.worker_id}/control"
        headers = {"Authorization": f"Bearer {identity[1].reveal()}"}
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with two.served.http.ws_connect(url, headers=headers):
                pass


async def test_between_controllers_exactly_the_certificate_of_the_register_is_taken(
    postgresql_url: str, tmp_path: Path
) -> None:
    tls = make_tls(tmp_path / "tls")
    async with (
        controller(postgresql_url, tmp_path / "one") as one,
        controller(postgresql_url, tmp_path / "two", tls) as two,
    ):
        peers, there = one.controller.peers, two.controller.membership
        answer = await peers.get(there.controller_id, "/healthz")
        assert (answer.status, await answer.whole()) == (200, b'{"status":"ok"}')
        other = make_tls(tmp_path / "other").certificate.read_text()
        for certificate in (other, None):
            there.introduce(peer_key=two.controller.peers.public_key, certificate=certificate)
            await there.round()
            await one.controller.membership.round()
            with pytest.raises(PeerError, match="cannot be reached at https"):
                await peers.get(there.controller_id, "/healthz")
        with pytest.raises(PeerError, match="says nowhere"):
            await peers.get("nobody", "/healthz")

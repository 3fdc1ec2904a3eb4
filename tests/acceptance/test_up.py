"""`roundsman up` as a process: with tokens, through reloads, stops and starts."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from roundsman.client import ControllerClient
from roundsman.client.errors import ControllerError
from roundsman.controller.access import NewToken, new_token
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.wire.manage import Overview
from roundsman.wire.run import Outcome


class _Up:
    """A running site; `events` are the log's, one JSON object a line."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def event(self, name: str) -> dict[str, object]:
        """The next event of that name."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            event: dict[str, object] = msgspec.json.decode(line)
            if event["event"] == name:
                return event
        raise AssertionError(f"it ended without {name}")


def write(file: Path, fleet: SimulatedFleet, token: NewToken) -> None:
    document = fleet.configuration(every="1 day")
    document["controller"] = {
        "data": "data",
        "listen": {"port": 0},
        "log": {"format": "json"},
        "tokens": [{"name": "ops", "role": "administrator", "hash": token.hash}],
    }
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(document))


@asynccontextmanager
async def up(file: Path) -> AsyncIterator[_Up]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "roundsman", "up", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("Serving on ")
        yield _Up(process, line.removeprefix("Serving on ").strip())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def overview(url: str, token: NewToken) -> Overview:
    async with ControllerClient(url, token=token.token) as client:
        return await client.manage.overview()


async def test_a_site_works_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Fault 13: ids of workers were new after a restart, and workers forgotten."""
    token = new_token()
    file = tmp_path / "site.json"
    async with SimulatedFleet(3, with_faults=False) as fleet:
        write(file, fleet, token)
        async with (
            up(file) as site,
            ControllerClient(site.url, token=token.token) as client,
        ):
            for device in fleet.devices:
                await client.manage.run_now(device.name, f"{device.kind.name}_configuration")
            while len((before := await client.manage.runs()).items) < 3:
                pass  # each look is a call over HTTP
            workers = (await client.manage.workers()).items
            site.process.send_signal(signal.SIGTERM)
            assert await site.process.wait() == 0
        assert [run.outcome for run in before.items] == [Outcome.SUCCEEDED] * 3
        async with (
            up(file) as site,
            ControllerClient(site.url, token=token.token) as client,
        ):
            await site.event("control.connected")
            after = await client.manage.runs()
            assert after.items == before.items
            [worker] = (await client.manage.workers()).items
            assert worker.worker_id == workers[0].worker_id
            content = await client.manage.latest("ios-01", "ios_configuration")
            assert content.startswith(b"!") or b"hostname ios-01" in content


async def test_nobody_without_a_token_is_let_in(tmp_path: Path) -> None:
    async with SimulatedFleet(1, with_faults=False) as fleet:
        file = tmp_path / "site.json"
        write(file, fleet, new_token())
        async with up(file) as site, ControllerClient(site.url) as client:
            with pytest.raises(ControllerError):
                await client.manage.devices()


async def test_a_bad_reload_leaves_the_old_configuration_in_force(tmp_path: Path) -> None:
    token = new_token()
    file = tmp_path / "site.json"
    async with SimulatedFleet(2, with_faults=False) as fleet:
        write(file, fleet, token)
        good = file.read_bytes()
        async with up(file) as site:
            file.write_bytes(good.replace(b'"credentials"', b'"credentails"'))
            site.process.send_signal(signal.SIGHUP)
            refused = await site.event("configuration.refused")
            assert "did you mean" in str(refused["problems"])
            assert (await overview(site.url, token)).devices == 2
            document = msgspec.json.decode(good)
            del document["devices"]["junos-01"]
            file.write_bytes(msgspec.json.encode(document))
            site.process.send_signal(signal.SIGHUP)
            await site.event("configuration.in_force")
            assert (await overview(site.url, token)).devices == 1
            site.process.send_signal(signal.SIGTERM)
            assert await site.process.wait() == 0

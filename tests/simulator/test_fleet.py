"""The fleet of the demo, and the configuration that matches it."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from roundsman.config.load import load
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.simulator.kinds import IOS
from roundsman.testing.clock import ManualClock
from roundsman.wire.execution import Execution
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy


async def back_up(fleet: SimulatedFleet, folder: Path) -> dict[str, bytes | FailureClass]:
    """Run what the fleet's own configuration says, once per device, as a worker would."""
    file = folder / "fleet.json"
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(fleet.configuration()))
    configuration = load(file, environ={})
    keys = HostKeyStore(folder / "known_hosts", HostKeyPolicy.TRUST_ON_FIRST_USE)

    async def one(execution: Execution) -> bytes | FailureClass:
        with (folder / execution.device.name).open("w+b") as result:
            kept = ResultFile(result, max_bytes=1 << 20, scratch_folder=folder)
            try:
                await runner.run(execution, kept)
            except RunFailedError as error:
                return error.failure_class
            result.seek(0)
            return result.read()

    with contextlib.closing(SessionRunner(keys)) as runner:
        executions = [
            Execution(device=slot.device, job=slot.job, timestamp=0)
            for slot in configuration.slots.values()
        ]
        results = await asyncio.gather(*map(one, executions))
    return {e.device.name: result for e, result in zip(executions, results, strict=True)}


async def test_a_dozen_devices_of_three_kinds_are_backed_up_by_their_configuration(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with SimulatedFleet(12, config_bytes=1000, clock=clock, change_seconds=60) as fleet:
        assert {device.kind.name for device in fleet.devices} == {"ios", "junos", "linux"}
        first = await back_up(fleet, tmp_path)
        await clock.sleepers()
        clock.advance(60)
        await clock.sleepers()
        second = await back_up(fleet, tmp_path)
    assert len(first) == 12
    failed = {name: result for name, result in first.items() if isinstance(result, FailureClass)}
    assert failed == {"linux-01": FailureClass.AUTHENTICATION}
    assert [name for name in first if first[name] != second[name]] == ["ios-01"]
    for result in first.values():
        assert isinstance(result, FailureClass) or b"$1$" not in result
        assert isinstance(result, FailureClass) or b"$6$" not in result


async def test_a_fleet_grows_to_hundreds_in_one_process() -> None:
    async with SimulatedFleet(300, kinds=[IOS], with_faults=False) as fleet:
        assert len({device.port for device in fleet.devices}) == 300
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", fleet.devices[-1].port)

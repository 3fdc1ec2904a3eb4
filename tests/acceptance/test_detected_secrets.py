"""What slipped through the scrubbers, told by a whole site, and refused by it."""

from pathlib import Path

import msgspec
import pytest

from roundsman.client import ControllerClient
from roundsman.controller.access import new_token
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.simulator.kinds import IOS
from roundsman.wire.run import FailureClass, Outcome
from tests.acceptance.test_up import up, write

JOB = "ios_configuration"


@pytest.mark.parametrize("setting", ["report", "refuse"])
async def test_a_run_tells_what_looks_like_a_secret(tmp_path: Path, setting: str) -> None:
    token = new_token()
    file = tmp_path / "site.json"
    async with SimulatedFleet(1, kinds=[IOS], with_faults=False) as fleet:
        [device] = fleet.devices
        write(file, fleet, token)
        document = msgspec.json.decode(file.read_bytes())
        document["controller"]["detected_secrets"] = setting
        file.write_bytes(msgspec.json.encode(document))
        async with up(file) as site, ControllerClient(site.url, token=token.token) as client:
            await client.manage.run_now(device.name, JOB)
            run = await client.manage.run(str((await site.event("intake.kept"))["run_id"]))
            [found] = run.detected_secrets
            assert (found.detector, found.count) == ("snmp_community", 1)
            if setting == "report":
                assert run.outcome is Outcome.SUCCEEDED
                return
            assert (run.outcome, run.failure_class) == (Outcome.FAILED, FailureClass.SECRETS)
            transcript = await client.manage.transcript(run.run_id)
            assert b"snmp-server community <secret hidden> RO" in transcript
            assert b"revision-" not in transcript

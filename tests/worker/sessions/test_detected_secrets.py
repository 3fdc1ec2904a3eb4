"""What looks like a secret after all filters: told, or refused, on its way out of the worker."""

import pytest

from roundsman.simulator.device import SimulatedDevice
from roundsman.simulator.kinds import IOS
from roundsman.wire.job import Command, DetectedSecrets, Scrubber, ScrubberType
from roundsman.wire.run import FailureClass, SecretFinding
from tests.worker.sessions.conftest import Bench, commands

SHOW = "show running-config"
HASH = Scrubber(type=ScrubberType.REGEX, search=r"^enable secret .*$", replace="-")
COMMUNITY = Scrubber(type=ScrubberType.REGEX, search=r"community \S+", replace="community -")


async def test_a_result_says_what_was_found_after_its_scrubbers(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        result = await bench.run(device, commands(SHOW, scrubbers=(HASH,)))
    line = result[: result.index(b"community")].count(b"\n") + 1
    assert bench.detected_secrets == (SecretFinding(detector="snmp_community", line=line, count=1),)
    assert b"revision-1" in result


async def test_a_result_without_scrubbers_is_looked_at_too(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        result = await bench.run(device, commands(SHOW))
    assert {one.detector for one in bench.detected_secrets} == {"crypt_hash", "snmp_community"}
    assert result.endswith(b"end\n\n")


async def test_nothing_is_said_where_nothing_is_left(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        await bench.run(
            device,
            commands(SHOW, scrubbers=(HASH, COMMUNITY), detected_secrets=DetectedSecrets.REFUSE),
        )
    assert bench.detected_secrets == ()


async def test_a_job_may_refuse_and_then_nothing_of_it_leaves(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        kind, text = await bench.fail(
            device,
            commands(SHOW, scrubbers=(HASH,), detected_secrets=DetectedSecrets.REFUSE),
        )
    assert kind is FailureClass.SECRETS
    assert "snmp_community (1, first on line" in text
    assert "revision-1" not in text
    assert b"snmp-server community <secret hidden> RO" in bench.evidence
    assert b"revision-1" not in bench.evidence
    assert bench.detected_secrets


async def test_a_job_may_look_for_nothing(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        await bench.run(device, commands(SHOW, detected_secrets=DetectedSecrets.IGNORE))
    assert bench.detected_secrets == ()


@pytest.mark.parametrize("setting", DetectedSecrets)
async def test_evidence_of_any_failure_is_masked(bench: Bench, setting: DetectedSecrets) -> None:
    job = commands(Command(command=SHOW, expect=("never",)), detected_secrets=setting)
    async with SimulatedDevice(IOS, "r1") as device:
        await bench.fail(device, job)
    assert b"snmp-server community <secret hidden> RO" in bench.evidence

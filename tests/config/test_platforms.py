"""What a platform adds to devices and jobs."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roundsman.config import netmiko
from roundsman.platforms import load
from roundsman.wire.job import (
    DetectedSecrets,
    File,
    FileSet,
    Job,
    JobType,
    Scrubber,
    ScrubberType,
    Transfer,
)
from tests.config.files import loaded, problems

OWN = Scrubber(type=ScrubberType.SIMPLE, search="mine")
HOURLY = {"schedule": {"duration": "1 hour"}}


def jobs(folder: Path, job: dict[str, Any], platform: str | None = "ios") -> Job:
    """The job as it is handed out for a device of that platform."""
    own = {"type": "simple", "search": "mine"}
    said = {
        "jobs": {"a": {**HOURLY, "scrubbers": [own], **job}},
        "devices": {"edge1": {"jobs": ["a"], **({"platform": platform} if platform else {})}},
    }
    return loaded(folder, said).slots["edge1", "a"].job


def test_a_standard_job_has_the_commands_and_filters_of_the_platform(tmp_path: Path) -> None:
    ios = load.by_name("cisco_ios")
    job = jobs(tmp_path, {"standard": "backup"})
    assert job.standard is None
    assert job.command_set is not None
    assert job.command_set.commands == ios.standard["backup"]
    assert job.command is not None
    assert job.command.inline[-1] == "show running-config"
    assert job.scrubbers == (*ios.noise, *ios.secrets, OWN)


def test_a_job_of_its_own_commands_has_the_secret_filters(tmp_path: Path) -> None:
    ios = load.by_name("cisco_ios")
    said = {"commands": ["show clock"]}
    assert jobs(tmp_path, said).scrubbers == (*ios.secrets, OWN)
    assert jobs(tmp_path, {**said, "keep_secrets": True}).scrubbers == (OWN,)
    assert jobs(tmp_path, said, platform=None).scrubbers == (OWN,)
    kept = jobs(tmp_path, {"standard": "backup", "keep_secrets": True})
    assert kept.scrubbers == (*ios.noise, OWN)


def test_what_becomes_of_detected_secrets(tmp_path: Path) -> None:
    """The job says so; else keeping secrets does, else the controller."""
    said = {"commands": ["show clock"]}
    assert jobs(tmp_path, said).detected_secrets is DetectedSecrets.REPORT
    kept = {**said, "keep_secrets": True}
    assert jobs(tmp_path, kept).detected_secrets is DetectedSecrets.IGNORE
    report = {**kept, "detected_secrets": "report"}
    assert jobs(tmp_path, report).detected_secrets is DetectedSecrets.REPORT
    read = loaded(
        tmp_path,
        {
            "controller": {"detected_secrets": "refuse"},
            "jobs": {"a": {**HOURLY, **said}, "b": {**HOURLY, **report}, "c": {**HOURLY, **kept}},
            "devices": {"edge1": {"jobs": {"a": None, "b": None, "c": None}}},
        },
    )
    assert [slot.job.detected_secrets for slot in read.slots.values()] == [
        DetectedSecrets.REFUSE,
        DetectedSecrets.REPORT,
        DetectedSecrets.IGNORE,
    ]


def test_a_device_overrides_a_standard_job_by_commands(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        {
            "jobs": {"a": {**HOURLY, "standard": "backup"}},
            "device_generics": {"default": {"platform": "cisco_xe", "jobs": ["a"]}},
            "devices": {
                "edge1": {},
                "edge2": {},
                "edge3": {"jobs": {"a": {"commands": ["show version"]}}},
            },
        },
    )
    assert read.jobs["a"].standard == "backup"
    one, two, three = (read.slots[f"edge{n}", "a"].job for n in (1, 2, 3))
    assert one is two
    assert three.command is not None
    assert three.command.inline == ("show version",)
    session = load.by_name("cisco_ios").session
    assert all(device.platform is session for device in read.devices.values())


def test_a_standard_job_may_fetch_files(tmp_path: Path) -> None:
    swos = load.by_name("mikrotik_swos")
    job = jobs(tmp_path, {"standard": "backup"}, platform="swos")
    assert job.type is JobType.FILE
    assert job.standard is None
    assert job.file_set == FileSet(files=(File(name="/backup.swb"),), transfer=Transfer.HTTP)
    assert job.command_set is None
    assert job.scrubbers == (*swos.secrets, OWN)


def test_a_standard_job_over_ssh_is_none_of_telnet(tmp_path: Path) -> None:
    said = {
        "jobs": {"a": {**HOURLY, "standard": "backup"}},
        "devices": {"ups1": {"jobs": ["a"], "platform": "apc", "protocol": {"type": "telnet"}}},
    }
    (problem,) = problems(tmp_path, said)
    assert problem.startswith("config.transfer: site.yaml:1 jobs.a: ups1: the files come by sftp")


def test_a_passphrase_is_a_secret_of_the_device(tmp_path: Path) -> None:
    def card(**credentials: str) -> dict[str, Any]:
        return {
            "jobs": {"a": {**HOURLY, "standard": "backup"}},
            "devices": {
                "ups1": {
                    "jobs": ["a"],
                    "platform": "eaton_network",
                    "credentials": {"user": "x", "pass": "y", **credentials},
                }
            },
        }

    (problem,) = problems(tmp_path, card())
    assert problem.startswith("config.passphrase: site.yaml:1 jobs.a.standard: ups1: the platform")
    job = loaded(tmp_path, card(enable="my own")).slots["ups1", "a"].job
    assert "my own" not in repr(job)
    assert job.command_set is not None
    assert job.command_set.commands[0].passphrase


def test_a_driver_of_netmiko(tmp_path: Path) -> None:
    said = {
        "jobs": {"a": {**HOURLY, "commands": ["show config"]}},
        "devices": {
            "cpe1": {"jobs": ["a"], "platform": "netmiko:accedian"},
            "cpe2": {"jobs": ["a"], "platform": "netmiko:accedian"},
        },
    }
    read = loaded(tmp_path, said)
    device = read.slots["cpe1", "a"].device
    assert (device.netmiko, device.platform) == ("accedian", None)
    (warning,) = (text for text in read.warnings if "netmiko" in text)
    assert warning.startswith("cpe1 and 1 more: read by netmiko, which takes a pattern")


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        ("acedian", 'netmiko has no driver "acedian"; did you mean "accedian"?'),
        ("", "the name of a driver of netmiko is missing; such as netmiko:accedian"),
        ("cisco_ios_telnet", "leave out _telnet, and set protocol.type: telnet"),
        ("cisco_ios_serial", "leave out _serial: workers have no serial line"),
    ],
)
def test_what_is_no_driver_of_netmiko(tmp_path: Path, driver: str, text: str) -> None:
    (problem,) = problems(tmp_path, {"devices": {"cpe1": {"platform": f"netmiko:{driver}"}}})
    assert problem.startswith("config.unknown_platform: site.yaml:1 devices.cpe1.platform: ")
    assert problem.endswith(text)


def test_without_netmiko_any_driver_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netmiko", None)
    netmiko._known_drivers.cache_clear()
    said = {"devices": {"cpe1": {"platform": "netmiko:anything"}}}
    assert loaded(tmp_path, said).devices["cpe1"].netmiko == "anything"
    netmiko._known_drivers.cache_clear()


def test_netmiko_goes_through_no_jump_hosts(tmp_path: Path) -> None:
    said = {
        "jump_hosts": {"j1": {"credentials": {"user": "x", "pass": "y"}}},
        "devices": {"cpe1": {"platform": "netmiko:accedian", "jump_hosts": "j1"}},
    }
    (problem,) = problems(tmp_path, said)
    assert "devices.cpe1.jump_hosts: netmiko goes through no jump hosts" in problem


def test_netmiko_has_no_standard_jobs(tmp_path: Path) -> None:
    said = {
        "jobs": {"a": {**HOURLY, "standard": "backup"}},
        "devices": {"cpe1": {"jobs": ["a"], "platform": "netmiko:accedian"}},
    }
    (problem,) = problems(tmp_path, said)
    assert problem.startswith("config.no_standard_job: ")
    assert "netmiko has none; give the job commands of its own" in problem


def test_a_platform_of_ones_own(tmp_path: Path) -> None:
    own = {
        "description": "Acme OS",
        "prompts": ["acme>"],
        "standard": {"backup": {"commands": [{"command": "dump", "end": "^EOF$"}]}},
        "secrets": ["^(key )\\S+"],
    }
    (tmp_path / "acme.json").write_bytes(msgspec.json.encode(own))
    job = jobs(tmp_path, {"standard": "backup"}, platform="./acme.json")
    assert job.command_set is not None
    assert [(c.command, c.end) for c in job.command_set.commands] == [("dump", "^EOF$")]
    assert job.scrubbers[0].replace == r"\1<secret hidden>"


def test_what_is_wrong_with_a_platform_file_is_told_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("description: Acme\nprompts: ['(']\nmoer: []\n")
    said = {"devices": {"edge1": {"platform": "acme.yaml"}, "edge2": {"platform": "acme.yaml"}}}
    found = problems(tmp_path, said)
    assert [problem.split(": ")[:2] for problem in found] == [
        ["config.platform", "site.yaml:1 devices.edge1.platform"],
        ["config.platform", "site.yaml:1 devices.edge2.platform"],
        ["config.regex", "acme.yaml:2 prompts[0]"],
        ["config.unknown_key", "acme.yaml:3 moer"],
    ]

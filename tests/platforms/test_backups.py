"""The standard backup of each platform, read over real SSH from a device that is as its file says.

It shows that prompts, enable, setup, end marks and filters work together; not that the facts are
right.
"""

import re
from pathlib import Path

import asyncssh
import msgspec
import pytest

from roundsman.platforms import load
from roundsman.platforms.load import Platform
from roundsman.secret import Secret
from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.simulator.kinds import IOS
from roundsman.simulator.terminal import Answer, Dialogue
from roundsman.wire.device import Credentials, Device, Protocol, Ssh
from roundsman.wire.job import CommandSet, Job, Schedule
from roundsman.worker.sessions.manners import LinePattern
from tests.platforms.test_samples import SAMPLES, Sample
from tests.worker.sessions.conftest import Bench, entry

END_MARKS = (
    "end",
    ": end",
    "return",
    "}",
    "# Finished FRI NOV 20 10:00:00 2026 UTC",
    " Done",
    "! ***** END of configuration *****",
)


class Asked(Dialogue):
    """A device with the prompts of a platform's examples and a sample as its configuration."""

    def __init__(self, platform: Platform, config: str) -> None:
        self._platform = platform.session
        self._commands = {command.command: command for command in platform.standard["backup"]}
        self._config = config
        examples = platform.file.examples.prompts
        enable = self._platform.enable
        privileged = [p for p in examples if enable and _is(enable.prompt, p)]
        plain = [p for p in examples if p not in privileged]
        self._enabled = (privileged or plain)[0]
        self._prompt = plain[0]

    def begin(self) -> Answer:
        return Answer(output=b"Authorized users only\r\n description # not a prompt\r\n\r\n")

    def prompt(self) -> bytes:
        return f"{self._prompt} ".encode()

    def answer(self, line: str) -> Answer:
        enable = self._platform.enable
        if self._prompt == "Password:":
            right = line == "s3sam"
            self._prompt = self._enabled if right else self._prompt
            return Answer(output=b"" if right else b"Access denied\r\n")
        if enable and line == enable.command:
            self._prompt = "Password:"
        elif line in self._commands:
            return Answer(output=self._output(line))
        elif line and line in self._platform.logout:
            return Answer(output=b"", ends_session=True)
        elif line and line not in self._platform.setup:
            return Answer(output=b"what is that\r\n")
        return Answer(output=b"")

    def _output(self, line: str) -> bytes:
        lines = self._config.splitlines()
        end = self._commands[line].end
        if end:
            lines.append(next(mark for mark in END_MARKS if re.search(end, mark)))
        return "".join(f"{text}\r\n" for text in lines).encode()


def _is(pattern: str, line: str) -> bool:
    return LinePattern(pattern).is_all_of(line.encode())


class Trusting(Asked):
    """It asks for no password to enable."""

    def answer(self, line: str) -> Answer:
        answer = super().answer(line)
        self._prompt = self._enabled if self._prompt == "Password:" else self._prompt
        return answer


class Counting(Asked):
    """Its prompt counts commands, as those of EXOS do."""

    count = 0

    def prompt(self) -> bytes:
        return b"* X460-48t.%d # " % self.count

    def answer(self, line: str) -> Answer:
        self.count += bool(line)
        return super().answer(line)


class TwoLines(Asked):
    """Its prompt has a line above it, as that of SR Linux."""

    def prompt(self) -> bytes:
        return b"--{ + running }--[  ]--\r\n" + super().prompt()


async def back_up(folder: Path, name: str, kind: type[Asked] = Asked) -> tuple[str, Sample]:
    """What comes of the standard backup of the sample, and the sample."""
    platform, sample = load.by_name(name), sample_of(name)
    async with SimulatedDevice(IOS, "r1", dialogue=lambda: kind(platform, sample.text)) as device:
        described = msgspec.structs.replace(
            entry(device, enable=Secret("s3sam")), platform=platform.session
        )
        return (await Bench(folder).run(described, job_of(platform))).decode(), sample


def sample_of(name: str) -> Sample:
    file = next(file for file in SAMPLES if file.stem == name)
    return msgspec.yaml.decode(file.read_bytes(), type=Sample)


def job_of(platform: Platform) -> Job:
    return Job(
        name="backup",
        schedule=Schedule(fixed=0),
        command_set=CommandSet(commands=platform.standard["backup"]),
        scrubbers=(*platform.noise, *platform.secrets),
    )


class Door(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


@pytest.mark.parametrize(
    "name",
    [
        file.stem
        for file in SAMPLES
        if "backup" in load.by_name(file.stem).standard and not load.by_name(file.stem).session.exec
    ],
)
async def test_a_backup_is_read_and_hides_what_it_must(tmp_path: Path, name: str) -> None:
    result, sample = await back_up(tmp_path, name)
    assert not [secret for secret in sample.must_hide if secret in result]
    lost = [line for line in sample.must_keep if line not in result]
    assert len(lost) <= 1, "noise is not configuration"


@pytest.mark.parametrize("name", ["extreme_voss", "huawei_smartax"])
async def test_enable_may_ask_nothing(tmp_path: Path, name: str) -> None:
    result, sample = await back_up(tmp_path, name, Trusting)
    assert not [secret for secret in sample.must_hide if secret in result]


async def test_prompts_may_count(tmp_path: Path) -> None:
    result, sample = await back_up(tmp_path, "extreme_exos", Counting)
    assert not [line for line in sample.must_keep if line not in result]
    assert "X460" not in result


async def test_prompts_may_have_a_line_above(tmp_path: Path) -> None:
    result, sample = await back_up(tmp_path, "nokia_srlinux", TwoLines)
    assert not [line for line in sample.must_keep if line not in result]
    assert "running" not in result


@pytest.mark.parametrize(
    "name", [file.stem for file in SAMPLES if load.by_name(file.stem).session.exec]
)
async def test_a_backup_without_a_shell(tmp_path: Path, name: str) -> None:
    platform, sample = load.by_name(name), sample_of(name)
    known = {
        f"{command.command} 's3 sam'" if command.passphrase else command.command
        for command in platform.standard["backup"]
    }

    def serve(process: "asyncssh.SSHServerProcess[str]") -> None:
        process.stdout.write(sample.text)
        process.exit(0 if process.command in known else 127)

    server = await asyncssh.listen(
        HOST,
        0,
        server_factory=Door,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=serve,
    )
    async with server:
        ssh = Ssh(port=server.get_port())
        device = Device(
            name="r1",
            host=HOST,
            protocol=Protocol(ssh=ssh),
            platform=platform.session,
            credentials=Credentials(user="x", password=Secret("y"), enable=Secret("s3 sam")),
        )
        result = (await Bench(tmp_path).run(device, job_of(platform))).decode()
    assert not [secret for secret in sample.must_hide if secret in result]
    assert not [line for line in sample.must_keep if line not in result]

"""Runs against simulated devices, over real SSH."""

import asyncio
import logging
import resource
import time
from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from roundsman.simulator.device import HOST, SimulatedDevice
from roundsman.simulator.faults import Faults
from roundsman.simulator.kinds import IOS, KINDS, Kind, Leave, State
from roundsman.wire.device import Device, Prompt, Protocol, Ssh
from roundsman.wire.job import Command, InlineCommands, Job, Schedule, Scrubber, ScrubberType
from roundsman.wire.run import FailureClass
from roundsman.worker import patterns
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.settings import HostKeyPolicy
from tests.worker.sessions.conftest import Bench, commands, entry

SHOW = "show running-config"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_configuration_is_read_exactly(bench: Bench, kind: Kind) -> None:
    async with SimulatedDevice(kind, "r1") as device:
        job = commands(kind.backup, ends_with=kind.prompt_ends_with)
        assert await bench.run(device, job) == device.output(kind.backup).encode()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "faults",
    [
        Faults(piece_bytes=1),
        Faults(piece_bytes=7),
        Faults(piece_bytes=50, piece_seconds=0.001),
        Faults(latency=0.1),
        Faults(without_echo=True),
        Faults(echoes_while_busy=True, piece_bytes=3),
    ],
    ids=lambda faults: ",".join(k for k, v in vars(faults).items() if v),
)
async def test_a_configuration_is_read_exactly_from_awkward_devices(
    bench: Bench, kind: Kind, faults: Faults
) -> None:
    """Fault 14: a prompt-like line cuts the output, also a success."""
    async with SimulatedDevice(kind, "r1", faults=faults, config_bytes=1500) as device:
        job = commands(kind.backup, ends_with=kind.prompt_ends_with)
        assert await bench.run(device, job) == device.output(kind.backup).encode()


async def test_outputs_are_concatenated_in_order(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        job = Job(
            name="both",
            schedule=Schedule(fixed=0),
            command=InlineCommands(inline=("terminal length 0", "show version", SHOW)),
        )
        expected = device.output("show version") + device.output(SHOW)
        assert await bench.run(device, job) == expected.encode()


async def test_ten_large_outputs_at_once_are_equal_byte_for_byte(bench: Bench) -> None:
    """Fault 14: lines of large outputs lost and others doubled, marked as success."""

    async def one(number: int) -> None:
        async with SimulatedDevice(IOS, f"r{number}", config_bytes=1_700_000) as device:
            folder = bench.folder / str(number)
            folder.mkdir()
            result = await Bench(folder).run(device, commands(SHOW))
            assert len(result) >= 1_700_000
            assert result == device.output(SHOW).encode()

    await asyncio.gather(*map(one, range(10)))


class Endless(asyncssh.SSHServer):
    """A device that asks for no credentials and holds no more of its output than a block."""

    block = "".join(f"line {number} description # r1#\n" for number in range(20_000))
    repeated = 100

    def begin_auth(self, username: str) -> bool:
        return False

    @classmethod
    async def serve(cls, stdin: Any, stdout: Any, _: Any) -> None:
        command = b""
        while command != b"exit":
            if command:
                for _number in range(cls.repeated):
                    stdout.write(cls.block.replace("\n", "\r\n").encode())
                    await stdout.drain()
            stdout.write(b"r1#")
            line = await stdin.readuntil(b"\n")
            stdout.write(line.replace(b"\n", b"\r\n"))
            command = line.strip()
        stdout.close()


async def test_large_outputs_are_not_held_in_memory(bench: Bench) -> None:
    """70 MB pass through session and scrubber, which may take no more than 40 MB for it."""
    server = await asyncssh.listen(
        HOST,
        0,
        server_factory=Endless,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        session_factory=Endless.serve,
        encoding=None,
        line_editor=False,
    )
    scrubber = Scrubber(type=ScrubberType.REGEX, search=r"line \d+ ", replace="line ")
    async with server:
        port = server.get_port()
        device = Device(name="r1", host=HOST, protocol=Protocol(ssh=Ssh(port=port)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = await bench.run(device, commands("show", scrubbers=(scrubber,)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert result == b"line description # r1#\n" * 20_000 * Endless.repeated
    assert grown * 1024 < len(result) + (40 << 20)  # the test itself holds the result


async def test_a_silent_peer_does_not_hold_a_session(bench: Bench) -> None:
    """Fault 15: a silent TCP peer holds a session for ever."""
    bench.limits = replace(bench.limits, login=0.3)
    async with SimulatedDevice(IOS, "r1", faults=Faults(silent=True)) as device:
        before = time.monotonic()
        failure, text = await bench.fail(device, commands(SHOW))
        assert time.monotonic() - before < 30
        assert failure is FailureClass.TIMED_OUT
        assert "accepted the connection, but the SSH handshake did not end within 0.3 s" in text


async def test_a_device_without_credentials_does_not_harm(bench: Bench) -> None:
    """Fault 15: a device without credentials crashes the worker."""
    async with SimulatedDevice(IOS, "r1") as device:
        bare = Device(name="r1", host=HOST, protocol=Protocol(ssh=Ssh(port=device.port)))
        failure, text = await bench.fail(bare, commands(SHOW))
        assert failure is FailureClass.AUTHENTICATION
        assert "did not accept the credentials of user 'roundsman'" in text


async def test_a_job_without_commands_does_not_harm(bench: Bench) -> None:
    """Fault 15: a null job or an empty list crashes the worker."""
    device = Device(name="r1", host=HOST)
    empty = Job(name="nothing", schedule=Schedule(fixed=0))
    failure, text = await bench.fail(device, empty)
    assert failure is FailureClass.INVALID
    assert text == "nothing on r1 (127.0.0.1): the job names no commands"


async def test_a_refused_password_is_told_without_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with SimulatedDevice(IOS, "r1", faults=Faults(refuses_password=True)) as device:
        failure, text = await bench.fail(device, commands(SHOW))
        assert failure is FailureClass.AUTHENTICATION
        assert "did not accept the credentials of user 'admin'" in text
        assert device.password not in text + caplog.text


async def test_nobody_listening_is_refused(bench: Bench) -> None:
    device = SimulatedDevice(IOS, "r1")
    await device.start()
    await device.stop()
    failure, text = await bench.fail(device, commands(SHOW))
    assert failure is FailureClass.REFUSED
    assert text.endswith(f"127.0.0.1 port {device.port} refused the connection")


async def test_a_name_that_is_not_found_is_unreachable(bench: Bench) -> None:
    device = Device(name="r1", host="no-such-host.invalid")
    failure, text = await bench.fail(device, commands(SHOW))
    assert failure is FailureClass.UNREACHABLE
    assert "show_run on r1 (no-such-host.invalid): no-such-host.invalid was not found" in text


async def test_a_connection_that_is_cut_is_closed_early_with_evidence(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", faults=Faults(closes_after_bytes=700)) as device:
        failure, text = await bench.fail(device, commands(SHOW))
        assert failure is FailureClass.CLOSED_EARLY
        assert "the last that came was" in text
        assert b"hostname r1\n" in bench.evidence


async def test_a_device_that_stalls_times_out_with_evidence(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", faults=Faults(stalls_after_bytes=700)) as device:
        job = commands(Command(command=SHOW, timeout=1))
        failure, text = await bench.fail(device, job)
        assert failure is FailureClass.TIMED_OUT
        assert (
            "'show running-config' did not end within 1 s: expected a prompt of 'r1#', ending "
            "with '#', after it" in text
        )
        assert b"hostname r1\n" in bench.evidence


async def test_a_prompt_that_never_comes(bench: Bench) -> None:
    bench.limits = replace(bench.limits, prompt=0.3)
    async with SimulatedDevice(IOS, "r1") as device:
        failure, text = await bench.fail(device, commands(SHOW, ends_with=">"))
        assert failure is FailureClass.PROMPT
        assert "no prompt ending with '>' came within 0.3 s; the last that came was" in text
        assert "r1#'" in text


async def test_evidence_is_scrubbed_and_shows_no_credentials(bench: Bench) -> None:
    kind = replace(
        IOS, commands={"show": lambda _: "password letmein\nsecret 5 $1$abc\n", "exit": Leave()}
    )
    async with SimulatedDevice(kind, "r1") as device:
        job = commands(
            Command(command="show", expect=("never",)),
            scrubbers=(Scrubber(type=ScrubberType.REGEX, search=r"secret 5 \S+", replace="-"),),
        )
        failure, text = await bench.fail(device, job)
        assert failure is FailureClass.COMMAND
        assert "the output of 'show' does not match 'never'" in text
        assert b"password ********\n-\n" in bench.evidence
        for seen in (bench.evidence.decode(), text):
            assert "letmein" not in seen
            assert "$1$abc" not in seen


async def test_expectations(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        good = Command(command=SHOW, expect=("^nothing", "^end$"), expect_not=("Invalid",))
        assert await bench.run(device, commands(good))
        bad = Command(command="show nonsense", expect_not=("Invalid input",))
        failure, text = await bench.fail(device, commands(bad))
        assert failure is FailureClass.COMMAND
        assert "the output of 'show nonsense' matches 'Invalid input', which it must not" in text


async def test_text_without_enter(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        job = commands(Command(command="show version\n", implicit_enter=False))
        assert await bench.run(device, job) == device.output("show version").encode()


async def test_the_mode_may_change(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        job = commands("configure terminal", "end", SHOW)
        assert await bench.run(device, job) == device.output(SHOW).encode()


async def test_the_login_prompt_may_be_another_than_the_jobs(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        login = entry(device, prompt=Prompt(ends_with="r1#"))
        assert await bench.run(login, commands(SHOW)) == device.output(SHOW).encode()


async def test_a_result_that_is_too_large(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1", config_bytes=100_000) as device:
        failure, _ = await bench.fail(device, commands(SHOW), max_bytes=50_000)
        assert failure is FailureClass.TOO_LARGE
        endless = SimulatedDevice(IOS, "r2", config_bytes=3_000_000)
    async with endless:
        failure, _ = await bench.fail(endless, commands(SHOW), max_bytes=1000)
        assert failure is FailureClass.TOO_LARGE


async def test_a_run_that_brings_nothing(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        failure, _ = await bench.fail(device, commands("terminal length 0"))
        assert failure is FailureClass.EMPTY


async def test_scrubbers_are_applied_to_the_whole_result_in_order(bench: Bench) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        scrubbers = (
            Scrubber(type=ScrubberType.SIMPLE, search="hostname", replace="name"),
            Scrubber(type=ScrubberType.REGEX, search=r"^name \S+\n!\n", replace=r"\1\n"),
            Scrubber(
                type=ScrubberType.REGEX_SUBSTITUTE,
                search=r"(enable secret )(?P<kind>\d) \S+",
                replace=r"\g<kind> \1gone",
            ),
        )
        result = (await bench.run(device, commands(SHOW, scrubbers=scrubbers))).decode()
        expected = device.output(SHOW).replace("hostname r1\n!\n", r"\1\n")
        assert result == expected.replace(
            "enable secret 5 $1$mERr$hx5rVt7rPNoS4wqbXKX7m0", "5 enable secret gone"
        )


@pytest.mark.parametrize(
    "scrubber",
    [
        Scrubber(type=ScrubberType.REGEX, search="("),
        Scrubber(type=ScrubberType.REGEX_SUBSTITUTE, search="hostname", replace=r"\7"),
    ],
)
async def test_a_scrubber_that_cannot_be_applied_is_never_skipped(
    bench: Bench, scrubber: Scrubber
) -> None:
    async with SimulatedDevice(IOS, "r1") as device:
        failure, _ = await bench.fail(device, commands(SHOW, scrubbers=(scrubber,)))
        assert failure is FailureClass.SCRUBBER
        assert bench.evidence == b""


async def test_a_catastrophic_pattern_holds_up_no_other_session(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "BLOCK_SECONDS", 3)
    bad = Scrubber(type=ScrubberType.REGEX, search=r"^(\w|\w\w|/)+$")
    kind = replace(IOS, commands={"show": lambda _: "/" + "a" * 200 + "!\n", "exit": Leave()})
    folder = bench.folder / "bad"
    folder.mkdir()
    async with SimulatedDevice(kind, "r1") as one, SimulatedDevice(IOS, "r2") as other:
        ill = asyncio.create_task(Bench(folder).fail(one, commands("show", scrubbers=(bad,))))
        good = Scrubber(type=ScrubberType.REGEX, search="hostname", replace="name")
        for _ in range(5):
            assert b"\nname r2\n" in await bench.run(other, commands(SHOW, scrubbers=(good,)))
        assert not ill.done()
        failure, text = await ill
        assert failure is FailureClass.SCRUBBER
        assert "took too long" in text


async def test_a_changed_host_key_is_a_failure_that_names_both(bench: Bench) -> None:
    """Fault 10: no host-key check."""
    device = SimulatedDevice(IOS, "r1")
    async with device:
        assert await bench.run(device, commands(SHOW))
        assert await bench.run(device, commands(SHOW))
    pinned = device.host_key.get_fingerprint()
    device.host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with device:
        failure, text = await bench.fail(device, commands(SHOW))
        assert failure is FailureClass.HOST_KEY
        assert pinned in text
        assert device.host_key.get_fingerprint() in text
        assert f"remove the line that begins with [127.0.0.1]:{device.port} from" in text
        assert device.sessions == 2
        bench.known_hosts.unlink()  # what a person does who knows why it changed
        assert await bench.run(device, commands(SHOW))


async def test_only_known_host_keys_where_that_is_asked_for(bench: Bench) -> None:
    """Fault 10: no host-key check."""
    bench.policy = HostKeyPolicy.KNOWN
    async with SimulatedDevice(IOS, "r1") as device:
        failure, text = await bench.fail(device, commands(SHOW))
        assert failure is FailureClass.HOST_KEY
        assert device.host_key.get_fingerprint() in text
        given = device.host_key.export_public_key().decode()
        assert await bench.run(entry(device, ssh={"host_keys": (given,)}), commands(SHOW))
        bench.policy = HostKeyPolicy.TRUST_ON_FIRST_USE
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        failure, text = await bench.fail(entry(device, ssh={"host_keys": (other,)}), commands(SHOW))
        assert failure is FailureClass.HOST_KEY
        assert "change protocol.ssh.host_keys of the device" in text
        assert not bench.known_hosts.exists()


async def test_a_cancelled_run_lets_go_of_the_device_and_keeps_what_it_said(bench: Bench) -> None:
    asked = asyncio.Event()

    def prints(_: State) -> str:
        asked.set()
        return "the beginning of something"

    kind = replace(IOS, commands={"show": prints})
    async with SimulatedDevice(kind, "r1", faults=Faults(stalls_after_bytes=10)) as device:
        task = asyncio.create_task(bench.run(device, commands("show")))
        await asked.wait()
        task.cancel()
        with pytest.raises(RunFailedError, match="within the 600 seconds") as caught:
            async with asyncio.timeout(30):
                await task
    assert caught.value.failure_class is FailureClass.TIMED_OUT
    assert b"watched by a dog" in bench.evidence

"""Devices out of their minds: a few seeds of `make fuzz`, floods, and outputs of any shape."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roundsman.simulator.faults import Faults
from roundsman.simulator.server import HOST, DialogueServer
from roundsman.simulator.terminal import Answer, Dialogue
from roundsman.wire.device import Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import TimeLimits
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.sessions.shell import Patience
from tests.worker.sessions import fuzz
from tests.worker.sessions.conftest import Bench, commands
from tests.worker.sessions.corpus import HOST_KEY, rendered

HUGE = 100 << 20
MOST_MEMORY = 40 << 20
LIMITS = TimeLimits(prompt=2, leave=0.5, patience=Patience(first=0.05, repeated=0.3, greeting=1))


@pytest.mark.parametrize("seed", range(6))
async def test_a_device_out_of_its_mind_ends_in_a_class_or_is_whole(seed: int) -> None:
    verdict = await fuzz.fuzz(seed)
    assert not verdict.startswith("wrong"), f"seed {seed}: {verdict}"


@asynccontextmanager
async def telnet_device(
    flood: bytes, size: int, greeting: bytes = b""
) -> AsyncIterator[tuple[Device, list[int]]]:
    """It writes `flood` again and again, up to `size` bytes or until it is left."""
    written = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.create_task(reader.read(-1))
        try:
            writer.write(greeting)
            while written[0] < size:
                writer.write(flood)
                written[0] += len(flood)
                await writer.drain()
        except OSError:
            pass
        finally:
            reading.cancel()
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        telnet = Telnet(port=server.sockets[0].getsockname()[1])
        protocol = Protocol(type=ProtocolType.TELNET, telnet=telnet)
        yield Device(name="r1", host=HOST, protocol=protocol, platform=fuzz.PLATFORM), written


@pytest.mark.parametrize(
    ("flood", "greeting"),
    [
        (b"1" * 65536, b"\x1b]0;"),
        (b"1" * 65536, b"\x1bP"),
        (b"\xff\xfb\x01\xff\xfd\x18\xff\xfc\x01\xff\xfe\x18" * 4096, b""),
        (b"\xff\xfa\x18\x01" + b"x" * 65536, b""),
        (b"r1#\r\n" * 10_000, b""),
        (b"Welcome\r\n" * 7000, b""),
        (b"Sure? [y/n] ", b""),
        (b"--More--\r        \r", b""),
    ],
    ids=["OSC", "DCS", "options", "suboption", "prompts", "banner", "questions", "pagers"],
)
async def test_a_flood_costs_bounded_memory_and_time(
    bench: Bench, flood: bytes, greeting: bytes
) -> None:
    bench.limits = LIMITS
    async with telnet_device(flood, HUGE, greeting) as (device, written):
        tracemalloc.start()
        try:
            job = commands("show", ends_with=None, command_timeout=2)
            async with asyncio.timeout(30):
                failure, _ = await bench.fail(device, job, max_bytes=1 << 20)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert failure is not FailureClass.INTERNAL
    assert peak < MOST_MEMORY, f"{peak >> 20} MiB after {written[0] >> 20} MiB"


class Said(Dialogue):
    """A device with one command."""

    def __init__(self, output: bytes, banner: bytes) -> None:
        self._output = output
        self._banner = banner

    def begin(self) -> Answer:
        return Answer(output=self._banner)

    def prompt(self) -> bytes:
        return b"r1#"

    def answer(self, line: str) -> Answer:
        return Answer(output=self._output if line == "show" else b"", ends_session=line == "exit")


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"r1#", b"r1# show", b"#", b"r1>", b"--More--", b"", b" ", b"end", b"% x"]
        ),
        st.binary(max_size=40).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"")),
        st.text(max_size=20).map(lambda text: "".join(text.splitlines()).encode()),
    ),
    max_size=12,
)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=LINES,
    banner=LINES,
    line_end=st.sampled_from([b"\r\n", b"\r\r\n", b"\n"]),
    pieces=st.sampled_from([None, 1, 7]),
)
def test_the_result_is_what_was_sent_or_a_failure(
    lines: list[bytes], banner: list[bytes], line_end: bytes, pieces: int | None
) -> None:
    output = b"first\r\n" + b"".join(line + line_end for line in lines)
    greeting = b"".join(line + b"\r\n" for line in banner)

    async def read() -> bytes | None:
        server = DialogueServer(
            lambda: Said(output, greeting), faults=Faults(piece_bytes=pieces), host_key=HOST_KEY
        )
        with TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            bench.limits = LIMITS
            async with server:
                ssh = Protocol(ssh=Ssh(port=server.port))
                device = Device(name="r1", host=HOST, protocol=ssh)
                job = commands("show", ends_with=None, command_timeout=3)
                try:
                    return await bench.run(device, job)
                except RunFailedError as error:
                    if error.failure_class is FailureClass.INTERNAL:
                        raise
                    return None

    result = asyncio.run(read())
    assert result is None or result == rendered(output)

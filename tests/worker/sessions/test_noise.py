"""Devices out of their minds: whatever comes, a session ends in time, with a failure of a class."""

import asyncio
import random
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from roundsman.simulator.device import HOST
from roundsman.wire.device import Device, Protocol, Ssh
from roundsman.wire.platform import Pager, Platform, Question
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.sessions.terminal import LineRenderer
from tests.worker.sessions.conftest import Bench, commands
from tests.worker.sessions.corpus import HOST_KEY, Door

LIMIT = 4 << 20
"""Bytes of the largest result in these tests."""

PLATFORM = Platform(
    name="test",
    prompts=(r"\S+[#>]",),
    more=(Pager(pattern=r"-+ ?More ?-+"),),
    questions=(Question(pattern=r"\[y/n\]\s*$", answer="y\n"),),
)

Endless = Callable[[random.Random], Iterator[bytes]]


def random_bytes(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield chance.randbytes(20_000)


def half_utf8(chance: random.Random) -> Iterator[bytes]:
    text = "é☃𝄞 naïve # > ".encode() * 100
    while True:
        cut = chance.randrange(1, 30)
        yield text[cut : -chance.randrange(1, 30)] + b"\r\n"


def prompts(_: random.Random) -> Iterator[bytes]:
    while True:
        yield b"r1#\r\n" * 1000


def prompts_on_one_line(_: random.Random) -> Iterator[bytes]:
    while True:
        yield b"r1#" * 1000


def pagers_and_questions(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield chance.choice([b"--More--", b"\r        \r", b"Sure? [y/n] ", b"text\r\n", b"r1#"])


def escapes(chance: random.Random) -> Iterator[bytes]:
    pieces = [
        b"\x1b",
        b"\x1b[",
        b"\x1b]0;",
        b"\x1b[2K",
        b"\x1b[999999999C",
        b"\b",
        b"\r",
        b"x",
        b"\n",
    ]
    while True:
        yield b"".join(chance.choices(pieces, k=2000))


def one_line(_: random.Random) -> Iterator[bytes]:
    while True:
        yield b"x" * 30_000


NOISES: list[Endless] = [
    *(random_bytes, half_utf8, prompts, prompts_on_one_line),
    *(pagers_and_questions, escapes, one_line),
]


@asynccontextmanager
async def device(serve: Callable[[Any], Awaitable[None]]) -> AsyncIterator[Device]:
    """A device whose sessions are served by `serve`."""

    async def safely(process: Any) -> None:
        try:
            await serve(process)
        except (OSError, asyncssh.Error):
            return

    server = await asyncssh.listen(
        HOST,
        0,
        server_factory=Door,
        server_host_keys=[HOST_KEY],
        process_factory=safely,
        encoding=None,
        line_editor=False,
    )
    async with server:
        protocol = Protocol(ssh=Ssh(port=server.get_port()))
        yield Device(name="r1", host=HOST, protocol=protocol, platform=PLATFORM)


async def write_on(process: Any, noise: Iterator[bytes]) -> None:
    for piece in noise:
        process.stdout.write(piece)
        await process.stdout.drain()
        await asyncio.sleep(0)


FORESEEN = {
    *(FailureClass.PROMPT, FailureClass.TIMED_OUT, FailureClass.TOO_LARGE),
    *(FailureClass.AUTHENTICATION, FailureClass.CLOSED_EARLY),
}


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.__name__)
@pytest.mark.parametrize("when", ["after login", "after a command"])
async def test_endless_noise_ends_in_a_failure(bench: Bench, noise: Endless, when: str) -> None:
    chance = random.Random(7)

    async def serve(process: Any) -> None:
        if when == "after a command":
            process.stdout.write(b"hello\r\nr1#")
            line = await process.stdin.readline()
            process.stdout.write(b"\r\nr1#")
            line = await process.stdin.readline()
            process.stdout.write(line.replace(b"\n", b"\r\n"))
        await write_on(process, noise(chance))

    bench.limits = replace(bench.limits, prompt=0.3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    async with device(serve) as entry:
        job = commands("show", ends_with=None, command_timeout=1)
        failure, _ = await bench.fail(entry, job, max_bytes=LIMIT)
    assert failure in FORESEEN
    assert time.monotonic() - began < 60
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 60 << 20


@pytest.mark.parametrize("seed", range(len(NOISES)))
async def test_finite_noise_in_an_output_is_kept_or_refused(bench: Bench, seed: int) -> None:
    """Whatever an output holds, it is read as a terminal renders it, or not at all."""
    chance = random.Random(seed)
    noise = NOISES[seed % len(NOISES)](chance)
    text = b"".join(next(noise) for _ in range(3))[:50_000] + b"\r\n"

    async def serve(process: Any) -> None:
        process.stdout.write(b"hello\r\nr1#")
        while (line := await process.stdin.readline()) != b"exit\n":
            process.stdout.write(line.replace(b"\n", b"\r\n"))
            if line.strip() == b"show":
                process.stdout.write(text)
            process.stdout.write(b"r1#")
        process.exit(0)

    async with device(serve) as entry:
        job = commands("show", ends_with=None, command_timeout=1)
        try:
            result = await bench.run(entry, job)
        except RunFailedError as error:
            if error.failure_class not in FORESEEN:
                raise
        else:
            assert result == LineRenderer().feed(text)

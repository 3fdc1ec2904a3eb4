"""Devices out of their minds, by seed: `make fuzz` (SECONDS=600) plays them one after the other.

Each session must end in its time, with a failure of a class or with all that the device wrote, in
bounded memory.
"""

import argparse
import asyncio
import itertools
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from roundsman.simulator.faults import Faults
from roundsman.simulator.server import HOST, DialogueServer
from roundsman.simulator.terminal import Answer, Dialogue
from roundsman.wire.device import Device, Protocol, ProtocolType, Ssh, Telnet
from roundsman.wire.platform import Enable, Pager, Platform, Question
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import TimeLimits
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.sessions.shell import Patience
from tests.worker.sessions.conftest import Bench, commands
from tests.worker.sessions.corpus import HOST_KEY, rendered

LIMIT = 2 << 20
"""Bytes of the largest result."""
COMMAND_SECONDS = 2
LONGEST_SECONDS = 30
"""What a session may take, with all its limits, on a machine that does other things, too."""
MOST_GROWTH = 150 << 20
"""Bytes by which the process may grow over all of it."""
ROUND = 8
"""Sessions at once."""
PLATFORM = Platform(
    name="fuzzed",
    prompts=(r"[\w.-]+(?:\([\w.-]+\))?[#>]",),
    more=(Pager(pattern=r"-+ ?More ?-+"),),
    questions=(Question(pattern=r"\[y/n\]\s*$", answer="y\n"),),
    enable=Enable(prompt=r"[\w.-]+#"),
)
WORDS = (
    *(b"r1#", b"r1>", b"r1(config)#", b"#", b">", b"$ ", b"r1# show", b"show", b"hostname r1"),
    *(b"--More--", b"\r        \r", b"[y/n] ", b"Password: ", b"Username: ", b"login: "),
    *(b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\0", b"\b", b"\b \b", b"\x07", b"\t", b" "),
    *(b"\x1b[K", b"\x1b[2J", b"\x1b[H", b"\x1b[999C", b"\x1b[7m", b"\x1b[0m", b"\x1b", b"\x1b["),
    *(b"\x1b]0;title\x07", b"\x1b]0;never ended", b"\x1bP", b"\x9b", b"\xff", b"\xff\xfd\x01"),
    *("é☃𝄞".encode(), b"\xc3", b"\xe2\x98", b" description #", b"end", b"x" * 300, b"% Invalid"),
)

Noise = Callable[[random.Random], Iterator[bytes]]


def words(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield b"".join(chance.choices(WORDS, k=chance.randrange(1, 40)))


def bytes_(chance: random.Random) -> Iterator[bytes]:
    while True:
        yield chance.randbytes(chance.randrange(1, 20_000))


def one_word(chance: random.Random) -> Iterator[bytes]:
    word = chance.choice(WORDS)
    return itertools.repeat(word * (20_000 // len(word)))


def escape_never_ended(chance: random.Random) -> Iterator[bytes]:
    yield chance.choice((b"\x1b]0;", b"\x1bP", b"\x1b[", b"\x1b_"))
    yield from itertools.repeat(b"1" * 50_000)


NOISES: tuple[Noise, ...] = (words, bytes_, one_word, escape_never_ended)


@dataclass
class Fuzzed(Dialogue):
    """A device by its seed: noise in its greeting, outputs or prompts, finite or not."""

    chance: random.Random

    def __post_init__(self) -> None:
        self.noise = self.chance.choice(NOISES)(self.chance)
        self.where = self.chance.choice(("greeting", "output", "prompt", "all"))
        self.length = self.chance.choice((10, 1000, 50_000, 4 << 20))
        self.sent: list[bytes] = []

    def some(self, where: str) -> bytes:
        if self.where not in {where, "all"}:
            return b""
        made = bytearray()
        while len(made) < self.length:
            made += next(self.noise)
        return bytes(made)

    def begin(self) -> Answer:
        return Answer(output=b"hello\r\n" + self.some("greeting") + b"\r\n")

    def prompt(self) -> bytes:
        return self.some("prompt")[:100_000] + b"r1#"

    def answer(self, line: str) -> Answer:
        if line == "exit":
            return Answer(output=b"", ends_session=True)
        output = b"begin\r\n" + self.some("output") + b"\r\nend\r\n" if line == "show" else b""
        if line == "show":
            self.sent.append(output)
        return Answer(output=output)


def faults_of(chance: random.Random) -> Faults:
    return Faults(
        piece_bytes=chance.choice((None, None, 1500, 97)),
        doubles_prompt=chance.random() < 0.1,
        echoes_while_busy=chance.random() < 0.1,
        without_echo=chance.random() < 0.1,
        stalls_after_bytes=chance.choice((None, None, None, 1000)),
        resets_after_bytes=chance.choice((None, None, None, 3000)),
    )


async def fuzz(seed: int) -> str:
    """What came of it: a class of failures, exact, or what is wrong."""
    chance = random.Random(seed)
    played: list[Fuzzed] = []

    def dialogue() -> Fuzzed:
        played.append(Fuzzed(chance))
        return played[-1]

    protocol = chance.choice(list(ProtocolType))
    server = DialogueServer(
        dialogue, protocol=protocol, faults=faults_of(chance), host_key=HOST_KEY
    )
    with tempfile.TemporaryDirectory(prefix="roundsman-fuzz-") as folder:
        bench = Bench(Path(folder))
        patience = Patience(first=0.05, repeated=0.2, waking=0.3, greeting=1)
        bench.limits = TimeLimits(prompt=3, enable=2, leave=0.5, patience=patience)
        began = time.monotonic()
        async with server:
            ports = Protocol(
                type=protocol, ssh=Ssh(port=server.port), telnet=Telnet(port=server.port)
            )
            device = Device(name="r1", host=HOST, protocol=ports, platform=PLATFORM)
            job = commands("show", ends_with=None, command_timeout=COMMAND_SECONDS)
            try:
                read = await bench.run(device, job, max_bytes=LIMIT)
            except RunFailedError as error:
                verdict = str(error.failure_class)
                if error.failure_class is FailureClass.INTERNAL:
                    verdict = f"wrong: {error.text}"
            else:
                verdict = _compared(read, played[-1])
        if (took := time.monotonic() - began) > LONGEST_SECONDS:
            verdict = f"wrong: took {took:.0f} s"
    return verdict


def _compared(read: bytes, device: Fuzzed) -> str:
    """The whole of what was sent must be there; prompts of noise may be part of it."""
    if not read.startswith(b"begin\n") or not read.rstrip(b"\n").endswith(b"end"):
        if device.where in {"prompt", "all"} and b"begin" in read and b"end" in read:
            return "exact with noise"
        return f"wrong: {len(read)} bytes, from {read[:40]!r} to {read[-40:]!r}"
    return "exact" if read == rendered(device.sent[-1]) else "whole, drawn otherwise"


async def main(seconds: float, first: int) -> int:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seeds = itertools.count(first)
    while time.monotonic() - began < seconds:
        batch = list(itertools.islice(seeds, ROUND))
        for seed, verdict in zip(batch, await asyncio.gather(*map(fuzz, batch)), strict=True):
            counts[verdict.partition(":")[0]] += 1
            if verdict.startswith("wrong"):
                wrong.append(f"seed {seed}: {verdict}")
                print(wrong[-1], flush=True)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    for verdict, count in counts.most_common():
        print(f"{verdict:24} {count:6}")
    print(
        f"seeds {first} to {first + counts.total() - 1}, {len(wrong)} wrong, {grown >> 20} MiB more"
    )
    return 1 if wrong or grown > MOST_GROWTH else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.seconds, arguments.seed)))

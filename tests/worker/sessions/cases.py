"""All that is done with the recordings, case by case."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from roundsman.simulator.faults import NO_FAULTS, Faults
from roundsman.wire.device import ProtocolType
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.device import TimeLimits
from roundsman.worker.runners.interface import RunFailedError
from tests.worker.sessions import corpus
from tests.worker.sessions.conftest import Bench, commands
from tests.worker.sessions.corpus import Dialogue
from tests.worker.sessions.variants import Variant, variants

PAUSE = 0.02
CUT = frozenset({FailureClass.CLOSED_EARLY, FailureClass.REFUSED})
PROMPT = frozenset({FailureClass.PROMPT})
ANY = frozenset(FailureClass) - {FailureClass.INTERNAL}


class Verdict(StrEnum):
    EXACT = "exact"
    """What was read is what was sent."""
    REFUSED = "refused"
    """A failure, where one is allowed or must be."""
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recording, played in some way."""

    recording: str
    way: str
    dialogue: Dialogue
    commands: tuple[str, ...]
    faults: Faults = NO_FAULTS
    protocol: ProtocolType = ProtocolType.SSH
    allowed: frozenset[FailureClass] = frozenset()
    """Failures that are no fault."""
    must_fail: bool = False
    blurred: bool = False
    seconds: int = 60
    """What each command may take."""

    @property
    def pauses(self) -> float:
        """For how many seconds the device pauses in all."""
        if not self.faults.piece_bytes:
            return 0
        size = len(self.dialogue.greeting) + sum(
            len(part) for line in self.commands for part in self.dialogue.replies[line].parts
        )
        return size / self.faults.piece_bytes * self.faults.piece_seconds

    @property
    def expected(self) -> bytes:
        """The outputs, each beginning a line of its own."""
        outputs = [output for output in map(self.dialogue.expected, self.commands) if output]
        ended = [output if output.endswith(b"\n") else output + b"\n" for output in outputs[:-1]]
        return b"".join([*ended, *outputs[-1:]])

    async def judge(self, *, patient: bool = False) -> tuple[Verdict, str]:
        """Read it; what came of it, and what is to be said of that."""
        with tempfile.TemporaryDirectory(prefix="roundsman-corpus-") as folder:
            bench = Bench(Path(folder))
            if patient:
                bench.limits = TimeLimits()
            job = commands(*self.commands, ends_with=None, command_timeout=self.seconds)
            async with corpus.played(self.dialogue, self.faults, self.protocol) as device:
                try:
                    result = await bench.run(device, job)
                except RunFailedError as error:
                    fine = error.failure_class in self.allowed
                    return (Verdict.REFUSED if fine else Verdict.WRONG), error.text
        if self.must_fail:
            return Verdict.WRONG, f"it must fail, and {len(result)} bytes were kept"
        return self._compared(result)

    def _compared(self, result: bytes) -> tuple[Verdict, str]:
        expected = self.expected
        if result == expected:
            return Verdict.EXACT, ""
        if self.blurred:
            whole, lines = iter(result.splitlines()), expected.splitlines()
            if all(line in whole for line in lines):
                return Verdict.EXACT, "with messages"
        at = next(
            (i for i, (a, b) in enumerate(zip(result, expected, strict=False)) if a != b),
            min(len(result), len(expected)),
        )
        found, wanted = (text[max(0, at - 40) : at + 40] for text in (result, expected))
        return Verdict.WRONG, f"differs at {at} of {len(expected)}: {found!r}, expected {wanted!r}"


def protocols(dialogue: Dialogue) -> tuple[ProtocolType, ...]:
    return (ProtocolType.SSH,) if dialogue.exec else (ProtocolType.SSH, ProtocolType.TELNET)


def whole_and_in_pieces(path: Path, *, paused: bool) -> Iterator[Case]:
    """Every byte of it is read."""
    dialogue = corpus.read(path)
    sizes = (1, 7) if paused else (None, 1, 7)
    for protocol in protocols(dialogue):
        for size in sizes:
            yield Case(
                recording=path.name,
                way=f"{f'{size} bytes' if size else 'whole'}{' and 20 ms' if paused else ''}",
                dialogue=dialogue,
                commands=dialogue.commands,
                faults=Faults(piece_bytes=size, piece_seconds=PAUSE if paused else 0),
                protocol=protocol,
                seconds=7200 if paused else 120,
            )


def lured(path: Path) -> Iterator[Case]:
    """With lines like its prompt in banner and outputs: refused perhaps, but never cut."""
    dialogue = corpus.with_prompt_like_lines(corpus.read(path))
    for protocol in protocols(dialogue):
        for size in (None, 1, 7):
            yield Case(
                recording=path.name,
                way=f"lures, {f'{size} bytes' if size else 'whole'}",
                dialogue=dialogue,
                commands=dialogue.commands,
                faults=Faults(piece_bytes=size),
                protocol=protocol,
                allowed=PROMPT,
                seconds=120,
            )


def cut(path: Path, positions: int = 50) -> Iterator[Case]:
    """With the connection dropped somewhere: always a failure."""
    dialogue = corpus.read(path)
    # Without a shell each command has a count of its own.
    groups = [(line,) for line in dialogue.commands] if dialogue.exec else [dialogue.commands]
    for lines in groups:
        length = 0 if dialogue.exec else len(dialogue.greeting)
        length += sum(len(part) for line in lines for part in dialogue.replies[line].parts)
        for protocol in protocols(dialogue):
            for position in range(1, length, max(1, length // positions)):
                yield Case(
                    recording=path.name,
                    way="cut",
                    dialogue=dialogue,
                    commands=lines,
                    faults=Faults(resets_after_bytes=position),
                    protocol=protocol,
                    allowed=CUT,
                    must_fail=True,
                )


def varied(path: Path) -> Iterator[Case]:
    """Made harder by rule."""
    dialogue = corpus.read(path)
    for variant in variants(dialogue):
        for protocol in protocols(dialogue):
            yield _varied(path, variant, protocol)


def _varied(path: Path, variant: Variant, protocol: ProtocolType) -> Case:
    return Case(
        recording=path.name,
        way=variant.name,
        dialogue=variant.dialogue,
        commands=variant.dialogue.commands,
        faults=variant.faults,
        protocol=protocol,
        allowed=ANY if variant.unreadable or variant.blurred else PROMPT,
        must_fail=variant.unreadable,
        blurred=variant.blurred,
        seconds=3 if variant.unreadable else 600,
    )

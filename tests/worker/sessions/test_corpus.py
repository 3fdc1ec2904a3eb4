"""Every recorded device is read exactly, or not at all.

`make corpus` (ROUNDSMAN_CORPUS_ALL=1) plays all of them in every way; the suite plays a sample.
"""

import os
from pathlib import Path

import pytest
import yaml

from roundsman.platforms.load import by_name
from roundsman.simulator.faults import Faults
from roundsman.simulator.recorded import unescape
from roundsman.wire.device import Device
from roundsman.wire.run import FailureClass
from roundsman.worker.runners.interface import RunFailedError
from roundsman.worker.sessions.manners import Manners
from tests.worker.sessions import corpus
from tests.worker.sessions.conftest import Bench, commands
from tests.worker.sessions.corpus import Dialogue

ALL = bool(os.environ.get("ROUNDSMAN_CORPUS_ALL"))
RECORDINGS = corpus.recordings()
SHORT = 12_000
"""Bytes. In the suite only recordings up to this size come in pieces of one byte."""

WAYS = {
    "whole": Faults(),
    "7 bytes": Faults(piece_bytes=7),
    "1 byte": Faults(piece_bytes=1),
    "7 bytes with pauses": Faults(piece_bytes=7, piece_seconds=0.02),
    "1 byte with pauses": Faults(piece_bytes=1, piece_seconds=0.02),
}

pytestmark = pytest.mark.skipif(
    not RECORDINGS, reason=f"no recordings in {corpus.OXIDIZED}: set ROUNDSMAN_CORPUS"
)


def ways() -> list[tuple[Path, str]]:
    """Which recordings are played in which way."""
    largest = {"whole": 1 << 30, "7 bytes": 60_000, "1 byte": SHORT, "7 bytes with pauses": 1200}
    return [
        (path, way)
        for path in RECORDINGS
        for way in WAYS
        if path.stat().st_size <= (1 << 30 if ALL else largest.get(way, 0))
    ]


async def read_all(bench: Bench, dialogue: Dialogue, device: Device) -> bytes:
    job = commands(*dialogue.commands, ends_with=None, command_timeout=3600 if ALL else 15)
    return await bench.run(device, job)


def expected(dialogue: Dialogue) -> bytes:
    return b"".join(map(dialogue.expected, dialogue.commands))


@pytest.mark.timeout(0 if ALL else 120)
@pytest.mark.parametrize(("path", "way"), ways(), ids=lambda value: getattr(value, "stem", value))
async def test_a_recorded_device_is_read_exactly(bench: Bench, path: Path, way: str) -> None:
    dialogue = corpus.read(path)
    assert dialogue.commands
    async with corpus.played(dialogue, WAYS[way]) as device:
        assert await read_all(bench, dialogue, device) == expected(dialogue)


@pytest.mark.parametrize("pieces", [1, 7, 1 << 16] if ALL else [61])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
async def test_lines_like_prompts_do_not_end_anything(
    bench: Bench, path: Path, pieces: int
) -> None:
    """Fault 14. Where the prompt itself stands in the output it may be refused, never cut."""
    dialogue = corpus.with_prompt_like_lines(corpus.read(path))
    async with corpus.played(dialogue, Faults(piece_bytes=pieces)) as device:
        try:
            result = await read_all(bench, dialogue, device)
        except RunFailedError as error:
            if error.failure_class is not FailureClass.PROMPT:
                raise
        else:
            assert result == expected(dialogue)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", RECORDINGS if ALL else RECORDINGS[::8], ids=lambda path: path.stem)
async def test_a_connection_that_is_cut_is_never_a_success(bench: Bench, path: Path) -> None:
    dialogue = corpus.read(path)
    if dialogue.exec:  # each command has a count of its own: see the next test
        return
    length = len(dialogue.greeting) + sum(
        len(part) for line in dialogue.commands for part in dialogue.replies[line].parts
    )
    for position in range(1, length, max(1, length // 50)):
        async with corpus.played(dialogue, Faults(resets_after_bytes=position)) as device:
            with pytest.raises(RunFailedError) as caught:
                await read_all(bench, dialogue, device)
            assert caught.value.failure_class in {FailureClass.CLOSED_EARLY, FailureClass.REFUSED}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
async def test_a_command_without_a_shell_that_is_cut_is_never_a_success(
    bench: Bench, path: Path
) -> None:
    dialogue = corpus.read(path)
    if not dialogue.exec:
        return
    for command in dialogue.commands:
        length = len(dialogue.replies[command].parts[0])
        for position in range(1, length, max(1, length // (50 if ALL else 5))):
            async with corpus.played(dialogue, Faults(resets_after_bytes=position)) as device:
                failure, _ = await bench.fail(device, commands(command, ends_with=None))
                assert failure is FailureClass.CLOSED_EARLY


PROMPTS = sorted(corpus.OXIDIZED.glob("*prompt.yaml"))


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_prompts_are_known_for_what_they_are(path: Path) -> None:
    manners = Manners(by_name(path.name.partition("#")[0]).session)
    document = yaml.safe_load(path.read_text("utf-8"))

    def known(text: str) -> bool:
        return manners.is_prompt(corpus.rendered(unescape(text)).rstrip())

    for prompt in (*document.get("pass", ()), *document.get("pass_with_expect", ())):
        assert known(prompt), prompt
    for line in document.get("fail", ()):
        assert not known(line), line

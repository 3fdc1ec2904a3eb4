"""Every recorded device is read exactly, or not at all: a sample.

`make corpus` plays all of them in every way.
"""

from pathlib import Path

import pytest
import yaml

from roundsman.platforms.load import by_name
from roundsman.simulator.recorded import unescape
from roundsman.worker.sessions.manners import Manners
from tests.worker.sessions import cases, corpus
from tests.worker.sessions.cases import Case, Verdict

RECORDINGS = corpus.recordings()
LARGEST = {None: 1 << 30, 7: 60_000, 1: 12_000}
"""Bytes, by size of pieces: so large are the recordings of the sample."""
LARGEST_PAUSED = 1200
FEW = RECORDINGS[::8]

pytestmark = pytest.mark.skipif(
    not RECORDINGS, reason=f"no recordings in {corpus.OXIDIZED}: set ROUNDSMAN_CORPUS"
)


def sample() -> list[Case]:
    chosen: list[Case] = []
    for path in RECORDINGS:
        size = path.stat().st_size
        plain = cases.whole_and_in_pieces(path, paused=False)
        chosen += [case for case in plain if size <= LARGEST[case.faults.piece_bytes]]
        if size <= LARGEST_PAUSED:
            paused = cases.whole_and_in_pieces(path, paused=True)
            chosen += [case for case in paused if case.faults.piece_bytes == 7]
        chosen += [case for case in cases.lured(path) if case.faults.piece_bytes is None]
        chosen += cases.cut(path, positions=30 if path in FEW and size < 20_000 else 2)
    for path in FEW:
        chosen += cases.varied(path)
    return chosen


def titled(case: Case) -> str:
    at = case.faults.resets_after_bytes
    return f"{case.recording} {case.way} {case.protocol}{f' {case.commands[0]} {at}' if at else ''}"


@pytest.mark.parametrize("case", sample(), ids=titled)
async def test_a_recorded_device_is_read_exactly_or_not_at_all(case: Case) -> None:
    """Fault 14: lines lost, prompt-like lines taken for the end, always as a success."""
    assert case.commands
    verdict, why = await case.judge()
    assert verdict is not Verdict.WRONG, why


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

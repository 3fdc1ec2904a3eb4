"""What the filters of platforms cost, on a configuration of 20 KB that has all that they look for.

The text is the platform's sample, in which each filter finds something, and after it interfaces.
The comparison is with the same patterns tried one after the other on the whole text.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import regex

from bench.report import Row
from roundsman.platforms import load
from roundsman.simulator.kinds import State, ios_config
from roundsman.wire.job import Scrubber, ScrubberType
from roundsman.worker.patterns import QuickEffort
from roundsman.worker.scrubbers import Scrubbers

BYTES = 20_480
SAMPLES = Path(__file__).parents[1] / "tests" / "platforms" / "samples"
SHOWN = 3
"""Of the slowest platforms."""


def run(quick: bool) -> list[Row]:
    """Milliseconds of CPU for each text of 20 KB: the slowest platforms, and Cisco IOS."""
    rounds = 20 if quick else 100
    cost = {name: _cost(name, rounds) for name in load.own_names()}
    slowest = sorted(cost, key=lambda name: -cost[name])[:SHOWN]
    return [_row(name, cost[name]) for name in dict.fromkeys([*slowest, "cisco_ios"])]


def _row(name: str, ours: float) -> Row:
    text = _text(name)
    patterns = [
        (regex.compile(rule.search.encode(), regex.MULTILINE), rule.replace.encode())
        for rule in _rules(name)
        if rule.type is ScrubberType.REGEX_SUBSTITUTE
    ]

    def naive() -> None:
        left = text
        for pattern, replace in patterns:
            left = pattern.sub(replace, left)

    return Row(
        name=name,
        value=ours,
        unit="ms of CPU per 20 KB",
        compared_to="one pattern after the other",
        ratio=ours / _milliseconds(naive, 10),
    )


def _cost(name: str, rounds: int) -> float:
    text = _text(name)
    scrubbers = Scrubbers(_rules(name))
    return _milliseconds(lambda: b"".join(scrubbers.apply([text], _Unhurried())), rounds)


class _Unhurried(QuickEffort):
    """As a session scrubs, but never in two attempts."""

    def seconds(self) -> float:
        return 5.0


def _rules(name: str) -> Sequence[Scrubber]:
    return (*load.by_name(name).noise, *load.by_name(name).secrets)


def _text(name: str) -> bytes:
    sample: str = msgspec.yaml.decode((SAMPLES / f"{name}.yaml").read_bytes())["text"]
    return f"{sample}\n{ios_config(State(host='r1', config_bytes=BYTES))}".encode()[:BYTES]


def _milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The shortest of several."""
    taken: list[float] = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append((time.process_time() - start) * 1000)
    return min(taken)

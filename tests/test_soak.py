"""The soak tells what grows from what does not; and for some seconds, all of it."""

import random
import subprocess
import sys

import pytest

from bench.soak import COST, MEMORY, judge

HOUR = 3600


def series(rng: random.Random, *, noise: float, rise: float) -> list[tuple[float, float]]:
    """120 MB, in an hour up by so much."""
    return [
        (second, 120 + rise * second / HOUR + rng.gauss(0, noise)) for second in range(15, HOUR, 15)
    ]


def test_a_leak_is_told_from_noise(rng: random.Random) -> None:
    leak = judge(series(rng, noise=2, rise=40), MEMORY)
    assert leak.text == "RISES"
    assert leak.rise == pytest.approx(20, abs=3)
    assert judge(series(rng, noise=2, rise=0), MEMORY).text == "flat"
    assert judge(series(rng, noise=2, rise=-40), MEMORY).text == "flat"


def test_what_only_the_first_half_took_is_no_leak() -> None:
    seen = [(float(t), min(120.0, 50 + t)) for t in range(0, HOUR, 15)]
    assert judge(seen, MEMORY).text == "flat"


def test_too_few_samples_say_nothing() -> None:
    assert judge([(0.0, 1.0), (5.0, 2.0), (10.0, 30.0)], COST).text == "too few"


def test_a_moment_of_all_of_it() -> None:
    """Too short for a verdict, whatever else the machine does."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--seconds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("controller", "worker 0", "worker 1"):
        for figure in ("memory (PSS), MB", "open files", "threads"):
            assert f"{name}: {figure}" in done.stdout
    for figure in ("write", "read"):
        assert f"instructions to {figure}, for an execution" in done.stdout
    assert "RISES" not in done.stdout

"""What each platform's filters do to a few lines of its configuration.

A sample has `text`, as a device would show it; `must_hide`, what may not be left of it; and
`must_keep`, what must be found in the filtered text. `must_vanish` has lines that are
noise, where no recordings show them.
"""

from pathlib import Path

import msgspec
import pytest

from roundsman.platforms import load
from roundsman.wire.job import Scrubber
from roundsman.worker.detectors import scan
from roundsman.worker.scrubbers import Scrubbers

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.yaml"))


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    text: str
    must_hide: list[str]
    must_keep: list[str]
    must_vanish: list[str] | None = None


@pytest.fixture(params=SAMPLES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    """One sample."""
    path: Path = request.param
    return path


def test_secrets_are_hidden_and_the_rest_is_kept(file: Path) -> None:
    platform = load.by_name(file.stem)
    sample = msgspec.yaml.decode(file.read_bytes(), type=Sample)
    filtered = _apply(platform.secrets, sample.text)
    assert not [secret for secret in sample.must_hide if secret in filtered]
    assert not [line for line in sample.must_keep if line not in filtered]


def test_each_secret_filter_is_shown_to_work(file: Path) -> None:
    platform = load.by_name(file.stem)
    text = msgspec.yaml.decode(file.read_bytes(), type=Sample).text
    idle = [rule.search for rule in platform.secrets if _apply([rule], text) == text]
    assert not idle, "these find nothing in the sample"


def test_what_is_hidden_is_left_alone(file: Path) -> None:
    """A text may be filtered twice: by several patterns, and when a dialogue is recorded."""
    secrets = load.by_name(file.stem).secrets
    once = _apply(secrets, msgspec.yaml.decode(file.read_bytes(), type=Sample).text)
    assert _apply(secrets, once) == once


def test_the_detectors_find_nothing_more(file: Path) -> None:
    sample = msgspec.yaml.decode(file.read_bytes(), type=Sample)
    filtered = _apply(load.by_name(file.stem).secrets, sample.text).encode()
    assert not [(found.rule, filtered[found.start : found.end]) for found in scan.find(filtered)]


def test_noise_vanishes(file: Path) -> None:
    platform = load.by_name(file.stem)
    lines = msgspec.yaml.decode(file.read_bytes(), type=Sample).must_vanish
    if lines is None:
        pytest.skip("the sample shows no noise; the recordings do")
    text = "".join(f"{line}\n" for line in lines)
    filtered = _apply(platform.noise, text)
    assert not [line for line in lines if line in filtered]
    idle = [rule.search for rule in platform.noise if _apply([rule], text) == text]
    assert not idle, "these find nothing in the sample"


def _apply(rules: list[Scrubber] | tuple[Scrubber, ...], text: str) -> str:
    return b"".join(Scrubbers(rules).apply([text.encode()])).decode()

"""Every recorded device, read as its platform says, filtered, and held against its expectations.

The recordings are not part of the project: they are looked for in the folder that ROUNDSMAN_CORPUS
names, else beside the checkout. `differences.yaml` says for each how our result differs from what
the recordings' own program keeps, and why.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from roundsman.platforms import load
from roundsman.platforms.load import Platform
from roundsman.simulator.recorded import read_recording, unescape
from roundsman.simulator.replay import replay
from roundsman.worker.scrubbers import Scrubbers
from roundsman.worker.sessions.manners import Manners
from roundsman.worker.sessions.terminal import LineRenderer

CORPUS = Path(os.environ.get("ROUNDSMAN_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
OXIDIZED = CORPUS / "oxidized"
DIFFERENCES: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "differences.yaml").read_text()
)
COMMENT = re.compile(r"^(?:[!#:]|\s)+")

pytestmark = pytest.mark.skipif(
    not OXIDIZED.exists(),
    reason=f"no recordings in {CORPUS}: set ROUNDSMAN_CORPUS to where they are",
)


def named(ending: str) -> list[Any]:
    """The files with that ending, as parameters of a test."""
    return [pytest.param(p, id=p.name) for p in sorted(OXIDIZED.glob(f"*#{ending}.yaml"))]


def platform_of(path: Path) -> Platform:
    """Recordings bear the names that platforms have in their own program: our aliases."""
    return load.by_name(path.name.partition("#")[0])


async def backup(path: Path) -> str:
    """What is kept of the standard backup."""
    platform = platform_of(path)
    came = await replay(read_recording(path), platform.session, platform.standard["backup"])
    for one in came:
        if one.text is None or one.complaint is not None:
            assert one.command.optional, f"{one.command.command}: {one.complaint}"
    text = [one.text for one in came if one.text is not None and one.complaint is None]
    return filtered(platform, b"".join(text))


def filtered(platform: Platform, text: bytes) -> str:
    return b"".join(Scrubbers([*platform.noise, *platform.secrets]).apply([text])).decode()


def bare(text: str) -> list[str]:
    """The lines without marks of comments, which the other program adds, and without blanks."""
    lines = (" ".join(COMMENT.sub("", line).split()) for line in text.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("path", named("prompt"))
def test_prompts_are_known(path: Path) -> None:
    manners = Manners(platform_of(path).session)
    said = yaml.safe_load(path.read_text())

    def known(raw: str) -> bool:
        screen = LineRenderer()
        screen.feed(unescape(raw))
        return manners.is_prompt(screen.line.rstrip())

    expected = [*said.get("pass", ()), *said.get("pass_with_expect", ())]
    assert not [prompt for prompt in expected if not known(prompt)]
    assert not [line for line in said.get("fail", ()) if known(line)]


@pytest.mark.parametrize("path", named("secret"))
async def test_secrets_are_hidden(path: Path) -> None:
    kept = await backup(path.with_name(path.name.replace("#secret.", "#simulation.")))
    said = yaml.safe_load(path.read_text())
    assert not [secret for secret in said.get("fail", ()) if secret in kept]
    assert not [text for text in said.get("pass", ()) if not re.search(text, kept, re.MULTILINE)]


@pytest.mark.parametrize("path", [*named("simulation"), *named("custom_simulation")])
async def test_the_backup_is_what_the_other_program_keeps(path: Path) -> None:
    expected = DIFFERENCES.get(path.name, {})
    kept = await backup(path)
    assert filtered(platform_of(path), kept.encode()) == kept, "filtered twice"
    output = path.with_name(re.sub("#(custom_)?simulation.yaml", "#output.txt", path.name))
    if not output.exists():
        assert kept
        return
    # The other program hides secrets only if told to, and has other ideas of noise: both are
    # filtered from what it keeps as well.
    ours = Counter(bare(kept))
    theirs = Counter(
        bare(filtered(platform_of(path), "\n".join(bare(output.read_text())).encode() + b"\n"))
    )
    missing, more = theirs - ours, ours - theirs
    found = {"missing": missing.total(), "more": more.total()}
    assert found == {key: expected.get(key, 0) for key in found}, (missing, more)
    assert not any(found.values()) or expected["why"]

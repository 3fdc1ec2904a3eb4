"""What the how-to shows is right."""

from pathlib import Path

from roundsman.platforms import load
from roundsman.simulator.recorded import read_recording
from tests.config.files import loaded

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "platforms.md"


def test_the_examples_of_the_how_to(tmp_path: Path) -> None:
    configuration, platform, dialogue, *_ = (
        part.split("```")[0] for part in PAGE.read_text().split("```yaml\n")[1:]
    )
    (tmp_path / "acme.yaml").write_text(platform)
    assert load.read(tmp_path / "acme.yaml").standard["backup"][-1].end == "^end$"
    read = loaded(tmp_path, configuration, environ={"DEVICE_PASSWORD": "x", "ENABLE_PASSWORD": "y"})
    assert set(read.slots) == {("edge1", "backup"), ("edge2", "backup")}
    (tmp_path / "dialogue.yaml").write_text(dialogue)
    assert [sent for sent, _ in read_recording(tmp_path / "dialogue.yaml").exchanges] == [
        "show version\n",
        " ",
    ]

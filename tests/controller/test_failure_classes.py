"""The table of failure classes in the documentation says what the controller does."""

from pathlib import Path

from roundsman.controller.judgement import MAY_PASS, OF_THE_DEVICE, UNCERTAIN
from roundsman.wire.run import FailureClass

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "sessions.md"


def test_each_class_is_there_with_what_becomes_of_it() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    told = {
        name.strip("| `"): (again, device.strip("| ").partition(";")[0])
        for name, _, again, device in (row for row in rows if len(row) == 4)
    }
    assert told == {
        each.value: (
            "yes" if each in MAY_PASS else "no",
            "failed" if each in OF_THE_DEVICE else "uncertain" if each in UNCERTAIN else "well",
        )
        for each in FailureClass
    }

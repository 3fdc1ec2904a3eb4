"""A difference for a page, of what git says."""

from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.clock import SystemClock
from roundsman.controller.word_diff import word_difference
from roundsman.testing.archive_conformance import Spool


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"a\nend\n", b"a\nend", [("removed", "end", True), ("added", "end", False)]),
        (b"a\nend", b"a\nend\n", [("removed", "end", False), ("added", "end", True)]),
        (b"end", b"new\nend", [("added", "new", True), ("context", "end", False)]),
        (b"end\r\n", b"end\n", [("removed", "end\r", True), ("added", "end", True)]),
    ],
)
async def test_a_line_says_whether_a_line_end_follows(
    tmp_path: Path, old: bytes, new: bytes, told: list[tuple[str, str, bool]]
) -> None:
    archive = GitArchive(tmp_path / "archive.git", SystemClock())
    await archive.open()
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool")
    for content in (old, new):
        await archive.store(spool.entry(content))
    difference = await archive.diff("edge1", "show_run", None, None, context=1)
    await archive.close()
    [hunk] = word_difference(difference).hunks
    lines = [(line.kind, line.text, line.has_line_end) for line in hunk.lines]
    assert lines[-len(told) :] == told

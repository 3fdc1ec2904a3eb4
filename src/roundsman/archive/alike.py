"""Which lines two long contents have alike, as `git diff` of their blobs finds out."""

import re
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

from roundsman.archive.command import Git
from roundsman.archive.interface import ArchiveUnavailableError

_SECONDS: Final = 20.0
_DIFF: Final = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--text", "--unified=0")
_HUNK: Final = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


class Alike(NamedTuple):
    """So many lines that two contents have alike, and after how many lines of each."""

    old: int
    new: int
    size: int


def alike(git: Git, old: bytes, new: bytes) -> Iterator[Alike]:
    """What two blobs have alike, in order, up to where they differ for the last time.

    Raises `ArchiveUnavailableError`.
    """
    try:
        done = subprocess.run(
            git.arguments(*_DIFF, "--diff-algorithm=histogram", old.hex(), new.hex(), "--"),
            capture_output=True,
            env=git.environment,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ArchiveUnavailableError(
            f"git diff took more than {_SECONDS:g} s to compare two contents"
        ) from None
    if done.returncode:
        raise git.failure("diff", done.returncode, done.stderr)
    old_end = new_end = 0
    for found in _HUNK.finditer(done.stdout):
        old_at, old_size, new_at, new_size = (int(part or 1) for part in found.groups())
        # Of what is nowhere on one side, git names the line before.
        start = new_at - (new_size > 0)
        yield Alike(old_end, new_end, start - new_end)
        old_end, new_end = old_at - (old_size > 0) + old_size, start + new_size

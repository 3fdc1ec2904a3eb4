"""What a thinned repository notes of the one that it was made of.

A remote that has the old history would bring all of it back: ours is put on top of what others
have. So it is noted which commits are left behind for good.
"""

from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.command import Git
from roundsman.archive.files import Files

FILE: Final = "thinned.json"


class _Noted(msgspec.Struct, frozen=True):
    left: tuple[str, ...] = ()
    """Of each thinning the first commit that is not in the new history."""


def note_left(folder: Path, files: Files, commit: bytes) -> None:
    """Note in a folder the first commit that was left behind, durably. Raises `OSError`."""
    noted = _Noted((*_noted(folder).left, commit.hex()))
    files.replace(folder / FILE, msgspec.json.encode(noted) + b"\n")


def is_left_behind(git: Git, commit: bytes) -> bool:
    """Whether a commit, which is here, belongs to a history that was left behind."""
    left = _noted(git.folder / "roundsman").left
    return any(git.is_ancestor(bytes.fromhex(first), commit) for first in left)


def _noted(folder: Path) -> _Noted:
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=_Noted)
    except (FileNotFoundError, msgspec.MsgspecError):
        return _Noted()

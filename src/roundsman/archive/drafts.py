"""Results that the remote has not got yet, where it is the remote that has them acknowledged.

Nobody was told of such a commit, and whoever sent the result still has it. So where another
controller wrote a result of the same device and job meanwhile, ours is given up instead of joined:
it is the same result, sent there as well, or one of a lease that was lost. Whoever waits for it
here is told to send it again, which the ledger then judges anew.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.command import Git
from roundsman.archive.commits import OVERVIEWS
from roundsman.archive.files import Files
from roundsman.archive.interface import Pair
from roundsman.archive.layouts import Layouts
from roundsman.archive.walking import Kept, changes

FILE: Final = "acknowledged.json"
_OURS: Final = "--format=%(trailers:key=Roundsman-Run,valueonly,separator=%x20)%x09%s"


class _Noted(msgspec.Struct, frozen=True):
    commit: str | None
    """The newest commit that may have been acknowledged before it was pushed, if there is one."""


class Overtaken(msgspec.Struct, frozen=True):
    """Drafts to be given up for what others pushed."""

    base: bytes | None
    """The newest commit that is not given up."""
    versions: Sequence[Kept]
    """What is given up."""
    others: Collection[Pair]
    """Of which devices and jobs others wrote something."""


class Drafts:
    """Knows which commits of a repository are drafts. Belongs to the writer's thread."""

    def __init__(self, git: Git, layouts: Layouts, files: Files, *, wanted: bool) -> None:
        """`wanted`: results are acknowledged when the one remote has them."""
        self._git = git
        self._layouts = layouts
        self._files = files
        self._wanted = wanted

    def open(self, tip: bytes | None) -> None:
        """Note up to where results may have been acknowledged before. Raises `OSError`."""
        if not self._wanted:
            self._files.unlink(self._file)
        elif self._noted() is None:
            noted = _Noted(None if tip is None else tip.hex())
            self._files.replace(self._file, msgspec.json.encode(noted) + b"\n")

    def overtaken(self, ours: bytes, theirs: bytes) -> Overtaken | None:
        """What is to be given up for the line of others; none: join it.

        Raises `ArchiveUnavailableError`.
        """
        noted = self._noted() if self._wanted else None
        if noted is None:
            return None
        acknowledged = noted.commit
        if acknowledged and not self._git.is_ancestor(bytes.fromhex(acknowledged), theirs):
            return None
        if not self._is_ours(f"{theirs.hex()}..{ours.hex()}"):
            return None
        base = self._git.common_ancestor(ours, theirs)
        versions = [*changes(self._git, self._layouts.pair, base, ours)]
        came = changes(self._git, self._layouts.pair, base, theirs)
        others = {(kept.device, kept.job) for kept in came if kept.run_id is not None}
        if others.isdisjoint((kept.device, kept.job) for kept in versions):
            return None
        return Overtaken(base, versions, others)

    def _is_ours(self, span: str) -> bool:
        """Whether all of these are results, and what is made of them: nothing that a person did."""
        told = (
            line.partition(b"\t") for line in self._git.lines("log", "--no-merges", _OURS, span)
        )
        return all(runs or subject == OVERVIEWS.encode() for runs, _, subject in told)

    def _noted(self) -> _Noted | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Noted)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    @property
    def _file(self) -> Path:
        return self._git.folder / "roundsman" / FILE

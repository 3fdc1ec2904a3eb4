"""The paths in use and those that were in use before, noted in the repository.

Without templates of one's own the paths are `by_device/{device}/{job}`; once that folder is crowded
they are `by_device/{shard}/{device}/{job}`, and stay so.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from roundsman.archive.adopted import Adopted, load_adopted
from roundsman.archive.files import Files
from roundsman.archive.layout import FLAT, SHARDED, Layout
from roundsman.wire.paths import OVERVIEW

CROWDED: Final = 160 << 10
"""Bytes of the tree of the folder of all devices, about 4,000 of them: it is hashed for each
commit, and repeated in each pack."""

FILE: Final = "layout.json"

_SHARDS_SEEN: Final = 200
"""Of the 256 that there can be: a fleet that was sharded had thousands of devices."""
_SHARD: Final = re.compile(rb"[0-9a-f]{2}")


class _Noted(msgspec.Struct, frozen=True):
    paths: tuple[str, ...]
    former: tuple[tuple[str, ...], ...] = ()
    overviews: bool = False


class Layouts:
    """Which paths are in use, and whether folders have overviews."""

    def __init__(
        self, folder: Path, files: Files, wanted: Sequence[str], *, overviews: bool = False
    ) -> None:
        """Wanted are the templates of the configuration; none for the default."""
        self.overviews = overviews
        self._file = folder / FILE
        self._files = files
        self._wanted = tuple(wanted)
        self.current = Layout(self._wanted or (FLAT,))
        self.former = [Layout((FLAT,)), Layout((SHARDED,))]
        """Newest first; without a note it may have been either."""
        self._adopted = Adopted()
        self.noted = False
        """Whether all results are known to stand where `current` says, with overviews or without
        as is wanted."""

    @classmethod
    def as_noted(cls, folder: Path, files: Files) -> Self:
        """Those that are in use, whatever the configuration wants. Raises `OSError`."""
        try:
            noted = msgspec.json.decode((folder / FILE).read_bytes(), type=_Noted)
        except (FileNotFoundError, msgspec.MsgspecError):
            noted = _Noted(())
        paths = () if noted.paths in ((FLAT,), (SHARDED,)) else noted.paths
        layouts = cls(folder, files, paths, overviews=noted.overviews)
        layouts.load()
        return layouts

    def load(self) -> None:
        """Read the notes. Raises `OSError`; what is no note is as none."""
        self._adopted = load_adopted(self._file.parent)
        try:
            noted = msgspec.json.decode(self._file.read_bytes(), type=_Noted)
            known = [Layout(texts) for texts in (noted.paths, *noted.former)]
        except (FileNotFoundError, msgspec.MsgspecError, ValueError, StopIteration):
            self.noted = False
            return
        if not self._wanted and noted.paths in ((FLAT,), (SHARDED,)):
            self.current = known[0]
        stand = self.current.texts == noted.paths
        self.former = known[1:] if stand else known
        self.noted = stand and noted.overviews == self.overviews

    def recognise(self, names: Sequence[bytes]) -> None:
        """Without a note: see by the names of the first folder which of the defaults is in use."""
        shards = [name for name in names if name != OVERVIEW.encode()]
        many = not self._wanted and len(shards) >= _SHARDS_SEEN
        if many and all(map(_SHARD.fullmatch, shards)):
            self.current = Layout((SHARDED,))

    def shard_if_crowded(self, size: int) -> None:
        """Put a level above the devices, where their folder's tree is so many bytes long."""
        if not self._wanted and self.current.texts == (FLAT,) and size > CROWDED:
            self.former = [self.current, *self.former]
            self.current = Layout((SHARDED,))
            self.noted = False

    def note(self) -> None:
        """Write down that all results stand where `current` says."""
        former = dict.fromkeys(layout.texts for layout in self.former)
        former.pop(self.current.texts, None)
        noted = _Noted(self.current.texts, tuple(former), self.overviews)
        self._files.make_folder(self._file.parent)
        self._files.replace(self._file, msgspec.json.encode(noted) + b"\n")
        self.noted = True

    @property
    def joined(self) -> list[bytes]:
        """The newest commits of other histories that this one began with, beside its own."""
        return [bytes.fromhex(commit) for commit in self._adopted.joined]

    def pair(self, path: bytes) -> tuple[str, str] | None:
        """Whose result was looked for at a path at any time."""
        for layout in (self.current, *self.former):
            pair = layout.pair(path)
            if pair is not None:
                return pair
        if self._adopted.paths and self.owner(path) is None:  # copies of ours are nobody else's
            return next(filter(None, (adopted.pair(path) for adopted in self._adopted.paths)), None)
        return None

    def owner(self, path: bytes) -> tuple[str, str] | None:
        """Whose result stood at a path at any time, copies included."""
        for layout in (self.current, *self.former):
            owner = layout.owner(path)
            if owner is not None:
                return owner
        return None

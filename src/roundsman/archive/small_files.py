"""Small files that stand in many folders, such as `.gitattributes`, by the ids of contents."""

from collections.abc import Iterable
from typing import Final, Protocol

from roundsman.archive.folders import Folders
from roundsman.archive.objects import BLOB
from roundsman.archive.trees import FILE_MODE

_KEPT_BYTES: Final = 16 << 20
_OVERHEAD: Final = 200
"""What one costs beside its bytes."""


class Reader(Protocol):
    """What reads objects."""

    def read(self, kind: int, ids: list[bytes]) -> list[bytes]:
        """The contents of these objects."""
        ...


class SmallFiles:
    """The files of one name, of the folders that were looked at."""

    def __init__(self, name: bytes, reader: Reader) -> None:
        """Nothing is read before it is asked for."""
        self.name = name
        self._contents: dict[bytes, bytes] = {}
        self._cost = 0
        self._reader = reader

    def load(self, folders: Folders, of: Iterable[bytes]) -> None:
        """Read the files of folders, which were loaded themselves."""
        entries = [folders.get(folder).get(self.name) for folder in of]
        ids = {entry.id for entry in entries if entry is not None and entry.mode == FILE_MODE}
        if self._cost > _KEPT_BYTES:
            self._contents.clear()
            self._cost = 0
        missing = [*(ids - self._contents.keys())]
        for blob, content in zip(missing, self._reader.read(BLOB, missing), strict=True):
            self.add(blob, content)

    def get(self, blob: bytes | None) -> bytes:
        """One that was loaded or added; none, or what is no plain file, is an empty one."""
        return b"" if blob is None else self._contents.get(blob, b"")

    def add(self, blob: bytes, content: bytes) -> None:
        """Know one that was made here."""
        if blob not in self._contents:
            self._contents[blob] = content
            self._cost += _OVERHEAD + len(content)

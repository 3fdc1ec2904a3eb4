"""Which files are pointers, for git: a `.gitattributes` in each folder that has such files."""

from collections.abc import Iterable
from typing import Final, Protocol

from roundsman.archive.folders import Folders
from roundsman.archive.objects import BLOB

NAME: Final = b".gitattributes"

_FILTERS: Final = b"filter=lfs diff=lfs merge=lfs -text"
_KEPT: Final = 10_000


class Reader(Protocol):
    """What reads objects."""

    def read(self, kind: int, ids: list[bytes]) -> list[bytes]:
        """The contents of these objects."""
        ...


class Attributes:
    """The attribute files of folders, by the ids of their contents."""

    def __init__(self, reader: Reader) -> None:
        """Nothing is read before it is asked for."""
        self._contents: dict[bytes, bytes] = {}
        self._reader = reader

    def load(self, folders: Folders, of: Iterable[bytes]) -> None:
        """Read the attribute files of folders, which were loaded themselves."""
        entries = [folders.get(folder).get(NAME) for folder in of]
        ids = {entry.id for entry in entries if entry is not None} - self._contents.keys()
        if len(self._contents) > _KEPT:
            self._contents.clear()
        if ids:
            self._contents.update(zip(ids, self._reader.read(BLOB, [*ids]), strict=True))

    def get(self, blob: bytes | None) -> bytes:
        """An attribute file that was loaded or added; none is an empty one."""
        return b"" if blob is None else self._contents[blob]

    def add(self, blob: bytes, content: bytes) -> None:
        """Know one that was made here."""
        self._contents[blob] = content


def marked(content: bytes, name: bytes, *, pointer: bool) -> bytes:
    r"""An attribute file that says of one file of its folder whether it is a pointer.

    >>> marked(b"*.txt text\n", b"image 1", pointer=True)
    b'*.txt text\\n"/image 1" filter=lfs diff=lfs merge=lfs -text\n'
    >>> marked(_, b"image 1", pointer=False)
    b'*.txt text\n'
    """
    line = b'"/%s" %s\n' % (name.replace(b"\\", b"\\\\").replace(b'"', b'\\"'), _FILTERS)
    lines = content.splitlines(keepends=True)
    if pointer == (line in lines):
        return content
    if pointer:
        begun = content if content.endswith(b"\n") or not content else content + b"\n"
        return begun + line
    return b"".join(each for each in lines if each != line)

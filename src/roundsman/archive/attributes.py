"""Which files are pointers, for git: a `.gitattributes` in each folder that has such files."""

from collections.abc import Mapping, Sequence
from typing import Final

NAME: Final = b".gitattributes"

_FILTERS: Final = b"filter=lfs diff=lfs merge=lfs -text"


def marked(content: bytes, name: bytes, *, pointer: bool) -> bytes:
    r"""An attribute file that says of one file of its folder whether it is a pointer.

    >>> marked(b"*.txt text\n", b"image 1", pointer=True)
    b'*.txt text\n"/image 1" filter=lfs diff=lfs merge=lfs -text\n'
    >>> marked(_, b"image 1", pointer=False)
    b'*.txt text\n'
    """
    return all_marked(content, {name: pointer})


def all_marked(content: bytes, pointers: Mapping[bytes, bool]) -> bytes:
    """The same for several files of a folder: of each by its name, whether it is a pointer."""
    wanted = {line(name): pointer for name, pointer in pointers.items()}
    kept = [each for each in lines(content) if wanted.get(each, True)]
    there = set(kept)
    added = [each for each, pointer in wanted.items() if pointer and each not in there]
    begun = b"".join(kept)
    if added and begun and not begun.endswith(b"\n"):
        begun += b"\n"
    return begun + b"".join(added)


def lines(content: bytes) -> Sequence[bytes]:
    """The lines of an attribute file, with their ends."""
    return content.splitlines(keepends=True)


def line(name: bytes) -> bytes:
    """The line that says of a file of the folder that it is a pointer."""
    return b'"/%s" %s\n' % (name.replace(b"\\", b"\\\\").replace(b'"', b'\\"'), _FILTERS)

"""Which files are pointers, for git: a `.gitattributes` in each folder that has such files."""

from typing import Final

NAME: Final = b".gitattributes"

_FILTERS: Final = b"filter=lfs diff=lfs merge=lfs -text"


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

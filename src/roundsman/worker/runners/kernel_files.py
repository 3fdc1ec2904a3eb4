"""Reading and writing the small files by which the kernel speaks, with a call or two for each.

The library's ways to open a file ask the kernel some ten things before they read it.
"""

import os
from typing import Final

_AT_ONCE: Final = 4096


def read(path: str) -> bytes:
    """What is in it; of one that the kernel makes up as it is read, one consistent look.

    Raises `OSError`.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        text = part = os.read(descriptor, _AT_ONCE)
        while len(part) == _AT_ONCE:
            part = os.read(descriptor, _AT_ONCE)
            text += part
        return text
    finally:
        os.close(descriptor)


def write(path: str, text: str) -> None:
    """Say something to the kernel; the file is neither made nor cut. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

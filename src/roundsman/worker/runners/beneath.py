"""Opening a file below a folder in one step, so that no link leads out, whoever swaps what when.

Linux's `openat2` resolves a whole path beneath a folder in the kernel; links that stay beneath it
are followed. Kernels before 5.6 have no such call: there each part is opened from the one before,
and links are not followed at all.
"""

import ctypes
import errno
import functools
import os
import struct
from pathlib import PurePosixPath
from typing import Final

_OPENAT2: Final = 437  # the same number on every architecture
_NO_MAGIC_LINKS: Final = 0x02
_BENEATH: Final = 0x08
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_TRIES: Final = 10  # the kernel asks for another when somebody renames folders meanwhile


class LeavesFolderError(OSError):
    """The path does not stay below its folder."""


def open_beneath(folder: int, path: str) -> int:
    """A descriptor of `path`, open for reading, found from the open `folder` on.

    Raises `LeavesFolderError`, or `OSError` as `open` does.
    """
    return (_open_in_kernel if has_openat2() else _open_by_parts)(folder, path)


@functools.cache
def has_openat2() -> bool:
    """Whether the kernel has the call, and lets us use it."""
    try:
        os.close(_openat2(-100, "/", flags=os.O_PATH | os.O_CLOEXEC, resolve=0))
    except OSError:
        return False
    return True


def _open_in_kernel(folder: int, path: str) -> int:
    for _ in range(_TRIES):
        try:
            return _openat2(folder, path, flags=_FLAGS, resolve=_BENEATH | _NO_MAGIC_LINKS)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise LeavesFolderError(error.errno, error.strerror) from None
            if error.errno != errno.EAGAIN:
                raise
    raise BlockingIOError(errno.EAGAIN, "the folder is being changed all the time")


def _openat2(folder: int, path: str, *, flags: int, resolve: int) -> int:
    how = struct.pack("<QQQ", flags, 0, resolve)
    number = _libc().syscall(_OPENAT2, folder, os.fsencode(path), how, ctypes.c_size_t(len(how)))
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(number)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _open_by_parts(folder: int, path: str) -> int:
    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/"):
        raise LeavesFolderError(errno.EXDEV, os.strerror(errno.EXDEV))
    current = os.dup(folder)
    for part in parts:
        try:
            following = os.open(part, _FLAGS | os.O_NOFOLLOW, dir_fd=current)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise LeavesFolderError(error.errno, error.strerror) from None
            raise
        finally:
            os.close(current)
        current = following
    return current

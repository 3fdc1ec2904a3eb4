"""Files that survive a crash: a write has reached the disk whole, or it did not happen."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, readable by this user alone; what was there stays until it is done.

    Raises `OSError`.
    """
    draft = path.with_name(path.name + ".tmp")
    draft.touch(mode=0o600)  # before there is anything to read in it
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a new file without its name is lost."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

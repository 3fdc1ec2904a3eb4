"""What a worker starts on demand, and what it refuses: the worker's own word, whoever asks."""

import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from roundsman.errors import RoundsmanError
from roundsman.worker.settings import ProcessSettings

# The search path of commands, and what they find in their environment. Fixed, so that what
# runs depends on the settings alone and not on the shell from which the worker was started.
SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MAX_PATH_BYTES: Final = 4095  # Linux's PATH_MAX less its closing NUL: no longer one names a file


class ProcessRefusedError(RoundsmanError):
    """The worker does not start this; `text` is the reason, which the caller is told."""

    code = "process.refused"


class AllowedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command that passed the policy, ready to be started."""

    executable: str
    """The file to execute."""
    argv: tuple[str, str]
    """The command as it was asked for, and the path as its one argument."""
    folder: Path
    """The working directory: the scripts folder."""


def allow(settings: ProcessSettings, command: str, path: str) -> AllowedCommand:
    """What to execute for this command and path; raises `ProcessRefusedError` with the reason."""
    if command not in settings.commands:
        raise ProcessRefusedError(f"command not allowed: {command}")
    if settings.scripts is None:
        raise ProcessRefusedError("this worker has no scripts folder")
    _check_path(settings.scripts, path)
    return AllowedCommand(
        executable=_executable(settings.scripts, command),
        argv=(command, path),
        folder=settings.scripts,
    )


def _executable(scripts: Path, command: str) -> str:
    # A name with a slash is the file itself, from the scripts folder on; others are searched for.
    wanted = str(scripts / command) if "/" in command else command
    found = shutil.which(wanted, path=SEARCH_PATH)
    if found is None:
        raise ProcessRefusedError(f"no such executable: {command}")
    return found


def _check_path(scripts: Path, path: str) -> None:
    """Refuse a path that cannot be a script of the folder. That it exists is not required."""
    if "\0" in path:
        raise ProcessRefusedError("path contains a NUL byte")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ProcessRefusedError(f"path is longer than {MAX_PATH_BYTES} bytes")
    if path.startswith("-"):
        # `python3` given "-cimport os" would run what is in no folder at all.
        raise ProcessRefusedError("path would be taken for an option: it starts with a dash")
    normal = os.path.normpath(path)
    if normal == ".." or normal.startswith(("/", "../")):
        raise ProcessRefusedError(f"path leaves the scripts folder: {path}")
    home = os.path.realpath(scripts)
    target = os.path.realpath(scripts / path)
    if target != home and not target.startswith(home.rstrip("/") + "/"):
        raise ProcessRefusedError(f"path leaves the scripts folder: {path}")

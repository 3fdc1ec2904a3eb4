"""The git program, for what it does best: reading, walking history, consolidating packs.

It is only ever given plumbing commands with arguments of our own making and full object ids, an
environment of its own (no configuration of the user or the machine), and no hooks. The repository
is named outright, so who owns its folder is no matter.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, cast

from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.locks import MARK
from roundsman.archive.objects import object_id

LARGE_BLOB: Final = 8 << 20
"""From here up git streams a blob, and does not look for deltas."""

_ASKED: Final = 256
"""Objects asked for at once: more might fill the pipe, and both sides wait for each other."""

_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    MARK: "1",
}


class Git:
    """The git program, on one bare repository."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("git") or "git"
        self.folder = folder

    def arguments(self, *arguments: str) -> list[str]:
        """The whole command line of a git command."""
        return [
            self.program,
            f"--git-dir={self.folder}",
            *("-c", f"core.hooksPath={os.devnull}"),
            *("-c", f"core.bigFileThreshold={LARGE_BLOB}"),
            *("-c", "pack.threads=1", "-c", "pack.windowMemory=64m"),
            *arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What git may see of the world."""
        return _ENVIRONMENT

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run a command; its output. Raises `ArchiveUnavailableError` when it fails."""
        done = subprocess.run(
            self.arguments(*arguments),
            input=stdin,
            capture_output=True,
            env=self.environment,
            check=False,
        )
        if done.returncode:
            raise self.failure(arguments[0], done.returncode, done.stderr)
        return done.stdout

    def succeeds(self, *arguments: str) -> bool:
        """Whether a command that answers by its exit status says yes."""
        done = subprocess.run(
            self.arguments(*arguments), capture_output=True, env=self.environment, check=False
        )
        return done.returncode == 0

    def failure(self, command: str, status: int, stderr: bytes) -> ArchiveUnavailableError:
        """The error for a command that failed."""
        said = stderr.decode(errors="replace").strip()[-500:] or "nothing"
        return ArchiveUnavailableError(
            f"{self.folder}: git {command} ended with status {status} and said: {said}",
            remedy="run git fsck --strict on the repository",
        )

    def records(self, *arguments: str) -> Iterator[bytes]:
        """Run a command and yield its output split at NUL, without holding it whole."""
        with subprocess.Popen(
            self.arguments(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        ) as process:
            rest = b""
            while piece := cast("IO[bytes]", process.stdout).read(1 << 16):
                *complete, rest = (rest + piece).split(b"\0")
                yield from complete
        if process.returncode:
            raise self.failure(arguments[0], process.returncode, b"")


class ObjectReader:
    """Small objects, through one long-lived `git cat-file --batch`. For one thread."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, kind: int, ids: Sequence[bytes]) -> list[bytes]:
        """The contents of these objects, each proven to be what its id says.

        Raises `ArchiveUnavailableError` when one is missing or damaged, or git does not serve.
        """
        try:
            contents = [
                content
                for start in range(0, len(ids), _ASKED)
                for content in self._read_some(ids[start : start + _ASKED])
            ]
        except OSError as error:
            self.close()
            raise self._git.failure("cat-file", -1, str(error).encode()) from error
        for wanted, content in zip(ids, contents, strict=True):
            if object_id(kind, content) != wanted:
                self.close()
                raise self._git.failure("cat-file", 0, f"{wanted.hex()} is damaged".encode())
        return contents

    def _read_some(self, wanted: Sequence[bytes]) -> Iterator[bytes]:
        """Ask for all of them, then hear the answers."""
        process = self._running()
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        stdin.write(b"".join([item.hex().encode() + b"\n" for item in wanted]))
        stdin.flush()
        for item in wanted:
            head = stdout.readline().split()
            if len(head) != 3:
                said = b" ".join(head).decode(errors="replace") or "no answer"
                raise OSError(f"{item.hex()}: {said}")
            yield stdout.read(int(head[2]) + 1)[:-1]

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                self._git.arguments("cat-file", "--batch"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._git.environment,
            )
        return self._process

    def close(self) -> None:
        """End the program; the next read starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

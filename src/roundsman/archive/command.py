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

from roundsman.archive.interface import ArchiveDamagedError, ArchiveUnavailableError
from roundsman.archive.locks import MARK
from roundsman.archive.objects import BLOB, COMMIT, TREE, object_id

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

    def tip_of(self, reference: str) -> bytes | None:
        """The commit that a branch or tag names; none where there is no such."""
        if not self.succeeds("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}"):
            return None
        said = self.run("rev-parse", "--verify", f"{reference}^{{commit}}")
        return bytes.fromhex(said.decode().strip())

    def is_ancestor(self, older: bytes, newer: bytes) -> bool:
        """Whether one commit stands on another, or is the same."""
        return self.succeeds("merge-base", "--is-ancestor", older.hex(), newer.hex())

    def common_ancestor(self, one: bytes, other: bytes) -> bytes | None:
        """The newest commit that both stand on; none where their histories have nothing in common.

        Raises `ArchiveUnavailableError` when git cannot read them.
        """
        done = subprocess.run(
            self.arguments("merge-base", one.hex(), other.hex()),
            capture_output=True,
            env=self.environment,
            check=False,
        )
        if done.returncode not in (0, 1):
            raise self.failure("merge-base", done.returncode, done.stderr)
        return bytes.fromhex(done.stdout.decode().strip()) if done.stdout else None

    def failure(self, command: str, status: int, stderr: bytes) -> ArchiveUnavailableError:
        """The error for a command that failed."""
        said = stderr.decode(errors="replace").strip()[-500:] or "nothing"
        return ArchiveUnavailableError(
            f"{self.folder}: git {command} ended with status {status} and said: {said}",
            remedy="run git fsck --strict on the repository",
        )

    def lines(self, *arguments: str) -> Iterator[bytes]:
        """Run a command and yield its output line by line, without holding it whole."""
        return self._split(b"\n", arguments)

    def records(self, *arguments: str) -> Iterator[bytes]:
        """Run a command and yield its output split at NUL, without holding it whole."""
        return self._split(b"\0", arguments)

    def _split(self, end: bytes, arguments: Sequence[str]) -> Iterator[bytes]:
        with subprocess.Popen(
            self.arguments(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        ) as process:
            rest = b""
            while piece := cast("IO[bytes]", process.stdout).read(1 << 16):
                *complete, rest = (rest + piece).split(end)
                yield from complete
        if process.returncode:
            raise self.failure(arguments[0], process.returncode, b"")


class ObjectReader:
    """Small objects, through one long-lived `git cat-file --batch`. For one thread."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, kind: int, ids: Sequence[bytes]) -> list[bytes]:
        """The contents of these objects.

        Raises `ArchiveDamagedError` when one is missing or damaged, `ArchiveUnavailableError` when
        git does not serve.
        """
        contents = []
        for wanted, content in zip(ids, self.find(kind, ids), strict=True):
            if content is None:
                raise ArchiveDamagedError(
                    f"{self._git.folder}: object {wanted.hex()} is missing or damaged"
                )
            contents.append(content)
        return contents

    def find(self, kind: int, ids: Sequence[bytes]) -> list[bytes | None]:
        """The contents of these objects; none for what is missing or damaged.

        Raises `ArchiveUnavailableError` when git does not serve.
        """
        found: list[bytes | None] = []
        for start in range(0, len(ids), _ASKED):
            asked = ids[start : start + _ASKED]
            for wanted, content in zip(asked, self._find_some(asked), strict=True):
                is_right = content is not None and object_id(kind, content) == wanted
                found.append(content if is_right else self._find_again(kind, wanted))
        return found

    def _find_some(self, wanted: Sequence[bytes]) -> list[bytes | None]:
        """The first answers; git dies of a damaged object, and leaves those after it open."""
        contents: list[bytes | None] = []
        try:
            contents += self._read_some(wanted)
        except OSError:
            self.close()
        return contents + [None] * (len(wanted) - len(contents))

    def _find_again(self, kind: int, wanted: bytes) -> bytes | None:
        """Ask for one object by itself, of a git program that looks at the packs anew."""
        self.close()
        name = {COMMIT: "commit", TREE: "tree", BLOB: "blob"}[kind]
        done = subprocess.run(
            self._git.arguments("cat-file", name, wanted.hex()),
            capture_output=True,
            env=self._git.environment,
            check=False,
        )
        if done.returncode < 0:
            raise self._git.failure("cat-file", done.returncode, done.stderr)
        return done.stdout if object_id(kind, done.stdout) == wanted else None

    def _read_some(self, wanted: Sequence[bytes]) -> Iterator[bytes | None]:
        """Ask for all of them, then hear the answers."""
        process = self._running()
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        stdin.write(b"".join([item.hex().encode() + b"\n" for item in wanted]))
        stdin.flush()
        for item in wanted:
            head = stdout.readline().split()
            if not head:
                raise OSError(f"{item.hex()}: no answer")
            yield stdout.read(int(head[2]) + 1)[:-1] if len(head) == 3 else None

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

"""One remote: brought up to a commit of ours by compare-and-swap, and read back from.

A push names the exact commit, and the server takes it only if the branch there is one that it
stands on: never a force. Where others were faster their commits are fetched, ours put on
top, and pushed again. Methods block, and belong to one thread at a time, but for `stop`.
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from roundsman import logs
from roundsman.archive.command import Git
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.large import copy_contents
from roundsman.archive.remotes.access import Access, RemoteError
from roundsman.archive.remotes.contents import ContentUploads
from roundsman.archive.thinned import is_left_behind

_LIMIT_SECONDS: Final = 6 * 3600
"""A program that takes longer is ended; one that is stuck ends earlier by itself."""
_ATTEMPTS: Final = 20
_HEARD: Final = 64 << 10
"""Bytes of what a program says that are kept; a server may have it say any number."""

log = logs.get(__name__)


class Remote:
    """One remote of a repository."""

    def __init__(self, name: str, git: Git, access: Access, pause: Callable[[int], None]) -> None:
        """`pause` waits before the n-th attempt in a row, as others are faster each time."""
        self.name = name
        self.access = access
        self._git = git
        self._pause = pause
        self._uploads = ContentUploads(name, git.folder, access, self._ask_by_ssh)
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._there: bytes | None = None
        """What the remote took last, in this life."""

    def tracking(self, branch: str) -> str:
        """The reference that says how far the remote's branch was known to be."""
        return f"refs/remotes/{self.name}/{branch.removeprefix('refs/heads/')}"

    def bring_up(
        self, branch: str, tip: Callable[[], bytes | None], take_in: Callable[[bytes], None]
    ) -> bytes | None:
        """Push what `tip` says, until the remote has it; the commit it has then.

        `take_in` puts the branch on top of a commit that others pushed. Raises
        `ArchiveUnavailableError`, `OSError`.
        """
        for attempt in range(_ATTEMPTS):
            commit = tip()
            if commit is None or commit == self._there:
                return commit
            self._there = None
            if self.access.is_folder:
                copy_contents(self._git.folder, self.access.path)
            else:
                self._uploads.bring_up(branch)
            refusal = self._push(branch, commit)
            if refusal is None:
                self._git.run("update-ref", self.tracking(branch), commit.hex())
                self._there = commit
                return commit
            # Before it is seen how far they are: a pause after that is time in which they go on.
            self._pause(attempt)
            theirs = self._fetch(branch, refusal)
            if self._git.is_ancestor(theirs, commit):
                raise refusal
            self._take(branch, theirs, take_in)
        raise RemoteError(f"{self.name}: others were faster {_ATTEMPTS} times in a row")

    def fetch(
        self, branch: str, tip: Callable[[], bytes | None], take_in: Callable[[bytes], None]
    ) -> bool:
        """Take in what others pushed, if there is anything; whether there was.

        Raises as `bring_up`.
        """
        nothing = RemoteError(f"{self.name}: it has no {branch} yet")
        try:
            theirs = self._fetch(branch, nothing)
        except RemoteError as error:
            if error is nothing:
                return False
            raise
        commit = tip()
        if commit is not None and self._git.is_ancestor(theirs, commit):
            return False
        if self.access.is_folder:
            copy_contents(self.access.path, self._git.folder)
        self._take(branch, theirs, take_in)
        return True

    def _take(self, branch: str, theirs: bytes, take_in: Callable[[bytes], None]) -> None:
        if is_left_behind(self._git, theirs):
            self._git.run("update-ref", "-d", self.tracking(branch))
            raise RemoteError(
                f"{self.name}: it has the history of before the archive was thinned",
                remedy="name another, empty repository as the remote, and keep this one",
            )
        log.info("archive.others_pushed", remote=self.name, commit=theirs.hex())
        take_in(theirs)

    def restore(self, folder: Path) -> bool:
        """Make a bare repository at `folder` from the remote's branch, if it has one there."""
        git = Git(folder)
        try:
            branch = Git(self._git.folder).run("symbolic-ref", "HEAD").decode().strip()
        except (ArchiveUnavailableError, OSError):
            branch = "refs/heads/main"
        try:
            initial = branch.removeprefix("refs/heads/")
            git.run("init", "--bare", "--quiet", f"--initial-branch={initial}", "--template=")
            self._run_fetch(git, f"+{branch}:{branch}")
        except (ArchiveUnavailableError, OSError) as error:
            log.warning("archive.remote_not_restored", remote=self.name, error=str(error))
            shutil.rmtree(folder, ignore_errors=True)
            return False
        return True

    def stop(self) -> None:
        """End what runs; nothing runs any more after that."""
        self._stopped.set()
        self._uploads.stop()
        running = self._running
        if running is not None:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)

    def reset(self) -> None:
        """Let programs run again, as for an archive that is opened anew."""
        self._stopped.clear()
        self._uploads.reset()

    def _push(self, branch: str, commit: bytes) -> RemoteError | None:
        """Push one commit; why it was refused, if that may be since others were faster."""
        status, printed, complaint = self._run(
            self._git,
            *("push", "--porcelain", "--no-verify", "--"),
            *(self.access.url, f"{commit.hex()}:{branch}"),
        )
        if status == 0:
            return None
        lines = printed.splitlines()
        refused = [line.split(b"\t")[-1] for line in lines if line.startswith(b"!\t")]
        said = b" ".join(refused) + b": " + complaint if refused else complaint
        error = self._failure("push", status, said)
        if not refused:
            raise error
        return error

    def _fetch(self, branch: str, refusal: RemoteError) -> bytes:
        """The remote's branch as it is now; all of its objects are here then."""
        tracking = self.tracking(branch)
        try:
            self._run_fetch(self._git, f"+{branch}:{tracking}")
        except RemoteError as error:
            if "couldn't find remote ref" in str(error):
                raise refusal from error
            raise
        tip = self._git.tip_of(tracking)
        if tip is None:
            raise refusal
        return tip

    def _run_fetch(self, git: Git, reference: str) -> None:
        status, _, complaint = self._run(
            git,
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap="),
            *("--no-recurse-submodules", "--no-auto-maintenance"),
            *("--", self.access.url, reference),
        )
        if status:
            raise self._failure("fetch", status, complaint)

    def _run(self, git: Git, *arguments: str) -> tuple[int, bytes, bytes]:
        """Run a git command on the remote; its exit status, and what it prints and complains."""
        command = git.arguments(*self.access.options(), *arguments)
        return self._run_program(f"git {arguments[0]}", command)

    def _ask_by_ssh(self, command: str, *arguments: str) -> tuple[int, bytes, bytes]:
        """Have the server run a command on the repository; as `_run`."""
        return self._run_program(command, self.access.ssh(command, *arguments))

    def _run_program(self, what: str, command: list[str]) -> tuple[int, bytes, bytes]:
        self.access.prepare()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self._git.environment, **self.access.environment()},
            start_new_session=True,
        ) as process:
            self._running = process
            try:
                if self._stopped.is_set():
                    raise RemoteError(f"{self.name}: the archive is being closed")
                printed, complaint = self._heard(process)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, TimeoutError):
                    raise RemoteError(f"{self.name}: {what} took too long") from None
                raise
            finally:
                self._running = None
        return process.returncode, printed, complaint

    def _heard(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        """What a program prints and complains until it ends. Raises `TimeoutError`."""
        deadline = threading.Timer(_LIMIT_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        deadline.daemon = True
        deadline.start()
        complaints: list[bytes] = []
        listener = threading.Thread(target=lambda: complaints.append(_beginning(process.stderr)))
        listener.start()
        try:
            printed = _beginning(process.stdout)
        finally:
            listener.join()
            overdue = not deadline.is_alive()
            deadline.cancel()
        process.wait()
        if overdue:
            raise TimeoutError
        return printed, complaints[0]

    def _failure(self, command: str, status: int, said: bytes) -> RemoteError:
        text = self.access.scrubbed(said) or "nothing"
        return RemoteError(
            f"{self.name}: git {command} ended with status {status} and said: {text}",
            remedy="see the remote; results wait here until it takes them",
        )


def _beginning(stream: IO[bytes] | None) -> bytes:
    """Read a stream to its end, and keep its beginning."""
    assert stream is not None  # noqa: S101 - it was asked for as a pipe
    kept = stream.read(_HEARD)
    while stream.read(_HEARD):
        pass
    return kept

"""The bare repository on disk: made, adopted, cleared after a crash, and its branch moved on."""

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from roundsman import logs
from roundsman.archive.command import Git
from roundsman.archive.damage import Origin, findings, finish_rebuilding, rebuild
from roundsman.archive.files import Files
from roundsman.archive.interface import ArchiveDamagedError, ArchiveUnavailableError
from roundsman.archive.locks import PATIENCE_SECONDS, GitLocks, WriterLock
from roundsman.archive.packs import forget
from roundsman.clock import Clock

log = logs.get(__name__)

DEFAULT_BRANCH: Final = "refs/heads/main"

_ATTEMPTS: Final = 3
_FAN_OUT: Final = 2
_LOOSE: Final = 38
_SYMBOLIC: Final = re.compile(r"ref: (refs/heads/[^\s]+)\n?")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{40}")


class BranchMovedError(Exception):
    """Somebody else wrote to the branch; look again, and build on what is there."""


class BranchMove:
    """A branch about to name another commit: a file beside it, written but not flushed.

    Use as a context; unless `keep` was called, the branch is as it was.
    """

    def __init__(self, files: Files, branch: Path) -> None:
        """Take the branch's lock. Raises `FileExistsError` when somebody has it."""
        self._files = files
        self._branch = branch
        self._lock = branch.with_name(branch.name + ".lock")
        self.written = files.create(self._lock)
        """To be flushed before `keep`."""
        self._held = True

    def __enter__(self) -> Self:
        return self

    def keep(self) -> None:
        """Put it in the branch's place, durably."""
        self.written.close()
        self._files.rename(self._lock, self._branch)
        self._held = False
        self._files.sync_folder(self._branch.parent)

    def drop(self) -> None:
        """Give the lock back."""
        self.written.close()
        if self._held:
            self._held = False
            forget(self._files, self._lock)

    def __exit__(self, *_: object) -> None:
        self.drop()


class Repository:
    """A bare repository, of which this process is the only writer."""

    def __init__(self, folder: Path, files: Files, clock: Clock) -> None:
        self.folder = folder.absolute()
        self.files = files
        self._own_lock = WriterLock(folder / "roundsman" / "writer.lock")
        self._locks = GitLocks(self.folder, files, clock)
        self.packs = folder / "objects" / "pack"
        self.git = Git(folder)
        self._branch = DEFAULT_BRANCH
        self.rebuilt = 0
        """How often it was since this object was made."""

    def open(self) -> bytes | None:
        """Create it when absent, clear what a crash left, and return the branch's commit.

        Raises `ArchiveUnavailableError` when what is there is not a repository that we can write,
        or another process writes it.
        """
        finish_rebuilding(self.folder, self.files, self._own_lock)
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            self._create()
        ours = (self.folder / "roundsman").is_dir()
        if ours:
            self._own_lock.take()
        try:
            self._recognise()
            self._branch = self._named_branch()
        except (ArchiveUnavailableError, FileNotFoundError) as error:
            raise (ArchiveDamagedError(str(error)) if ours else error) from error
        self.files.make_folder(self.folder / "roundsman")
        self._own_lock.take()
        self._locks.clear()
        self._index_packs()
        for finding in findings(self.packs):
            raise ArchiveDamagedError(f"{self.folder}: {finding}")
        self._settle_branch()
        self.prove()
        return self.tip()

    @property
    def branch(self) -> str:
        """The full name of the branch that is written to."""
        return self._branch

    @branch.setter
    def branch(self, name: str) -> None:
        """Another process opened the repository, and writes to this branch."""
        self._branch = name

    def tip(self) -> bytes | None:
        """The commit that the branch names now; none before the first."""
        try:
            named = (self.folder / self._branch).read_text("ascii").strip()
        except FileNotFoundError:
            named = self._packed_tip()
        if not named:
            return None
        if not _OBJECT_ID.fullmatch(named):
            raise ArchiveDamagedError(
                f"{self.folder}: {self._branch}: expected a commit id, got {named[:80]!r}",
            )
        return bytes.fromhex(named)

    def advance(self, expected: bytes | None, commit: bytes) -> None:
        """Make the branch name `commit`, durably, if it still names `expected`."""
        with self.advancing(expected, commit) as move:
            self.files.sync_together([move.written])
            move.keep()

    def advancing(self, expected: bytes | None, commit: bytes) -> "BranchMove":
        """Take the lock that git takes, to make the branch name `commit`.

        Raises `BranchMovedError` when it does not name `expected`.
        """
        branch = self.folder / self._branch
        self.files.make_folder(branch.parent)
        move = self._locked(branch)
        try:
            if self.tip() != expected:
                raise BranchMovedError
            move.written.write(commit.hex().encode() + b"\n")
        except BaseException:
            move.drop()
            raise
        return move

    def _locked(self, branch: Path) -> BranchMove:
        for _ in range(_ATTEMPTS):
            try:
                return BranchMove(self.files, branch)
            except FileExistsError:
                if not self._locks.await_free(branch.with_name(branch.name + ".lock")):
                    break
        raise ArchiveUnavailableError(
            f"{branch}.lock: expected a git program to give it back within {PATIENCE_SECONDS:.0f} "
            "seconds, but one is still at work on the repository",
            remedy="results are sent again; see which git program runs there",
        )

    def _index_packs(self) -> None:
        """Give packs that have no index one: a crash came between, or somebody removed it."""
        for path in self.packs.glob("*.pack"):
            if path.with_suffix(".idx").exists() or self.git.succeeds("index-pack", str(path)):
                continue
            # Else maintenance that an earlier life began has put it into another meanwhile.
            if path.exists():
                log.error("archive.pack_unusable", pack=path.name)
                self.files.rename(path, path.with_suffix(".bad"))

    def set_aside(self) -> tuple[str, ...]:
        """Names of the repositories that were damaged and are kept. Raises `OSError`."""
        found = self.folder.parent.glob(f"{self.folder.name}.damaged-*")
        return tuple(sorted(path.name for path in found if path.is_dir()))

    def rebuild(self, now: float, origins: Sequence[Origin]) -> None:
        """Set it aside and put a whole one in its place. Raises as `open` does."""
        self._own_lock.take()
        rebuild(self.folder, self.files, now, origins)
        self.rebuilt += 1
        self._own_lock.release()

    def measure(self) -> tuple[int, int, int]:
        """Bytes on disk, how many packs, how many loose objects. Raises `OSError`."""
        size = packs = loose = 0
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # maintenance replaced it meanwhile
                size += path.lstat().st_size
                packs += path.suffix == ".pack"
                loose += len(path.parent.name) == _FAN_OUT and len(path.name) == _LOOSE
        return size, packs, loose

    def prove(self) -> None:
        """Flush the branch as it stands, and the names of the packs that it needs."""
        self.files.sync_folder(self.packs)
        branch = self.folder / self._branch
        packed = self.folder / "packed-refs"
        for file in (branch, packed):
            if file.exists():
                self.files.sync_file(file)
                self.files.sync_folder(file.parent)

    def _create(self) -> None:
        """Make an empty repository beside the place, and put it there in one step."""
        self.files.make_folder(self.folder.parent)
        fresh = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        Git(fresh).run("init", "--bare", "--quiet", "--initial-branch=main", "--template=")
        for path in sorted(fresh.rglob("*")):
            (self.files.sync_folder if path.is_dir() else self.files.sync_file)(path)
        self.files.sync_folder(fresh)
        self.files.rename(fresh, self.folder)
        self.files.sync_folder(self.folder.parent)

    def _recognise(self) -> None:
        bare = self.git.succeeds("rev-parse", "--is-bare-repository") and (
            self.git.run("rev-parse", "--is-bare-repository", "--show-object-format").split()
        )
        if bare != [b"true", b"sha1"]:
            raise ArchiveUnavailableError(
                f"{self.folder}: expected a bare git repository with SHA-1 ids, or nothing, got "
                + ("something else" if not bare else b" ".join(bare).decode()),
                remedy="name another folder, or move this one away and a new one is created",
            )
        self.files.make_folder(self.packs)

    def _named_branch(self) -> str:
        """The branch that HEAD names: it is written to."""
        head = (self.folder / "HEAD").read_text("utf-8")
        named = _SYMBOLIC.fullmatch(head)
        if named is None:
            raise ArchiveUnavailableError(
                f"{self.folder}: HEAD: expected a branch, got {head[:80]!r}",
                remedy="git symbolic-ref HEAD refs/heads/main",
            )
        return named[1]

    def _settle_branch(self) -> None:
        """In a repository without commits, write to main."""
        if self._branch != DEFAULT_BRANCH and self.tip() is None:
            self.git.run("symbolic-ref", "HEAD", DEFAULT_BRANCH)
            self._branch = DEFAULT_BRANCH

    def close(self) -> None:
        """Let go of it."""
        self.files.close()
        self._own_lock.release()

    def _packed_tip(self) -> str:
        try:
            lines = (self.folder / "packed-refs").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return ""
        for line in lines:
            object_id, _, name = line.partition(" ")
            if name == self._branch:
                return object_id
        return ""

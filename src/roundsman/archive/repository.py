"""The bare repository on disk: made, adopted, cleared after a crash, and its branch moved on."""

import re
import shutil
from pathlib import Path
from typing import Final

from roundsman.archive.command import Git
from roundsman.archive.files import sync_file, sync_folder
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.packs import TEMPORARY_PREFIX

DEFAULT_BRANCH: Final = "refs/heads/main"

_SYMBOLIC: Final = re.compile(r"ref: (refs/heads/[^\s]+)\n?")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{40}")


class BranchMovedError(Exception):
    """Somebody else wrote to the branch; look again, and build on what is there."""


class Repository:
    """A bare repository, of which this process is the only writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packs = folder / "objects" / "pack"
        self.git = Git(folder)
        self._branch = DEFAULT_BRANCH

    def open(self) -> bytes | None:
        """Create it when absent, clear what a crash left, and return the branch's commit.

        The caller holds the lock of the data folder: no other writer lives. Raises
        `ArchiveUnavailableError` when what is there is not a repository that we can write.
        """
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            self._create()
        self._recognise()
        self._clear_leftovers()
        self._settle_branch()
        self.prove()
        return self.tip()

    def tip(self) -> bytes | None:
        """The commit that the branch names now; none before the first."""
        try:
            named = (self.folder / self._branch).read_text("ascii").strip()
        except FileNotFoundError:
            named = self._packed_tip()
        if not named:
            return None
        if not _OBJECT_ID.fullmatch(named):
            raise ArchiveUnavailableError(
                f"{self.folder}: {self._branch}: expected a commit id, got {named[:80]!r}",
                remedy="point the branch at its last good commit with git update-ref",
            )
        return bytes.fromhex(named)

    def advance(self, expected: bytes | None, commit: bytes) -> None:
        """Make the branch name `commit`, durably, if it still names `expected`.

        Takes the lock that git takes. Raises `BranchMovedError` when it names another.
        """
        branch = self.folder / self._branch
        lock = branch.with_name(branch.name + ".lock")
        branch.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock.open("xb")
        except FileExistsError as error:
            raise ArchiveUnavailableError(
                f"{lock} exists: another git program is writing, or died while it was",
                remedy="if none is running, remove that file or restart",
            ) from error
        try:
            with file:
                if self.tip() != expected:
                    raise BranchMovedError
                file.write(commit.hex().encode() + b"\n")
            sync_file(lock)
            lock.rename(branch)
        finally:
            lock.unlink(missing_ok=True)
        sync_folder(branch.parent)

    def prove(self) -> None:
        """Flush the branch as it stands, and the names of the packs that it needs."""
        sync_folder(self.packs)
        branch = self.folder / self._branch
        packed = self.folder / "packed-refs"
        for file in (branch, packed):
            if file.exists():
                sync_file(file)
                sync_folder(file.parent)

    def _create(self) -> None:
        """Make an empty repository beside the place, and put it there in one step."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        Git(fresh).run("init", "--bare", "--quiet", "--initial-branch=main", "--template=")
        for path in sorted(fresh.rglob("*")):
            (sync_folder if path.is_dir() else sync_file)(path)
        sync_folder(fresh)
        fresh.rename(self.folder)
        sync_folder(self.folder.parent)

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
        self.packs.mkdir(parents=True, exist_ok=True)

    def _settle_branch(self) -> None:
        """Write to the branch that HEAD names; in a repository without commits, to main."""
        head = (self.folder / "HEAD").read_text("utf-8")
        named = _SYMBOLIC.fullmatch(head)
        if named is None:
            raise ArchiveUnavailableError(
                f"{self.folder}: HEAD: expected a branch, got {head[:80]!r}",
                remedy="git symbolic-ref HEAD refs/heads/main",
            )
        self._branch = named[1]
        if self._branch != DEFAULT_BRANCH and self.tip() is None:
            self.git.run("symbolic-ref", "HEAD", DEFAULT_BRANCH)
            self._branch = DEFAULT_BRANCH

    def _clear_leftovers(self) -> None:
        """Remove locks and unfinished files: whoever made them is gone, or we were not alone."""
        leftovers = [
            *self.folder.glob("*.lock"),
            *(self.folder / "refs").rglob("*.lock"),
            *(self.folder / "objects").rglob("*.lock"),
            *self.packs.glob(TEMPORARY_PREFIX + "*"),
            *self.packs.glob("tmp_*"),
            *self.packs.glob(".tmp-*"),
            *(self.folder / "objects").glob("??/tmp_obj_*"),
        ]
        for pack, other in ((".pack", ".idx"), (".idx", ".pack")):
            leftovers += [
                path for path in self.packs.glob(f"*{pack}") if not path.with_suffix(other).exists()
            ]
        for path in leftovers:
            path.unlink(missing_ok=True)

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

"""An archive looked at from outside, and made small: for commands."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.damage import findings
from roundsman.archive.files import Files, sync_folder
from roundsman.archive.interface import ArchiveUnavailableError, Pair
from roundsman.archive.large import LargeContents, Pointer, parse_pointer
from roundsman.archive.layouts import Layouts
from roundsman.archive.locks import WriterLock
from roundsman.archive.objects import BLOB
from roundsman.archive.walking import changes
from roundsman.config.records import PointerSettings
from roundsman.wire.paths import OVERVIEW

_ATTEMPTS: Final = 2
_POINTER_BYTES: Final = 200
_AT_ONCE: Final = 1000
_UNREFERENCED: Final = "2.weeks.ago"


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds."""

    bytes: int
    """Size on disk, all of it."""
    packs: int
    """Packs of objects."""
    loose: int
    """Objects in files of their own."""
    commits: int
    """On the branch."""
    versions: int
    """Of all results, wherever they stand; as the list of versions has them."""
    files: int
    """On the branch now, overviews apart."""
    large: int
    """Contents kept beside git."""
    large_bytes: int
    """Their size."""
    branch: str
    """The branch that is written to."""
    tip: str | None
    """Its newest commit."""


def open_repository(folder: Path) -> Git:
    """The git program on an archive. Raises `ArchiveUnavailableError` where there is none."""
    git = Git(folder.absolute())
    if not folder.is_dir() or not git.succeeds("rev-parse", "--is-bare-repository"):
        raise ArchiveUnavailableError(
            f"{folder}: expected the archive's bare git repository, got something else",
            remedy="name the folder archive.git in the controller's data folder",
        )
    return git


def statistics(git: Git) -> Statistics:
    """Count what is there; beside a controller too. Raises `ArchiveUnavailableError`, `OSError`."""
    tip = git.tip_of("HEAD")
    counted = dict(
        line.decode().split(": ", 1) for line in git.lines("count-objects", "-v") if line
    )
    large = [path.stat().st_size for path in (git.folder / "lfs" / "objects").glob("??/??/*")]
    size = 0
    for path in git.folder.rglob("*"):
        with suppress(FileNotFoundError):  # maintenance replaced it meanwhile
            size += path.lstat().st_size
    return Statistics(
        bytes=size,
        packs=int(counted["packs"]),
        loose=int(counted["count"]),
        commits=0 if tip is None else int(git.run("rev-list", "--count", tip.hex())),
        versions=0 if tip is None else _count_versions(git, tip),
        files=0 if tip is None else sum(not _is_overview(path) for path, *_ in _blobs(git, tip)),
        large=len(large),
        large_bytes=sum(large),
        branch=git.run("symbolic-ref", "HEAD").decode().strip(),
        tip=None if tip is None else tip.hex(),
    )


def complaints(git: Git) -> Iterator[str]:
    """Everything that is wrong; beside a controller too.

    Reads every byte of git and of what is kept beside it. Raises `ArchiveUnavailableError`,
    `OSError`.
    """
    yield from findings(git.folder / "objects" / "pack")
    yield from fsck(git)
    contents = LargeContents(git, Files(), PointerSettings())
    for digest in contents.damaged():
        yield f"content {digest} beside the repository is not what its name says"
    tip = git.tip_of("HEAD")
    for path, pointer in () if tip is None else _pointers(git, tip):
        if contents.find(pointer.digest) is None:
            yield f"{path} is a pointer to {pointer.digest}, which is not here"


def compact(git: Git) -> None:
    """Write all packs anew as one, with deltas between versions.

    What nothing refers to goes when it is two weeks old. Raises `ArchiveUnavailableError` while a
    controller writes the archive: it does this by itself.
    """
    (git.folder / "roundsman").mkdir(exist_ok=True)
    lock = WriterLock(git.folder / "roundsman" / "writer.lock")
    lock.take()
    try:
        git.run(
            *("repack", "-A", "-d", "-f", "-q", "--window=50", "--depth=50"),
            f"--unpack-unreachable={_UNREFERENCED}",
        )
        git.run("prune-packed", "--quiet")
        git.run("prune", f"--expire={_UNREFERENCED}")
        if git.tip_of("HEAD") is not None:
            git.run("commit-graph", "write", "--reachable", "--no-progress")
        sync_folder(git.folder / "objects" / "pack")
    finally:
        lock.release()


def fsck(git: Git) -> Iterator[str]:
    """What git says of all objects; twice, since maintenance may replace a pack meanwhile."""
    said: list[str] = []
    for _ in range(_ATTEMPTS):
        done = subprocess.run(
            git.arguments("fsck", "--strict", "--no-dangling", "--no-progress"),
            capture_output=True,
            env=git.environment,
            check=False,
        )
        lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        said = [line for line in lines if not line.startswith("notice: ")]
        if done.returncode == 0:
            return
    yield from said or ["git fsck --strict fails without saying why"]


def _pointers(git: Git, tip: bytes) -> Iterator[tuple[str, Pointer]]:
    """Every pointer that a path ever held, with one of its paths."""
    small = f"combine:object:type=blob+blob:limit={_POINTER_BYTES + 1}"
    lines = git.lines(
        "rev-list", "--objects", f"--filter={small}", "--filter-provided-objects", tip.hex()
    )
    reader = ObjectReader(git)
    try:
        while some := [line.partition(b" ") for line in islice(lines, _AT_ONCE) if line]:
            found = reader.find(BLOB, [bytes.fromhex(blob.decode()) for blob, _, _ in some])
            for (_, _, path), content in zip(some, found, strict=True):
                pointer = None if content is None else parse_pointer(content)
                if pointer is not None:
                    yield path.decode(errors="replace"), pointer
    finally:
        reader.close()


def _blobs(git: Git, commit: bytes) -> Iterator[tuple[str, str, int]]:
    """Path, id and size of each file of a commit."""
    for record in git.records("ls-tree", "-r", "-l", "-z", "--full-tree", commit.hex()):
        said, _, path = record.partition(b"\t")
        if said:
            _, kind, blob, size = said.decode().split()
            if kind == "blob":
                yield path.decode(errors="replace"), blob, int(size)


def _count_versions(git: Git, tip: bytes) -> int:
    layouts = Layouts.as_noted(git.folder / "roundsman", Files())
    joined = [other for other in layouts.joined if git.is_ancestor(other, tip)]
    count = 0
    last: dict[Pair, bytes] = {}
    for kept in changes(git, layouts.pair, None, tip, joined):
        pair = (kept.device, kept.job)
        count += kept.run_id is not None or last.get(pair) != kept.blob
        last[pair] = kept.blob
    return count


def _is_overview(path: str) -> bool:
    return path.rpartition("/")[2] == OVERVIEW

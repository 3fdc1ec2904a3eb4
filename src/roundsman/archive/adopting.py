"""Making an archive of repositories that another program kept, with their history as it is.

Their commits come over untouched. Which paths are whose is noted; the controller then moves what
stands there to where its own paths say, in one commit, and lists the old versions with the new.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.adopted import Adopted, AdoptedPath, AdoptionError, note_adopted
from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.files import Files
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.layout import FLAT, SHARDED, Layout
from roundsman.archive.merging import merged
from roundsman.archive.packs import Pack, write_pack

_FETCHED: Final = "refs/roundsman/adopting"
_OWN: Final = (Layout((FLAT,)), Layout((SHARDED,)))


class Mapped(msgspec.Struct, frozen=True):
    """One file of a repository that is to be adopted."""

    source: str
    """Which repository."""
    path: str
    pair: tuple[str, str] | None
    """Device and job; none: it is no result, and stays where it is."""


def survey(sources: Sequence[Path], paths: Sequence[AdoptedPath]) -> Iterator[Mapped]:
    """Say of each file whose result it is. Raises `ArchiveUnavailableError`."""
    for source in sources:
        git = _git_of(source)
        tip = git.tip_of("HEAD")
        if tip is None:
            raise AdoptionError(f"{source}: expected a repository with commits, found none")
        for record in git.records("ls-tree", "-r", "-z", "--full-tree", tip.hex()):
            said, _, path = record.partition(b"\t")
            if said:
                pair = _pair(path, paths) if said.startswith(b"100") else None
                yield Mapped(str(source), path.decode(errors="replace"), pair)


def clashes(mapped: Sequence[Mapped]) -> Iterator[str]:
    """What cannot be adopted together: two files of one result, or of one path."""
    results: dict[tuple[str, str], Mapped] = {}
    places: dict[str, Mapped] = {}
    for item in mapped:
        other = places.setdefault(item.path, item)
        if other is not item:
            yield f"{item.path} is in {other.source} and in {item.source}"
        elif item.pair is not None:
            other = results.setdefault(item.pair, item)
            if other is not item:
                device, job = item.pair
                yield f"{other.path} and {item.path} are both {job} on {device}"


def adopt(
    sources: Sequence[Path], folder: Path, paths: Sequence[AdoptedPath], *, now: float
) -> None:
    """Make the bare repository `folder` of these. Raises `AdoptionError`, `OSError`.

    Unless it returns, nothing is left of it.
    """
    if folder.exists():
        raise AdoptionError(
            f"{folder}: expected a folder that is not there yet",
            remedy="an archive begins with what it adopts; name another data folder",
        )
    for clash in clashes([*survey(sources, paths)]):
        raise AdoptionError(clash, remedy="narrow the layout, or adopt fewer repositories")
    building = folder.with_name(folder.name + ".adopting")
    shutil.rmtree(building, ignore_errors=True)
    try:
        tips = _build(sources, building, now)
        files = Files()
        adopted = Adopted(tuple(paths), tuple(tip.hex() for tip in tips[1:]))
        note_adopted(building / "roundsman", files, adopted)
        for path in building.rglob("*"):
            (files.sync_folder if path.is_dir() else files.sync_file)(path)
        files.rename(building, folder)
        files.sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _build(sources: Sequence[Path], building: Path, now: float) -> list[bytes]:
    """Make the repository; the newest commit of each source."""
    git = Git(building)
    branch = _git_of(sources[0]).run("symbolic-ref", "HEAD").decode().strip()
    building.parent.mkdir(parents=True, exist_ok=True)
    initial = branch.removeprefix("refs/heads/")
    git.run("init", "--bare", "--quiet", f"--initial-branch={initial}", "--template=")
    tips = [_fetch(git, source) for source in sources]
    tip = tips[0]
    reader = ObjectReader(git)
    try:
        for other in tips[1:]:
            pack = Pack()
            tip = merged(git, reader, pack, tip, other, owner=lambda _: None, now=now)
            write_pack(Files(), building / "objects" / "pack", pack)
    finally:
        reader.close()
    git.run("update-ref", branch, tip.hex())
    git.run("update-ref", "-d", _FETCHED)
    done = subprocess.run(
        git.arguments("fsck", "--strict", "--no-dangling", "--no-progress"),
        capture_output=True,
        env=git.environment,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()[:500]
        raise AdoptionError(f"git fsck --strict says: {said}", remedy="mend the repository first")
    return tips


def _fetch(git: Git, source: Path) -> bytes:
    done = subprocess.run(
        git.arguments(
            *("-c", "fetch.unpackLimit=1", "-c", "maintenance.auto=false"),
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
            *("--", str(_git_of(source).folder), f"+HEAD:{_FETCHED}"),
        ),
        capture_output=True,
        env={**git.environment, "GIT_ALLOW_PROTOCOL": "file"},
        check=False,
    )
    tip = git.tip_of(_FETCHED) if done.returncode == 0 else None
    if tip is None:
        raise git.failure("fetch", done.returncode, done.stderr)
    return tip


def _pair(path: bytes, paths: Sequence[AdoptedPath]) -> tuple[str, str] | None:
    """As the controller will see it: our own layouts first."""
    known: Sequence[Layout | AdoptedPath] = (*_OWN, *paths)
    for layout in known:
        pair = layout.pair(path)
        if pair is not None:
            return pair
    return None


def _git_of(source: Path) -> Git:
    """The git program on a repository, bare or with files beside it."""
    beside = source.absolute() / ".git"
    git = Git(beside if beside.is_dir() else source.absolute())
    if not source.is_dir() or not git.succeeds("rev-parse", "--git-dir"):
        raise ArchiveUnavailableError(
            f"{source}: expected a git repository, got something else",
            remedy="CVS and Subversion are to be turned into git first",
        )
    return git

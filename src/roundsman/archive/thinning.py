"""A new repository with fewer versions than the old one, which stays as it is.

Three steps: what stays is decided (`thinning_plan`), commits and trees are made anew
(`thinning_line`), and git packs the contents that they name. Only what is complete, flushed and
without complaint of `git fsck --strict` gets its name, so whatever is cut off is begun anew.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from roundsman.archive.adopted import load_adopted, note_adopted
from roundsman.archive.checking import fsck
from roundsman.archive.command import Git
from roundsman.archive.damage import NOTES, free_name, swap
from roundsman.archive.files import Files
from roundsman.archive.history import History
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.large import carry_over_named
from roundsman.archive.layouts import Layouts
from roundsman.archive.locks import WriterLock
from roundsman.archive.maintenance import note_compacted
from roundsman.archive.pack_reading import packs_in
from roundsman.archive.thinned import note_left
from roundsman.archive.thinning_line import Fate, Line
from roundsman.archive.thinning_packs import compact_packs, pack_contents
from roundsman.archive.thinning_plan import contents, decide, note_other
from roundsman.archive.thinning_policy import Policy
from roundsman.archive.thinning_references import References
from roundsman.errors import ConflictError

_BEFORE: Final = "before-thinning"


class ThinningRefusedError(ConflictError):
    """A repository cannot be thinned, or not to where it was to be written."""

    code = "archive.thinning_refused"


class Thinned(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a repository."""

    tip: str
    """The commit up to which it was read."""
    new_tip: str
    results: int
    """Devices and jobs."""
    versions: int
    versions_kept: int
    commits: int
    commits_kept: int
    references_left: Sequence[str]
    """Branches and tags left out, since they name something else than a commit of the line."""
    contents_left: int
    """Contents beside git that nothing names any more."""
    kept_as: str | None = None
    """What the old repository is called now, where the new one took its place."""


class Counted(msgspec.Struct, frozen=True):
    """What a policy would come to."""

    results: int
    versions: int
    kept: int


def count(source: Git, policy: Policy, scratch: Path) -> Counted:
    """See how many versions would stay; `scratch` is a file that is not there. Raises as `thin`."""
    with _said(source.folder):
        layouts = _layouts(source)
        ends = _ends(source, layouts, _tip(source))
        plan = decide(source, ends, layouts.pair, policy, scratch)
        return Counted(plan.slots, plan.versions, plan.kept)


def thin(
    source: Git, folder: Path, policy: Policy, *, now: float, report: Callable[[Fate], None]
) -> Thinned:
    """Write the bare repository `folder`, which is not there yet; `report` is told every version.

    What the branch of `source` names when this begins is what is read, so a controller may go on.
    Raises `ThinningRefusedError`, `ArchiveUnavailableError`; then nothing is left of it.
    """
    if folder.exists():
        raise ThinningRefusedError(
            f"{folder}: expected a folder that is not there yet", remedy="name another one"
        )
    with _said(folder), _building(folder) as building:
        done = _build(source, building, policy, now, report)
        Files().rename(building, folder)
        Files().sync_folder(folder.parent)
    return done


def thin_and_replace(
    source: Git, policy: Policy, *, now: float, report: Callable[[Fate], None]
) -> Thinned:
    """Put the thinned repository in the place of the old one, which is set aside as it is.

    Raises as `thin` does, and while a controller has the repository; then it is as it was.
    """
    folder = source.folder
    (folder / "roundsman").mkdir(exist_ok=True)
    lock = WriterLock(folder / "roundsman" / "writer.lock")
    lock.take()
    try:
        with _said(folder), _building(folder) as building:
            done = _build(source, building, policy, now, report)
            aside = free_name(folder, _BEFORE, now)
            swap(folder, building, aside, Files())
        return msgspec.structs.replace(done, kept_as=str(aside))
    finally:
        lock.release()


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ArchiveUnavailableError(
            f"{folder}: expected to write a thinned repository, got: {error}",
            remedy="free or mend the disk, and begin anew: nothing was changed",
        ) from error


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """A place for what is not complete yet; what an earlier attempt left there goes."""
    building = folder.with_name(folder.name + ".thinning")
    shutil.rmtree(building, ignore_errors=True)
    try:
        yield building
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _build(
    source: Git, building: Path, policy: Policy, now: float, report: Callable[[Fate], None]
) -> Thinned:
    files, layouts, tip = Files(), _layouts(source), _tip(source)
    branch = source.run("symbolic-ref", "HEAD").decode().strip()
    git, own, packs = Git(building), building / "roundsman", building / "objects" / "pack"
    building.parent.mkdir(parents=True, exist_ok=True)
    initial = branch.removeprefix("refs/heads/")
    git.run("init", "--bare", "--quiet", f"--initial-branch={initial}", "--template=")
    own.mkdir()
    for name in NOTES:
        if (source.folder / "roundsman" / name).is_file():
            shutil.copyfile(source.folder / "roundsman" / name, own / name)
    scratch = own / "thinning.sqlite"
    ends = _ends(source, layouts, tip)
    plan = decide(source, ends, layouts.pair, policy, scratch)
    references = References(source, branch)
    with closing(Line(source, git, files, layouts, plan)) as line:
        for fate in line.write(ends, references.note, partial(note_other, scratch)):
            report(fate)
    made = {*compact_packs(git, [*packs_in(packs)])}
    with closing(contents(scratch, plan)) as needed:
        made |= {*pack_contents(source, packs, needed)}
    scratch.unlink()
    assert line.tip is not None  # noqa: S101 - the newest commit always stays
    git.run("update-ref", branch, line.tip.hex())
    left_out = references.write(git)
    contents_left = carry_over_named(source.folder, git)
    if line.first_left is not None:
        note_left(own, files, line.first_left)
    if line.joined:
        joined = tuple(commit.hex() for commit in line.joined.values())
        note_adopted(own, files, msgspec.structs.replace(load_adopted(own), joined=joined))
    _finish(git, files, line.tip, made, now)
    return Thinned(
        tip=tip.hex(),
        new_tip=line.tip.hex(),
        results=plan.slots,
        versions=plan.versions,
        versions_kept=plan.kept,
        commits=plan.commits,
        commits_kept=line.commits,
        references_left=tuple(left_out),
        contents_left=contents_left,
    )


def _finish(git: Git, files: Files, tip: bytes, packs: set[str], now: float) -> None:
    """Make the list of versions, have git look at everything, and flush it."""
    own = git.folder / "roundsman"
    history = History(own / "versions.sqlite", git, Layouts.as_noted(own, files))
    try:
        history.rebuild(tip)
    finally:
        history.close()
    note_compacted(own, files, packs, tip, now)
    git.run("commit-graph", "write", "--reachable", "--no-progress")
    for complaint in fsck(git):
        raise ArchiveUnavailableError(
            f"{git.folder}: git fsck --strict says of what was made: {complaint}",
            remedy="see what roundsman archive verify says of the old repository",
        )
    for path in git.folder.rglob("*"):
        (files.sync_folder if path.is_dir() else files.sync_file)(path)
    files.sync_folder(git.folder)


def _layouts(git: Git) -> Layouts:
    return Layouts.as_noted(git.folder / "roundsman", Files())


def _ends(git: Git, layouts: Layouts, tip: bytes) -> list[bytes]:
    """The newest commits of the lines of a history: those that it began with, and its own last."""
    return [*(other for other in layouts.joined if git.is_ancestor(other, tip)), tip]


def _tip(git: Git) -> bytes:
    tip = git.tip_of("HEAD")
    if tip is None:
        raise ThinningRefusedError(f"{git.folder}: expected a repository with commits, found none")
    return tip

"""A damaged repository: seen early, set aside as it is, and rebuilt from all that is whole.

Nothing of it is deleted. `archive.git` becomes `archive.git.damaged-<time>`, with a report beside
it that names what was lost; then the new one takes its place. A crash on the way leaves the old
one, or both, and is finished on opening.
"""

import shutil
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from roundsman import logs
from roundsman.archive.command import Git
from roundsman.archive.files import Files
from roundsman.archive.large import link_or_copy
from roundsman.archive.locks import WriterLock
from roundsman.archive.pack_reading import packs_in
from roundsman.archive.replay import restore_history
from roundsman.archive.salvage import salvage_objects, salvage_references

_BUILDING: Final = ".rebuilding"
_BUILT: Final = ".rebuilt"
_BESIDE: Final = "lfs"
"""Contents kept beside git; each proves itself by its name when it is read."""
NOTES: Final = ("layout.json", "adopted.json", "thinned.json")
"""Files of ours that outlive a repository, whatever takes its place."""
_FIXED: Final = 8 + 1024 + 40
"""Bytes of an index beside its objects: header, counts, two checksums."""
_PER_OBJECT: Final = 28
_TRAILER: Final = 20

log = logs.get(__name__)


class Origin(Protocol):
    """Where a repository may be had from again, such as a remote that it is pushed to."""

    def restore(self, folder: Path) -> bool:
        """Make a bare repository at `folder`, with its branch; false where that cannot be had."""
        ...


def findings(packs: Path) -> Iterator[str]:
    """What is wrong with packs at first sight: their ends, their sizes, their indexes.

    Reads some bytes of each; damage within shows when the bytes are read. Raises `OSError`.
    """
    if not packs.is_dir():
        yield f"{packs} is gone"
        return
    for pack in packs_in(packs):
        wrong = _finding(pack)
        if wrong:
            yield f"{pack.name}: {wrong}"


def rebuild(folder: Path, files: Files, now: float, origins: Sequence[Origin]) -> list[str]:
    """Put a whole repository in the place of a damaged one; what was lost, a line each.

    Raises `OSError`, `ArchiveUnavailableError`; then the damaged one is where it was.
    """
    building = folder.with_name(folder.name + _BUILDING)
    shutil.rmtree(building, ignore_errors=True)
    restored = any(origin.restore(building) for origin in origins)
    git = Git(building)
    if not restored:
        git.run("init", "--bare", "--quiet", "--initial-branch=main", "--template=")
    lost = [*salvage_objects(folder, git, files)]
    lost += restore_history(git, files, salvage_references(folder, git))
    notes = building / "roundsman"
    notes.mkdir(exist_ok=True)
    for name in NOTES:
        if (folder / "roundsman" / name).is_file():
            shutil.copyfile(folder / "roundsman" / name, notes / name)
    if (folder / _BESIDE).is_dir():
        shutil.copytree(folder / _BESIDE, building / _BESIDE, copy_function=link_or_copy)
    for path in building.rglob("*"):
        (files.sync_folder if path.is_dir() else files.sync_file)(path)
    files.sync_folder(building)
    _take_its_place(folder, building, files, now, lost)
    return lost


def finish_rebuilding(folder: Path, files: Files, lock: WriterLock) -> None:
    """Finish what a crash cut off, unless another process is at it; `lock` is the writer's.

    Raises `OSError`, `ArchiveUnavailableError`.
    """
    built = folder.with_name(folder.name + _BUILT)
    if not built.exists():
        return
    if folder.exists():
        lock.take()
        shutil.rmtree(built)  # it was not set aside yet, and may have grown since
    else:
        files.rename(built, folder)
        files.sync_folder(folder.parent)


def _take_its_place(
    folder: Path, building: Path, files: Files, now: float, lost: Sequence[str]
) -> None:
    aside = free_name(folder, "damaged", now)
    report = aside.with_name(aside.name + ".txt")
    said = [
        f"{folder.name} was found damaged and rebuilt at {_date(now)}. It is kept as {aside.name}.",
        f"Lost: {len(lost) or 'nothing'}" + (", named below." if lost else "."),
        *lost,
        "",
    ]
    files.replace(report, "\n".join(said).encode())
    swap(folder, building, aside, files)
    log.error("archive.rebuilt", kept_as=str(aside), report=str(report), lost=len(lost))
    for line in lost[:100]:
        log.error("archive.lost", what=line)


def free_name(folder: Path, what: str, now: float) -> Path:
    """A name beside a folder, for what it was until now, that nothing has."""
    aside = folder.with_name(f"{folder.name}.{what}-{_date(now)}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.{what}-{_date(now)}-{number}")
    return aside


def swap(folder: Path, building: Path, aside: Path, files: Files) -> None:
    """Set a repository aside, and put another in its place, of which every file is flushed.

    The writer's lock is held. What a crash cuts off `finish_rebuilding` finishes. Raises `OSError`.
    """
    built = folder.with_name(folder.name + _BUILT)
    shutil.rmtree(built, ignore_errors=True)
    files.rename(building, built)
    files.sync_folder(folder.parent)
    files.rename(folder, aside)
    files.rename(built, folder)
    files.sync_folder(folder.parent)


def _date(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y%m%dT%H%M%SZ")


def _finding(pack: Path) -> str | None:
    index = pack.with_suffix(".idx")
    size = index.stat().st_size
    with index.open("rb") as file:
        head = file.read(8 + 1024)
        if len(head) < 8 + 1024 or head[:8] != b"\xfftOc\0\0\0\2":
            return "its index is no index"
        count: int = struct.unpack_from(">L", head, 8 + 1020)[0]
        if size < _FIXED + _PER_OBJECT * count or (size - _FIXED - _PER_OBJECT * count) % 8:
            return "its index is cut off"
        file.seek(-2 * _TRAILER, 2)
        checksum = file.read(_TRAILER)
    with pack.open("rb") as file:
        start = file.read(12)
        if len(start) < 12 or start != b"PACK" + struct.pack(">LL", 2, count):
            return "it is no pack, or not the one of its index"
        file.seek(-_TRAILER, 2)
        if file.read(_TRAILER) != checksum:
            return "it is cut off, or not the one of its index"
    return None

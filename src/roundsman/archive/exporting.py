"""The files of a commit as a plain folder, wherever others may have put what in the repository.

Everything is made anew inside of a new folder, so no link leads out of it; links and submodules are
left out, and said to be.
"""

import errno
import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Final, cast

from roundsman.archive.adopted import load_adopted
from roundsman.archive.command import Git
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.large import parse_pointer
from roundsman.errors import ConflictError, NotFoundError

_PIECE: Final = 1 << 18
_OF_NAMES: Final = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ)
_NO_NAMES: Final = frozenset((b"", b".", b"..", b".git"))


class NoSuchCommitError(NotFoundError):
    """There is nothing of that time or of that id in the archive."""

    code = "archive.no_such_commit"


class ExportRefusedError(ConflictError):
    """The place that was named is taken."""

    code = "archive.export_refused"


def commits_at(git: Git, at: float | None) -> list[bytes]:
    """The newest commit on the branch, as of a time. Raises `NoSuchCommitError`.

    And those of other histories that the repository began with, which had not been joined by then.
    """
    tip = git.tip_of("HEAD")
    found: list[bytes] = []
    for line in () if tip is None else (tip, *_joined(git, tip)):
        commit = line if at is None else _newest(git, line, at)
        if commit is not None and not any(git.is_ancestor(commit, each) for each in found):
            found.append(commit)
    if not found:
        raise NoSuchCommitError("expected a commit of that time, found none so old")
    return found


def _joined(git: Git, tip: bytes) -> list[bytes]:
    names = load_adopted(git.folder / "roundsman").joined
    return [other for other in map(bytes.fromhex, names) if git.is_ancestor(other, tip)]


def _newest(git: Git, tip: bytes, at: float) -> bytes | None:
    said = git.run(
        "rev-list", "--first-parent", "--max-count=1", f"--before=@{int(at)} +0000", tip.hex()
    )
    return bytes.fromhex(said.decode().strip()) or None


def commit_named(git: Git, name: str) -> bytes:
    """The commit of a hexadecimal id, whole or its beginning. Raises `NoSuchCommitError`."""
    found = git.tip_of(name)
    if found is None:
        raise NoSuchCommitError(f"expected the id of a commit, found none that begins with {name}")
    return found


def export(git: Git, commits: Sequence[bytes], folder: Path) -> Iterator[str]:
    """Write the files of some commits into a new folder; yield what was left out, and why.

    What stands for a content beside git is that content. Raises `ExportRefusedError`,
    `ArchiveUnavailableError`.
    """
    try:
        yield from _export(git, commits, folder)
    except OSError as error:
        raise ArchiveUnavailableError(
            f"{folder}: expected to write it, got: {error}", remedy="free or mend the disk"
        ) from error


def _export(git: Git, commits: Sequence[bytes], folder: Path) -> Iterator[str]:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ExportRefusedError(
            f"{folder}: expected a folder that is not there yet", remedy="name another one"
        ) from None
    with subprocess.Popen(
        git.arguments("cat-file", "--batch"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=git.environment,
    ) as reading:
        try:
            for mode, blob, path in chain.from_iterable(_files(git, each) for each in commits):
                parts = path.split(b"/")
                shown = path.decode(errors="replace")
                if not mode.startswith(b"100"):
                    yield f"{shown}: it is a link or a submodule"
                elif _NO_NAMES.intersection(part.lower() for part in parts):
                    yield f"{shown}: no file may have that name"
                else:
                    target = folder.joinpath(*(os.fsdecode(part) for part in parts))
                    try:
                        target.parent.mkdir(parents=True, exist_ok=True)
                        file = target.open("xb")
                    except OSError as error:
                        if error.errno not in _OF_NAMES:
                            raise
                        yield f"{shown}: {error.strerror}"
                        continue
                    with file:
                        omission = _write(git, reading, blob, file)
                    if omission is not None:
                        yield f"{shown}: {omission}"
        finally:
            reading.kill()


def _write(
    git: Git, reading: "subprocess.Popen[bytes]", blob: bytes, file: IO[bytes]
) -> str | None:
    """Write one file; what is wrong with it."""
    stdin, stdout = cast("IO[bytes]", reading.stdin), cast("IO[bytes]", reading.stdout)
    stdin.write(blob + b"\n")
    stdin.flush()
    head = stdout.readline().split()
    if len(head) != 3:
        raise ArchiveUnavailableError(
            f"{git.folder}: object {blob.decode()} is missing or damaged",
            remedy="run roundsman archive verify",
        )
    left = int(head[2])
    pointer = None
    while left:
        piece = stdout.read(min(left, _PIECE))
        if not piece:
            raise ArchiveUnavailableError(f"{git.folder}: object {blob.decode()} is damaged")
        pointer = parse_pointer(piece) if int(head[2]) == len(piece) else None
        if pointer is None or not _object(git, pointer.digest).is_file():
            file.write(piece)
        left -= len(piece)
    stdout.read(1)
    return None if pointer is None else _write_content(_object(git, pointer.digest), file)


def _write_content(source: Path, file: IO[bytes]) -> str | None:
    """Write what a pointer stands for; what is wrong with it."""
    if not source.is_file():
        return "its content is not here, the pointer was written"
    digest = hashlib.sha256()
    with source.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
            file.write(piece)
    return None if digest.hexdigest() == source.name else "its content is damaged"


def _object(git: Git, digest: str) -> Path:
    return git.folder / "lfs" / "objects" / digest[:2] / digest[2:4] / digest


def _files(git: Git, commit: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Mode, id and path of each file."""
    for record in git.records("ls-tree", "-r", "-z", "--full-tree", commit.hex()):
        said, _, path = record.partition(b"\t")
        if said:
            mode, _, blob = said.split()
            yield mode, blob, path

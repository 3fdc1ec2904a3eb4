"""Having git find deltas in packs: each object beside those which it is most alike.

git compares an object with those next to it, by a number that it makes of the last sixteen
characters of a path, in which the devices of a fleet hardly differ; and then by size. So the
versions of one path stood far apart, and each had to be compared with fifty others. Here every
path is called by a name whose number is its own (`pack_name_hash` in git's `pack-objects.h`), and
few suffice.

Trees are packed apart from the rest: in joined packs most of them are deltas already, which is
taken over. Of the rest, what git would take over are contents that stand whole: it believes of two
of one pack that a delta between them was looked for.

Names are hints alone. What stands in the packs and was not named, since no branch needs it yet or
any more, is packed last: the packs may go when it ends. Runs as a process of its own, out of the
way of whoever waits for a result:

    python -m roundsman.archive.compacting CONTROLLER REPOSITORY TIP BEYOND ... < names

where everything that the commits BEYOND need is in other packs.
"""

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final, Self, cast

from roundsman.archive import beside
from roundsman.archive.command import Git
from roundsman.archive.pack_reading import PackDamagedError, ids_by_first_byte

_WINDOW: Final = 24
"""Objects that git compares each one with."""
_WINDOW_UNNAMED: Final = 50
"""And where it has to find by size which are alike."""
_DIGITS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
_TREE: Final = b"tree"


def compact(git: Git, packs: Sequence[Path], tip: str, beyond: Sequence[str]) -> list[str]:
    """Write all objects of these packs, as deltas where git can; the names of the packs made.

    Raises `ArchiveUnavailableError`, `OSError`, `PackDamagedError`.
    """
    folder = packs[0].parent
    made: list[str] = []
    if tip:
        with (
            _Packing(git, folder, f"--window={_WINDOW}") as trees,
            _Packing(git, folder, f"--window={_WINDOW}", "--no-reuse-delta") as rest,
        ):
            for kind, name, path in _needed(git, tip, beyond):
                if kind == _TREE:
                    trees.add(b"%s %s" % (name, called(path + b"/")))
                else:
                    rest.add(b"%s %s" % (name, called(path)))
            made += [*trees.finish(), *rest.finish()]
    with _Packing(git, folder, f"--window={_WINDOW_UNNAMED}", "--no-reuse-delta") as unnamed:
        for missing in _missing(packs, [folder / f"{name}.pack" for name in made]):
            unnamed.add(missing.hex().encode())
        made += unnamed.finish()
    return made


def called(path: bytes) -> bytes:
    """The name of a path for git: the number that it makes of it is the path's own.

    It adds up the last sixteen bytes, each two bits further right than the next, so every fourth
    stands for eight bits.

    >>> called(b"by_device/core-1/show_run")
    b'...S...V...8...g'
    """
    number = zlib.crc32(path)
    return b"".join(b"...%c" % _DIGITS[number >> shift & 63] for shift in (18, 12, 6, 0))


class _Packing:
    """git at work on a list of objects that is still being told. Use as a context."""

    def __init__(self, git: Git, folder: Path, *options: str) -> None:
        self._git = git
        self._process = subprocess.Popen(
            git.arguments(
                *("pack-objects", "--quiet", "--non-empty", "--delta-base-offset", *options),
                str(folder / "pack"),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=git.environment,
            preexec_fn=partial(beside.end_with, os.getpid()),  # noqa: PLW1509 - no threads here
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

    def add(self, line: bytes) -> None:
        """Have it pack an object, too."""
        cast("IO[bytes]", self._process.stdin).write(line + b"\n")

    def finish(self) -> list[str]:
        """The names of the packs that it made."""
        made, complaint = self._process.communicate()
        if self._process.returncode:
            raise self._git.failure("pack-objects", self._process.returncode, complaint)
        return [f"pack-{checksum}" for checksum in made.decode().split()]


def _needed(git: Git, tip: str, beyond: Sequence[str]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, id and path of what a commit needs and others do not.

    A path is bytes: others may have pushed names that are no text, or that hold a carriage return.
    """
    with (
        _reading(
            git,
            *("rev-list", "--objects", "--ignore-missing", tip),
            *(f"^{commit}" for commit in beyond),
        ) as walk,
        _reading(
            git,
            *("cat-file", "--batch-check=%(objecttype) %(objectname) %(rest)", "--buffer"),
            stdin=walk.stdout,
        ) as kinds,
    ):
        for line in cast("IO[bytes]", kinds.stdout):
            kind, name, path = line.rstrip(b"\n").split(b" ", 2)
            yield kind, name, path
    for process, command in ((walk, "rev-list"), (kinds, "cat-file")):
        if process.returncode:
            raise git.failure(command, process.returncode, b"")


def _reading(
    git: Git, *arguments: str, stdin: IO[bytes] | int | None = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        git.arguments(*arguments),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=git.environment,
        preexec_fn=partial(beside.end_with, os.getpid()),  # noqa: PLW1509 - no threads here
    )


def _missing(packs: Sequence[Path], made: Sequence[Path]) -> Iterator[bytes]:
    """The ids of what stands in the first packs and not in the second."""
    old = zip(*map(ids_by_first_byte, packs), strict=True)
    new = zip(*map(ids_by_first_byte, made), strict=True) if made else iter([()] * 256)
    for before, after in zip(old, new, strict=True):
        yield from set[bytes]().union(*before).difference(*after)


def main() -> None:
    """Compact the packs that standard input names, and print the names of those made."""
    beside.begin(int(sys.argv[1]))
    repository, tip, *beyond = sys.argv[2:]
    folder = Path(repository) / "objects" / "pack"
    packs = [folder / f"{name}.pack" for name in sys.stdin.read().split()]
    try:
        sys.stdout.write(" ".join(compact(Git(Path(repository)), packs, tip, beyond)))
    except PackDamagedError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

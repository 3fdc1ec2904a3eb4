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
from tempfile import TemporaryFile
from typing import IO, Final, cast

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
        with TemporaryFile(dir=folder) as trees, TemporaryFile(dir=folder) as rest:
            for kind, name, path in _needed(git, tip, beyond):
                if kind == _TREE:
                    trees.write(b"%s %s\n" % (name, called(path + b"/")))
                else:
                    rest.write(b"%s %s\n" % (name, called(path)))
            # One after the other: git keeps in memory each object that it is told, near 200 bytes.
            made += _packed(git, folder, trees, f"--window={_WINDOW}")
            made += _packed(git, folder, rest, f"--window={_WINDOW}", "--no-reuse-delta")
    with TemporaryFile(dir=folder) as unnamed:
        for missing in _missing(packs, [folder / f"{name}.pack" for name in made]):
            unnamed.write(missing.hex().encode() + b"\n")
        made += _packed(git, folder, unnamed, f"--window={_WINDOW_UNNAMED}", "--no-reuse-delta")
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


def _packed(git: Git, folder: Path, listed: IO[bytes], *options: str) -> list[str]:
    """Have git pack the objects of a list; the names of the packs that it made, none for none."""
    listed.seek(0)
    done = subprocess.run(
        git.arguments(
            *("pack-objects", "--quiet", "--non-empty", "--delta-base-offset", *options),
            str(folder / "pack"),
        ),
        stdin=listed,
        capture_output=True,
        check=False,
        env=git.environment,
        preexec_fn=partial(beside.end_with, os.getpid()),
    )
    if done.returncode:
        raise git.failure("pack-objects", done.returncode, done.stderr)
    return [f"pack-{checksum}" for checksum in done.stdout.decode().split()]


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

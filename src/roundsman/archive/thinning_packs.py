"""The objects of a thinned repository as packs, some hundred thousand at a time.

git needs some hundred bytes of memory for each object that it packs together.
"""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Final, cast

from roundsman.archive.command import Git

_OBJECTS_AT_ONCE: Final = 500_000
_PACKS_AT_ONCE: Final = 50
_OPTIONS: Final = ("pack-objects", "--quiet", "--delta-base-offset", "--no-reuse-delta")


def pack_contents(
    source: Git, folder: Path, contents: Iterable[tuple[bytes, str]]
) -> Iterator[str]:
    """Pack these objects of a repository in another folder; yield the names of the packs.

    Objects of one name become deltas of one another. Raises `ArchiveUnavailableError`, `OSError`.
    """
    rest = iter(contents)
    for first in rest:
        some = chain([first], islice(rest, _OBJECTS_AT_ONCE - 1))
        lines = (f"{blob.hex()} {name}\n".encode() for blob, name in some)
        yield from _pack(source, folder, lines)


def compact_packs(git: Git, packs: Sequence[Path]) -> Iterator[str]:
    """Write packs anew with deltas, and remove them; yield the names of those that were made.

    Raises `ArchiveUnavailableError`, `OSError`.
    """
    for start in range(0, len(packs), _PACKS_AT_ONCE):
        some = packs[start : start + _PACKS_AT_ONCE]
        lines = (f"{path.name}\n".encode() for path in some)
        yield from _pack(git, packs[0].parent, lines, "--stdin-packs")
        for path in some:
            for suffix in (".idx", ".pack"):
                path.with_suffix(suffix).unlink()


def _pack(git: Git, folder: Path, lines: Iterable[bytes], *options: str) -> list[str]:
    with subprocess.Popen(
        git.arguments(*_OPTIONS, *options, str(folder / "pack")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=git.environment,
    ) as process:
        stdin = cast("IO[bytes]", process.stdin)
        try:
            stdin.writelines(lines)
            stdin.close()
        except BrokenPipeError:
            pass  # it says why
        except BaseException:
            process.kill()
            raise
        made = cast("IO[bytes]", process.stdout).read()
        said = cast("IO[bytes]", process.stderr).read()
    if process.returncode:
        raise git.failure("pack-objects", process.returncode, said)
    return [f"pack-{name}" for name in made.decode().split()]

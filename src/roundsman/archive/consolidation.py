"""Joining the many packs that batches leave, beside the writer and without its help.

Safe at any moment, since it only ever removes packs whose every object, needed or not yet needed,
it has just written again and flushed; packs that appear meanwhile are not its concern, and git
itself looks an object up again when the pack that held it is gone.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from roundsman.archive.repository import Repository

PACKS_ADDED: Final = 64
"""Packs added before it is worth a look."""

_GROWTH: Final = 2


async def consolidate(repository: Repository) -> int:
    """Join the small packs into one; how many. Raises `OSError`, `ArchiveUnavailableError`.

    Which ones: a pack is left alone when it is more than twice the size of all smaller ones
    together. So each object is written again about as often as the repository doubles. May be
    cancelled at any moment.
    """
    joined, others = await asyncio.to_thread(_choose, repository.packs)
    if len(joined) < 2:
        return 0
    lines = [*(path.name for path in joined), *("^" + path.name for path in others), ""]
    made = await _pack_objects(repository, "\n".join(lines).encode())
    await asyncio.to_thread(_remove, repository, joined, {*made.decode().split()})
    return len(joined)


async def _pack_objects(repository: Repository, packs: bytes) -> bytes:
    """Write the objects of these packs into a new one, flushed; its checksum."""
    git = repository.git
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10"),
        *git.arguments("pack-objects", "--quiet", "--stdin-packs", "--delta-base-offset"),
        str(repository.packs / "pack"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=git.environment,
    )
    try:
        made, said = await process.communicate(packs)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise git.failure("pack-objects", process.returncode, said)
    return made


def _choose(folder: Path) -> tuple[list[Path], set[Path]]:
    """Which packs to join, and the others."""
    packs = {path for path in folder.glob("pack-*.pack") if path.with_suffix(".idx").exists()}
    sizes = [
        (path.stat().st_size, path) for path in packs if not path.with_suffix(".keep").exists()
    ]
    joined = _worth_joining(sorted(sizes))
    return joined, packs.difference(joined)


def _remove(repository: Repository, packs: Sequence[Path], made: set[str]) -> None:
    """Remove packs whose objects stand in those that were made, once these are sure to stay."""
    repository.files.sync_folder(repository.packs)
    for path in packs:
        if path.stem.removeprefix("pack-") not in made:
            # The index first: without it git does not look for the pack.
            for suffix in (".idx", ".rev", ".pack"):
                repository.files.unlink(path.with_suffix(suffix))


def _worth_joining(packs: Sequence[tuple[int, Path]]) -> list[Path]:
    """The smaller ones, from the smallest up to the first gap."""
    joined: list[Path] = []
    total = 0
    for size, path in packs:
        if joined and size > _GROWTH * total and len(joined) >= PACKS_ADDED // 2:
            break
        joined.append(path)
        total += size
    return joined

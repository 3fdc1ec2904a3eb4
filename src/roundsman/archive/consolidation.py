"""Joining the many packs that batches leave, beside the writer and without its help.

Safe at any moment, since it only ever removes packs whose every object, needed or not yet needed,
it has just written again and flushed; packs that appear meanwhile are not its concern, and git
itself looks an object up again when the pack that held it is gone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from roundsman.archive.files import sync_folder
from roundsman.archive.repository import Repository

PACKS_ADDED: Final = 64
"""Packs added before it is worth a look."""

_GROWTH: Final = 2
_NICENESS: Final = 10


def consolidate(repository: Repository) -> int:
    """Join the small packs into one; how many. Raises `OSError`, `ArchiveUnavailableError`.

    Which ones: a pack is left alone when it is more than twice the size of all smaller ones
    together. So each object is written again about as often as the repository doubles.
    """
    packs = sorted(
        (path.stat().st_size, path)
        for path in repository.packs.glob("pack-*.pack")
        if path.with_suffix(".idx").exists() and not path.with_suffix(".keep").exists()
    )
    joined = _worth_joining(packs)
    if len(joined) < 2:
        return 0
    others = set(repository.packs.glob("pack-*.pack")).difference(joined)
    lines = [*(path.name for path in joined), *("^" + path.name for path in others)]
    made = repository.git.run(
        *("pack-objects", "--quiet", "--stdin-packs", "--delta-base-offset"),
        str(repository.packs / "pack"),
        stdin="\n".join([*lines, ""]).encode(),
        niceness=_NICENESS,
    )
    sync_folder(repository.packs)
    names = {f"pack-{checksum}.pack" for checksum in made.decode().split()}
    for path in joined:
        if path.name not in names:
            path.with_suffix(".idx").unlink(missing_ok=True)  # first, so that none stands alone
            path.unlink(missing_ok=True)
            path.with_suffix(".rev").unlink(missing_ok=True)
    return len(joined)


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

"""Joining packs by copying what stands in them.

Nothing is inflated but trees that stand whole, which become deltas (`tree_chains`), and what an
earlier release wrote as it was, which is deflated. Every object of the packs is carried over,
needed or not yet needed, so the packs may go when the new one is there. Runs as a process of its
own, out of the way of whoever waits for a result:

    python -m roundsman.archive.joining CONTROLLER FOLDER < names
"""

import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from roundsman.archive import beside
from roundsman.archive.files import Files
from roundsman.archive.objects import (
    BLOB,
    COMMIT,
    OFFSET_DELTA,
    TREE,
    base_distance,
    deflated,
    entry_header,
    stored,
)
from roundsman.archive.pack_reading import (
    PackDamagedError,
    Packed,
    PackReader,
    parse_distance,
    parse_header,
)
from roundsman.archive.packs import PackWriter, new_pack_name
from roundsman.archive.tree_chains import MOST_WHOLE, TreeChains

_STORED: Final = b"\x78\x01"


def join(files: Files, folder: Path, packs: Sequence[Path]) -> str:
    """Write all objects of these packs, oldest first, as one pack in `folder`; its name.

    Raises `OSError`, `PackDamagedError`.
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(PackReader(path)) for path in packs]
        for reader in readers:
            _expect_whole(reader)
        chosen = [(reader, reader.objects) for reader in readers]
        return copy_objects(files, folder, chosen, TreeChains())


def copy_objects(
    files: Files,
    folder: Path,
    chosen: Sequence[tuple[PackReader, Sequence[Packed]]],
    trees: TreeChains | None = None,
) -> str:
    """Write these objects, each once, as one pack; the base of a delta is among those before it.

    With `trees`, those that stand whole in several packs become deltas of one another.
    """
    ids = {item.id for _, items in chosen for item in items}
    offsets: dict[bytes, int] = {}
    name = new_pack_name()
    with PackWriter(files, folder / name, len(ids)) as pack:
        for reader, items in chosen:
            bases = dict(_bases(reader, items))
            heights = _heights(items, bases)
            for item in items:
                if item.id in offsets:
                    continue
                raw = reader.raw(item)
                offset = offsets[item.id] = pack.begin(item.id)
                base = bases.get(item.id)
                if base is None and trees is not None:
                    base, raw = _on_earlier(trees, item, raw, heights.get(item.id, 0))
                if base is None:
                    pack.put(_deflated(raw))
                else:
                    pack.put(_moved(raw, offset - offsets[base]))
                pack.end()
        pack.finish()
    return name


def _expect_whole(reader: PackReader) -> None:
    """What is copied gets a sum of its own: a change on the disk would be as good as written."""
    for item in reader.objects:
        if not reader.is_whole(item):
            raise PackDamagedError(f"{reader.path}: object {item.id.hex()} is damaged")


def _bases(reader: PackReader, items: Sequence[Packed]) -> Iterator[tuple[bytes, bytes]]:
    """What is told by its distance from its base, with the base."""
    for item in items:
        raw = reader.raw(item)
        if parse_header(raw)[0] == OFFSET_DELTA and (base := reader.base(item, raw)) is not None:
            yield item.id, base


def _heights(items: Sequence[Packed], bases: Mapping[bytes, bytes]) -> dict[bytes, int]:
    """How many deltas stand on an object, each on the one before, by its id."""
    heights: dict[bytes, int] = {}
    for item in reversed(items):
        if base := bases.get(item.id):
            heights[base] = max(heights.get(base, 0), heights.get(item.id, 0) + 1)
    return heights


def _on_earlier(
    trees: TreeChains, item: Packed, raw: bytes, height: int
) -> tuple[bytes | None, bytes]:
    """A whole tree as a delta of another one, which is named; or as it is."""
    kind, size, at = parse_header(raw)
    if kind == TREE and size > MOST_WHOLE:
        found = trees.delta(item.id, zlib.decompress(raw[at:]), height)
        if found is not None:
            base, delta = found
            return base, entry_header(OFFSET_DELTA, len(delta)) + base_distance(1) + stored(delta)
    return None, raw


def _moved(raw: bytes, distance: int) -> bytes:
    """A delta, with the distance to its base as it is in the new pack."""
    kind, size, at = parse_header(raw)
    _, body = parse_distance(raw, at)
    return entry_header(kind, size) + base_distance(distance) + raw[body:]


def _deflated(raw: bytes) -> bytes:
    """The object deflated, if an earlier release left it as it is. Trees stay as they are."""
    kind, size, at = parse_header(raw)
    is_stored = raw[at : at + 2] == _STORED and raw[at + 2] & 0x06 == 0
    if kind not in (BLOB, COMMIT) or not is_stored:
        return raw
    return entry_header(kind, size) + deflated(zlib.decompress(raw[at:]))


def main() -> None:
    """Join the packs that standard input names, and print the new one's name."""
    beside.begin(int(sys.argv[1]))
    folder = Path(sys.argv[2])
    packs = [folder / f"{name}.pack" for name in sys.stdin.read().split()]
    packs.sort(key=lambda path: path.stat().st_mtime_ns)
    try:
        sys.stdout.write(join(Files(), folder, packs))
    except PackDamagedError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

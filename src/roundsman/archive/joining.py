"""Joining packs by copying what stands in them.

Nothing is inflated but what a batch wrote as it was, which is deflated here, once. Every object of
the packs is carried over, needed or not yet needed, so the packs may go when the new one is
there. Runs as a process of its own, out of the way of whoever waits for a result:

    python -m roundsman.archive.joining CONTROLLER FOLDER < names
"""

import sys
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from roundsman.archive import beside
from roundsman.archive.files import Files
from roundsman.archive.objects import (
    BLOB,
    COMMIT,
    OFFSET_DELTA,
    base_distance,
    entry_header,
)
from roundsman.archive.pack_reading import (
    Packed,
    PackReader,
    parse_distance,
    parse_header,
)
from roundsman.archive.packs import PackWriter, new_pack_name

_LEVEL: Final = 6
_STORED: Final = b"\x78\x01"


def join(files: Files, folder: Path, packs: Sequence[Path]) -> str:
    """Write all objects of these packs as one pack in `folder`; its name.

    Raises `OSError`, `PackDamagedError`.
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(PackReader(path)) for path in packs]
        return copy_objects(files, folder, ((reader, reader.objects) for reader in readers))


def copy_objects(
    files: Files, folder: Path, chosen: Iterable[tuple[PackReader, Sequence[Packed]]]
) -> str:
    """Write these objects, each once, as one pack; the base of a delta is among those before it."""
    chosen = [*chosen]
    ids = {item.id for _, items in chosen for item in items}
    offsets: dict[bytes, int] = {}
    name = new_pack_name()
    with PackWriter(files, folder / name, len(ids)) as pack:
        for reader, items in chosen:
            for item in items:
                if item.id not in offsets:
                    raw = _deflated(reader.raw(item))
                    offset = offsets[item.id] = pack.begin(item.id)
                    pack.put(_moved(reader, item, raw, offset, offsets))
                    pack.end()
        pack.finish()
    return name


def _moved(
    reader: PackReader, item: Packed, raw: bytes, offset: int, offsets: dict[bytes, int]
) -> bytes:
    """The object, with the distance to its base as it is in the new pack."""
    kind, size, at = parse_header(raw)
    if kind != OFFSET_DELTA:
        return raw
    base = reader.base(item, raw)
    assert base is not None  # noqa: S101 - a delta has one, or the reader complained
    _, body = parse_distance(raw, at)
    return entry_header(kind, size) + base_distance(offset - offsets[base]) + raw[body:]


def _deflated(raw: bytes) -> bytes:
    """The object deflated, if it stands there as it is. Trees stay: ids do not deflate."""
    kind, size, at = parse_header(raw)
    is_stored = raw[at : at + 2] == _STORED and raw[at + 2] & 0x06 == 0
    if kind not in (BLOB, COMMIT) or not is_stored:
        return raw
    return entry_header(kind, size) + zlib.compress(zlib.decompress(raw[at:]), _LEVEL)


def main() -> None:
    """Join the packs that standard input names, and print the new one's name."""
    beside.begin(int(sys.argv[1]))
    folder = Path(sys.argv[2])
    names = sys.stdin.read().split()
    sys.stdout.write(join(Files(), folder, [folder / f"{name}.pack" for name in names]))


if __name__ == "__main__":
    main()

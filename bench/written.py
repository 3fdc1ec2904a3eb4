"""A fleet's long history written straight into git, for what would take hours to come as results.

The form is that in which maintenance leaves it: packs in which a version is a delta of the one
before, a list of versions that goes up to the newest commit, one commit for each batch. It serves
to ask (`python -m bench.size ask FOLDER`). How small the archive makes what comes as results, and
how fast, is for `bench.size build`.
"""

import argparse
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from bench.size import JOB, Fleet
from roundsman.archive.command import Git
from roundsman.archive.files import Files
from roundsman.archive.history import History
from roundsman.archive.layout import SHARDED, Layout
from roundsman.archive.layouts import Layouts
from roundsman.archive.maintenance import note_compacted
from roundsman.archive.objects import (
    BLOB,
    COMMIT,
    OFFSET_DELTA,
    TREE,
    base_distance,
    entry_header,
    object_id,
    whole,
)
from roundsman.archive.pack_reading import packs_in
from roundsman.archive.packs import Pack, write_pack
from roundsman.archive.trees import FILE_MODE, TREE_MODE, Tree
from roundsman.archive.walking import Kept, extent

_AT_ONCE: Final = 5000
"""Results of a commit."""
_ROUNDS: Final = 5
"""Versions of each device in a pack."""
_SECONDS_BETWEEN: Final = 60
_LEVEL: Final = 1
_MOST_COPIED: Final = 0xFFFF
_MOST_SAID: Final = 127
_WHO: Final = "bench <bench@localhost>"
_ROOT: Final = b""
_FOLDER: Final = b"by_device"


class _Deltas:
    """A pack in the making, in which what came before may be the base of a delta."""

    def __init__(self) -> None:
        self.pack = Pack()
        self._offsets: dict[bytes, int] = {}
        self._size = 12

    def add(self, made: bytes, raw: bytes) -> None:
        if made not in self._offsets:
            self.pack.add(made, raw)
            self._offsets[made] = self._size
            self._size += len(raw)

    def add_as_delta(self, made: bytes, delta: bytes, base: bytes) -> None:
        distance = base_distance(self._size - self._offsets[base])
        raw = entry_header(OFFSET_DELTA, len(delta)) + distance + zlib.compress(delta, _LEVEL)
        self.add(made, raw)

    def __contains__(self, made: bytes) -> bool:
        return made in self._offsets


class Written:
    """A repository in the making."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        """Begin it in `folder`."""
        self._fleet = fleet
        self._repository = folder / "archive.git"
        init = ["git", "init", "--quiet", "--bare", "-b", "main", str(self._repository)]
        subprocess.run(init, check=True)
        self._own = self._repository / "roundsman"
        layouts = Layouts(self._own, Files(), ())
        layouts.current = Layout([SHARDED])
        layouts.note()
        self._layout = layouts.current
        self._history = History(self._own / "versions.sqlite", Git(self._repository), layouts)
        self._history.rebuild(None)
        self._newest: dict[str, tuple[bytes, bytes]] = {}
        """Id and content of each device's."""
        self._trees = {_ROOT: Tree(), _FOLDER: Tree()}
        """By the name of their folder, as far as there are many entries."""
        self._tree_ids: dict[bytes, bytes] = {}
        self._tip = b""
        self._now = int(time.time()) - 400 * 86_400
        self._pack = _Deltas()

    def rounds(self, versions: int, seconds: float) -> Iterator[int]:
        """Write so many versions of each device, or as many as there is time for.

        Yields how many there are, whenever a pack is complete.
        """
        begun = time.monotonic()
        for version in range(1, versions + 1):
            results = self._fleet.round()
            while batch := [*islice(results, _AT_ONCE)]:
                self._commit(batch)
            is_last = version == versions or time.monotonic() - begun > seconds
            if is_last or version % _ROUNDS == 0:
                self._finish_pack()
                yield version
            if is_last:
                break
        self._history.close()
        packs = {path.stem for path in packs_in(self._repository / "objects" / "pack")}
        note_compacted(self._own, Files(), packs, self._tip, time.time())

    def _commit(self, batch: Sequence[tuple[str, bytes]]) -> None:
        self._now += _SECONDS_BETWEEN
        blobs = [self._add_content(*result) for result in batch]
        said = f"tree {self._add_trees().hex()}\n"
        said += f"parent {self._tip.hex()}\n" if self._tip else ""
        said += f"author {_WHO} {self._now} +0000\ncommitter {_WHO} {self._now} +0000\n\n"
        content = f"{said}{len(batch)} results\n".encode()
        self._tip = object_id(COMMIT, content)
        self._pack.add(self._tip, whole(COMMIT, content))
        kept = [self._kept(*result, blob) for result, blob in zip(batch, blobs, strict=True)]
        self._history.add(kept, self._tip)

    def _kept(self, device: str, content: bytes, blob: bytes) -> Kept:
        size, lines = extent(content)
        return Kept(
            device=device,
            job=JOB,
            commit=self._tip,
            blob=blob,
            at=self._now,
            ended_at=self._now,
            subject=f"{device} {JOB}",
            size=size,
            lines=lines,
        )

    def _add_content(self, device: str, content: bytes) -> bytes:
        """Add a version, and put it into its folder; its id."""
        blob = object_id(BLOB, content)
        base, before = self._newest.get(device, (b"", b""))
        if base in self._pack:
            self._pack.add_as_delta(blob, _delta(before, content), base)
        else:
            raw = entry_header(BLOB, len(content)) + zlib.compress(content, _LEVEL)
            self._pack.add(blob, raw)
        self._newest[device] = (blob, content)
        *_, shard, folder, name = self._layout.path(device, JOB).split(b"/")
        tree = b"%s %s\0%s" % (FILE_MODE, name, blob)
        tree_id = object_id(TREE, tree)
        self._pack.add(tree_id, whole(TREE, tree))
        self._trees.setdefault(shard, Tree()).set(folder, TREE_MODE, tree_id)
        return blob

    def _add_trees(self) -> bytes:
        """Add the trees of all shards, and those above; the root's id."""
        for shard in self._trees.keys() - {_ROOT, _FOLDER}:
            self._trees[_FOLDER].set(shard, TREE_MODE, self._add_tree(shard))
        self._trees[_ROOT].set(_FOLDER, TREE_MODE, self._add_tree(_FOLDER))
        return self._add_tree(_ROOT)

    def _add_tree(self, name: bytes) -> bytes:
        tree = self._trees[name]
        content = bytes(tree.raw)
        made, base, delta = (
            object_id(TREE, content),
            self._tree_ids.get(name, b""),
            tree.take_delta(),
        )
        if base in self._pack:
            self._pack.add_as_delta(made, delta, base)
        else:
            self._pack.add(made, whole(TREE, content))
        self._tree_ids[name] = made
        return made

    def _finish_pack(self) -> None:
        write_pack(Files(), self._repository / "objects" / "pack", self._pack.pack)
        (self._repository / "refs" / "heads" / "main").write_text(self._tip.hex() + "\n")
        self._pack = _Deltas()


def _delta(old: bytes, new: bytes) -> bytes:
    """What makes one content the other: its two ends are copied, what is between is said."""
    most = min(len(old), len(new))
    start = _alike(old, new, most)
    end = _alike(old[::-1], new[::-1], most - start)
    between = new[start : len(new) - end]
    parts = [_size(len(old)), _size(len(new)), *_copies(0, start)]
    for at in range(0, len(between), _MOST_SAID):
        piece = between[at : at + _MOST_SAID]
        parts += [bytes([len(piece)]), piece]
    return b"".join([*parts, *_copies(len(old) - end, end)])


def _alike(one: bytes, other: bytes, most: int) -> int:
    """How many bytes two begin with alike."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _copies(at: int, size: int) -> Iterator[bytes]:
    for start in range(at, at + size, _MOST_COPIED):
        piece = min(at + size - start, _MOST_COPIED)
        yield b"\xbf" + start.to_bytes(4, "little") + piece.to_bytes(2, "little")


def _size(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*out, number])


def main() -> None:
    """Write a repository."""
    parser = argparse.ArgumentParser(prog="python -m bench.written", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--versions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end then")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    fleet = Fleet(given.devices, small=True)
    for version in Written(given.folder, fleet).rounds(given.versions, given.seconds):
        said = f"{time.strftime('%H:%M:%S')} {version} versions of each"
        print(said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

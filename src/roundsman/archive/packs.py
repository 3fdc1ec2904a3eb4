"""Pack files: written whole, flushed, and only then given their names.

A pack here is what one batch added, or one large blob. Nothing refers to a pack before it stands
complete under its name, so a crash leaves at worst a `tmp_` file, or objects that nothing needs.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from isal import isal_zlib

from roundsman.archive.files import Files, NewFile
from roundsman.archive.objects import (
    BLOB,
    LEVEL,
    OFFSET_DELTA,
    base_distance,
    entry_header,
    header,
    stored,
)
from roundsman.archive.pack_index import Indexed, encode_index

TEMPORARY_PREFIX: Final = "tmp_pack_"
"""As git names its own, so that git's clean-up knows them too."""

_READ_ONLY: Final = 0o444
_PIECE: Final = 1 << 18
_PROBE_BYTES: Final = 64 << 10
_HEADER: Final = 12


def new_pack_name() -> str:
    """A name that no pack ever had: what is given up is never mistaken for what is needed."""
    return f"pack-{os.urandom(20).hex()}"


class SourceChangedError(OSError):
    """A spool file did not hold still while it was read."""


class Pack:
    """A pack in the making, in memory: what one batch writes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = _HEADER
        self._offsets: dict[bytes, int] = {}
        self._entries: list[Indexed] = []

    def __contains__(self, object_id: bytes) -> bool:
        return object_id in self._offsets

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, object_id: bytes, raw: bytes) -> None:
        """Add an object as it stands in a pack; nothing when it is there."""
        if object_id in self._offsets:
            return
        self._offsets[object_id] = self._size
        self._entries.append(Indexed(object_id, self._size, zlib.crc32(raw)))
        self._parts.append(raw)
        self._size += len(raw)

    def add_delta(self, object_id: bytes, delta: bytes, base: bytes) -> None:
        """Add an object as what makes it out of another of this pack."""
        distance = base_distance(self._size - self._offsets[base])
        self.add(object_id, entry_header(OFFSET_DELTA, len(delta)) + distance + stored(delta))

    def encode(self) -> tuple[bytes, bytes]:
        """The pack and its index."""
        body = b"".join([_pack_header(len(self._entries)), *self._parts])
        checksum = hashlib.sha1(body, usedforsecurity=False).digest()
        return body + checksum, encode_index(self._entries, checksum)


class PackWriter:
    """A pack written straight to its file, for what memory should not hold.

    Use as a context; unless `finish` was called, no pack is left of it.
    """

    def __init__(self, files: Files, pack: Path, objects: int) -> None:
        """Begin a pack of so many objects, which is to have this path, suffixes aside."""
        self._files = files
        self._pack = pack
        self._temporary = pack.with_name(TEMPORARY_PREFIX + pack.name.removeprefix("pack-"))
        self._file = files.create(self._temporary, _READ_ONLY)
        self._digest = hashlib.sha1(usedforsecurity=False)
        self.size = 0
        self._crc = 0
        self._begun = (b"", 0)
        self._entries: list[Indexed] = []
        self._pending = bytearray()
        self._write(_pack_header(objects))

    def __enter__(self) -> Self:
        return self

    def begin(self, object_id: bytes) -> int:
        """Start an object; its offset."""
        self._begun = (object_id, self.size)
        self._crc = 0
        return self.size

    def put(self, data: bytes) -> None:
        """More of the object begun last, as it stands in a pack."""
        self._crc = zlib.crc32(data, self._crc)
        self._write(data)

    def end(self) -> None:
        """The object begun last is complete."""
        self._entries.append(Indexed(*self._begun, self._crc))

    def finish(self, *, apart: bool = False) -> None:
        """Flush it and give it its name; `apart` marks it to be left alone."""
        self._flush()
        checksum = self._digest.digest()
        self._file.write(checksum)
        self._file.sync()
        self._file.close()
        index = self._temporary.with_name(self._temporary.name + "_idx")
        try:
            _write_file(self._files, index, encode_index(self._entries, checksum))
            if apart:
                self._files.create(self._pack.with_suffix(".keep")).close()
            _rename(self._files, [self._temporary, index], self._pack)
            self._files.sync_folder(self._pack.parent)
        finally:
            forget(self._files, index)

    def _write(self, data: bytes) -> None:
        self._pending += data
        self.size += len(data)
        if len(self._pending) >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        data, self._pending = bytes(self._pending), bytearray()
        self._digest.update(data)
        self._file.write(data)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        forget(self._files, self._temporary)


class StagedPack:
    """A pack and its index under temporary names, written but not flushed.

    Use as a context; unless `keep` was called, nothing is left of it.
    """

    def __init__(self, files: Files, folder: Path, pack: Pack) -> None:
        """Write both to `folder`."""
        self._files = files
        self._pack = folder / new_pack_name()
        temporary = TEMPORARY_PREFIX + self._pack.name.removeprefix("pack-")
        self._temporary = [folder / temporary, folder / f"{temporary}_idx"]
        self.written: list[NewFile] = []
        """To be flushed before `keep`."""
        try:
            for path, content in zip(self._temporary, pack.encode(), strict=True):
                self.written.append(files.create(path, _READ_ONLY))
                self.written[-1].write(content)
        except BaseException:
            self._drop()
            raise

    def __enter__(self) -> Self:
        return self

    def keep(self) -> None:
        """Give them their names, durably."""
        _rename(self._files, self._temporary, self._pack)
        self._files.sync_folder(self._pack.parent)

    def __exit__(self, *_: object) -> None:
        self._drop()

    def _drop(self) -> None:
        for file in self.written:
            file.close()
        for path in self._temporary:
            forget(self._files, path)


def write_pack(files: Files, folder: Path, pack: Pack) -> None:
    """Write a pack to `folder`, flushed."""
    with StagedPack(files, folder, pack) as staged:
        files.sync_together(staged.written)
        staged.keep()


def write_blob_pack(
    files: Files, pack: Path, source: Path, blob: bytes, size: int, *, apart: bool
) -> None:
    """Write one large blob, streamed from `source`, as a pack of its own.

    A pack that is to stay `apart` is marked, as git does it, so that it is never joined.
    """
    with PackWriter(files, pack, 1) as writer, source.open("rb") as content:
        writer.begin(blob)
        writer.put(entry_header(BLOB, size))
        deflate = isal_zlib.compressobj(LEVEL)
        digest = hashlib.sha1(header(BLOB, size), usedforsecurity=False)
        while piece := content.read(_PIECE):
            digest.update(piece)
            writer.put(deflate.compress(piece))
        writer.put(deflate.flush())
        writer.end()
        if digest.digest() != blob:
            raise SourceChangedError(f"{source} changed while it was read")
        writer.finish(apart=apart)


def blob_id(source: Path) -> tuple[bytes, int]:
    """The id that a file's content has as a blob, and its size, in constant memory."""
    with source.open("rb") as content:
        size = os.fstat(content.fileno()).st_size
        digest = hashlib.sha1(header(BLOB, size), usedforsecurity=False)
        length = 0
        while piece := content.read(_PIECE):
            digest.update(piece)
            length += len(piece)
    if length != size:
        raise SourceChangedError(f"{source} changed while it was read")
    return digest.digest(), size


def probe(files: Files, folder: Path) -> None:
    """Find out whether a pack could be written to `folder` now. Raises `OSError` if not."""
    path = folder / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
    try:
        _write_file(files, path, bytes(_PROBE_BYTES))
    finally:
        forget(files, path)


def _pack_header(objects: int) -> bytes:
    return b"PACK" + struct.pack(">LL", 2, objects)


def _rename(files: Files, temporary: Sequence[Path], pack: Path) -> None:
    """Give a flushed pack its name; its index comes last, since with it git finds the pack."""
    for path, suffix in zip(temporary, (".pack", ".idx"), strict=True):
        files.rename(path, pack.with_suffix(suffix))


def _write_file(files: Files, path: Path, content: bytes) -> None:
    file = files.create(path, _READ_ONLY)
    try:
        file.write(content)
        file.sync()
    finally:
        file.close()


def forget(files: Files, path: Path) -> None:
    """Remove what is of no use, if it is there; where the disk does not let us, opening does it."""
    with suppress(OSError):
        files.unlink(path)

"""Pack files: written whole, flushed, and only then given their names.

A pack here is what one batch added, or one large blob. Nothing refers to a pack before it stands
complete under its name, so a crash leaves at worst a `tmp_` file, or objects that nothing needs.
"""

import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from roundsman.archive.files import sync_folder
from roundsman.archive.objects import BLOB, COMPRESSION, PackedObject, header

TEMPORARY_PREFIX: Final = "tmp_pack_"
"""As git names its own, so that git's clean-up knows them too."""

_PIECE: Final = 1 << 18
_PROBE_BYTES: Final = 64 << 10
_SMALL_OFFSET: Final = 1 << 31


class SourceChangedError(OSError):
    """A spool file did not hold still while it was read."""


class _PackFile:
    """A pack being written: keeps the checksums, and what the index needs."""

    def __init__(self, file: BinaryIO, objects: int) -> None:
        self._file = file
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._size = 0
        self._crc = 0
        self._entries: list[tuple[bytes, int, int]] = []
        self._begun = (b"", 0)
        self._write(b"PACK" + struct.pack(">LL", 2, objects))

    def begin(self, kind: int, object_id: bytes, size: int, base_offset: int | None = None) -> int:
        """Start an object; returns its offset."""
        offset = self._size
        self._begun = (object_id, offset)
        self._crc = 0
        self._write(_entry_header(kind, size))
        if base_offset is not None:
            self._write(_base_distance(offset - base_offset))
        return offset

    def body(self, data: bytes) -> None:
        """Deflated content of the object begun last."""
        self._write(data)

    def end(self) -> None:
        """The object begun last is complete."""
        self._entries.append((*self._begun, self._crc))

    def finish(self) -> tuple[bytes, bytes]:
        """Close the pack with its checksum; returns that and the index."""
        checksum = self._digest.digest()
        self._file.write(checksum)
        return checksum, _index(self._entries, checksum)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)


def write_pack(folder: Path, objects: Sequence[PackedObject]) -> None:
    """Write objects, each id once and bases before what needs them, as one pack in `folder`."""
    with _Temporary(folder) as temporary:
        pack = _PackFile(temporary.file, len(objects))
        offsets: dict[bytes, int] = {}
        for item in objects:
            base = None if item.base is None else offsets[item.base]
            offsets[item.id] = pack.begin(item.kind, item.id, item.size, base)
            pack.body(item.body)
            pack.end()
        temporary.keep(*pack.finish())


def write_blob_pack(folder: Path, source: Path, blob: bytes, size: int, *, apart: bool) -> None:
    """Write one large blob, streamed from `source`, as a pack of its own in `folder`.

    A pack that is to stay `apart` is marked, as git does it, so that it is never consolidated.
    """
    with _Temporary(folder) as temporary, source.open("rb") as content:
        pack = _PackFile(temporary.file, 1)
        pack.begin(BLOB, blob, size)
        deflate = zlib.compressobj(COMPRESSION)
        digest = hashlib.sha1(header(BLOB, size), usedforsecurity=False)
        while piece := content.read(_PIECE):
            digest.update(piece)
            pack.body(deflate.compress(piece))
        pack.body(deflate.flush())
        pack.end()
        if digest.digest() != blob:
            raise SourceChangedError(f"{source} changed while it was read")
        temporary.keep(*pack.finish(), apart=apart)


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


def probe(folder: Path) -> None:
    """Find out whether a pack could be written to `folder` now. Raises `OSError` if not."""
    with tempfile.NamedTemporaryFile(prefix=TEMPORARY_PREFIX, dir=folder) as file:
        file.write(bytes(_PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


class _Temporary:
    """Two files under temporary names, which are kept under their real ones or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
        self._pack = Path(name)
        self._index = Path(name + "_idx")
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def __enter__(self) -> "_Temporary":
        return self

    def keep(self, checksum: bytes, index: bytes, *, apart: bool = False) -> None:
        """Flush both and give them their names, the index last: with it the pack is found."""
        _flush(self.file)
        with self._index.open("xb") as file:
            file.write(index)
            _flush(file)
        name = self._folder / f"pack-{checksum.hex()}"
        if apart:
            name.with_suffix(".keep").touch()
        for temporary, suffix in ((self._pack, ".pack"), (self._index, ".idx")):
            temporary.chmod(0o444)
            temporary.rename(name.with_suffix(suffix))
        sync_folder(self._folder)

    def __exit__(self, *_: object) -> None:
        try:
            self.file.close()
        finally:
            self._pack.unlink(missing_ok=True)
            self._index.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _entry_header(kind: int, size: int) -> bytes:
    """Kind and size: three bits and four in the first byte, seven in each that follows."""
    byte = kind << 4 | size & 0x0F
    size >>= 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    out.append(byte)
    return bytes(out)


def _base_distance(distance: int) -> bytes:
    """How far back the base begins: seven bits a byte, big end first, each carry less one."""
    out = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        out.append(0x80 | distance & 0x7F)
    return bytes(reversed(out))


def _index(entries: list[tuple[bytes, int, int]], checksum: bytes) -> bytes:
    """A pack index, version 2."""
    entries = sorted(entries)
    counts = [0] * 256
    for object_id, _, _ in entries:
        counts[object_id[0]] += 1
    fan_out = []
    total = 0
    for count in counts:
        total += count
        fan_out.append(total)
    # A batch is far below 2 GB; the one object of a blob pack begins at its front.
    assert all(offset < _SMALL_OFFSET for _, offset, _ in entries)  # noqa: S101 - a broken law of ours
    count = len(entries)
    body = b"".join(
        (
            b"\xfftOc",
            struct.pack(">L256L", 2, *fan_out),
            b"".join([object_id for object_id, _, _ in entries]),
            struct.pack(f">{count}L", *(crc for _, _, crc in entries)),
            struct.pack(f">{count}L", *(offset for _, offset, _ in entries)),
            checksum,
        )
    )
    return body + hashlib.sha1(body, usedforsecurity=False).digest()

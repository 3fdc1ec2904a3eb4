"""Carrying over every object of a damaged repository that is whole."""

import hashlib
import re
import shutil
import sqlite3
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from roundsman import logs
from roundsman.archive.command import Git
from roundsman.archive.files import Files
from roundsman.archive.joining import copy_objects
from roundsman.archive.large import link_or_copy
from roundsman.archive.objects import BLOB, COMMIT, OFFSET_DELTA, REFERENCE_DELTA, TREE, whole
from roundsman.archive.pack_reading import (
    PackDamagedError,
    Packed,
    PackReader,
    parse_header,
)
from roundsman.archive.packs import Pack, write_pack

_KINDS: Final = {b"blob": BLOB, b"tree": TREE, b"commit": COMMIT}
_LOOSE_AT_ONCE: Final = 10_000
_ID: Final = re.compile(r"[0-9a-f]{40}")

log = logs.get(__name__)


def salvage_objects(damaged: Path, git: Git, files: Files) -> Iterator[str]:
    """Carry over the objects that are whole to git's repository; yield what is not.

    Raises `OSError`.
    """
    fresh = git.folder / "objects" / "pack"
    for pack in sorted((damaged / "objects" / "pack").glob("*.pack")):
        yield from _salvage_pack(pack, fresh, git, files)
    yield from _salvage_loose(damaged / "objects", fresh, files)


def salvage_references(damaged: Path, git: Git) -> list[tuple[str, bytes]]:
    """What branches and tags named, as far as that can be read; the one written to comes first.

    A name may come more than once, the likeliest first. HEAD's branch is made that of `git`.
    """
    branch = "refs/heads/main"
    try:
        head = (damaged / "HEAD").read_text("utf-8", "replace").strip()
    except OSError:
        head = ""
    if re.fullmatch(r"ref: refs/heads/[A-Za-z0-9._/-]+", head):
        branch = head.removeprefix("ref: ")
    git.run("symbolic-ref", "HEAD", branch)
    named = [*_loose_references(damaged), *_packed_references(damaged)]
    reached = _last_reached(damaged)
    if reached is not None:
        named.append((branch, reached))
    return sorted(named, key=lambda pair: pair[0] != branch)


def _salvage_pack(pack: Path, fresh: Path, git: Git, files: Files) -> Iterator[str]:
    try:
        reader = PackReader(pack, damaged=True)
    except (PackDamagedError, FileNotFoundError) as error:
        yield from _salvage_without_index(pack, fresh, git, str(error))
        return
    with reader:
        good = [item for item in reader.objects if reader.is_whole(item)]
        if len(good) == len(reader.objects) and reader.is_complete:
            for suffix in (".pack", ".idx", ".keep"):
                path = pack.with_suffix(suffix)
                if path.exists() and not (fresh / path.name).exists():
                    link_or_copy(path, fresh / path.name)
            return
        good = _with_bases(reader, good)
        if good:
            copy_objects(files, fresh, [(reader, good)])
        bad = {item.id for item in reader.objects}.difference(item.id for item in good)
        log.error("archive.pack_damaged", pack=pack.name, objects=len(bad))
        if not reader.is_complete:
            yield f"{pack.name} is cut off or changed at its end"
        for object_id in sorted(bad):
            yield f"object {object_id.hex()} of {pack.name} is damaged"


def _with_bases(reader: PackReader, items: Sequence[Packed]) -> list[Packed]:
    """The objects that can be made, with what they are deltas of before them."""
    good: dict[bytes, Packed] = {}
    waiting = [*items]
    while waiting:
        later = []
        for item in waiting:
            base = _base(reader, item)
            if base is None or base in good:
                good[item.id] = item
            else:
                later.append(item)
        if len(later) == len(waiting):
            break
        waiting = later
    return [*good.values()]


def _base(reader: PackReader, item: Packed) -> bytes | None:
    raw = reader.raw(item)
    try:
        kind, _, _ = parse_header(raw)
        return reader.base(item, raw) if kind in (OFFSET_DELTA, REFERENCE_DELTA) else None
    except (PackDamagedError, IndexError):
        return b""  # of nothing that could be there


def _salvage_without_index(pack: Path, fresh: Path, git: Git, reason: str) -> Iterator[str]:
    """Have git make the index anew, or take from the pack what it can."""
    copy = fresh / pack.name
    shutil.copyfile(pack, copy)
    if git.succeeds("index-pack", str(copy)):
        log.error("archive.index_damaged", pack=pack.name, reason=reason)
        return
    with pack.open("rb") as content:
        subprocess.run(
            git.arguments("unpack-objects", "-r", "-q"),
            stdin=content,
            capture_output=True,
            env=git.environment,
            check=False,
        )
    for path in fresh.glob(f"{pack.stem}.*"):
        path.unlink()
    yield f"{reason}, and the pack is damaged too: what git found in it was taken"


def _salvage_loose(objects: Path, fresh: Path, files: Files) -> Iterator[str]:
    pack = Pack()
    for path in sorted(objects.glob("[0-9a-f][0-9a-f]/*")):
        name = path.parent.name + path.name
        if not _ID.fullmatch(name):
            continue
        try:
            content = zlib.decompress(path.read_bytes())
        except (OSError, zlib.error):
            content = b""
        if hashlib.sha1(content, usedforsecurity=False).hexdigest() != name:
            yield f"object {name} is damaged"
            continue
        head, _, body = content.partition(b"\0")
        kind = _KINDS.get(head.split(b" ")[0])
        if kind is not None:  # what stands for no result, such as an annotated tag, is left behind
            pack.add(bytes.fromhex(name), whole(kind, body))
        if len(pack) >= _LOOSE_AT_ONCE:
            write_pack(files, fresh, pack)
            pack = Pack()
    if len(pack):
        write_pack(files, fresh, pack)


def _loose_references(damaged: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((damaged / "refs").rglob("*")):
        if path.is_file():
            text = path.read_text("utf-8", "replace").strip()
            if _ID.fullmatch(text):
                yield str(path.relative_to(damaged)), bytes.fromhex(text)


def _packed_references(damaged: Path) -> Iterator[tuple[str, bytes]]:
    try:
        lines = (damaged / "packed-refs").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        object_id, _, name = line.partition(" ")
        if _ID.fullmatch(object_id) and name.startswith("refs/"):
            yield name, bytes.fromhex(object_id)


def _last_reached(damaged: Path) -> bytes | None:
    """The commit up to which the list of versions goes."""
    file = damaged / "roundsman" / "versions.sqlite"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            reached: bytes | None = database.execute("SELECT tip FROM reached").fetchone()[0]
    except (sqlite3.Error, TypeError):
        return None
    return reached

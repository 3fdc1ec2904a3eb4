"""Readers that are kept from one question to the next."""

import subprocess
from pathlib import Path

import pytest

from roundsman.archive.command import Git, ObjectReader
from roundsman.archive.files import Files
from roundsman.archive.objects import BLOB, object_id, whole
from roundsman.archive.packs import Pack, write_pack
from roundsman.archive.readers import Readers


@pytest.fixture
def git(tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "r.git"], check=True)
    return Git(tmp_path / "r.git")


def add(git: Git, content: bytes) -> bytes:
    """The id of a blob in a pack of its own."""
    pack, blob = Pack(), object_id(BLOB, content)
    pack.add(blob, whole(BLOB, content))
    write_pack(Files(), git.folder / "objects" / "pack", pack)
    return blob


def process(reader: ObjectReader) -> "subprocess.Popen[bytes]":
    """What it reads by; private, since nothing but its end matters to anybody else."""
    running = reader._process
    assert running is not None
    return running


def test_a_reader_is_kept_and_finds_what_came_since(git: Git) -> None:
    readers = Readers(git)
    readers.keep()
    first = add(git, b"first")
    with readers.one() as one:
        assert one.read(BLOB, [first]) == [b"first"]
        with readers.one() as other:
            assert other is not one
    second = add(git, b"second")
    for pack in sorted(git.folder.glob("objects/pack/*")):
        pack.rename(pack.with_name(pack.name.replace("pack-", "pack-f")))  # as if joined
    with readers.one() as again:
        assert again in (one, other)
        assert again.read(BLOB, [second, first]) == [b"second", b"first"]
    readers.close()


def test_no_reader_is_left(git: Git) -> None:
    readers = Readers(git)
    blob = add(git, b"x")
    with readers.one() as reader:  # none are to be kept yet
        reader.read(BLOB, [blob])
        ended = [process(reader)]
    readers.keep()

    def fail() -> None:
        with readers.one() as reader:
            reader.read(BLOB, [blob])
            ended.append(process(reader))
            raise ValueError("by chance")

    with pytest.raises(ValueError, match="by chance"):
        fail()
    with readers.one() as reader:
        reader.read(BLOB, [blob])
        ended.append(process(reader))
        with readers.one() as late:
            late.read(BLOB, [blob])
            ended.append(process(late))
        readers.close()
    assert all(each.returncode is not None for each in ended)

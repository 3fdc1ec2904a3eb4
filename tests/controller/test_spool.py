"""What is being received: small in memory, large on the disk, all of it bounded."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from roundsman.controller import spool as spools
from roundsman.controller.spool import BUFFER_BYTES, Received, Spool, SpoolUnavailableError

LARGE = BUFFER_BYTES * 3 + 17


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.open()
    return spool


@asynccontextmanager
async def received(spool: Spool, content: bytes, piece: int = 1 << 16) -> AsyncIterator[Received]:
    async with spool.receive() as one:
        for start in range(0, len(content), piece):
            if one.take(content[start : start + piece]):
                await one.flush()
        await one.finish()
        yield one


def files(spool: Spool) -> list[Path]:
    return list(spool._folder.iterdir())


@pytest.mark.parametrize("size", [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1, LARGE])
async def test_a_content_is_whole_wherever_it_waits(spool: Spool, size: int) -> None:
    content = (b"line\n" * size)[:size]
    async with received(spool, content) as one:
        small = isinstance(one.content, bytes)
        assert small == (size <= BUFFER_BYTES)
        assert len(files(spool)) == (0 if small else 1)
        read = one.content if isinstance(one.content, bytes) else one.content.read_bytes()
        assert read == content
        assert (one.size, one.lines, one.binary) == (size, size // 5, False)
        assert one.digest == hashlib.sha256(content).hexdigest()
    assert files(spool) == []
    assert (spool.held, spool.promised) == (0, 0)


@pytest.mark.parametrize("piece", [1, 999, 1 << 16])
async def test_a_nul_near_the_front_makes_it_binary(spool: Spool, piece: int) -> None:
    async with received(spool, b"x" * 7999 + b"\0", piece) as one:
        assert one.binary
    async with received(spool, b"x" * 8000 + b"\0" * 9, piece) as one:
        assert not one.binary
    async with received(spool, b"x" * 7999 + b"\0" + bytes(LARGE), 1 << 16) as one:
        assert one.binary


async def test_when_memory_is_short_small_ones_wait_on_the_disk(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MEMORY_BYTES", 1000)
    async with received(spool, b"a" * 900) as first, received(spool, b"b" * 900) as second:
        assert first.content == b"a" * 900
        assert isinstance(second.content, Path)
        assert second.content.read_bytes() == b"b" * 900
        assert spool.held == 900
    async with received(spool, b"c" * 900) as third:
        assert third.content == b"c" * 900


@pytest.mark.parametrize("size", [5, LARGE])
async def test_what_is_moved_away_stays(spool: Spool, tmp_path: Path, size: int) -> None:
    target = tmp_path / "kept" / "one"
    async with received(spool, b"x" * size) as one:
        await one.move(target)
    assert target.read_bytes() == b"x" * size
    assert files(spool) == []


async def test_no_more_is_promised_than_the_disk_has_room_for(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = os.statvfs(spool._folder)
    free = room.f_bavail * room.f_frsize
    async with spool.receive() as one:
        one.announce(free // 2)
        async with spool.receive() as other:
            with pytest.raises(SpoolUnavailableError) as refused:
                other.announce(free // 2)
        assert refused.value.retry_after_seconds == 30
        assert spool.promised == free // 2
    assert spool.promised == 0
    monkeypatch.setattr(spools, "SPARE_BYTES", 1 << 60)  # from now on the disk is short
    async with received(spool, b"small"):
        pass
    with pytest.raises(SpoolUnavailableError):
        async with received(spool, bytes(LARGE)):
            pass
    assert files(spool) == []
    assert spool.held == 0


async def test_what_an_earlier_life_left_is_cleared(spool: Spool) -> None:
    (spool._folder / "leftover").touch()
    spool.open()
    assert files(spool) == []

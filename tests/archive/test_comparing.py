"""Contents compared as files and as blobs: the same is said."""

import random

import pytest

from roundsman.archive import comparing
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import Difference
from roundsman.testing.archive_conformance import Spool

PAIRS = [
    (b"a\nb\nc\n", b"a\nx\nc\n"),
    (b"a\r\nb\r\n", b"a\r\nb"),
    (b"", b"new\n"),
    (b"a\0b\n", b"text\n"),
    (b"\xff\xfe\n", b"\xff\xfd\n"),
    (b"line\n" * 300_000, b"line\n" * 300_000 + b"last\n"),
]


async def compared(archive: GitArchive) -> list[Difference]:
    return [
        await archive.diff(f"d{number}", "show_run", None, None, context=2)
        for number in range(len(PAIRS) + 1)
    ]


async def test_blobs_are_compared_where_there_is_no_room_for_files(
    archive: GitArchive, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    lines = [b"interface %d\n!\n" % rng.randrange(40) for _ in range(200)]
    changed = [line for line in lines if rng.random() > 0.1] + [b"end\n"]
    for number, pair in enumerate([*PAIRS, (b"".join(lines), b"".join(changed))]):
        for content in pair:
            await archive.store(spool.entry(content, device=f"d{number}"))
    by_files = await compared(archive)

    def full(**_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(comparing, "TemporaryDirectory", full)
    assert await compared(archive) == by_files
    assert [each.binary for each in by_files] == [False, False, False, True, False, False, False]
    assert by_files[0].unified == b"@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"

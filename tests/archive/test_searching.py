"""Searches of the git archive: as an archive without an index finds, and within bounds."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from roundsman.archive import matching, searching
from roundsman.archive.command import Git
from roundsman.archive.git import GitArchive
from roundsman.archive.indexing import INDEX, connect, reached, update
from roundsman.archive.interface import Archive, Search, SearchPatternError, SearchPlaceError
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import Spool
from roundsman.testing.memory_archive import MemoryArchive
from roundsman.wire.difference import Span
from roundsman.wire.search import FoundLine


def everything(*_: str) -> bool:
    return True


def asked(text: str, **rest: Any) -> Search:
    return Search(**{"text": text, "chosen": everything, **rest})


async def found(archive: Archive, text: str, **rest: Any) -> list[tuple[str, int, list[str]]]:
    """Device, number of the version and the lines, page by page."""
    items: list[tuple[str, int, list[str]]] = []
    after: str | None = None
    while True:
        page = await archive.search(asked(text, after=after, **rest))
        items += [
            (item.device, item.number, [line.text for line in item.lines]) for item in page.items
        ]
        after = page.next
        if after is None:
            return items


def index(folder: Path) -> None:
    update(Git(folder), folder / "roundsman")


async def test_the_index_changes_nothing_but_the_work(
    archive: GitArchive, folder: Path, spool: Spool
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    memory = MemoryArchive()
    words = ["mtu", "MTU", "vlan 10", "é\u017f", "k\u212a", "10.0.0.1", '"', "x y", "ab"]
    for step in range(60):
        lines = [" ".join(rng.choices(words, k=3)) for _ in range(rng.randrange(5))]
        content = "\n".join(lines).encode() + rng.choice([b"", b"\n", b"\xff\n", b"\0"])
        entry = spool.entry(content, device=f"d{rng.randrange(12)}")
        await archive.store(entry)
        await memory.store(entry)
        if step % 20 == 10:
            index(folder)
    texts = [("mtu", False), ("vlan 10", False), ("10.0", False), ('" x', False), ("k", False)]
    texts += [("vlan [0-9]+", True), ("^mtu", True), ("(mtu|vlan) .*ab$", True), (".", True)]
    texts += [("s", False), ("\u212a", False), ("mtu vlan 10 mtu", False), ("absent", False)]
    for text, is_pattern in texts:
        for ignore_case in (False, True):
            for history in (False, True):
                said = {"is_pattern": is_pattern, "ignore_case": ignore_case, "history": history}
                wanted = await found(memory, text, context=1, **said)
                for limit in (1, 100):
                    assert await found(archive, text, context=1, limit=limit, **said) == wanted, (
                        text,
                        said,
                    )


async def test_only_what_may_match_is_read(archive: GitArchive, folder: Path, spool: Spool) -> None:
    for number in range(30):
        content = b"hostname d%d\nneedle %d\n" % (number, number)
        await archive.store(spool.entry(content, device=f"d{number}"))
    assert (await archive.search(asked("needle 7"))).read == 30
    index(folder)
    page = await archive.search(asked("needle 7"))
    assert (page.read, [item.device for item in page.items]) == (1, ["d7"])
    await archive.store(spool.entry(b"needle 77\n", device="d8"))
    page = await archive.search(asked("needle 7"))
    assert (page.read, {item.device for item in page.items}) == (2, {"d7", "d8"})
    await archive.store(spool.entry(b"nothing\n", device="d7"))
    index(folder)
    assert (await archive.search(asked("needle 7"))).read == 1


async def test_an_index_that_is_damaged_or_follows_another_list_is_made_anew(
    folder: Path, spool: Spool
) -> None:
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    await archive.store(spool.entry(b"needle\n"))
    index(folder)
    await archive.close()
    own = folder / "roundsman"
    (own / INDEX).write_bytes(b"no database" * 1000)
    await archive.open()
    index(folder)
    assert [each[0] for each in await found(archive, "needle")] == ["edge1"]
    await archive.close()
    for file in own.glob("versions.sqlite*"):
        file.unlink()
    await archive.open()
    database = connect(own)
    assert reached(database)[1] == 0
    database.close()
    assert [each[0] for each in await found(archive, "needle")] == ["edge1"]
    index(folder)
    database = connect(own)
    assert reached(database)[1] == 1
    database.close()
    await archive.close()


async def test_lines_are_shown_with_where_they_match(archive: GitArchive, spool: Spool) -> None:
    content = b"a\r\nneedle and needle\nb\nc\nd\n" + b"needle\n" * 30
    await archive.store(spool.entry(content))
    [item] = (await archive.search(asked("needle", context=1))).items
    assert item.more
    assert [(line.number, line.text) for line in item.lines[:5]] == [
        (1, "a"),
        (2, "needle and needle"),
        (3, "b"),
        (5, "d"),
        (6, "needle"),
    ]
    assert [(span.start, span.end) for span in item.lines[1].matches] == [(0, 6), (11, 17)]
    assert len([line for line in item.lines if line.matches]) == matching.MOST_LINES


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
async def test_a_line_ends_before_its_line_end(
    archive: GitArchive, spool: Spool, end: bytes
) -> None:
    await archive.store(spool.entry(end.join([b"one", b" mtu 9000", b" mtu 1500", b""])))
    [item] = (await archive.search(asked(r"^ mtu 9\d+$", is_pattern=True))).items
    assert item.lines == (FoundLine(number=2, text=" mtu 9000", matches=(Span(start=0, end=9),)),)


async def test_what_is_no_pattern_or_takes_too_long_is_refused(
    archive: GitArchive, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archive.store(spool.entry(b"a" * 5000 + b"\n"))
    for text in ("(", "[", "a{2,1}", "", "x" * 1001):
        with pytest.raises(SearchPatternError):
            await archive.search(asked(text, is_pattern=True))
    monkeypatch.setattr(matching, "SECONDS", 0.05)
    with pytest.raises(SearchPatternError, match="took too long"):
        await archive.search(asked("(a+)+b|(a+a+)+c", is_pattern=True))
    for after in ("x", "1.2.3", "0.0.0"):
        with pytest.raises(SearchPlaceError):
            await archive.search(asked("a", after=after))


async def test_a_page_ends_in_time_and_the_next_goes_on(
    archive: GitArchive, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await archive.store(spool.entry(b"needle\n", device=f"d{number}"))
    page = await archive.search(asked("needle", limit=3))
    monkeypatch.setattr(searching, "SECONDS", -1.0)
    late = await archive.search(asked("needle", after=page.next))
    assert (late.items, late.next) == ((), page.next)
    monkeypatch.setattr(searching, "SECONDS", 60.0)
    rest = await archive.search(asked("needle", after=late.next))
    assert [item.device for item in rest.items] == ["d3", "d4"]


def test_the_index_is_there_in_this_python() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize='trigram', detail='none')")
    database.close()


async def test_a_version_costs_its_new_lines_and_old_ones_go_in_the_end(
    archive: GitArchive, folder: Path, spool: Spool
) -> None:
    lines = [b"interface Gi0/%d" % number for number in range(60)]
    for step in range(20):
        again = step % 3 == 2  # a line that was there before comes again
        lines[step] = lines[step - 2] if again else b"description link-%02d" % step
        lines[-1] = b"! changed in %02d, the only one" % step
        await archive.store(spool.entry(b"\n".join(lines) + b"\n"))
        index(folder)
        for text in (lines[0], lines[step], lines[-1]):
            assert len(await found(archive, text.decode())) == 1, (step, text)
    gone = await archive.search(asked("changed in 02"))
    assert (gone.items, gone.read) == ((), 0)
    await archive.store(spool.entry(b"\0no text\n"))
    index(folder)
    assert (await archive.search(asked("the only one"))).read == 0

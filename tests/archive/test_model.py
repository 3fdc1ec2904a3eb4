"""Any sequence of stores, at once or one by one, against a dictionary."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from roundsman.archive.git import GitArchive
from roundsman.clock import SystemClock
from roundsman.testing.archive_conformance import Spool, content_of
from tests.archive.stock_git import StockGit

Path_ = tuple[str, str]
RESULTS = st.tuples(
    st.tuples(st.sampled_from(["a", "a-b", "b"]), st.sampled_from(["x", "x.y"])),
    st.sampled_from([b"", b"1\n", b"2\n", b"3\n" * 200_000]),
)
STEPS = st.lists(st.one_of(st.lists(RESULTS, max_size=8), st.sampled_from(["reopen", "gc"])))


@settings(max_examples=25)
@given(STEPS)
def test_it_holds_what_a_dictionary_holds(steps: list[list[tuple[Path_, bytes]] | str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_compare(Path(name), steps))


async def _compare(folder: Path, steps: list[list[tuple[Path_, bytes]] | str]) -> None:
    stock = StockGit(folder / "archive.git")
    spool = Spool(folder)
    archive = GitArchive(stock.folder, SystemClock())
    await archive.open()
    model: dict[Path_, list[bytes]] = {}
    for step in steps:
        if step == "reopen":
            await archive.close()
            await archive.open()
        elif step == "gc":
            stock.run("gc", "--quiet", "--prune=now")
        elif not isinstance(step, str):
            await _store_together(archive, spool, model, step)
    assert len(stock.commits()) == sum(map(len, model.values()))
    for (device, job), contents in model.items():
        versions = await archive.versions(device, job, limit=1000)
        assert [stock.show(item.version, device, job) for item in reversed(versions)] == contents
        assert await content_of(archive, device, job) == contents[-1]
    await archive.close()
    stock.fsck()


async def _store_together(
    archive: GitArchive,
    spool: Spool,
    model: dict[Path_, list[bytes]],
    results: list[tuple[Path_, bytes]],
) -> None:
    """Results at once; of one path only one, since their order would be nobody's to say."""
    once = dict(results)
    entries = [
        spool.entry(content, device=device, job=job) for (device, job), content in once.items()
    ]
    answers = await asyncio.gather(*map(archive.store, entries))
    for (path, content), answer in zip(once.items(), answers, strict=True):
        versions = model.setdefault(path, [])
        assert answer.changed == (not versions or versions[-1] != content)
        if answer.changed:
            versions.append(content)

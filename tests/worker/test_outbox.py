import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.client.worker import Completion
from roundsman.worker import outbox as outbox_module
from roundsman.worker.outbox import Outbox, OutboxFullError
from roundsman.worker.runners.interface import ResultTooLargeError
from roundsman.worker.settings import OutboxSettings


def completion(device: str = "edge1", failure: str | None = None) -> Completion:
    return Completion(
        device=device,
        job="show_run",
        job_timestamp=1,
        start_timestamp=2,
        end_timestamp=3,
        epoch=1,
        failure=failure,
    )


def opened(state: Path, **limits: int) -> Outbox:
    outbox = Outbox(state, OutboxSettings(**limits))
    outbox.open()
    return outbox


async def put(outbox: Outbox, content: bytes, *, now: float = 10.0, device: str = "edge1") -> None:
    spool = outbox.begin(1 << 20, now)
    spool.result.write(content)
    await outbox.finish(spool, completion(device), keep_data=True)


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    outbox = opened(tmp_path)
    yield outbox
    outbox.close()


async def test_what_was_finished_is_found_again_oldest_first(
    outbox: Outbox, tmp_path: Path
) -> None:
    """Fault 8."""
    await put(outbox, b"younger", now=2000.0, device="b")
    await put(outbox, b"older", now=999.0, device="a")
    spool = outbox.begin(100, 3000.0)
    await outbox.finish(spool, completion("c", failure="no route"), keep_data=False)
    again = opened(tmp_path)
    contents = [entry.data.read_bytes() if entry.data else None for entry in again.entries]
    assert contents == [b"older", b"younger", None]
    assert [entry.record.completion for entry in again.entries] == [
        completion("a"),
        completion("b"),
        completion("c", failure="no route"),
    ]
    assert not again.empty.is_set()
    again.close()


async def test_what_was_cut_short_is_discarded(outbox: Outbox, tmp_path: Path) -> None:
    await put(outbox, b"whole")
    cut_short = outbox.begin(100, 11.0)
    cut_short.result.write(b"half")
    cut_short.file.flush()
    folder = tmp_path / "outbox"
    (folder / "000000000000001-x.json.tmp").write_bytes(b'{"compl')
    (folder / "000000000000002-x.json").write_bytes(b"")
    (folder / "000000000000003-x.json").write_bytes(
        next(folder.glob("*.json")).read_bytes()  # its data is missing
    )
    again = opened(tmp_path)
    [entry] = again.entries
    assert entry.data is not None
    assert entry.data.read_bytes() == b"whole"
    assert {path.name for path in folder.iterdir()} == {
        f"{entry.entry_id}.json",
        f"{entry.entry_id}.data",
    }
    again.close()
    outbox.discard(cut_short)


async def test_it_has_room_by_count_and_by_bytes(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=10, max_count=3)
    assert outbox.room() == 3
    spool = outbox.begin(100, 1.0)
    assert outbox.room() == 2
    spool.result.write(b"12345678")
    assert outbox.room() == 2
    await outbox.finish(spool, completion(), keep_data=True)
    assert outbox.room() == 2
    other = outbox.begin(100, 2.0)
    with pytest.raises(OutboxFullError):
        other.result.write(b"123")
    assert isinstance(other.trouble, OutboxFullError)
    other.result.write(b"12")
    assert outbox.room() == 0
    other.result.clear()
    assert outbox.room() == 1
    outbox.discard(other)
    [entry] = outbox.entries
    await outbox.remove(entry)
    assert outbox.room() == 3
    assert list((tmp_path / "outbox").iterdir()) == []
    alone = outbox.begin(100, 3.0)
    with pytest.raises(ResultTooLargeError):
        alone.result.write(b"x" * 11)
    assert alone.trouble is None
    outbox.discard(alone)
    outbox.close()


async def test_a_failure_without_evidence_gives_its_bytes_back(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=10)
    spool = outbox.begin(100, 1.0)
    spool.result.write(b"1234567890")
    assert outbox.room() == 0
    await outbox.finish(spool, completion(failure="x"), keep_data=False)
    assert outbox.room() > 0
    [entry] = outbox.entries
    assert entry.data is None
    assert len(list((tmp_path / "outbox").iterdir())) == 1
    outbox.close()


async def test_a_run_that_has_ended_takes_nothing_more(outbox: Outbox) -> None:
    spool = outbox.begin(100, 1.0)
    outbox.discard(spool)
    with pytest.raises(ValueError, match="has ended"):
        spool.result.write(b"late")
    assert not spool.path.exists()


async def test_finishing_is_not_left_half_done_by_a_cancellation(outbox: Outbox) -> None:
    spool = outbox.begin(100, 1.0)
    spool.result.write(b"whole")
    finishing = asyncio.create_task(outbox.finish(spool, completion(), keep_data=True))
    await asyncio.sleep(0)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    outbox.discard(spool)
    [entry] = outbox.entries
    assert entry.data is not None
    assert entry.data.read_bytes() == b"whole"


async def test_what_is_set_aside_is_kept_for_people_within_bounds(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "REJECTED_COUNT", 2)
    for number in range(3):
        await put(outbox, b"refused %d" % number, now=float(number))
    for entry in list(outbox.entries):
        await outbox.set_aside(entry, "404: no such device and job")
    rejected = tmp_path / "rejected"
    assert sorted(path.read_bytes() for path in rejected.glob("*.data")) == [
        b"refused 1",
        b"refused 2",
    ]
    assert all(b"no such device" in path.read_bytes() for path in rejected.glob("*.json"))
    assert outbox.empty.is_set()
    assert list((tmp_path / "outbox").iterdir()) == []


async def test_nobody_else_may_read_what_is_kept(outbox: Outbox, tmp_path: Path) -> None:
    await put(outbox, b"enable secret")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "outbox").iterdir()} == {0}

"""What is withdrawn is gone from what stands, in whichever order, and whoever pushes beside us."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from roundsman.archive import history
from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.history import History
from roundsman.archive.interface import (
    Stored,
    Version,
    VersionNotFoundError,
    Withdrawal,
)
from roundsman.archive.layouts import Layouts
from roundsman.archive.repository import BranchMovedError, Repository
from roundsman.archive.timeline import Timeline
from roundsman.archive.walking import Kept
from roundsman.archive.writer import Writer
from roundsman.clock import SystemClock
from roundsman.config.records import Acknowledge, ArchiveSettings, RemoteSettings
from roundsman.testing.archive_conformance import Spool, content_of
from roundsman.testing.clock import ManualClock
from tests.archive.git_servers import bare, commit
from tests.archive.stock_git import StockGit

PLACE = ("edge1", "show_run")
DEVICES = ("edge1", "edge2")


async def withdraw(archive: GitArchive, stored: Stored) -> None:
    await archive.withdraw(
        [Withdrawal(device=PLACE[0], job=PLACE[1], version=stored.version)],
    )


async def test_what_was_put_back_and_is_refused_later_goes_as_well(
    archive: GitArchive, spool: Spool, stock: StockGit
) -> None:
    """Of two that are refused the ledger may know the second one first."""
    await archive.store(spool.entry(b"kept\n"))
    first = await archive.store(spool.entry(b"first\n"))
    second = await archive.store(spool.entry(b"second\n"))
    await withdraw(archive, second)
    assert stock.show("main") == b"first\n"
    await withdraw(archive, first)
    assert stock.show("main") == b"kept\n"
    assert await content_of(archive) == b"kept\n"


async def test_a_run_that_finds_what_was_put_back_names_who_brought_it(
    archive: GitArchive, spool: Spool
) -> None:
    """So that this one stays, whatever the ledger says of its own run."""
    before = await archive.store(spool.entry(b"before\n"))
    await withdraw(archive, await archive.store(spool.entry(b"refused\n")))
    again = await archive.store(spool.entry(b"before\n"))
    assert (again.version, again.changed) == (before.version, False)


async def test_a_list_that_was_broken_off_has_each_version_once_and_all_that_is_withdrawn(
    tmp_path: Path, folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its making ends: also among the versions that others brought."""
    remote = bare(tmp_path / "elsewhere.git")
    settings = ArchiveSettings(
        remotes={"shared": RemoteSettings(url=str(remote.folder))}, acknowledge=Acknowledge.PUSHED
    )
    other = GitArchive(tmp_path / "other.git", SystemClock(), settings)
    archive = GitArchive(folder, SystemClock(), settings)
    for each in (archive, other):
        await each.open()
    for number in range(3):
        mine = await archive.store(spool.entry(b"ours %d\n" % number))
        if number % 2:
            await withdraw(archive, mine)
        await other.store(spool.entry(b"theirs %d\n" % number, device="edge2"))
    await archive.catch_up()
    await other.close()
    await archive.close()
    repository = Repository(folder, Files(), SystemClock())
    layouts = Layouts(folder / "roundsman", Files(), settings.paths, overviews=settings.overviews)
    layouts.load()
    added, tip = History.add, repository.tip()

    def listed(file: Path, parts: int | None = None) -> list[list[Version]]:
        """The versions by a list that is made now; of that many parts, in two goes."""
        calls = 0

        def add(
            self: History,
            versions: Sequence[Kept],
            tip: bytes | None,
            withdrawn: Sequence[Withdrawal] = (),
        ) -> None:
            nonlocal calls
            calls += 1
            added(self, versions, tip, withdrawn)
            if calls == parts:
                raise OSError("the power goes")

        monkeypatch.setattr(History, "add", add)
        made = History(file, repository.git, layouts)
        with suppress(OSError):
            made.catch_up(tip)
        made.close()
        made.catch_up(tip)
        made.close()
        found = [Timeline(file).latest(device, "show_run", 99) for device in DEVICES]
        return [[each.version for each in of_device] for of_device in found]

    whole = listed(tmp_path / "whole.sqlite")
    assert [each.withdrawn for each in whole[0]].count(True) == 1
    monkeypatch.setattr(history, "_REBUILD_ROWS", 1)
    for parts in (2, 4, 6):
        assert listed(tmp_path / f"{parts}.sqlite", parts) == whole


async def test_a_branch_that_moves_while_paths_are_settled_is_looked_at_again(
    archive: GitArchive, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = await archive.store(spool.entry(b"refused\n"))
    settle, moved = Writer._settle_paths, [BranchMovedError()]

    def settle_once_moved(self: Writer) -> None:
        if moved:
            raise moved.pop()
        settle(self)

    monkeypatch.setattr(Writer, "_settle_paths", settle_once_moved)
    await withdraw(archive, refused)
    assert (await archive.versions(*PLACE, limit=1))[0].withdrawn


async def test_what_others_write_into_trailers_harms_nobody(
    tmp_path: Path, folder: Path, spool: Spool
) -> None:
    remote = bare(tmp_path / "elsewhere.git")
    settings = ArchiveSettings(remotes={"shared": RemoteSettings(url=str(remote.folder))})
    archive = GitArchive(folder, ManualClock(), settings)
    await archive.open()
    trailers = "by hand\n\nRoundsman-Due: some day\n"
    commit(remote, {"by_device/edge1/show_run": "theirs\n"}, message=trailers, on=None)
    trailers = "\n".join(
        f"Roundsman-{key}: {value}"
        for key, value in {
            "Run": "none",
            "Device": "edge2",
            "Job": "show_run",
            "Due": "some day",
            "Withdrawn": "nothing",
        }.items()
    )
    commit(remote, {"by_device/edge2/show_run": "x\n"}, message=f"by hand\n\n{trailers}\n")
    await archive.store(spool.entry(b"ours\n"))
    await archive.catch_up()
    [brought] = [
        each for each in (await archive.brought(None, limit=9)).items if each.device == "edge2"
    ]
    assert await archive.execution("edge2", "show_run", brought.version) is None
    with pytest.raises(VersionNotFoundError):
        await archive.version("edge2", "show_run", "nothing")
    await archive.close()

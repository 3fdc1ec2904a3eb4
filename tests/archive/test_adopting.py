"""Archives that begin with the repositories of other programs, built here with real git."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from roundsman.archive import history
from roundsman.archive.adopted import Adopted, AdoptedPath, AdoptionError, load_adopted
from roundsman.archive.command import Git
from roundsman.archive.git import GitArchive
from roundsman.archive.history import History
from roundsman.archive.interface import ArchiveUnavailableError, Withdrawal
from roundsman.archive.thinning import thin
from roundsman.archive.thinning_policy import Policy
from roundsman.archive.walking import Kept
from roundsman.cli.archive import command
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings
from roundsman.testing.archive_conformance import Spool, content_of
from tests.archive.stock_git import StockGit


def repository(folder: Path, *commits: dict[str, str], bare: bool = False) -> StockGit:
    """A repository as a program makes it that commits files in a work tree."""
    folder.mkdir(parents=True)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=Oxidized", "-c", "user.email=o@example.org")
        subprocess.run(
            ["git", *identity, "-C", str(folder), *arguments], check=True, env=environment
        )

    git("init", "--quiet", "--initial-branch=master")
    for number, files in enumerate(commits):
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        git("add", "--all")
        git("commit", "--quiet", "--message", f"update {number}")
    if bare:
        git("config", "core.bare", "true")
        (folder / ".git").rename(folder.with_name(folder.name + ".git"))
        return StockGit(folder.with_name(folder.name + ".git"))
    return StockGit(folder / ".git")


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["adopt", *map(str, arguments)])


async def opened(folder: Path, *paths: str) -> GitArchive:
    archive = GitArchive(folder, SystemClock(), ArchiveSettings(paths=paths))
    await archive.open()
    return archive


async def test_oxidized_with_groups_in_one_repository(
    tmp_path: Path, folder: Path, stock: StockGit, spool: Spool
) -> None:
    source = repository(
        tmp_path / "oxidized",
        {"core/edge1": "one\n", "core/edge2": "x\n", "README.md": "hello\n"},
        {"core/edge1": "two\n"},
        {"core/edge1": "three\n", "access/sw1": "y\n"},
        bare=True,
    )
    before = source.commits()
    said = asked(
        source.folder, folder, "--layout", "oxidized", "--job", "show_run", "--dry-run"
    ).output.splitlines()
    assert said == [
        "README.md: stays",
        "access/sw1: show_run on sw1",
        "core/edge1: show_run on edge1",
        "core/edge2: show_run on edge2",
        "3 results, 1 other files",
    ]
    assert not folder.exists()
    done = asked(source.folder, folder, "--layout", "oxidized", "--job", "show_run")
    assert done.output == "3 results, 1 other files\n", done
    assert stock.commits() == before == source.commits()

    archive = await opened(folder)
    try:
        versions = await archive.versions("edge1", "show_run", limit=9)
        assert [item.version for item in versions] == before
        assert await content_of(archive) == b"three\n"
        assert await content_of(archive, version=before[2]) == b"one\n"
        unchanged = await archive.store(spool.entry(b"three\n"))
        assert (unchanged.version, unchanged.changed) == (before[0], False)
        stored = await archive.store(spool.entry(b"four\n"))
        versions = await archive.versions("edge1", "show_run", limit=9)
        assert [item.version for item in versions] == [stored.version, *before]
    finally:
        await archive.close()
    files = stock.run("ls-tree", "-r", "--name-only", "master").decode().split()
    names = ("edge1", "edge2", "sw1")
    assert files == ["README.md", *(f"by_device/{name}/show_run" for name in names)]
    followed = stock.run("log", "--follow", "--format=%H", "--", "by_device/edge1/show_run")
    assert set(before) <= set(followed.decode().split())
    stock.fsck()

    (folder / "roundsman" / "versions.sqlite").unlink()  # it is made anew from git
    archive = await opened(folder, "sites/{device}/{job}.txt")
    assert len(await archive.versions("edge1", "show_run", limit=9)) == 4
    assert await content_of(archive) == b"four\n"
    await archive.close()


async def test_oxidized_with_a_repository_for_each_group(
    tmp_path: Path, folder: Path, stock: StockGit, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = repository(tmp_path / "core", {"edge1": "one\n"}, {"edge1": "two\n"}, bare=True)
    access = repository(tmp_path / "access", {"sw1": "x\n"}, {"sw1": "y\n"}, bare=True)
    arguments = ("--layout", "{device}", "--job", "show_run")
    done = asked(core.folder, access.folder, folder, *arguments)
    assert done.output == "2 results, 0 other files\n", done
    assert {*core.commits(), *access.commits()} < set(stock.commits())
    monkeypatch.setattr(history, "_REBUILD_ROWS", 1)
    for again in (False, True):  # the second time the list of versions is made anew from git
        archive = await opened(folder)
        try:
            assert await content_of(archive) == b"two\n"
            assert await content_of(archive, device="sw1") == b"y\n"
            for device, source in (("edge1", core), ("sw1", access)):
                versions = await archive.versions(device, "show_run", limit=9)
                assert [item.version for item in versions] == source.commits()
            assert not (await archive.store(spool.entry(b"y\n", device="sw1"))).changed
        finally:
            await archive.close()
        stock.fsck()
        if not again:
            (folder / "roundsman" / "versions.sqlite").unlink()


def test_the_files_of_a_time_are_those_of_every_group(tmp_path: Path, folder: Path) -> None:
    core, access = tmp_path / "core", tmp_path / "access"
    for place, days in ((core, (2, 4)), (access, (1, 3))):
        subprocess.run(["git", "init", "--quiet", "--bare", place], check=True)
        for day in days:
            told = f"commit HEAD\ncommitter o <o@o> {day}00 +0200\ndata 1\nx\n"
            told += "from HEAD^0\n" if day != days[0] else ""
            told += f"M 100644 inline {place.name}1\ndata 1\n{day}\n"
            StockGit(place).run("fast-import", "--quiet", stdin=told.encode())
    assert not asked(core, access, folder, "--layout", "{device}", "--job", "x").exit_code
    for seconds, wanted in (
        (100, {"access1": "1"}),
        (250, {"core1": "2", "access1": "1"}),
        (399, {"core1": "2", "access1": "3"}),
        (400, {"core1": "4", "access1": "3"}),
    ):
        place = tmp_path / str(seconds)
        at = datetime.fromtimestamp(seconds, UTC).isoformat()
        done = CliRunner().invoke(command, ["export", str(folder), str(place), "--at", at])
        assert not done.exit_code, done.output
        found = {file.name: file.read_text() for file in place.iterdir()}
        assert found == wanted
    done = CliRunner().invoke(command, ["export", str(folder), str(tmp_path / "now")])
    assert {file.name for file in (tmp_path / "now").iterdir()} == {"core1", "access1"}


@pytest.mark.parametrize("goes", [False, True])
async def test_thinned_every_group_keeps_its_history(
    tmp_path: Path, folder: Path, spool: Spool, *, goes: bool
) -> None:
    texts = ("one\n", "two\n", "three\n")
    groups = [
        repository(tmp_path / name, *({name: text} for text in texts), bare=True)
        for name in ("edge1", "sw1", "fw1")
    ]
    layout = ("--layout", "{device}", "--job", "show_run")
    asked(*(group.folder for group in groups), folder, *layout)
    archive = await opened(folder)
    await archive.store(spool.entry(b"four\n", device="sw1"))
    await archive.close()
    before = StockGit(folder)
    new = tmp_path / "new.git"
    now = time.time() + (400 * 86_400 if goes else 0)
    policy = Policy.parse("all for 30 days, then the last of each year", now)
    done = thin(Git(folder), new, policy, now=now, report=lambda _: None)
    stock = StockGit(new)
    stock.fsck()
    assert (done.results, done.versions) == (3, 10)
    if not goes:
        assert stock.commits() == before.commits()
        return
    assert done.versions_kept == 6
    joined = load_adopted(new / "roundsman").joined
    assert len(joined) == 2
    assert {*joined} <= {*stock.commits()}
    archive = await opened(new)
    try:
        for device, last in (("edge1", b"three\n"), ("fw1", b"three\n"), ("sw1", b"four\n")):
            versions = await archive.versions(device, "show_run", limit=9)
            assert len(versions) == 2
            found = [
                await content_of(archive, device=device, version=item.version) for item in versions
            ]
            assert found == [last, b"one\n"]
            assert {item.version for item in versions} <= {*stock.commits()}
        assert not (await archive.store(spool.entry(b"four\n", device="sw1"))).changed
    finally:
        await archive.close()
    # What was left is not part of the new history, in any of the lines.
    assert not {group.commits()[1] for group in groups} & {*stock.commits()}


async def test_a_list_of_joined_histories_that_was_broken_off_is_made_anew(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = repository(tmp_path / "core", {"edge1": "one\n"}, {"edge1": "two\n"}, bare=True)
    other = repository(tmp_path / "access", {"sw1": "x\n"}, {"sw1": "y\n"}, bare=True)
    asked(one.folder, other.folder, folder, "--layout", "{device}", "--job", "show_run")
    monkeypatch.setattr(history, "_REBUILD_ROWS", 1)
    added = History.add

    def add(
        self: History,
        versions: Sequence[Kept],
        tip: bytes | None,
        withdrawn: Sequence[Withdrawal] = (),
    ) -> None:
        added(self, versions, tip, withdrawn)
        if self._last[0] == 2:
            raise OSError("the power goes")

    monkeypatch.setattr(History, "add", add)
    with pytest.raises(ArchiveUnavailableError):
        await opened(folder)
    monkeypatch.setattr(History, "add", added)
    archive = await opened(folder)
    for device, source in (("edge1", one), ("sw1", other)):
        versions = await archive.versions(device, "show_run", limit=9)
        assert [item.version for item in versions] == source.commits()
    await archive.close()


async def test_rancid(tmp_path: Path, folder: Path, stock: StockGit) -> None:
    source = repository(
        tmp_path / "rancid",
        {"core/configs/edge1": "one\n", "core/router.db": "edge1;cisco;up\n"},
        {"core/configs/edge1": "two\n"},
    )
    done = asked(source.folder.parent, folder, "--layout", "rancid", "--job", "show_run")
    assert done.output == "1 results, 1 other files\n", done
    archive = await opened(folder)
    assert len(await archive.versions("edge1", "show_run", limit=9)) == 2
    await archive.close()
    assert stock.run("show", "master:core/router.db") == b"edge1;cisco;up\n"


async def test_our_own_layout(tmp_path: Path, folder: Path, stock: StockGit) -> None:
    paths = ("by_device/edge1/show_run", "by_job/show_run/edge1")
    files = {"README.md": "x\n", **dict.fromkeys(paths, "one\n")}
    source = repository(tmp_path / "original", files, {"by_device/edge1/show_run": "two\n"})
    done = asked(source.folder, folder)
    assert done.output == "1 results, 2 other files\n", done
    archive = await opened(folder, "by_device/{device}/{job}", "by_job/{job}/{device}")
    versions = await archive.versions("edge1", "show_run", limit=9)
    assert [item.version for item in versions] == source.commits()
    await archive.close()
    assert stock.run("show", "master:by_job/show_run/edge1") == b"two\n"


def test_what_cannot_be_adopted_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    source = repository(tmp_path / "a", {"core/edge1": "x\n", "access/edge1": "y\n"})
    arguments = ("--layout", "oxidized", "--job", "show_run")
    clash = asked(source.folder, folder, *arguments)
    assert "are both show_run on edge1" in str(clash.exception)
    assert "cannot be adopted" in asked(source.folder, folder, *arguments, "--dry-run").output
    twice = asked(source.folder, source.folder, folder, "--layout", "core/{device}", "--job", "x")
    assert isinstance(twice.exception, AdoptionError)
    empty = repository(tmp_path / "empty")
    assert isinstance(asked(empty.folder, folder).exception, AdoptionError)
    assert isinstance(asked(tmp_path, folder).exception, ArchiveUnavailableError)
    assert not folder.exists()
    folder.mkdir()
    taken = asked(source.folder, folder, "--layout", "core/{device}", "--job", "x").exception
    assert "not there yet" in str(taken)
    assert not list(tmp_path.glob("*.adopting"))


@pytest.mark.parametrize(
    ("layout", "job"),
    [("{group}", "x"), ("{device}", None), ("{device}/{job}", None), ("{device}{job}", "x")],
)
def test_templates_that_do_not_say_whose(layout: str, job: str | None) -> None:
    path = AdoptedPath(layout, job)
    if layout == "{device}/{job}":
        assert path.check().pair(b"edge1/show") == ("edge1", "show")
        return
    with pytest.raises(AdoptionError):
        path.check()


def test_a_note_that_is_none_is_left_out(folder: Path) -> None:
    own = folder / "roundsman"
    own.mkdir(parents=True)
    (own / "adopted.json").write_text(json.dumps({"paths": [{"path": "{nothing}"}]}))
    assert load_adopted(own) == Adopted()

"""Contents beside the repository: what stands in git for them, and what stock git LFS says."""

import asyncio
import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from roundsman.archive import maintenance
from roundsman.archive.files import Files
from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, Stored
from roundsman.archive.large import GRACE_SECONDS, LargeContents, parse_pointer
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, PointerSettings
from roundsman.testing.archive_conformance import Spool, content_of, store_all
from roundsman.testing.clock import ManualClock
from tests.archive.git_servers import commit
from tests.archive.stock_git import StockGit

NOW = 1_700_000_000.0
SETTINGS = ArchiveSettings(pointers=PointerSettings(above_bytes=2000, binary=True))
LARGE = random.Random(2).randbytes(5000).hex().encode()
BINARY = b"flash\0" + random.Random(3).randbytes(100)


@pytest.fixture
async def archive(folder: Path) -> AsyncIterator[GitArchive]:
    archive = GitArchive(folder, SystemClock(), SETTINGS)
    await archive.open()
    yield archive
    await archive.close()


def objects(folder: Path) -> list[str]:
    """What is beside the repository, by the names of its files."""
    return sorted(path.name for path in (folder / "lfs" / "objects").rglob("*") if path.is_file())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pointer(content: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        digest(content).encode(),
        len(content),
    )


async def test_in_git_stands_a_pointer_and_the_content_beside_it(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    stored = await archive.store(spool.entry(LARGE))
    assert stock.show("main") == pointer(LARGE)
    name = digest(LARGE)
    kept = folder / "lfs" / "objects" / name[:2] / name[2:4] / name
    assert kept.read_bytes() == LARGE
    assert kept.stat().st_mode & 0o777 == 0o444
    assert not list((folder / "lfs" / "tmp").iterdir())
    assert await content_of(archive, version=stored.version) == LARGE
    again = await archive.store(spool.entry(LARGE))
    assert (again.changed, again.version) == (False, stored.version)
    stock.fsck()


async def test_the_fleet_is_packed_with_the_contents(archive: GitArchive, spool: Spool) -> None:
    contents = {"a": LARGE, "b": BINARY, "c": b"text\n", "d": bytes(1024)}
    for device, content in contents.items():
        await archive.store(spool.entry(content, device=device))
    now = (await archive.version("d", "show_run")).at
    pieces = [piece async for piece in archive.snapshot(now, chosen=lambda *_: True)]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar}
        read = {name: file.read() for name, file in files.items() if file is not None}
    assert read == {f"{device}/show_run": content for device, content in contents.items()}


async def test_the_same_content_is_kept_once(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    known = msgspec.structs.replace(spool.entry(LARGE, device="edge2"), sha256=digest(LARGE))
    in_memory = msgspec.structs.replace(spool.entry(b"", device="edge3"), content=LARGE)
    for entry in (spool.entry(LARGE), known, in_memory):
        assert (await archive.store(entry)).changed
    assert objects(folder) == [digest(LARGE)]
    assert [stock.show("main", device) for device in ("edge1", "edge2", "edge3")] == [
        pointer(LARGE)
    ] * 3


async def test_text_and_small_contents_stay_in_git_unless_they_are_binary(
    archive: GitArchive, folder: Path, stock: StockGit, spool: Spool
) -> None:
    contents = {
        "small": b"x" * 2000,
        "late-nul": b"x" * 1000 + b"\xff" * 500,
        "binary": BINARY,
        "large": LARGE,
    }
    for job, content in contents.items():
        await archive.store(spool.entry(content, job=job))
        assert await content_of(archive, job=job) == content
    assert objects(folder) == sorted([digest(BINARY), digest(LARGE)])
    assert stock.show("main", job="small") == contents["small"]
    assert stock.show("main", job="binary") == pointer(BINARY)


async def test_a_text_that_looks_like_a_pointer_is_read_as_it_was(
    archive: GitArchive, folder: Path, spool: Spool
) -> None:
    """It is not taken for the content that it names."""
    await archive.store(spool.entry(LARGE, device="edge2"))
    await archive.store(spool.entry(pointer(LARGE)))
    assert await content_of(archive) == pointer(LARGE)
    in_memory = msgspec.structs.replace(spool.entry(b""), content=pointer(BINARY))
    await archive.store(in_memory)
    assert await content_of(archive) == pointer(BINARY)
    assert parse_pointer(pointer(LARGE) + b"\n") is None


async def test_the_attributes_of_a_folder_name_its_pointers(
    archive: GitArchive, stock: StockGit, spool: Spool, folder: Path
) -> None:
    async def attributes() -> str:
        listed = stock.run("ls-tree", "--name-only", "main:by_device/edge1").split()
        if b".gitattributes" not in listed:
            return ""
        return stock.run("cat-file", "blob", "main:by_device/edge1/.gitattributes").decode()

    filters = " filter=lfs diff=lfs merge=lfs -text\n"
    await archive.store(spool.entry(b"text\n"))
    assert await attributes() == ""
    await archive.store(spool.entry(LARGE, job="an image"))
    assert await attributes() == f'"/an image"{filters}'
    await archive.store(spool.entry(BINARY))
    assert await attributes() == f'"/an image"{filters}"/show_run"{filters}'
    await archive.close()  # and with another life's knowledge
    second = GitArchive(folder, SystemClock(), SETTINGS)
    await second.open()
    await second.store(spool.entry(b"text again\n", job="an image"))
    assert await attributes() == f'"/show_run"{filters}'
    await second.store(spool.entry(b"text again\n"))
    assert await attributes() == ""
    await second.close()
    assert len(stock.commits()) == 5  # none for attributes alone
    stock.fsck()


async def test_batches_of_pointers_and_texts_leave_the_attributes_right(
    archive: GitArchive, stock: StockGit, spool: Spool
) -> None:
    for turn in range(3):
        await store_all(
            archive,
            [
                spool.entry(
                    LARGE + b"%d" % turn if (number + turn) % 2 else b"text %d\n" % turn,
                    job=f"job-{number}",
                )
                for number in range(6)
            ],
        )
        said = stock.run("cat-file", "blob", "main:by_device/edge1/.gitattributes").decode()
        expected = {f'"/job-{number}"' for number in range(6) if (number + turn) % 2}
        assert {line.split()[0] for line in said.splitlines()} == expected


async def test_attributes_go_with_the_results_that_they_are_of(
    folder: Path, stock: StockGit, spool: Spool
) -> None:
    """Into other paths, in the commit that moves the results; and what others wrote there stays."""

    async def opened(*paths: str) -> GitArchive:
        archive = GitArchive(folder, SystemClock(), msgspec.structs.replace(SETTINGS, paths=paths))
        await archive.open()
        return archive

    def told() -> dict[str, str]:
        """What attributes say, by path."""
        names = stock.run("ls-tree", "-r", "--name-only", "main").decode().splitlines()
        found = [name for name in names if name.endswith(".gitattributes")]
        return {name: stock.run("cat-file", "blob", f"main:{name}").decode() for name in found}

    filters = "filter=lfs diff=lfs merge=lfs -text"
    archive = await opened()
    for job, content in {"image": LARGE, "show_run": b"text\n"}.items():
        await archive.store(spool.entry(content, job=job))
        await archive.store(spool.entry(content, job=job, device="edge2"))
    await archive.close()
    of_others = f'*.md text\n"/image" {filters}\n'
    commit(stock, {"by_device/edge2/.gitattributes": of_others})
    archive = await opened("by_job/{job}/{device}", "{device}/{job}.bin")
    assert told() == {
        "by_device/edge2/.gitattributes": "*.md text\n",
        "by_job/image/.gitattributes": f'"/edge1" {filters}\n"/edge2" {filters}\n',
        "edge1/.gitattributes": f'"/image.bin" {filters}\n',
        "edge2/.gitattributes": f'"/image.bin" {filters}\n',
    }
    commits = stock.commits()
    assert not (await archive.store(spool.entry(LARGE, job="image"))).changed
    await archive.store(spool.entry(LARGE, job="show_run"))
    await archive.store(spool.entry(b"text\n", job="image"))
    assert len(stock.commits()) == len(commits) + 2
    await archive.close()
    archive = await opened()
    await archive.close()
    assert told() == {
        "by_device/edge1/.gitattributes": f'"/show_run" {filters}\n',
        "by_device/edge2/.gitattributes": f'*.md text\n"/image" {filters}\n',
    }
    stock.fsck()


@pytest.mark.skipif(
    shutil.which("git-lfs") is None, reason="git-lfs is not installed; scripts/system-packages does"
)
@pytest.mark.parametrize("scheme", ["", "file://"])
async def test_stock_git_lfs_fetches_them(
    archive: GitArchive, folder: Path, spool: Spool, tmp_path: Path, scheme: str
) -> None:
    await archive.store(spool.entry(LARGE))
    await archive.store(spool.entry(b"text\n", job="text"))
    await archive.store(spool.entry(LARGE[::-1], job="an image"))
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}

    def run(*command: str, cwd: Path = tmp_path) -> bytes:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def working_tree(clone: str) -> list[bytes]:
        place = tmp_path / clone / "by_device" / "edge1"
        return [(place / job).read_bytes() for job in ("show_run", "text", "an image")]

    run("git", "lfs", "install", "--skip-repo", "--skip-smudge")
    run("git", "clone", "--quiet", f"{scheme}{folder}", "without")
    assert working_tree("without") == [pointer(LARGE), b"text\n", pointer(LARGE[::-1])]
    run("git", "lfs", "pull", cwd=tmp_path / "without")
    assert working_tree("without") == [LARGE, b"text\n", LARGE[::-1]]
    run("git", "lfs", "install", "--skip-repo", "--force")
    run("git", "clone", "--quiet", f"{scheme}{folder}", "with")  # the attributes have it fetched
    assert working_tree("with") == [LARGE, b"text\n", LARGE[::-1]]
    assert run("git", "status", "--porcelain", cwd=tmp_path / "with") == b""
    run("git", "lfs", "fsck", cwd=tmp_path / "with")


async def test_a_damaged_content_is_told(archive: GitArchive, folder: Path, spool: Spool) -> None:
    await archive.store(spool.entry(LARGE))
    contents = LargeContents(archive._repository.git, Files(), SETTINGS.pointers)
    assert list(contents.damaged()) == []
    [kept] = (path for path in (folder / "lfs" / "objects").rglob("*") if path.is_file())
    kept.chmod(0o644)
    kept.write_bytes(LARGE[:-1] + b"!")
    assert list(contents.damaged()) == [digest(LARGE)]
    with pytest.raises(ArchiveUnavailableError, match="of that SHA-256"):
        await content_of(archive)


async def test_only_what_no_pointer_names_goes_and_only_in_time(
    folder: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between content and commit leaves a content for nothing."""
    archive = GitArchive(folder, ManualClock(NOW), SETTINGS)
    await archive.open()
    await archive.store(spool.entry(LARGE))
    await archive.store(spool.entry(b"text\n"))  # no longer the latest, but in the history
    contents = LargeContents(archive._repository.git, Files(), SETTINGS.pointers)
    contents.keep(spool.entry(BINARY))
    for path in (folder / "lfs" / "objects").rglob("*"):
        if path.is_file():
            os.utime(path, (NOW, NOW))
    assert contents.prune(NOW + GRACE_SECONDS - 1) == 0
    assert contents.prune(NOW + GRACE_SECONDS + 1) == 1
    assert objects(folder) == [digest(LARGE)]
    contents.keep(spool.entry(BINARY))
    assert contents.prune(time.time()) == 0  # what is kept again has its days again
    await archive.close()

    # Long after, maintenance does it by itself.
    (folder / "roundsman" / "maintenance.json").write_text('{"pruned_at": 0}')
    monkeypatch.setattr(maintenance, "_SETTLE_SECONDS", 0)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    prune = LargeContents.prune

    def prune_and_say(contents: LargeContents, now: float) -> int:
        removed = prune(contents, now)
        loop.call_soon_threadsafe(done.set)
        return removed

    monkeypatch.setattr(LargeContents, "prune", prune_and_say)
    second = GitArchive(folder, ManualClock(time.time() + 2 * GRACE_SECONDS), SETTINGS)
    await second.open()
    await asyncio.wait_for(done.wait(), 60)
    assert objects(folder) == [digest(LARGE)]
    await second.close()


class Failing(Files):
    """Fails at the nth change of the disk that has to do with contents beside the repository."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(28, "No space left on device")

    def take(self, content: bytes | Path, path: Path) -> None:
        self._count()
        super().take(content, path)
        self._count()

    def rename(self, old: Path, new: Path) -> None:
        if "lfs" in new.parts:
            self._count()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        if "lfs" in folder.parts:
            self._count()
        super().sync_folder(folder)


@pytest.mark.parametrize("at", range(1, 9))
async def test_a_failure_at_any_step_leaves_no_pointer_without_its_content(
    folder: Path, stock: StockGit, spool: Spool, at: int
) -> None:
    first = GitArchive(folder, SystemClock(), SETTINGS)
    await first.open()
    await first.store(spool.entry(b"text\n"))
    await first.close()
    failing = GitArchive(folder, SystemClock(), SETTINGS, files=Failing(at))
    await failing.open()
    [answer] = await store_all(failing, [spool.entry(LARGE)])
    if isinstance(answer, ArchiveUnavailableError):
        assert "No space left" in answer.text
        assert stock.show("main") == b"text\n"
        answer = await failing.store(spool.entry(LARGE))  # the worker sends it again
    assert isinstance(answer, Stored)
    assert answer.changed
    assert await content_of(failing) == LARGE
    assert not list((folder / "lfs" / "tmp").iterdir())
    await failing.close()
    stock.fsck()


async def test_what_a_crash_left_unfinished_is_cleared(folder: Path, spool: Spool) -> None:
    first = GitArchive(folder, SystemClock(), SETTINGS)
    await first.open()
    await first.store(spool.entry(LARGE))
    await first.close()
    leftover = folder / "lfs" / "tmp" / "leftover"
    leftover.touch()
    second = GitArchive(folder, SystemClock(), SETTINGS)
    await second.open()
    assert not leftover.exists()
    await second.close()

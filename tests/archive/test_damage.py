"""Each kind of damage: seen, set aside, rebuilt, and what was lost is named."""

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError, Withdrawal
from roundsman.archive.pack_reading import PackReader
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, PointerSettings
from roundsman.testing.archive_conformance import Spool, content_of
from roundsman.testing.clock import ManualClock
from tests.archive.stock_git import StockGit

DEVICES = 5
VERSIONS = 4
Model = dict[str, list[tuple[str, bytes]]]
Damage = Callable[[Path, random.Random], None]


async def opened(folder: Path) -> GitArchive:
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    await archive._maintainer.stop()  # it is asked to look when that is what is tested
    return archive


@pytest.fixture
async def model(folder: Path, spool: Spool, rng: random.Random) -> Model:
    """What is in the repository: by device, version and content, oldest first."""
    archive = await opened(folder)
    stored: Model = {}
    for number in range(VERSIONS):
        for device in range(DEVICES):
            content = b"%d %d\n" % (device, number) + rng.randbytes(200).hex().encode()
            if (device, number) == (1, 1):
                content = rng.randbytes(300_000)
            answer = await archive.store(spool.entry(content, device=f"d{device}"))
            stored.setdefault(f"d{device}", []).append((answer.version, content))
    await archive.close()
    return stored


def packs(folder: Path, suffix: str = ".pack") -> list[Path]:
    return sorted((folder / "objects" / "pack").glob(f"*{suffix}"))


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(12, len(content) - 20)] ^= 1 << rng.randrange(8)
    overwrite(path, bytes(content))


def cut(path: Path, rng: random.Random) -> None:
    overwrite(path, path.read_bytes()[: rng.randrange(path.stat().st_size)])


def both_cut(folder: Path, rng: random.Random) -> None:
    pack = rng.choice(packs(folder))
    cut(pack, rng)
    cut(pack.with_suffix(".idx"), rng)


def one_big_pack_flipped(folder: Path, rng: random.Random) -> None:
    StockGit(folder).run("repack", "-a", "-d", "-q")
    flip(packs(folder)[0], rng)


def loose_object_flipped(folder: Path, rng: random.Random) -> None:
    for pack in packs(folder):
        moved = pack.rename(folder / "moved.pack")
        pack.with_suffix(".idx").unlink()
        with moved.open("rb") as content:
            unpack = ["git", f"--git-dir={folder}", "unpack-objects", "-q"]
            subprocess.run(unpack, stdin=content, check=True)
        moved.unlink()
    path = rng.choice(sorted((folder / "objects").glob("??/" + "?" * 38)))
    overwrite(path, path.read_bytes()[:-5])


LOSSLESS: dict[str, Damage] = {
    "reference emptied": lambda folder, _: overwrite(folder / "refs/heads/main", b""),
    "reference cut off": lambda folder, rng: cut(folder / "refs/heads/main", rng),
    "reference of zeros": lambda folder, _: overwrite(folder / "refs/heads/main", bytes(41)),
    "reference removed": lambda folder, _: (folder / "refs/heads/main").unlink(),
    "references removed": lambda folder, _: shutil.rmtree(folder / "refs"),
    "HEAD emptied": lambda folder, _: overwrite(folder / "HEAD", b""),
    "HEAD removed": lambda folder, _: (folder / "HEAD").unlink(),
    "HEAD of zeros": lambda folder, _: overwrite(folder / "HEAD", bytes(20)),
    "config of zeros": lambda folder, _: overwrite(folder / "config", bytes(60)),
    "index removed": lambda folder, rng: rng.choice(packs(folder, ".idx")).unlink(),
    "index flipped": lambda folder, rng: flip(rng.choice(packs(folder, ".idx")), rng),
    "index cut off": lambda folder, rng: cut(rng.choice(packs(folder, ".idx")), rng),
    "list of versions of zeros": lambda folder, _: overwrite(
        folder / "roundsman/versions.sqlite", bytes(9000)
    ),
}
LOSSY: dict[str, Damage] = {
    "pack flipped": lambda folder, rng: flip(rng.choice(packs(folder)), rng),
    "pack cut off": lambda folder, rng: cut(rng.choice(packs(folder)), rng),
    "pack removed": lambda folder, rng: rng.choice(packs(folder)).unlink(),
    "pack and index cut off": both_cut,
    "one big pack flipped": one_big_pack_flipped,
    "loose object flipped": loose_object_flipped,
}


async def expect_served(folder: Path, spool: Spool, model: Model, *, lossless: bool) -> None:
    """It serves, and what is not there any more is in the report."""
    stock = StockGit(folder)
    archive = await opened(folder)
    await archive._maintainer._verify()
    stock.fsck()
    reports = "".join(path.read_text() for path in sorted(folder.parent.glob("*.txt")))
    missing = 0
    for device, versions in model.items():
        listed = await archive.versions(device, "show_run", limit=99)
        found = [
            await content_of(archive, device, version=item.version) for item in reversed(listed)
        ]
        expected = [content for _, content in versions]
        missing += len(set(expected) - set(found))
        kept = iter(expected)
        assert all(content in kept for content in found), "in their order"
        if lossless:
            assert [item.version for item in reversed(listed)] == [item for item, _ in versions]
    if lossless:
        assert not missing
    elif missing:
        assert re.search(r"Lost: [1-9]", reports)
    for device in model:
        new = await archive.store(spool.entry(b"new\n", device=device))
        assert new.changed
    state = await archive.state()
    await archive.close()
    stock.fsck()
    for name in state.set_aside:
        assert (folder.parent / name).is_dir()
        assert (folder.parent / f"{name}.txt").exists()


@pytest.mark.parametrize("damage", LOSSLESS.values(), ids=LOSSLESS.keys())
async def test_what_git_can_be_told_again_costs_nothing(
    folder: Path, spool: Spool, model: Model, rng: random.Random, damage: Damage
) -> None:
    damage(folder, rng)
    await expect_served(folder, spool, model, lossless=True)


@pytest.mark.parametrize("damage", LOSSY.values(), ids=LOSSY.keys())
async def test_what_is_whole_is_carried_over(
    folder: Path, spool: Spool, model: Model, rng: random.Random, damage: Damage
) -> None:
    """Fault 17: a damaged repository stopped the daemon."""
    damage(folder, rng)
    await expect_served(folder, spool, model, lossless=False)


async def test_a_lost_result_is_named_and_all_others_are_there(
    folder: Path, spool: Spool, model: Model
) -> None:
    version, content = model["d2"][1]
    archive = await opened(folder)
    refused = Withdrawal(device="d3", job="show_run", version=model["d3"][2][0])
    await archive.withdraw([refused])
    await archive.close()
    stock = StockGit(folder)
    blob = stock.run("rev-parse", f"{version}:by_device/d2/show_run").strip()
    for index in packs(folder, ".idx"):
        if blob in stock.run("show-index", stdin=index.read_bytes()):
            pack = index.with_suffix(".pack")
            with PackReader(pack) as reader:
                [item] = [item for item in reader.objects if item.id.hex().encode() == blob]
            raw = bytearray(pack.read_bytes())
            raw[(item.offset + item.end) // 2] ^= 1
            overwrite(pack, bytes(raw))
    archive = await opened(folder)
    assert (await archive.state()).set_aside == ()  # nobody looked at it yet
    with pytest.raises(ArchiveUnavailableError):
        await content_of(archive, "d2", version=version)
    archive._maintainer._noted.verified_at = 0
    await archive._maintainer.look()
    state = await archive.state()
    [aside] = state.set_aside
    report = (folder.parent / f"{aside}.txt").read_text()
    assert f"by_device/d2/show_run as of {version}" in report
    for device, versions in model.items():
        listed = await archive.versions(device, "show_run", limit=99)
        found = [
            await content_of(archive, device, version=item.version) for item in reversed(listed)
        ]
        expected = [kept for _, kept in versions if kept != content]
        assert found == expected
        withdrawn = [item.number for item in listed if item.withdrawn]
        assert withdrawn == ([3] if device == "d3" else [])  # by the id that it has now
    await archive.close()
    stock.fsck()


class Clone:
    """An origin: another repository."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def restore(self, folder: Path) -> bool:
        subprocess.run(["git", "clone", "-q", "--mirror", self._place, folder], check=True)
        return True


@pytest.mark.parametrize("what", ["objects", "objects/pack", "refs"])
async def test_what_an_origin_has_is_had_again(
    folder: Path, spool: Spool, model: Model, tmp_path: Path, what: str
) -> None:
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "-q", "--mirror", folder, origin], check=True)
    archive = await opened(folder)
    newer = await archive.store(spool.entry(b"newer\n", device="d9"))
    await archive.close()
    shutil.rmtree(folder / what)
    archive = GitArchive(folder, ManualClock(1_700_000_000.0), origins=[Clone(origin)])
    await archive.open()
    for device, versions in model.items():
        for version, content in versions:
            assert await content_of(archive, device, version=version) == content
    if what == "refs":
        assert await content_of(archive, "d9", version=newer.version) == b"newer\n"
    assert (await archive.store(spool.entry(b"new\n"))).changed
    state = await archive.state()
    assert state.set_aside == ("archive.git.damaged-20231114T221320Z",)
    await archive.close()
    StockGit(folder).fsck()


@pytest.mark.parametrize("what", ["objects", "objects/pack", "refs/heads/main", "packs"])
async def test_damage_in_the_midst_of_work_costs_no_result_that_comes_then(
    folder: Path, spool: Spool, model: Model, what: str
) -> None:
    stock = StockGit(folder)
    archive = await opened(folder)
    await archive.store(spool.entry(b"before\n"))
    if what == "packs":
        for path in packs(folder):
            path.unlink()
    elif (folder / what).is_dir():
        shutil.rmtree(folder / what)
    else:
        (folder / what).unlink()
    entries = [spool.entry(b"during\n", device=f"n{number}") for number in range(5)]
    entries += [spool.entry(b"during\n", device="d3")]
    answers = [await archive.store(entry) for entry in entries]
    assert all(answer.changed for answer in answers)
    if what == "packs":
        archive._maintainer._noted.verified_at = 0
        await archive._maintainer.look()
    for entry in entries[:5]:
        assert await content_of(archive, entry.device) == b"during\n"
    assert len((await archive.state()).set_aside) == 1
    assert (await archive.store(spool.entry(b"after\n"))).changed
    await archive.close()
    stock.fsck()


async def test_a_rebuilding_that_was_cut_off_is_finished(
    folder: Path, spool: Spool, model: Model
) -> None:
    overwrite(folder / "HEAD", b"")
    shutil.copytree(folder, folder.with_name("archive.git.rebuilding"))
    shutil.copytree(folder, folder.with_name("archive.git.rebuilt"))
    archive = await opened(folder)
    assert await content_of(archive, "d1") == model["d1"][-1][1]
    await archive.close()
    folder.rename(folder.with_name("archive.git.rebuilt"))  # it was about to take its place
    archive = await opened(folder)
    assert await content_of(archive, "d1") == model["d1"][-1][1]
    await archive.close()
    names = {path.name for path in folder.parent.iterdir()}
    assert not names & {"archive.git.rebuilding", "archive.git.rebuilt"}


async def test_when_it_cannot_be_rebuilt_nothing_is_lost(
    folder: Path, spool: Spool, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = (folder / "HEAD").read_bytes()
    overwrite(folder / "HEAD", b"")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    archive = GitArchive(folder, SystemClock())
    with monkeypatch.context() as patch:
        patch.setattr("roundsman.archive.files.Files.replace", full)
        with pytest.raises(ArchiveUnavailableError, match="No space"):
            await archive.open()
    assert (folder / "HEAD").read_bytes() == b""
    overwrite(folder / "HEAD", head)
    archive = await opened(folder)
    assert await content_of(archive, "d1") == model["d1"][-1][1]
    await archive.close()


async def test_contents_beside_git_are_carried_over(
    folder: Path, spool: Spool, rng: random.Random
) -> None:
    settings = ArchiveSettings(pointers=PointerSettings(above_bytes=1000))
    archive = GitArchive(folder, SystemClock(), settings)
    await archive.open()
    content = rng.randbytes(5000)
    stored = await archive.store(spool.entry(content))
    await archive.close()
    overwrite(folder / "HEAD", b"")
    archive = GitArchive(folder, SystemClock(), settings)
    await archive.open()
    assert len((await archive.state()).set_aside) == 1
    assert await content_of(archive, version=stored.version) == content
    await archive.close()

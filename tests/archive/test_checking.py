"""Archives looked at from outside: verified, counted, compacted, exported."""

import hashlib
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.cli.archive import command
from roundsman.clock import SystemClock
from roundsman.config.records import ArchiveSettings, PointerSettings
from roundsman.errors import RoundsmanError
from roundsman.testing.archive_conformance import Spool
from tests.archive.git_servers import bare
from tests.archive.stock_git import StockGit

LARGE = b"large\n" * 1000


@pytest.fixture
async def filled(folder: Path, spool: Spool) -> list[str]:
    """An archive with three versions and a large content, closed; the commits."""
    settings = ArchiveSettings(pointers=PointerSettings(above_bytes=1024))
    archive = GitArchive(folder, SystemClock(), settings)
    await archive.open()
    stored = [await archive.store(spool.entry(b"%d\n" % number)) for number in range(3)]
    stored.append(await archive.store(spool.entry(LARGE, job="image")))
    await archive.close()
    return [item.version for item in stored]


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(item) for item in arguments])


def test_stats(folder: Path, filled: list[str]) -> None:
    said = asked("stats", folder).output
    lines = {line[:12].strip(): line[13:] for line in said.splitlines()}
    assert lines["branch"] == f"main at {filled[-1]}"
    assert (lines["commits"], lines["files"], lines["versions"]) == ("4", "3", "4")
    assert lines["beside git"] == "1 of 6,000 bytes"


def test_stats_of_nothing_yet(tmp_path: Path) -> None:
    bare(tmp_path / "empty.git")
    assert "main at no commit" in asked("stats", tmp_path / "empty.git").output


@pytest.mark.parametrize("what", ["verify", "stats", "compact"])
def test_what_is_no_archive_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "x").mkdir()
    for place in ("x", "nothing"):
        refused = asked(what, tmp_path / place).exception
        assert isinstance(refused, ArchiveUnavailableError)


def test_verify_finds_nothing_in_what_is_whole(folder: Path, filled: list[str]) -> None:
    done = asked("verify", folder)
    assert (done.exit_code, done.output) == (0, f"{folder}: good\n")


async def test_verify_finds_damage_in_git_and_beside_it(
    folder: Path, filled: list[str], spool: Spool
) -> None:
    (beside,) = (folder / "lfs" / "objects").glob("*/*/*")
    beside.chmod(0o644)
    beside.write_bytes(LARGE[:-1])
    done = asked("verify", folder)
    assert f"content {hashlib.sha256(LARGE).hexdigest()} beside" in done.output
    assert isinstance(done.exception, RoundsmanError)
    beside.unlink()
    assert "by_device/edge1/image is a pointer to" in asked("verify", folder).output

    archive = GitArchive(folder, SystemClock())
    await archive.open()
    await archive.store(spool.entry(b"small again\n", job="image"))
    await archive.close()
    said = asked("verify", folder).output  # of a version that is not the latest
    assert f"by_device/edge1/image is a pointer to {hashlib.sha256(LARGE).hexdigest()}" in said

    pack = next((folder / "objects" / "pack").glob("*.pack"))
    pack.chmod(0o644)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    assert asked("verify", folder).exit_code == 1


async def test_compact_keeps_everything_and_is_refused_beside_a_controller(
    folder: Path, filled: list[str], stock: StockGit
) -> None:
    done = asked("compact", folder)
    assert done.exit_code == 0, done.output
    assert len(list((folder / "objects" / "pack").glob("*.pack"))) == 1
    assert stock.commits() == filled[::-1]
    stock.fsck()
    archive = GitArchive(folder, SystemClock())
    await archive.open()
    try:
        assert isinstance(asked("compact", folder).exception, ArchiveUnavailableError)
        assert asked("verify", folder).exit_code == 0
        assert asked("stats", folder).exit_code == 0
        versions = await archive.versions("edge1", "show_run", limit=9)
        assert [item.version for item in versions] == filled[2::-1]
    finally:
        await archive.close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_export_of_now_of_a_commit_and_of_a_time(
    folder: Path, filled: list[str], tmp_path: Path
) -> None:
    now = tmp_path / "out" / "now"
    assert asked("export", folder, now).exit_code == 0
    said = files_of(now)
    assert said["by_device/edge1/show_run"] == b"2\n"
    assert said["by_device/edge1/image"] == LARGE
    done = asked("export", folder, tmp_path / "then", "--commit", filled[1][:12])
    assert done.exit_code == 0, done.output
    assert files_of(tmp_path / "then") == {"by_device/edge1/show_run": b"1\n"}
    assert asked("export", folder, tmp_path / "later", "--at", "2100-01-01").exit_code == 0
    assert files_of(tmp_path / "later") == said
    early = asked("export", folder, tmp_path / "early", "--at", "2001-01-01T00:00:00Z")
    assert getattr(early.exception, "code", "") == "archive.no_such_commit"
    taken = asked("export", folder, now)
    assert getattr(taken.exception, "code", "") == "archive.export_refused"


@pytest.mark.parametrize(
    "options", [("--commit", "--output=x"), ("--commit", "main"), ("--at", "noon")]
)
def test_export_takes_ids_and_times_only(
    folder: Path, filled: list[str], tmp_path: Path, options: tuple[str, str]
) -> None:
    assert asked("export", folder, tmp_path / "x", *options).exit_code == 2


def test_export_never_leaves_its_folder(tmp_path: Path) -> None:
    """Links are not made, so nothing is written through them; nor is what no file may be called."""
    stock = bare(tmp_path / "hostile.git")
    outside = tmp_path / "outside"
    outside.mkdir()
    stock.run(
        "fast-import",
        "--quiet",
        stdin="\n".join(
            [
                "commit refs/heads/main",
                "committer Other <o@example.org> 1700000000 +0000",
                "data 1\nx",
                f"M 120000 inline link\ndata {len(str(outside))}\n{outside}",
                "M 160000 1111111111111111111111111111111111111111 module",
                f"M 100644 inline {'n' * 300}\ndata 1\nx",
                "M 100755 inline run me;.sh\ndata 1\nx",
                "",
            ]
        ).encode(),
    )
    blob = stock.run("hash-object", "-w", "--stdin", stdin=b"x").strip().decode()

    def tree(*entries: tuple[bytes, bytes, str]) -> str:
        raw = b"".join(b"%s %s\0%s" % (mode, name, bytes.fromhex(i)) for mode, name, i in entries)
        made = stock.run("hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=raw)
        return made.decode().strip()

    inner = tree((b"100644", b"escaped", blob))
    evil = tree((b"40000", b"..", inner), (b"40000", b".GIT", inner), (b"100644", b"fine", blob))
    made = stock.run("-c", "user.name=x", "-c", "user.email=x", "commit-tree", "-m", "x", evil)
    out = asked("export", stock.folder, tmp_path / "out")
    assert out.exit_code == 0, out.output
    assert files_of(tmp_path / "out") == {"run me;.sh": b"x"}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert not os.access(tmp_path / "out" / "run me;.sh", os.X_OK)
    out = asked("export", stock.folder, tmp_path / "evil", "--commit", made.decode().strip())
    assert files_of(tmp_path / "evil") == {"fine": b"x"}
    assert "../escaped: no file may have that name" in out.output
    assert not (tmp_path / "escaped").exists()
    assert list(outside.iterdir()) == []

"""Pushing to real git servers, with others who push there too."""

import asyncio
import base64
import hashlib
import json
import os
import shlex
import signal
import stat
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from roundsman.archive.git import GitArchive
from roundsman.archive.interface import ArchiveUnavailableError
from roundsman.archive.remotes.access import Access
from roundsman.archive.remotes.contents import ContentUploads
from roundsman.archive.remotes.follower import Follower
from roundsman.archive.remotes.followers import Followers
from roundsman.clock import SystemClock
from roundsman.config.records import (
    Acknowledge,
    ArchiveSettings,
    PointerSettings,
    RemoteSettings,
)
from roundsman.secret import Secret
from roundsman.testing.archive_conformance import Spool, content_of
from roundsman.wire.remote import RemoteState
from tests.acceptance.openssh import Server, running_sshd, skip_where_missing
from tests.archive.git_servers import bare, commit, git_over_http
from tests.archive.stock_git import StockGit
from tests.worker.sessions.files import certificates

Logged = list[MutableMapping[str, Any]]
Opening = Callable[..., Any]

PASSWORD = "correct horse battery"


@pytest.fixture
def remote(tmp_path: Path) -> StockGit:
    return bare(tmp_path / "elsewhere.git")


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opening]:
    """Opens archives that acknowledge a result when every remote has it."""
    async with AsyncExitStack() as stack:

        async def open_archive(
            *remotes: RemoteSettings, name: str = "archive.git", **settings: Any
        ) -> GitArchive:
            archive = GitArchive(
                tmp_path / name,
                SystemClock(),
                ArchiveSettings(
                    remotes={f"r{number}": said for number, said in enumerate(remotes)},
                    **{"acknowledge": Acknowledge.PUSHED, **settings},
                ),
            )
            await archive.open()
            stack.push_async_callback(archive.close)
            return archive

        yield open_archive


def at(remote: StockGit) -> RemoteSettings:
    return RemoteSettings(url=str(remote.folder))


def tip(stock: StockGit) -> str:
    return stock.run("rev-parse", "main").decode().strip()


async def test_what_is_acknowledged_is_in_every_remote(
    opened: Opening, remote: StockGit, tmp_path: Path, spool: Spool
) -> None:
    other = bare(tmp_path / "other.git")
    archive = await opened(at(remote), at(other))
    stored = await archive.store(spool.entry(b"one\n"))
    assert tip(remote) == tip(other) == stored.version
    again = await archive.store(spool.entry(b"one\n"))
    assert (again.version, again.changed) == (stored.version, False)
    first, second = await archive.remotes()
    assert (first.name, first.url, first.commit) == ("r0", str(remote.folder), stored.version)
    assert (second.behind, second.failures, second.failure) == (0, 0, None)


async def test_what_was_kept_before_there_was_a_remote_is_pushed(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    alone = await opened(acknowledge=Acknowledge.KEPT)
    stored = [await alone.store(spool.entry(b"%d\n" % number)) for number in range(3)]
    await alone.close()
    archive = await opened(at(remote))
    await archive.store(spool.entry(b"2\n"))
    assert remote.commits() == [item.version for item in reversed(stored)]


async def test_commits_of_others_are_kept_and_ours_go_on_top(
    opened: Opening, remote: StockGit, stock: StockGit, spool: Spool
) -> None:
    theirs = commit(remote, {"README.md": "ours since 2019\n"}, on=None)
    archive = await opened(at(remote))
    stored = await archive.store(spool.entry(b"one\n"))
    assert remote.run("show", "main:README.md") == b"ours since 2019\n"
    assert {theirs, stored.version} <= set(remote.commits())

    path = "by_device/edge1/show_run"
    theirs = commit(remote, {path: "edited by hand\n", "other.txt": "kept\n"})
    stored = await archive.store(spool.entry(b"two\n"))
    assert remote.run("show", f"main:{path}") == b"two\n"
    assert remote.run("show", "main:other.txt") == b"kept\n"
    assert remote.run("show", f"{theirs}:{path}") == b"edited by hand\n"
    assert remote.run("show", f"{stored.version}:{path}") == b"two\n"
    assert {theirs, stored.version} <= set(remote.commits())
    assert tip(remote) == tip(stock)

    theirs = commit(remote, {path: "edited again\n"})  # and ours does not change
    other = await archive.store(spool.entry(b"x\n", device="edge2"))
    assert remote.run("show", f"main:{path}") == b"edited again\n"
    assert {theirs, other.version} <= set(remote.commits())
    assert await content_of(archive) == b"edited again\n"
    remote.fsck()
    stock.fsck()


async def test_who_was_slower_waits_before_it_looks_how_far_the_others_are(
    opened: Opening, remote: StockGit, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others_go_on(_: Followers, attempt: int) -> None:
        commit(remote, {f"{attempt}.txt": "theirs"})

    monkeypatch.setattr(Followers, "_pause", others_go_on)
    archive = await opened(at(remote))
    commit(remote, {"first.txt": "theirs"}, on=None)
    stored = await archive.store(spool.entry(b"one\n"))
    assert stored.version in remote.commits()


async def test_two_archives_push_to_one_remote_and_nothing_is_lost(
    opened: Opening, remote: StockGit, tmp_path: Path, spool: Spool
) -> None:
    remote.run("config", "receive.denyNonFastForwards", "true")
    archives = [await opened(at(remote), name=f"{name}.git") for name in ("left", "right")]

    async def stream(archive: GitArchive, name: str) -> list[str]:
        return [
            (await archive.store(spool.entry(b"%d\n" % number, device=name))).version
            for number in range(8)
        ]

    left, right = await asyncio.gather(
        *(stream(archive, name) for archive, name in zip(archives, ("left", "right"), strict=True))
    )
    assert set(left) | set(right) <= set(remote.commits())
    for name, versions in (("left", left), ("right", right)):
        assert remote.run("show", f"main:by_device/{name}/show_run") == b"7\n"
        kept = remote.run("log", "--format=%H", "main", "--", f"by_device/{name}").decode().split()
        assert set(versions) <= set(kept)
        StockGit(tmp_path / f"{name}.git").fsck()
    remote.fsck()


async def test_while_a_remote_is_away_results_wait_and_nobody_is_told_they_are_pushed(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    archive = await opened(at(remote))
    away = remote.folder.with_name("away")
    remote.folder.rename(away)
    for number in range(3):
        with pytest.raises(ArchiveUnavailableError) as raised:
            await archive.store(spool.entry(b"%d\n" % number))
        assert raised.value.retry_after_seconds >= 1
    (state,) = await archive.remotes()
    assert (state.behind, state.commit) == (3, None)
    assert state.failure is not None
    assert state.next_attempt_at is not None
    away.rename(remote.folder)
    await archive.close()
    archive = await opened(at(remote))
    await archive.store(spool.entry(b"2\n"))
    assert len(remote.commits()) == 3
    (state,) = await archive.remotes()
    assert (state.behind, state.failure) == (0, None)


async def test_kept_results_do_not_wait_for_a_remote(
    opened: Opening, remote: StockGit, spool: Spool, logged: Logged
) -> None:
    remote.folder.rename(remote.folder.with_name("away"))
    archive = await opened(at(remote), acknowledge=Acknowledge.KEPT)
    stored = await archive.store(spool.entry(b"one\n"))
    assert stored.changed


async def test_a_remote_that_refuses_is_not_overcome(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    hook = remote.folder / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho the office is closed >&2\nexit 1\n")
    hook.chmod(0o755)
    archive = await opened(at(remote))
    with pytest.raises(ArchiveUnavailableError, match="pre-receive hook declined"):
        await archive.store(spool.entry(b"one\n"))
    (state,) = await archive.remotes()
    assert "the office is closed" in str(state.failure)
    assert remote.commits() == []


async def test_a_remote_that_talks_without_end_is_not_listened_to(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    hook = remote.folder / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nhead -c 30000000 /dev/zero | tr '\\0' x >&2\nexit 1\n")
    hook.chmod(0o755)
    archive = await opened(at(remote))
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveUnavailableError, match="xxxx"):
            await archive.store(spool.entry(b"one\n"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


async def test_closing_ends_what_runs(
    opened: Opening, remote: StockGit, spool: Spool, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    hook = remote.folder / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho >{pipe}\nread line <{pipe}\n")  # and nobody answers
    hook.chmod(0o755)
    archive = await opened(at(remote))
    storing = asyncio.create_task(archive.store(spool.entry(b"one\n")))
    await asyncio.to_thread(pipe.read_text)
    await archive.close()
    with pytest.raises(ArchiveUnavailableError, match="is being closed"):
        await storing
    hook.unlink()
    await archive.open()
    await archive.store(spool.entry(b"one\n"))
    assert len(remote.commits()) == 1


async def test_a_branch_that_was_set_back_is_brought_forward_again(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    archive = await opened(at(remote))
    first = await archive.store(spool.entry(b"one\n"))
    second = await archive.store(spool.entry(b"two\n"))
    remote.run("update-ref", "refs/heads/main", first.version)
    third = await archive.store(spool.entry(b"three\n"))
    assert remote.commits() == [third.version, second.version, first.version]
    remote.run("update-ref", "-d", "refs/heads/main")
    fourth = await archive.store(spool.entry(b"four\n"))
    assert tip(remote) == fourth.version


async def test_contents_beside_git_are_copied_to_a_folder(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    archive = await opened(at(remote), pointers=PointerSettings(above_bytes=1024))
    content = b"large\n" * 1000
    await archive.store(spool.entry(content))
    (copy,) = (remote.folder / "lfs" / "objects").glob("*/*/*")
    assert copy.read_bytes() == content


async def test_attributes_of_two_archives_name_the_pointers_of_both(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    def named() -> list[str]:
        said = remote.run("cat-file", "blob", "main:by_device/edge1/.gitattributes").decode()
        return sorted(line.split(" filter")[0] for line in said.splitlines())

    pointers = PointerSettings(above_bytes=1024)
    left, right = [
        await opened(at(remote), name=f"{name}.git", pointers=pointers)
        for name in ("left", "right")
    ]
    await left.store(spool.entry(b"large\n" * 1000, job="image"))
    await right.store(spool.entry(b"large\n" * 2000, job="other image"))
    assert named() == ['"/image"', '"/other image"']
    await left.store(spool.entry(b"text\n", job="image"))
    assert named() == ['"/other image"']
    remote.fsck()


async def test_what_others_push_is_content_and_nothing_else(
    opened: Opening, remote: StockGit, stock: StockGit, spool: Spool, tmp_path: Path
) -> None:
    """Submodules, links and hooks in what is fetched do nothing here."""
    touched = tmp_path / "touched"
    lines = [
        "commit refs/heads/main",
        "committer Other <o@example.org> 1700000000 +0000",
        "data 1\nx",
        "M 160000 1111111111111111111111111111111111111111 module",
        "M 120000 inline link\ndata 11\n/etc/passwd",
        f"M 100755 inline hooks/post-merge\ndata {len(str(touched)) + 6}\ntouch {touched}",
        "M 100644 inline -upload-pack=x;touch y\ndata 1\nx",
        "",
    ]
    url = f'[submodule "module"]\n path = module\n url = ext::sh -c "touch {touched}"\n'
    lines.insert(4, f"M 100644 inline .gitmodules\ndata {len(url)}\n{url}")
    remote.run("fast-import", "--quiet", stdin="\n".join(lines).encode())
    remote.run("update-ref", "refs/heads/--upload-pack=x", "main")
    remote.run("update-ref", "refs/tags/v1", "main")
    archive = await opened(at(remote))
    stored = await archive.store(spool.entry(b"one\n"))
    assert stored.version in remote.commits()
    assert not touched.exists()
    names = stock.run("for-each-ref", "--format=%(refname)").decode().split()
    assert names == ["refs/heads/main", "refs/remotes/r0/main"]
    assert b"160000 commit" in stock.run("ls-tree", "main")


@pytest.mark.parametrize(
    ("entry", "said"),
    [(b"100644 .git\0", "hasDotgit"), (b"0100644 x\0", "zeroPaddedFilemode")],
)
async def test_what_is_malformed_is_not_taken_in(
    opened: Opening, remote: StockGit, spool: Spool, *, entry: bytes, said: str
) -> None:
    """Nor what git only warns of: our own checks are strict, ever after."""
    blob = remote.run("hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    evil = entry + bytes.fromhex(blob)
    tree = remote.run("hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=evil)
    made = remote.run(
        "-c", "user.name=x", "-c", "user.email=x", "commit-tree", "-m", "x", tree.decode().strip()
    )
    remote.run("update-ref", "refs/heads/main", made.decode().strip())
    archive = await opened(at(remote))
    with pytest.raises(ArchiveUnavailableError, match=said):
        await archive.store(spool.entry(b"one\n"))
    assert remote.commits() == [made.decode().strip()]


async def test_a_remote_is_not_asked_when_nothing_changed(
    opened: Opening, remote: StockGit, spool: Spool
) -> None:
    archive = await opened(at(remote))
    stored = await archive.store(spool.entry(b"one\n"))
    remote.folder.rename(remote.folder.with_name("away"))
    again = await archive.store(spool.entry(b"one\n"))
    assert (again.version, again.changed) == (stored.version, False)


async def test_over_http_with_a_password(
    opened: Opening, remote: StockGit, tmp_path: Path, spool: Spool, logged: Logged
) -> None:
    remote.run("config", "http.receivepack", "true")
    with git_over_http(tmp_path, user="ada", password=PASSWORD) as (port, seen):
        url = f"http://127.0.0.1:{port}/elsewhere.git"
        said = RemoteSettings(url=url, user="ada", password=Secret(PASSWORD))
        archive = await opened(said)
        await archive.store(spool.entry(b"one\n"))
        commit(remote, {"theirs": "x\n"})
        stored = await archive.store(spool.entry(b"two\n"))
        assert stored.version in remote.commits()
        assert remote.run("show", "main:theirs") == b"x\n"
        assert all(PASSWORD not in path for path in seen)
        await archive.close()

        wrong = RemoteSettings(url=url, user="ada", password=Secret("not this one"))
        archive = await opened(wrong)
        with pytest.raises(ArchiveUnavailableError, match="Authentication failed") as raised:
            await archive.store(spool.entry(b"three\n"))
        await archive.close()
    for secret in (PASSWORD, "not this one"):
        assert secret not in str(raised.value) + repr(logged)


async def test_contents_beside_git_are_given_to_a_server_before_their_pointers(
    opened: Opening, remote: StockGit, tmp_path: Path, spool: Spool, logged: Logged
) -> None:
    remote.run("config", "http.receivepack", "true")
    contents = [bytes([65 + number]) * (300_000 + number) + b"\n" for number in range(3)]
    with git_over_http(tmp_path, user="ada", password=PASSWORD, lfs=True) as (port, seen):
        url = f"http://127.0.0.1:{port}/elsewhere.git"
        said = RemoteSettings(url=url, user="ada", password=Secret(PASSWORD))
        archive = await opened(said, pointers=PointerSettings(above_bytes=1024))
        await archive.store(spool.entry(b"small\n", device="small"))
        assert not any("lfs" in path for path in seen)
        for number, content in enumerate(contents):
            await archive.store(spool.entry(content, device=f"d{number}"))
        put = [path for path in seen if path.startswith("PUT")]
        names = [hashlib.sha256(content).hexdigest() for content in contents]
        assert put == [f"PUT /elsewhere.git/lfs/objects/{name}" for name in names]
        first = seen.index(put[0])
        assert seen.index("/elsewhere.git/lfs/objects/verify") == first + 1
        assert "/elsewhere.git/git-receive-pack" in seen[first + 2 : first + 5]
        asked = seen.count("/elsewhere.git/info/lfs/objects/batch")
        await archive.store(spool.entry(b"small again\n", device="small"))
        assert seen.count("/elsewhere.git/info/lfs/objects/batch") == asked == len(contents)

        (tmp_path / "full").touch()
        large = spool.entry(b"more\n" * 1000)
        with pytest.raises(ArchiveUnavailableError, match="507 and said: no room"):
            await archive.store(large)
        assert "by_device/edge1" not in remote.run("ls-tree", "-r", "main").decode()
        (tmp_path / "full").unlink()
        await archive.close()
        archive = await opened(said, pointers=PointerSettings(above_bytes=1024))
        await archive.store(large)

        clone = tmp_path / "clone"
        address = url.replace("//", f"//ada:{PASSWORD.replace(' ', '%20')}@")
        for arguments in (
            ["clone", "--quiet", "--config", "filter.lfs.smudge=", address, str(clone)],
            ["-C", str(clone), "lfs", "install", "--local", "--force"],
            ["-C", str(clone), "lfs", "pull"],
        ):
            subprocess.run(["git", *arguments], check=True, capture_output=True)
        for number, content in enumerate(contents):
            assert (clone / "by_device" / f"d{number}" / "show_run").read_bytes() == content
        assert (clone / "by_device" / "edge1" / "show_run").read_bytes() == b"more\n" * 1000
    assert all(PASSWORD not in path for path in seen)
    assert PASSWORD not in repr(logged)


async def test_a_server_without_lfs_gets_the_pointers(
    opened: Opening, remote: StockGit, tmp_path: Path, spool: Spool, logged: Logged
) -> None:
    remote.run("config", "http.receivepack", "true")
    with git_over_http(tmp_path, user="ada", password=PASSWORD) as (port, _):
        url = f"http://127.0.0.1:{port}/elsewhere.git"
        said = RemoteSettings(url=url, user="ada", password=Secret(PASSWORD))
        archive = await opened(said, pointers=PointerSettings(above_bytes=1024))
        for number in range(2):
            await archive.store(spool.entry(b"%d\n" % number * 1000))
        assert remote.show("main").startswith(b"version https://git-lfs")
        await archive.close()
    assert [event["event"] for event in logged].count("archive.remote_without_lfs") == 1


async def test_a_content_that_is_damaged_here_does_not_hold_up_the_rest(
    opened: Opening, remote: StockGit, folder: Path, spool: Spool, logged: Logged
) -> None:
    remote.run("config", "http.receivepack", "true")
    alone = await opened(acknowledge=Acknowledge.KEPT, pointers=PointerSettings(above_bytes=1024))
    await alone.store(spool.entry(b"large\n" * 1000))
    await alone.close()
    (path,) = (folder / "lfs" / "objects").glob("*/*/*")
    path.chmod(0o644)
    path.write_bytes(b"damage\n" * 1000)
    with git_over_http(remote.folder.parent, user="ada", password=PASSWORD, lfs=True) as (port, _):
        url = f"http://127.0.0.1:{port}/elsewhere.git"
        archive = await opened(RemoteSettings(url=url, user="ada", password=Secret(PASSWORD)))
        stored = await archive.store(spool.entry(b"one\n", device="edge2"))
        assert tip(remote) == stored.version
        await archive.close()
    assert not [*(remote.folder / "lfs" / "objects").glob("*/*/*")]
    assert "archive.content_damaged" in [event["event"] for event in logged]


def asked_by_ssh(command: str, *_: str) -> tuple[int, bytes, bytes]:
    raise AssertionError(f"{command}: not a server of SSH")


def test_contents_are_streamed_to_a_server(remote: StockGit, folder: Path, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 24
    name = hashlib.sha256(content).hexdigest()
    path = folder / "lfs" / "objects" / name[:2] / name[2:4] / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    del content
    with git_over_http(tmp_path, user="ada", password=PASSWORD, lfs=True) as (port, _):
        url = f"http://127.0.0.1:{port}/elsewhere"
        said = RemoteSettings(url=url, user="ada", password=Secret(PASSWORD))
        uploads = ContentUploads("r", folder, Access(said, tmp_path / "own"), asked_by_ssh)
        tracemalloc.start()
        uploads.bring_up("refs/heads/main")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 << 20
    kept = remote.folder / "lfs" / "objects" / name[:2] / name[2:4] / name
    assert kept.stat().st_size == 24 << 20


def test_an_ssh_that_was_killed_is_no_server_without_lfs(
    folder: Path, tmp_path: Path, logged: Logged
) -> None:
    """No pointer is pushed then."""
    digest = hashlib.sha256(b"large").hexdigest()
    path = folder / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    path.parent.mkdir(parents=True)
    path.write_bytes(b"large")
    access = Access(RemoteSettings(url="ssh://git@192.0.2.1/r.git"), tmp_path / "own")
    uploads = ContentUploads("r", folder, access, lambda *_: (-signal.SIGKILL, b"", b""))
    with pytest.raises(ArchiveUnavailableError, match="ended with status -9"):
        uploads.bring_up("refs/heads/main")
    assert logged == []


async def test_over_ssh_with_a_key_and_a_checked_host(
    opened: Opening, remote: StockGit, tmp_path: Path, spool: Spool, logged: Logged
) -> None:
    skip_where_missing(Path("/usr/bin/ssh"))
    place = tmp_path / "sshd"
    place.mkdir()
    shell = 'git-shell -c "$SSH_ORIGINAL_COMMAND"'
    with running_sshd(place, command=shell) as server:
        host_key = asyncssh.read_private_key(place / "host_key").export_public_key()
        kind, key, *_ = host_key.decode().split()
        said = RemoteSettings(
            url=f"ssh://{server.user}@127.0.0.1:{server.port}{remote.folder}",
            private_key=Secret(server.private_key),
            host_keys=(f"{kind} {key}",),
        )
        archive = await opened(said)
        stored = await archive.store(spool.entry(b"one\n"))
        assert tip(remote) == stored.version
        (file,) = (tmp_path / "remotes" / "r0").glob("key")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        await archive.close()
        assert not file.exists()

        changed = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFoo0mE3cwHbVY5SGbJ4yCxTyVmhwqzXMGQUXVeKYFoo"
        archive = await opened(
            RemoteSettings(url=said.url, private_key=said.private_key, host_keys=(changed,))
        )
        with pytest.raises(ArchiveUnavailableError, match="IDENTIFICATION HAS CHANGED"):
            await archive.store(spool.entry(b"two\n"))
    assert "PRIVATE KEY" not in repr(logged)


class Forge:
    """A server of git by SSH that answers `git-lfs-authenticate` by what it was told to say."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._answer = folder / "answer"
        self._asked = folder / "asked"
        self.command = folder / "command"
        self.command.write_text(
            "#!/bin/sh\n"
            'case "$SSH_ORIGINAL_COMMAND" in git-lfs-authenticate*)\n'
            f'echo "$SSH_ORIGINAL_COMMAND" >> {self._asked}; . {self._answer};; *)\n'
            'exec git-shell -c "$SSH_ORIGINAL_COMMAND";; esac\n'
        )
        self.command.chmod(0o755)

    def answers(self, script: str) -> None:
        """Have it run this when it is asked where its LFS is."""
        self._answer.write_text(script)

    def gives(self, href: str, **header: str) -> None:
        """Have it say that LFS is there."""
        said = json.dumps({"href": href, "header": header, "expires_in": 1800})
        self.answers(f"echo {shlex.quote(said)}\n")

    def asked(self) -> list[str]:
        """How it was asked."""
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def settings(self, server: Server, repository: Path) -> RemoteSettings:
        host_key = asyncssh.read_private_key(self.folder / "host_key").export_public_key()
        kind, key, *_ = host_key.decode().split()
        return RemoteSettings(
            url=f"ssh://{server.user}@127.0.0.1:{server.port}{repository}",
            private_key=Secret(server.private_key),
            host_keys=(f"{kind} {key}",),
        )


async def test_contents_beside_git_are_given_to_a_server_of_ssh_where_it_says(
    opened: Opening,
    remote: StockGit,
    tmp_path: Path,
    *,
    spool: Spool,
    logged: Logged,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skip_where_missing(Path("/usr/bin/ssh"))
    certificate = certificates.make(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    forge = Forge(tmp_path / "forge")
    contents = [bytes([65 + number]) * (300_000 + number) + b"\n" for number in range(2)]
    token = "Basic " + base64.b64encode(b"once:a token of some minutes").decode()
    with (
        running_sshd(forge.folder, command=str(forge.command)) as server,
        git_over_http(
            tmp_path,
            user="once",
            password="a token of some minutes",
            lfs=True,
            context=certificate.server_context(),
        ) as (port, seen),
    ):
        forge.gives(f"https://127.0.0.1:{port}/elsewhere.git/info/lfs", Authorization=token)
        said = forge.settings(server, remote.folder)
        archive = await opened(said, pointers=PointerSettings(above_bytes=1024))
        await archive.store(spool.entry(b"small\n", device="small"))
        assert not forge.asked()
        for number, content in enumerate(contents):
            await archive.store(spool.entry(content, device=f"d{number}"))
        assert forge.asked() == [f"git-lfs-authenticate {remote.folder} upload"] * 2
        names = [hashlib.sha256(content).hexdigest() for content in contents]
        put = [path for path in seen if path.startswith("PUT")]
        assert put == [f"PUT /elsewhere.git/lfs/objects/{name}" for name in names]
        for name, content in zip(names, contents, strict=True):
            kept = remote.folder / "lfs" / "objects" / name[:2] / name[2:4] / name
            assert kept.read_bytes() == content
        assert remote.show("main", "d1").startswith(b"version https://git-lfs")

        # A token that is not believed holds the pointer back, as a full disk does.
        forge.gives(f"https://127.0.0.1:{port}/elsewhere.git/info/lfs", Authorization="Basic eDp5")
        large = spool.entry(b"more\n" * 1000)
        with pytest.raises(ArchiveUnavailableError, match="it answered 401"):
            await archive.store(large)
        assert "by_device/edge1" not in remote.run("ls-tree", "-r", "main").decode()
        await archive.close()
    assert token not in repr(logged)
    assert "a token of some minutes" not in repr(logged)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo LFS is disabled >&2; exit 1", "status 1 and said: LFS is disabled"),
        ('exec git-shell -c "$SSH_ORIGINAL_COMMAND"', "unrecognized command"),
        ('echo \'{"href": "http://127.0.0.1/lfs"}\'', "not encrypted"),
    ],
)
async def test_a_server_of_ssh_without_lfs_gets_the_pointers(
    opened: Opening,
    remote: StockGit,
    tmp_path: Path,
    *,
    spool: Spool,
    logged: Logged,
    script: str,
    reason: str,
) -> None:
    skip_where_missing(Path("/usr/bin/ssh"))
    forge = Forge(tmp_path / "forge")
    forge.answers(script)
    with running_sshd(forge.folder, command=str(forge.command)) as server:
        said = forge.settings(server, remote.folder)
        archive = await opened(said, pointers=PointerSettings(above_bytes=1024))
        stored = [await archive.store(spool.entry(text * 1000)) for text in (b"one\n", b"two\n")]
        assert tip(remote) == stored[-1].version
        await archive.close()
    assert len(forge.asked()) >= 2
    [warning] = [event for event in logged if event["event"] == "archive.remote_without_lfs"]
    assert reason in warning["reason"]


async def test_a_damaged_repository_is_had_again_from_a_remote(
    opened: Opening, remote: StockGit, stock: StockGit, spool: Spool
) -> None:
    archive = await opened(at(remote))
    stored = await archive.store(spool.entry(b"one\n"))
    await archive.close()
    for pack in (stock.folder / "objects" / "pack").iterdir():
        pack.unlink()
    archive = await opened(at(remote))
    (version,) = await archive.versions("edge1", "show_run", limit=5)
    assert version.version == stored.version
    assert await content_of(archive) == b"one\n"


class _Turned(SystemClock):
    """A clock whose sleepers are noted, and wait until they are let go."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.sleeping = asyncio.Event()
        self.go = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.sleeping.set()
        await self.go.acquire()


async def test_it_waits_longer_each_time_and_at_most_a_minute() -> None:
    clock = _Turned()

    async def push() -> bytes | None:
        raise ArchiveUnavailableError("away")

    follower = Follower(RemoteState(name="r", url="/r"), push, clock, lambda: 1.0, gather_seconds=2)
    follower.start()
    for _ in range(9):
        await clock.sleeping.wait()
        clock.sleeping.clear()
        clock.go.release()
    await follower.stop()
    assert clock.slept[:8] == [1.25, 2.5, 5, 10, 20, 40, 75, 75]
    assert follower.state.failures >= 9

"""Files over SCP, from asyncssh's server and from scripted ones; and what Telnet cannot do."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from roundsman.simulator.device import HOST
from roundsman.wire.device import ProtocolType, Ssh
from roundsman.wire.job import Transfer
from roundsman.wire.run import FailureClass
from tests.worker.sessions.files.bench import PASSWORD, USER, FileBench

CONTENT = b"hostname r1\n" + bytes(range(256)) * 3000


class Door(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


@asynccontextmanager
async def listening(**how: object) -> AsyncIterator[Ssh]:
    server = await asyncssh.listen(
        HOST,
        0,
        server_factory=Door,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        **how,
    )
    async with server:
        yield Ssh(port=server.get_port())


@asynccontextmanager
async def scripted(*steps: bytes) -> AsyncIterator[Ssh]:
    """A device whose `scp` says these, each after one word of ours, and ends."""

    async def serve(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        for step in steps:
            await process.stdin.read(1)
            process.stdout.write(step)
        process.exit(0)

    async with listening(process_factory=serve, encoding=None) as ssh:
        yield ssh


async def test_files_are_fetched(site: FileBench, tmp_path: Path) -> None:
    for name in ("one", "two words", "empty"):
        (tmp_path / name).write_bytes(b"" if name == "empty" else CONTENT)
    async with listening(sftp_factory=True, allow_scp=True) as ssh:
        names = [str(tmp_path / name) for name in ("one", "empty", "two words")]
        assert await site.run(Transfer.SCP, *names, ssh=ssh) == CONTENT * 2


async def test_a_file_that_is_not_there(site: FileBench, tmp_path: Path) -> None:
    async with listening(sftp_factory=True, allow_scp=True) as ssh:
        failure, text = await site.fail(Transfer.SCP, str(tmp_path / "none"), ssh=ssh)
    assert failure is FailureClass.FILE
    assert "No such file" in text


async def test_what_routers_say(site: FileBench) -> None:
    async with scripted(b"T1 0 1 0\n", b"C0600 13 startup-config\n", b"hostname r1\n\n\0") as ssh:
        got = await site.run(Transfer.SCP, "startup-config", ssh=ssh)
    assert got == b"hostname r1\n\n"


@pytest.mark.parametrize(
    ("steps", "failure", "text"),
    [
        ((b"\x01scp: Permission denied\n",), FailureClass.FILE, "Permission denied"),
        ((b"\x02no",), FailureClass.FILE, "'no'"),
        ((b"sh: scp: not found\n",), FailureClass.FILE, "does not speak SCP"),
        ((b"D0755 0 etc\n",), FailureClass.FILE, "does not speak SCP"),
        ((b"C0644 x y\n",), FailureClass.FILE, "does not speak SCP"),
        ((b"",), FailureClass.CLOSED_EARLY, "within '/x'"),
        ((b"C0644 9 x\n", b"hostname"), FailureClass.CLOSED_EARLY, "within '/x'"),
        ((b"C0644 3 x\n", b"abc"), FailureClass.CLOSED_EARLY, "within '/x'"),
        ((b"C0644 3 x\n", b"abc\x01read error\n"), FailureClass.FILE, "to its end: 'read error'"),
        ((b"C0644 3 x\n", b"abcd"), FailureClass.FILE, "could not be read to its end"),
    ],
)
async def test_what_goes_wrong(
    site: FileBench, steps: tuple[bytes, ...], failure: FailureClass, text: str
) -> None:
    async with scripted(*steps) as ssh:
        found = await site.fail(Transfer.SCP, "/x", ssh=ssh)
    assert found[0] is failure
    assert text in found[1]


async def test_too_much(site: FileBench) -> None:
    async with scripted(b"C0644 2000000 x\n", bytes(2_000_000) + b"\0") as ssh:
        failure, _ = await site.fail(Transfer.SCP, "/x", ssh=ssh, max_bytes=1000)
    assert failure is FailureClass.TOO_LARGE


@pytest.mark.parametrize("transfer", [Transfer.SFTP, Transfer.SCP])
async def test_a_device_of_telnet_alone(site: FileBench, transfer: Transfer) -> None:
    failure, text = await site.fail(transfer, "/x", type=ProtocolType.TELNET)
    assert failure is FailureClass.FILE
    assert f"the device speaks Telnet, and {transfer} needs SSH" in text


class ShorterThanItSays(asyncssh.SFTPServer):
    """The file shrinks once it is open, or its end is not read: either way it is not whole."""

    def __init__(self, channel: "asyncssh.SSHServerChannel[bytes]") -> None:
        super().__init__(channel)

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs(size=len(CONTENT) + 1)


async def test_an_sftp_file_that_is_shorter_than_announced(site: FileBench, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    announcing: Callable[..., object] = ShorterThanItSays
    async with listening(sftp_factory=announcing) as ssh:
        failure, text = await site.fail(Transfer.SFTP, str(tmp_path / "x"), ssh=ssh)
    assert failure is FailureClass.CLOSED_EARLY
    assert f"announced {len(CONTENT) + 1} bytes, and {len(CONTENT)} came" in text

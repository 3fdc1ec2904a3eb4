"""Shells of Linux behind OpenSSH, read with the platform `linux`; and its files."""

import subprocess
from pathlib import Path

import msgspec
import pytest

from roundsman.platforms import load
from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, Protocol, Ssh
from roundsman.wire.job import CommandSet, File, FileSet, Job, JobType, Schedule, Transfer
from roundsman.worker.scrubbers import Scrubbers
from tests.acceptance.openssh import Server, running_sshd, skip_where_missing
from tests.worker.sessions.conftest import Bench, commands

LINUX = load.by_name("linux")
BASH_PS1 = r"\[\e[1;32m\]\u@\h \[\e[34m\]\w\[\e[0m\]\n\[\e[31m\]\$\[\e[0m\] "
SHELLS = {
    "bash": f"PS1='{BASH_PS1}' HISTFILE= /bin/bash --norc --noprofile -i",
    "bash with readline": f"TERM=xterm-256color PS1='{BASH_PS1}' HISTFILE= /bin/bash --norc -i",
    "dash": "PS1='dash$ ' /bin/dash -i",
    "ash": r"PS1='\u@box:\w\$ ' /bin/busybox ash -i",
}
TEXT = (
    "".join(f"line {number}\tdescription #\n" for number in range(20_000)) + "dash$\nroot@box:~#\n"
)


def described(server: Server, *, interactive: bool) -> Device:
    return Device(
        name="box",
        host="127.0.0.1",
        protocol=Protocol(ssh=Ssh(port=server.port)),
        credentials=Credentials(user=server.user, private_key=Secret(server.private_key)),
        platform=msgspec.structs.replace(LINUX.session, exec=not interactive),
    )


@pytest.mark.parametrize("name", SHELLS)
async def test_a_shell_is_read_exactly(name: str, tmp_path: Path) -> None:
    program = next(word for word in SHELLS[name].split() if word.startswith("/bin/"))
    skip_where_missing(Path(program))
    (tmp_path / "text").write_text(TEXT)
    job = commands(f"cat {tmp_path}/text", "seq 3", ends_with=None)
    with running_sshd(tmp_path, command=SHELLS[name]) as server:
        assert (
            await Bench(tmp_path).run(described(server, interactive=True), job)
            == TEXT.encode() + b"1\n2\n3\n"
        )


async def test_the_standard_backup_is_what_the_commands_print(tmp_path: Path) -> None:
    skip_where_missing()
    lines = LINUX.standard["backup"]
    with running_sshd(tmp_path) as server:
        job = Job(
            name="backup",
            schedule=Schedule(fixed=0),
            command_set=CommandSet(commands=lines),
            scrubbers=(*LINUX.noise, *LINUX.secrets),
        )
        read = await Bench(tmp_path).run(described(server, interactive=False), job)
    shell = ["/bin/sh", "-c"]
    printed = [
        subprocess.run([*shell, line.command], check=False, capture_output=True) for line in lines
    ]
    kept = b"".join(one.stdout for one in printed if one.returncode == 0)
    assert read == b"".join(Scrubbers(job.scrubbers).apply([kept]))


@pytest.mark.parametrize("transfer", [Transfer.SFTP, Transfer.SCP])
async def test_files_come_from_a_real_server(transfer: Transfer, tmp_path: Path) -> None:
    skip_where_missing()
    content = b"option #\n\0\xff" * 100_000
    (tmp_path / "a file").write_bytes(content)
    fetched = FileSet(files=(File(name=f"{tmp_path}/a file"),), transfer=transfer)
    job = Job(name="fetch", schedule=Schedule(fixed=0), type=JobType.FILE, file_set=fetched)
    with running_sshd(tmp_path) as server:
        assert await Bench(tmp_path).run(described(server, interactive=False), job) == content

"""OpenSSH's own server and a Unix shell on a real terminal, as a device."""

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import (
    Compression,
    File,
    FileSet,
    InlineCommands,
    Job,
    JobType,
    Schedule,
)
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile, RunFailedError
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy
from tests.acceptance.openssh import Server, running_sshd, skip_where_missing

NOW = Schedule(fixed=0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    skip_where_missing(Path("/bin/bash"))
    shell = "PS1='\\[\\e[1m\\]box\\[\\e[0m\\]:\\w# ' HISTFILE= /bin/bash --norc --noprofile -i"
    with running_sshd(tmp_path, command=shell) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Server]:
    skip_where_missing()
    with running_sshd(tmp_path) as server:
        yield server


async def run(server: Server, job: Job, folder: Path) -> bytes:
    device = Device(
        name="box",
        host="127.0.0.1",
        protocol=Protocol(ssh=Ssh(port=server.port)),
        credentials=Credentials(user=server.user, private_key=Secret(server.private_key)),
    )
    runner = SessionRunner(HostKeyStore(folder / "known", HostKeyPolicy.TRUST_ON_FIRST_USE))
    with contextlib.closing(runner), (folder / "result").open("w+b") as file:
        result = ResultFile(file, max_bytes=1 << 30, scratch_folder=folder)
        await runner.run(Execution(device=device, job=job, timestamp=0), result)
        file.seek(0)
        return file.read()


def commands(*lines: str) -> Job:
    return Job(name="show", schedule=NOW, command=InlineCommands(inline=lines))


async def test_a_shell_is_read_exactly(server: Server, tmp_path: Path) -> None:
    text = "".join(f"line {number}\tdescription #\n" for number in range(50_000)) + "box:~#\n"
    (tmp_path / "text").write_text(text)
    assert await run(server, commands(f"cat {tmp_path}/text"), tmp_path) == text.encode()


async def test_output_that_the_shell_draws_its_prompt_over_is_refused(
    server: Server, tmp_path: Path
) -> None:
    """bash's line editor does so on a dumb terminal; even one character must not be lost."""
    for text in ("x", "the end", "longer than the prompt is"):
        with pytest.raises(RunFailedError, match="was drawn over the last line of the output"):
            await run(server, commands(f"printf 'one\\n{text}'"), tmp_path)


async def test_output_that_stops_at_the_very_prompt_is_not_cut_nor_disturbed(
    server: Server, tmp_path: Path
) -> None:
    """Fault 14: a prompt-like line cuts the output. Here the terminal also echoes into it."""
    slowly = "cd /tmp; for line in one '/tmp# ' 'box:/tmp#' two; do echo \"$line\"; sleep 0.1; done"
    read = await run(server, commands(slowly, slowly), tmp_path)
    assert read == b"one\n/tmp# \nbox:/tmp#\ntwo\n" * 2


async def test_files_come_from_a_real_server(files: Server, tmp_path: Path) -> None:
    content = b"option #\n" * 100_000
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
    fetched = (
        File(name=f"{tmp_path}/plain"),
        File(name=f"{tmp_path}/packed.gz", compression=Compression.GZIP),
    )
    job = Job(name="fetch", schedule=NOW, type=JobType.FILE, file_set=FileSet(files=fetched))
    assert await run(files, job, tmp_path) == content + content

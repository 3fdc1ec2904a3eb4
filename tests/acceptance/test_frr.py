"""A real router, through a real SSH server, is backed up byte for byte."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from roundsman.client.controller import ControllerClient
from roundsman.platforms import load
from roundsman.secret import Secret
from roundsman.wire.device import Credentials, Device, Prompt, Protocol, Ssh
from roundsman.wire.execution import Execution
from roundsman.wire.job import CommandSet, InlineCommands, Job, Schedule
from roundsman.wire.run import Outcome, Run
from roundsman.worker.runners.device import SessionRunner
from roundsman.worker.runners.interface import ResultFile
from roundsman.worker.sessions.host_keys import HostKeyStore
from roundsman.worker.settings import HostKeyPolicy
from tests.acceptance.frr import Router, running_router
from tests.worker.sessions.conftest import Bench

SHOW = "show running-config"


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with running_router() as router:
        yield router


async def test_a_session_reads_what_the_router_prints(router: Router, tmp_path: Path) -> None:
    """Fault 14: a banner, descriptions and comments that look like the prompt do not matter."""
    device = Device(
        name="r1",
        host="127.0.0.1",
        protocol=Protocol(ssh=Ssh(port=router.ssh.port)),
        credentials=Credentials(user=router.ssh.user, private_key=Secret(router.ssh.private_key)),
    )
    job = Job(
        name="show_run",
        schedule=Schedule(fixed=0),
        command=InlineCommands(inline=("terminal length 0", SHOW)),
        prompt=Prompt(ends_with="#"),
    )
    runner = SessionRunner(HostKeyStore(tmp_path / "known", HostKeyPolicy.TRUST_ON_FIRST_USE))
    with contextlib.closing(runner), (tmp_path / "result").open("w+b") as file:
        result = ResultFile(file, max_bytes=1 << 30, scratch_folder=tmp_path)
        await runner.run(Execution(device=device, job=job, timestamp=0), result)
        file.seek(0)
        assert file.read() == router.show(SHOW)


async def test_its_platform_and_standard_backup_are_enough(router: Router, tmp_path: Path) -> None:
    """As somebody would configure it who knows no prompt: by the name of the platform alone."""
    platform = load.by_name("frr")
    device = Device(
        name="r1",
        host="127.0.0.1",
        protocol=Protocol(ssh=Ssh(port=router.ssh.port)),
        credentials=Credentials(user=router.ssh.user, private_key=Secret(router.ssh.private_key)),
        platform=platform.session,
    )
    job = Job(
        name="backup",
        schedule=Schedule(fixed=0),
        command_set=CommandSet(commands=platform.standard["backup"]),
        scrubbers=(*platform.noise, *platform.secrets),
    )
    read = await Bench(tmp_path).run(device, job)
    assert read == router.show(SHOW).removeprefix(b"Building configuration...\n")
    assert read.endswith(b"end\n")


async def test_a_scheduled_job_stores_what_the_router_prints(
    router: Router, tmp_path: Path
) -> None:
    """From the schedule through controller, worker and session to git."""
    async with _site(tmp_path, _configuration(router, tmp_path)) as url:
        run = await _first_run(url)
    assert (run.outcome, run.failure) == (Outcome.SUCCEEDED, None)
    stored = subprocess.run(
        ["git", f"--git-dir={_archive(tmp_path)}", "show", f"{run.version}:by_device/r1/show_run"],
        check=True,
        capture_output=True,
    ).stdout
    assert stored == router.show(SHOW)


def _configuration(router: Router, folder: Path) -> dict[str, object]:
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_text(router.ssh.private_key)
    return {
        "controller": {"data": str(folder / "data"), "listen": {"port": 0}},
        "devices": {
            "r1": {
                "host": "127.0.0.1",
                "protocol": {"type": "ssh", "ssh": {"port": router.ssh.port}},
                "credentials": {
                    "user": router.ssh.user,
                    "private_key": f"file:{folder}/key",
                    "prompt": {"ends_with": "#"},
                },
                "jobs": ["show_run"],
            }
        },
        "jobs": {
            "show_run": {
                "schedule": {"duration": "1 second"},
                "command": {"inline": [SHOW]},
                "prompt": {"ends_with": "#"},
            }
        },
    }


@contextlib.asynccontextmanager
async def _site(folder: Path, configuration: dict[str, object]) -> AsyncIterator[str]:
    """A controller and a worker, started as a user would; the address."""
    file = folder / "roundsman.json"
    file.write_bytes(msgspec.json.encode(configuration))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "roundsman", "up", str(file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("Serving on "), (folder / "log").read_text()
        yield line.removeprefix("Serving on ").strip()
    finally:
        process.terminate()
        await process.wait()


async def _first_run(url: str) -> Run:
    """The first run of a device, as soon as the controller knows of it."""
    async with asyncio.timeout(60), ControllerClient(url) as client:
        while not (page := await client.manage.runs()).items:
            pass  # each look is a call over HTTP, so it takes its time by itself
        return page.items[-1]


def _archive(folder: Path) -> Path:
    """The bare repository within the data folder."""
    return next((folder / "data").glob("**/HEAD")).parent

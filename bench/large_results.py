"""Eight results of 500 MB at once, from devices to the archive: memory, time, and the bytes.

Real processes: devices that serve a file each over SFTP, a worker, a controller. The contents are
larger than what goes into git, so they end beside the repository; a second time they are told to go
into git all the same.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench import site
from bench.report import Row
from bench.sweep import worker

DEVICES = 8
LEAD_SECONDS = 30
"""Until all are due: controller and worker are up by then, also beside other work."""
EVERYTHING = 1 << 40
"""Bytes, above which nothing is."""


@contextmanager
def _devices(size: int) -> Iterator[tuple[int, dict[str, str]]]:
    """The port of all devices, and the SHA-256 of each one's file by its name."""
    names = [f"device-{number}" for number in range(DEVICES)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.large_files", str(size), *names],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield port, {name: process.stdout.readline().strip() for name in names}
    finally:
        process.terminate()
        process.wait(timeout=60)


def _configuration(port: int, names: list[str], due: int, *, in_git: bool) -> str:
    archive = {"pointers": {"above_bytes": EVERYTHING}} if in_git else {}
    return json.dumps(
        {
            "controller": {
                "data": "data",
                "listen": {"port": 0},
                "log": {"level": "warning"},
                "archive": archive,
            },
            "jobs": {
                "image": {
                    "schedule": {"fixed": due},
                    "type": "file",
                    "files": [{"name": "/image.bin"}],
                    "command_timeout": 3600,
                    "session_timeout": 3600,
                }
            },
            "device_generics": {"default": {"jobs": ["image"]}},
            "devices": {
                name: {
                    "host": "127.0.0.1",
                    "protocol": {"type": "ssh", "ssh": {"port": port}},
                    "credentials": {"user": name, "pass": "secret"},
                }
                for name in names
            },
        }
    )


def _kept(folder: Path, *, in_git: bool) -> dict[str, str]:
    """The SHA-256 of each device's content as it is in the archive, by its name."""
    git = ["git", f"--git-dir={folder}", "cat-file", "blob"]
    found = {}
    for number in range(DEVICES):
        name = f"device-{number}"
        with subprocess.Popen(
            [*git, f"main:by_device/{name}/image"], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            found[name] = _digest(process.stdout if in_git else _content(folder, process.stdout))
    return found


def _content(folder: Path, pointer: IO[bytes]) -> IO[bytes]:
    """The content that a pointer file stands for."""
    digest = pointer.read().decode().splitlines()[1].removeprefix("oid sha256:")
    return (folder / "lfs" / "objects" / digest[:2] / digest[2:4] / digest).open("rb")


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def run(quick: bool) -> list[Row]:
    """500 MB each (quick: 60), beside git and into git."""
    size = (60 if quick else 500) * 1_000_000
    return [*_measured(size, in_git=False), *_measured(size, in_git=True)]


def _measured(size: int, *, in_git: bool) -> list[Row]:
    with _devices(size) as (port, files), site.folder() as folder:
        file = folder / "fleet.yaml"
        due = int(time.time()) + LEAD_SECONDS
        file.write_text(_configuration(port, [*files], due, in_git=in_git))
        file.chmod(0o600)
        settings = folder / "worker.yaml"
        settings.write_text(json.dumps({"outbox": {"max_bytes": 2 * DEVICES * size}}))
        with (
            site.controller(file) as controller,
            worker(controller.url, folder, str(settings)) as process,
        ):
            assert process.stderr is not None
            while json.loads(process.stderr.readline())["event"] != "worker.enrolled":
                pass
            rest = site.peak_megabytes(process.pid)
            programs = site.Programs(controller.pid)
            programs.start()
            left = DEVICES
            while left:
                event = json.loads(process.stderr.readline())
                if event.get("failure") is not None or event["event"] == "result.not_taken":
                    raise RuntimeError(f"not as it should be: {event}")
                left -= event["event"] == "result.kept"
            taken = time.time() - due
            programs.stop()
            most = site.peak_megabytes(process.pid)
        if _kept(folder / "data" / "archive.git", in_git=in_git) != files:
            raise RuntimeError("what was kept is not what the devices served")
    where = "in git" if in_git else "beside git"
    what = f"{DEVICES} results of {size // 1_000_000} MB at once, {where}"
    figures = {
        "worker at rest, the most (RSS)": rest,
        "worker with them, the most (RSS)": most,
        **{f"{name} with them, the most (RSS)": held for name, held in programs.most.items()},
        "controller and its programs, at one moment (PSS)": programs.together,
    }
    return [
        Row(name=f"{what}, bytes equal", value=DEVICES * size / 1e6 / taken, unit="MB/s"),
        *(Row(name=f"{where}: {name}", value=held, unit="MB") for name, held in figures.items()),
    ]

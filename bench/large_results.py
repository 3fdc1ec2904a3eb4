"""Eight results of 500 MB at once, from devices to the archive: memory, time, and the bytes.

Real processes: devices that serve a file each over SFTP, a worker, a controller. The contents are
larger than what goes into git, so they end beside the repository.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import site
from bench.report import Row
from bench.sweep import LEAD_SECONDS, worker

DEVICES = 8


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


def _configuration(port: int, names: list[str], due: int) -> str:
    return json.dumps(
        {
            "controller": {"data": "data", "listen": {"port": 0}, "log": {"level": "warning"}},
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


def _kept(folder: Path) -> dict[str, str]:
    """The SHA-256 of each device's content as it is in the archive, by its name."""
    git = ["git", f"--git-dir={folder}", "cat-file", "blob"]
    found = {}
    for number in range(DEVICES):
        name = f"device-{number}"
        pointer = subprocess.run(
            [*git, f"main:by_device/{name}/image"], stdout=subprocess.PIPE, check=True, text=True
        ).stdout
        digest = pointer.splitlines()[1].removeprefix("oid sha256:")
        content = folder / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
        with content.open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def run(quick: bool) -> list[Row]:
    """500 MB each (quick: 60)."""
    size = (60 if quick else 500) * 1_000_000
    with _devices(size) as (port, files), site.folder() as folder:
        file = folder / "fleet.yaml"
        due = int(time.time()) + LEAD_SECONDS
        file.write_text(_configuration(port, [*files], due))
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
            rest = [site.peak_megabytes(pid) for pid in (process.pid, controller.pid)]
            left = DEVICES
            while left:
                event = json.loads(process.stderr.readline())
                if event.get("failure") is not None or event["event"] == "result.not_taken":
                    raise RuntimeError(f"not as it should be: {event}")
                left -= event["event"] == "result.kept"
            taken = time.time() - due
            most = [site.peak_megabytes(pid) for pid in (process.pid, controller.pid)]
        if _kept(folder / "data" / "archive.git") != files:
            raise RuntimeError("what was kept is not what the devices served")
    what = f"{DEVICES} results of {size // 1_000_000} MB at once"
    rows = [
        Row(name=f"{what}, bytes equal", value=DEVICES * size / 1e6 / taken, unit="MB/s"),
    ]
    for who, before, after in zip(("worker", "controller"), rest, most, strict=True):
        rows.append(Row(name=f"{who} at rest, the most (RSS)", value=before, unit="MB"))
        rows.append(Row(name=f"{who} with all of them, the most (RSS)", value=after, unit="MB"))
    return rows

"""A controller as its own process, on the disk of the checkout, with a generated fleet."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from roundsman.archive.writing_apart import PROGRAM
from roundsman.testing.factories import write_fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A controller that serves."""

    url: str
    pid: int


@contextmanager
def folder() -> Iterator[Path]:
    """A fresh folder beside this file: a temporary one may be in memory, where flushing is free."""
    with TemporaryDirectory(dir=Path(__file__).parent, prefix=".site-") as name:
        yield Path(name)


def fleet_file(where: Path, *, devices: int, jobs: int = 5) -> Path:
    """The configuration of a fleet, served on a free port."""
    file = write_fleet(where / "fleet.yaml", devices=devices, jobs=jobs)
    settings = "controller:\n  data: data\n  listen: {port: 0}\n  log: {level: warning}\n"
    file.write_text(file.read_text() + settings)
    file.chmod(0o600)
    return file


@contextmanager
def controller(file: Path) -> Iterator[Site]:
    """Run `roundsman controller`; entered once it answers, stopped on leaving."""
    process = subprocess.Popen(
        [sys.executable, "-m", "roundsman", "controller", str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("Serving on "):
            raise RuntimeError("the controller did not start; it says why above")
        yield Site(url=line.removeprefix("Serving on ").strip(), pid=process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


def peak_megabytes(pid: int) -> float:
    """The most memory that a process has held at once (VmHWM), in MB of a million bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def controller_megabytes(pid: int) -> float:
    """The most that a controller and the process that writes its archive have held."""
    return peak_megabytes(pid) + peak_megabytes(archive_writer(pid))


def cpu_seconds(pid: int) -> tuple[float, float]:
    """What a process has used of the CPU so far, and what its children had that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, children = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    return own / os.sysconf("SC_CLK_TCK"), children / os.sysconf("SC_CLK_TCK")


def event_loop_seconds(pid: int) -> float:
    """What the first thread of a process has used of the CPU so far."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def archive_writer(pid: int) -> int:
    """The process that writes the archive of a controller."""
    [found] = [
        child
        for child in _children(pid)
        if PROGRAM in Path(f"/proc/{child}/cmdline").read_text().split("\0")
    ]
    return found


def descendants_seconds(pid: int) -> float:
    """What all processes have used so far that a process started, and they, ended or not."""
    total = cpu_seconds(pid)[1]
    for child in _children(pid):
        with suppress(FileNotFoundError):  # it ended meanwhile, and counts with the next look
            total += cpu_seconds(child)[0] + descendants_seconds(child)
    return total


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]

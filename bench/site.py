"""A controller as its own process, on the disk of the checkout, with a generated fleet."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from roundsman.archive.writing_apart import PROGRAM
from roundsman.testing.factories import write_fleet

_LOOK_SECONDS: Final = 0.1


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
def controller(file: Path, program: Sequence[str] = ("roundsman",)) -> Iterator[Site]:
    """Run `roundsman controller`; entered once it answers, stopped on leaving.

    `program` is the module that is run as `roundsman`, with arguments of its own.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *program, "controller", str(file)],
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


class Programs(threading.Thread):
    """Looks at the memory of a controller and of all programs that it starts, as long as it lives.

    Of each program the most that one process of it held (RSS), and of all of them what they held
    together at one moment, what they share counted once (PSS).
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most: dict[str, float] = {}
        """MB of a million bytes, by program."""
        self.together = 0.0
        """MB of a million bytes."""
        self._pid = pid
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(_LOOK_SECONDS):
            self._look()

    def stop(self) -> None:
        """Look no more."""
        self._enough.set()
        self.join()

    def _look(self) -> None:
        together = 0.0
        for pid in [self._pid, *_descendants(self._pid)]:
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):  # it ended meanwhile
                name = "controller" if pid == self._pid else _program(pid)
                self.most[name] = max(self.most.get(name, 0.0), peak_megabytes(pid))
                together += megabytes(pid)
        self.together = max(self.together, together)


def _program(pid: int) -> str:
    """What a process that a controller started does."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    if "-m" in words:
        return words[words.index("-m") + 1].rpartition(".")[2]
    name = Path(words[0]).name
    command = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return f"git {command[0]}" if name == "git" and command else name


def megabytes(pid: int) -> float:
    """What a process holds by itself, its share of what it shares included, in MB (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024 / 1e6


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


def _descendants(pid: int) -> Iterator[int]:
    """All processes that a process started, and they, as far as they have not ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in _children(pid):
            yield child
            yield from _descendants(child)


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]

"""Results of 10 KB kept per second through HTTP; everything durable.

The controller is a process of its own, and so are the clients; all on one machine. Results change a
line of a configuration each. Beside their rate two floors: the same bytes written and flushed in
the same batches, and an application that reads the same forms and answers 200. The CPU is told for
each process, of the controller also for its event loop: on a busy machine it is what counts.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench import site
from bench.completing import Configurations, Measured
from bench.report import Row
from roundsman.archive.layout import FLAT, SHARDED, Layout

CLIENTS = 32
FLAT_DEVICES = 4_000  # above so many the archive shards by itself
BATCH = CLIENTS // 2  # while one half is written, the other waits


def _complete(url: str, seconds: float) -> Measured:
    """Keep the clients busy for so long."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.completing", url, str(CLIENTS), str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Measured)


def _flushed_per_second(where: Path, seconds: float) -> float:
    """A floor: the same bytes, in the same batches, written and flushed without git or a ledger."""
    configurations = Configurations()
    written = 0
    started = time.perf_counter()
    with (where / "floor").open("wb") as file:
        while time.perf_counter() - started < seconds:
            for _ in range(BATCH):
                file.write(configurations.content())
            file.flush()
            os.fsync(file.fileno())
            written += BATCH
    return written / (time.perf_counter() - started)


@contextmanager
def _bare_application() -> Iterator[str]:
    """A floor: what reads the same forms, and answers 200 without keeping anything."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare_application"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=60)


def _fill(folder: Path, devices: int) -> None:
    """A repository in which every device has a version already, made in one commit by git."""
    layout = Layout([SHARDED if devices > FLAT_DEVICES else FLAT])
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder], check=True)
    with subprocess.Popen(
        ["git", f"--git-dir={folder}", "fast-import", "--quiet"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        say = process.stdin.write
        say(b"commit refs/heads/main\ncommitter bench <bench@localhost> 1 +0000\ndata 5\nfirst\n")
        for number in range(devices):
            content = b"! device %d\n" % number
            say(b"M 100644 inline %s\n" % layout.path(f"device-{number:06}", "job-0"))
            say(b"data %d\n%s\n" % (len(content), content))


def _results(devices: int, seconds: float, few: float | None) -> Iterator[Row]:
    with site.folder() as where:
        floor = _flushed_per_second(where, min(seconds, 2))
        file = site.fleet_file(where, devices=devices, jobs=5 if devices <= 10_000 else 1)
        _fill(where / "data" / "archive.git", devices)
        with site.controller(file) as running:
            _complete(running.url, min(seconds, 3))  # what is seen and loaded for the first time
            before = _Used.of(running.pid)
            done = _complete(running.url, seconds)
            used = _Used.of(running.pid).since(before)
            peak = site.peak_megabytes(running.pid)
            writers_peak = site.peak_megabytes(site.archive_writer(running.pid))
    rate = done.kept / done.seconds
    what = f"{CLIENTS} clients, {devices:,} devices"
    yield Row(
        name=f"results kept, {what}",
        value=rate,
        unit="results/s",
        compared_to="written and flushed" if few is None else "fewest devices",
        ratio=rate / (floor if few is None else few),
    )
    yield Row(name=f"in its slowest second, {what}", value=done.slowest_second, unit="results/s")
    yield Row(name=f"median of an answer, {what}", value=done.median * 1000, unit="ms")
    yield Row(name=f"p99 of an answer, {what}", value=done.p99 * 1000, unit="ms")
    shares = {
        "the controller's event loop": used.event_loop,
        "its other threads, the ledger's above all": used.threads,
        "the archive's writer": used.writer,
        "maintenance and the index for searches": used.maintenance,
        "clients": done.cpu_seconds,
    }
    for who, seconds_used in shares.items():
        yield Row(
            name=f"CPU of {who}, {devices:,} devices",
            value=seconds_used / done.kept * 1e6,
            unit="µs a result",
            compared_to="all of it",
            ratio=seconds_used / sum(shares.values()),
        )
    yield Row(name="controller's memory at most", value=peak, unit="MB")
    yield Row(name="its archive writer's memory at most", value=writers_peak, unit="MB")


class _Used(msgspec.Struct):
    """Seconds of CPU that a controller has used."""

    event_loop: float
    threads: float
    writer: float
    """The process that writes the archive, and the git program that it reads with."""
    maintenance: float

    @classmethod
    def of(cls, pid: int) -> "_Used":
        event_loop = site.event_loop_seconds(pid)
        writer = site.archive_writer(pid)
        writers = site.cpu_seconds(writer)[0] + site.descendants_seconds(writer)
        return cls(
            event_loop,
            site.cpu_seconds(pid)[0] - event_loop,
            writers,
            site.descendants_seconds(pid) - writers,
        )

    def since(self, before: "_Used") -> "_Used":
        return _Used(
            self.event_loop - before.event_loop,
            self.threads - before.threads,
            self.writer - before.writer,
            self.maintenance - before.maintenance,
        )


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, shorter and without the largest fleets."""
    rows: list[Row] = []
    with _bare_application() as url:
        bare = _complete(url, 2 if quick else 10)
    rows.append(
        Row(name="forms read and answered, no more", value=bare.kept / bare.seconds, unit="forms/s")
    )
    few: float | None = None
    for devices in (1_000,) if quick else (1_000, 10_000, 100_000):
        added = [*_results(devices, 5 if quick else 60, few)]
        few = few or added[0].value
        rows += added
    return rows

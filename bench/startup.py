"""How soon `roundsman --version` answers, and a controller of 10,000 devices with 5 jobs each."""

import statistics
import subprocess
import sys
import time

from bench import site
from bench.report import Row


def _seconds(command: list[str], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def run(quick: bool) -> list[Row]:
    """The rows; with `quick`, a tenth of the fleet."""
    times = 5 if quick else 15
    bare = _seconds([sys.executable, "-c", "pass"], times)
    version = _seconds([sys.executable, "-m", "roundsman", "--version"], times)
    rows = [
        Row(
            name="roundsman --version",
            value=version,
            unit="s",
            compared_to="python -c pass",
            ratio=version / bare,
        )
    ]
    devices = 1_000 if quick else 10_000
    with site.folder() as where:
        file = site.fleet_file(where, devices=devices)
        for what in ("first start", "next start"):
            started = time.perf_counter()
            with site.controller(file) as running:
                ready = time.perf_counter() - started
                rows += [
                    Row(name=f"{what}, {devices:,} devices of 5 jobs", value=ready, unit="s"),
                    Row(
                        name="its memory at most", value=site.peak_megabytes(running.pid), unit="MB"
                    ),
                ]
    return rows

"""A sweep over a thousand devices of which some are dead and some stall, by controller and worker.

All are due at once. Measured is when the last living device's run has ended, beside a sweep over
the living ones alone, and beside one over as many devices, all of them well: to find out that a
device is dead or stalls is work, too. The sweeps take turns, round by round; ratios are taken
within a round; shown is the median of the rounds.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench import site
from bench.report import Row
from bench.routers import Router, running

LEAD_SECONDS = 8
"""From writing the configuration until all are due: controller and worker are up by then."""


def run(quick: bool) -> list[Row]:
    """1,000 devices, one in ten dead, one in ten stalling, five times (quick: 200, twice)."""
    count, rounds = (200, 2) if quick else (1000, 5)
    with running(count, "--dead", "--stalled") as some, running(count) as others:
        living = [router for router in some.routers if router.living]
        fleets = {
            f"{len(living)} living devices alone": living,
            f"{count} devices, all well": others.routers,
            f"{count} devices, one in ten dead, one in ten stalling": some.routers,
        }
        took: dict[str, list[float]] = {name: [] for name in fleets}
        for _ in range(rounds):
            for name, fleet in fleets.items():
                took[name].append(_sweep(fleet))
    alone, well, mixed = fleets
    return [
        Row(name=f"{alone}: the last is done after", value=median(took[alone]), unit="s"),
        Row(name=f"{well}: the last is done after", value=median(took[well]), unit="s"),
        *(
            Row(
                name=f"{mixed}: the last living one is done after",
                value=median(took[mixed]),
                unit="s",
                compared_to=other,
                ratio=median(one / of for one, of in zip(took[mixed], took[other], strict=True)),
            )
            for other in (alone, well)
        ),
    ]


def _sweep(routers: list[Router]) -> float:
    """Seconds from when all are due until the last living one's run has ended."""
    living = {router.name for router in routers if router.living}
    with site.folder() as folder:
        due = int(time.time()) + LEAD_SECONDS
        file = folder / "fleet.yaml"
        file.write_text(json.dumps(configuration(routers, due)))
        file.chmod(0o600)
        with site.controller(file) as controller, worker(controller.url, folder) as process:
            assert process.stderr is not None
            for line in process.stderr:
                event = json.loads(line)
                if event["event"] != "run.ended" or event["device"] not in living:
                    continue
                if event["failure"] is not None:
                    raise RuntimeError(f"a living device's run failed: {event['failure']}")
                living.discard(event["device"])
                if not living:
                    return time.time() - due
    raise RuntimeError("the worker ended before the sweep did")


@contextmanager
def worker(url: str, folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `roundsman worker`, its events as JSON on its standard error; killed on leaving."""
    with subprocess.Popen(
        [
            sys.executable, "-m", "roundsman", "worker", *options,
            "--controller", url, "--state", str(folder / "worker"), "--log-json",
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def configuration(routers: list[Router], due: int) -> dict[str, Any]:
    """A fleet with one backup each, due at that time, as plain data."""
    return {
        "controller": {"data": "data", "listen": {"port": 0}, "log": {"level": "warning"}},
        "jobs": {
            "backup": {
                "schedule": {"fixed": due},
                "command": {"inline": ["show running-config"]},
            }
        },
        "device_generics": {"default": {"platform": "cisco_ios", "jobs": ["backup"]}},
        "devices": {
            router.name: {
                "host": router.host,
                "protocol": {"type": "ssh", "ssh": {"port": router.port}},
                "credentials": {"user": router.user, "pass": router.password},
            }
            for router in routers
        },
    }

"""A sweep over a thousand devices of which some are dead and some stall, by controller and worker.

All are due at once. Measured is when the last living device's run has ended, beside a sweep over
the living ones alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import site
from bench.report import Row
from bench.routers import Router, running

LEAD_SECONDS = 8
"""From writing the configuration until all are due: controller and worker are up by then."""


def run(quick: bool) -> list[Row]:
    """1,000 devices (quick: 200), one in ten dead and one in ten stalling."""
    count = 200 if quick else 1000
    with running(count, "--dead", "--stalled") as routers:
        living = [router for router in routers.routers if router.living]
        alone = _sweep(living)
        mixed = _sweep(routers.routers)
    name = f"{len(living)} living devices alone: the last is done after"
    return [
        Row(name=name, value=alone, unit="s"),
        Row(
            name=f"the same among {count}, one in ten dead, one in ten stalling",
            value=mixed,
            unit="s",
            compared_to="alone",
            ratio=mixed / alone,
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

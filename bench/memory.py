"""Memory of a worker with a thousand sessions open at once, each in the midst of its output."""

import json
import time
from pathlib import Path

from bench import site
from bench.report import Row
from bench.routers import running
from bench.sweep import LEAD_SECONDS, configuration, worker


def run(quick: bool) -> list[Row]:
    """1,000 sessions (quick: 200)."""
    count = 200 if quick else 1000
    with running(count, "--hold") as routers, site.folder() as folder:
        file = folder / "fleet.yaml"
        file.write_text(json.dumps(configuration(routers.routers, int(time.time()) + LEAD_SECONDS)))
        file.chmod(0o600)
        settings = folder / "worker.yaml"
        settings.write_text(json.dumps({"sessions": count}))
        with (
            site.controller(file) as controller,
            worker(controller.url, folder, str(settings)) as process,
        ):
            assert process.stderr is not None
            while json.loads(process.stderr.readline())["event"] != "worker.enrolled":
                pass
            rest = _megabytes(process.pid)
            routers.wait_until_held(count)
            held = _megabytes(process.pid)
            routers.release()
            left = count
            while left:
                event = json.loads(process.stderr.readline())
                left -= event["event"] == "run.ended" and event["failure"] is None
            peak = site.peak_megabytes(process.pid)
    return [
        Row(name="worker at rest (PSS)", value=rest, unit="MB"),
        Row(name=f"{count:,} sessions in the midst of their output (PSS)", value=held, unit="MB"),
        Row(name="a session", value=1000 * (held - rest) / count, unit="KB"),
        Row(name="the most, until all have ended well (RSS)", value=peak, unit="MB"),
    ]


def _megabytes(pid: int) -> float:
    """What a process holds by itself, its share of what it shares included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024 / 1e6

"""`roundsman demo`: the whole of it on a simulated fleet, on this machine alone.

The devices are simulated here, over real SSH; what serves them is the real program, `roundsman up`,
as a process of its own; and everything shown is asked of it over HTTP, or of git.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from roundsman.cli.compose import ARCHIVE_FOLDER
from roundsman.client import ControllerClient
from roundsman.errors import RoundsmanError
from roundsman.simulator.fleet import SimulatedFleet
from roundsman.wire.manage import DeviceDetail
from roundsman.wire.process import QueryAnswer
from roundsman.wire.run import Outcome

EVERY: Final = "10 seconds"
CHANGE_SECONDS: Final = 12.0
ROUND_SECONDS: Final = 120.0
"""By then each device has been visited and a change has been seen, or something is wrong."""
LOOK_SECONDS: Final = 0.5
LINES: Final = 3
"""So many lines of the command's output are waited for."""
STOP_SECONDS: Final = 60.0

SCRIPT: Final = """\
# Counts, with a helper beside it, until somebody stops both.
sleep 1000 &
count=0
while true; do
  count=$((count + 1))
  echo "count $count"
  sleep 0.2
done
"""


class DemoError(RoundsmanError):
    """The demonstration did not come to its end."""

    code = "demo.failed"


@click.command()
@click.option("--once", is_flag=True, help="Leave at the end instead of waiting for Ctrl-C.")
def command(once: bool) -> None:
    """Back up a dozen simulated devices, run and stop a command, and show what came of it.

    Needs git. Everything is kept in a temporary folder, which is removed at the end.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_demonstrate(Console(), once=once))


async def _demonstrate(console: Console, *, once: bool) -> None:
    with _folder() as folder:
        async with SimulatedFleet(change_seconds=CHANGE_SECONDS) as fleet:
            _write_site(folder, fleet)
            console.print(
                f"{len(fleet.devices)} simulated devices of three kinds listen for SSH on this "
                "machine:\none is slow, one refuses the password, one changes by itself. Each is "
                f"due every {EVERY}.\n"
            )
            async with _site(folder) as url, ControllerClient(url) as client:
                await _Show(console, client, url, folder, fleet).run(once=once)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="roundsman-demo-") as name:
        yield Path(name)


def _write_site(folder: Path, fleet: SimulatedFleet) -> None:
    """The configuration, as a person would write it but in JSON, and the script to run."""
    configuration = fleet.configuration(every=EVERY)
    configuration["controller"] = {"data": "data", "listen": {"port": 0}}
    file = folder / "roundsman.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(configuration, indent=2))
    scripts = folder / "data" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "count.sh").write_text(SCRIPT)


@contextlib.asynccontextmanager
async def _site(folder: Path) -> AsyncIterator[str]:
    """`roundsman up` as a process of its own; its URL. Stopped on leaving."""
    log = folder / "log.txt"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roundsman",
            "up",
            str(folder / "roundsman.json"),
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
    try:
        assert process.stdout is not None  # noqa: S101 - for the types: it is the pipe asked for
        line = (await process.stdout.readline()).decode()
        if not line.startswith("Serving on "):
            raise DemoError(f"roundsman up did not start: {log.read_text()[-2000:]}")
        yield line.removeprefix("Serving on ").strip()
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        if process.returncode is None:
            process.kill()
            await process.wait()


class _Show:
    """What is shown, step by step."""

    def __init__(
        self,
        console: Console,
        client: ControllerClient,
        url: str,
        folder: Path,
        fleet: SimulatedFleet,
    ) -> None:
        self._console = console
        self._client = client
        self._url = url
        self._archive = folder / "data" / ARCHIVE_FOLDER
        self._log = folder / "log.txt"
        self._names = [device.name for device in fleet.devices]
        self._changing = fleet.devices[0].name

    async def run(self, *, once: bool) -> None:
        """All of it, in order."""
        await self._watch_first_round()
        await self._run_a_command()
        self._show_git()
        self._show_addresses()
        if not once:
            self._console.print("\nIt goes on until Ctrl-C.\n")
            await self._watch_for_ever()

    async def _watch_first_round(self) -> None:
        self._heading("The rounds")
        with Live(console=self._console, refresh_per_second=4, transient=False) as live:
            async with asyncio.timeout(ROUND_SECONDS):
                while True:
                    details = await self._details()
                    live.update(_fleet_table(details))
                    if all(map(_visited, details)) and await self._has_changed(details[0]):
                        return
                    await asyncio.sleep(LOOK_SECONDS)

    async def _has_changed(self, detail: DeviceDetail) -> bool:
        versions = await self._client.manage.versions(detail.name, detail.jobs[0].slot.job, limit=2)
        return len(versions.items) > 1

    async def _watch_for_ever(self) -> None:
        with Live(console=self._console, refresh_per_second=4) as live:
            while True:
                live.update(_fleet_table(await self._details()))
                await asyncio.sleep(LOOK_SECONDS)

    async def _details(self) -> list[DeviceDetail]:
        return [await self._client.manage.device(name) for name in self._names]

    async def _run_a_command(self) -> None:
        self._heading("A command on the worker")
        worker = await self._connected_worker()
        fleet = self._client.fleet
        self._say(f"POST /start  bash count.sh on worker {worker}")
        job = await fleet.start(worker_id=worker, command="bash", path="count.sh")
        self._say(f"  201, job_id {job}")
        self._say(f"GET /api/v1/processes/{job}/output?follow=true")
        seen = b""
        async with self._client.manage.output(job, follow=True) as pieces:
            async for piece in pieces:
                seen += piece
                if seen.count(b"\n") >= LINES:
                    break
        for line in seen.decode().splitlines():
            self._say(f"  {line}")
        self._say("POST /query")
        self._say(f"  200, {_json(await fleet.query(worker_id=worker, job_id=job))}")
        self._say("POST /stop")
        await fleet.stop(worker_id=worker, job_id=job)
        self._say("  200, the whole process group is gone")
        self._say("POST /query")
        self._say(f"  200, {_json(await fleet.query(worker_id=worker, job_id=job))}")

    async def _connected_worker(self) -> str:
        async with asyncio.timeout(ROUND_SECONDS):
            while True:
                for worker in (await self._client.manage.workers()).items:
                    if worker.connected:
                        return worker.worker_id
                await asyncio.sleep(LOOK_SECONDS)

    def _show_git(self) -> None:
        self._heading("What git has")
        path = f"by_device/{self._changing}"
        self._console.print(f"$ git -C {self._archive} log --oneline -12")
        self._console.print(self._git("log", "--oneline", "-12"), highlight=False)
        self._console.print(f"$ git -C {self._archive} log -1 -p -U1 -- {path}")
        shown = self._git("log", "-1", "-p", "-U1", "--", path)
        self._console.print(Syntax(shown, "diff", background_color="default"))

    def _git(self, *arguments: str) -> str:
        git = shutil.which("git")
        if git is None:
            raise DemoError("git is not installed", remedy="install git")
        environment = {**os.environ, "GIT_PAGER": "cat", "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.run(
            [git, "-C", str(self._archive), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout.rstrip()

    def _show_addresses(self) -> None:
        self._heading("Where to look")
        table = Table.grid(padding=(0, 2))
        for what, where in (
            ("the API, to try", f"{self._url}/api/docs"),
            ("devices", f"{self._url}/api/v1/devices"),
            ("runs, newest first", f"{self._url}/api/v1/runs"),
            ("failed runs", f"{self._url}/api/v1/runs?outcome=failed"),
            ("workers", f"{self._url}/api/v1/workers"),
            ("the results", f"git clone {self._archive}"),
            ("the log", str(self._log)),
        ):
            table.add_row(Text(what, style="dim"), where)
        self._console.print(table)

    def _heading(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)


def _json(answer: QueryAnswer) -> str:
    return msgspec.json.encode(answer).decode()


def _visited(detail: DeviceDetail) -> bool:
    return detail.jobs[0].last_run is not None


_STYLES: Final = {Outcome.SUCCEEDED: "green", Outcome.FAILED: "red"}


def _fleet_table(details: list[DeviceDetail]) -> Group:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("device", "now", "last outcome", "bytes", "kept as, or why not"):
        table.add_column(column, justify="right" if column == "bytes" else "left", no_wrap=True)
    for detail in details:
        slot, run = detail.jobs[0].slot, detail.jobs[0].last_run
        now = Text(str(slot.state), style="dim")
        if run is None:
            table.add_row(detail.name, now, "", "", "")
            continue
        outcome = Text(str(run.outcome), style=_STYLES.get(run.outcome, ""))
        what = run.version[:10] if run.version else f"{run.failure_class}"
        size = "" if run.size is None or run.version is None else f"{run.size:,}"
        table.add_row(detail.name, now, outcome, size, what)
    visited = sum(map(_visited, details))
    return Group(table, Text(f"{visited} of {len(details)} visited", style="dim"))

"""`roundsman exec` as a shell sees it, against a controller with real workers."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from rich.console import Console

from roundsman.cli.side_by_side import SideBySide
from roundsman.wire.control import (
    Acknowledge,
    Output,
    ProcessChanged,
    ReadOutput,
    StartProcess,
)
from roundsman.wire.process import OutputChunk, Process, ProcessState
from roundsman.worker.runners.process_tree import member_of
from tests.controller.fleet_site import FleetSite, fake_worker, fleet_site, real_worker


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FleetSite]:
    async with fleet_site(tmp_path / "controller") as site:
        yield site


class Done(NamedTuple):
    status: int
    out: str
    err: str


async def begin(site: FleetSite, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roundsman", "exec", "--controller", site.served.url),
        *("--token", "env:TOKEN", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TOKEN": "token-of-ada"},
    )


async def run(site: FleetSite, *arguments: str, stdin: bytes = b"") -> Done:
    running = await begin(site, *arguments)
    out, err = await asyncio.wait_for(running.communicate(stdin), 60)
    assert running.returncode is not None
    return Done(running.returncode, out.decode(), err.decode())


async def test_outputs_stand_side_by_side_and_results_below(
    site: FleetSite, tmp_path: Path
) -> None:
    async with (
        real_worker(site, tmp_path / "a") as one,
        real_worker(site, tmp_path / "b") as two,
    ):
        for worker in (one, two):
            worker.script("echo begun; echo oops >&2; cat; printf unended")
        done = await run(
            site, "--on", "all", "--stdin", "--", "sh", "script.sh", stdin=b"from input\n"
        )
        assert done.status == 0, done.err
        lines = sorted(done.out.splitlines())
        assert lines == [
            f"ams-1 │ {text}" for text in ("begun", "from input", "unended") for _ in "ab"
        ]
        assert done.err.count("ams-1 │ oops") == 2
        assert done.err.count("exit 0") == 2
        assert done.err.splitlines()[-1] == "succeeded on all 2 workers"


async def test_its_exit_status_says_whether_it_succeeded_everywhere(
    site: FleetSite, tmp_path: Path
) -> None:
    async with (
        real_worker(site, tmp_path / "a") as one,
        real_worker(site, tmp_path / "b") as two,
    ):
        one.script("exit 0")
        two.script("exit 7")
        done = await run(site, "--on", "all", "--", "sh", "script.sh")
        assert done.status == 1
        assert "exit 7" in done.err
        assert done.err.splitlines()[-1] == "succeeded on 1 of 2 workers"
        done = await run(site, "--on", "all", "--", "reboot")
        assert (done.status, done.err.count("refused")) == (1, 2)
        done = await run(site, "--on", "tag=nowhere", "--", "true")
        assert done.status == 1
        assert "no worker is 'tag=nowhere'" in done.err
        done = await run(site, "--on", "all", "--env", "LANG", "--", "true")
        assert (done.status, "expected NAME=VALUE" in done.err) == (2, True)


async def test_json_lines_end_with_the_report(site: FleetSite, tmp_path: Path) -> None:
    async with real_worker(site, tmp_path / "a") as worker:
        worker.script("echo out; echo err >&2")
        done = await run(site, "--on", "all", "--json", "--", "sh", "script.sh")
        said: list[Any] = [msgspec.json.decode(line) for line in done.out.splitlines()]
        assert [each["type"] for each in said] == ["begin", "output", "output", "end"]
        texts = {each["stream"]: each["text"] for each in said[1:3]}
        assert texts == {"stdout": "out\n", "stderr": "err\n"}
        assert said[-1]["succeeded"] is True
        assert said[-1]["workers"] == {worker.worker_id: "ams-1"}
        assert done.err == ""


async def test_what_had_ended_before_it_was_told_to_run_is_shown_too(site: FleetSite) -> None:
    async with fake_worker(site, await site.enrol()) as worker:
        running = asyncio.create_task(run(site, "--on", "all", "--", "sh", "script.sh"))
        asked = await worker.hear()
        assert isinstance(asked, StartProcess)
        await worker.say(
            ProcessChanged(
                process_id=asked.process_id, state=ProcessState.ENDED, at=2.0, exit_status=0
            )
        )
        assert isinstance(await worker.hear(), Acknowledge)
        read = await worker.hear()
        assert isinstance(read, ReadOutput)
        said = OutputChunk(number=1, at=1.0, stream="stdout", data=b"quick\n")
        await worker.say(Output(request_id=read.request_id, chunks=(said,), end=True))
        done = await running
        assert (done.status, done.out) == (0, "ams-1 │ quick\n")
        assert done.err.splitlines()[-1] == "succeeded on 1 worker"


async def test_control_c_ends_it_on_the_workers(site: FleetSite, tmp_path: Path) -> None:
    async with real_worker(site, tmp_path / "a") as worker:
        worker.script("sleep 1000 & echo $!; wait")
        running = await begin(site, "--on", "all", "--", "sh", "script.sh")
        assert running.stdout is not None
        child = int((await running.stdout.readline()).rpartition("│ ".encode())[2])
        assert member_of(child)
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), 60)
        assert running.returncode == 130, err
        assert member_of(child) is None
        assert b"stopped by ada" in err


def test_what_a_program_writes_does_not_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    out = io.StringIO()
    shown = SideBySide(out, io.StringIO())
    shown.begin("b", ["w1"])
    process = Process(
        process_id="p",
        worker_id="w1",
        command="sh",
        path="",
        state=ProcessState.RUNNING,
        requested_at=0.0,
        requested_by="ada",
    )
    data = b"\x1b]0;title\x07 [bold]plain[/bold] \x9b2J\xff\n" + b"x" * 20_000
    shown.chunk("w1", process, OutputChunk(number=1, stream="stdout", at=0.0, data=data))
    first, *rest = out.getvalue().splitlines()
    assert "[bold]plain[/bold]" in first
    assert "\x1b]" not in first
    assert "\x07" not in first
    assert len(rest) == 2  # a line without an end is shown in pieces

"""The keeper's inside, in this process and without a cgroup."""

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from roundsman.testing.clock import ManualClock
from roundsman.wire.control import ProcessChanged, StartProcess
from roundsman.wire.process import ProcessLimits, ProcessState
from roundsman.worker.runners import (
    kernel_files,
    process_leftovers,
    process_running,
    process_tree,
)
from roundsman.worker.runners.process_cgroup import Cgroup
from roundsman.worker.runners.process_keeper import ProcessKeeper
from roundsman.worker.runners.process_machine import Machine
from roundsman.worker.runners.process_tree import Member, members
from tests.policies import policy


class Kept:
    def __init__(self, folder: Path, **more: int) -> None:
        self.folder = folder / "processes"
        self.scripts = folder
        self.clock = ManualClock()
        self.keeper = ProcessKeeper(
            policy(folder, "sh", "true", "sleep"),
            folder=self.folder,
            clock=self.clock,
            machine=Machine(no_cgroup="not wanted"),
            **more,
        )
        self.ends: asyncio.Queue[ProcessChanged] = asyncio.Queue()
        self.keeper.on_change = self.ends.put_nowait

    def start(self, command: str, path: str = "") -> str:
        asked = StartProcess(process_id=str(uuid.uuid4()), command=command, path=path)
        assert self.keeper.start(asked).state is ProcessState.RUNNING
        return asked.process_id

    def remembered(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    kept = Kept(tmp_path, keep_ended=2, keep_bytes=10_000)
    await kept.keeper.open()
    yield kept
    await kept.keeper.close()


async def test_ended_processes_are_kept_by_number_and_age(kept: Kept) -> None:
    """Fault 12: jobs and output files are kept for ever."""
    started = []
    for _ in range(4):
        started.append(kept.start("true"))
        await kept.ends.get()
        assert (await kept.keeper.stop(started[-1])).gone
    assert kept.remembered() == set(started)  # none acknowledged
    for process_id in started:
        kept.keeper.acknowledge(process_id)
    assert kept.remembered() == set(started[2:])
    kept.clock.advance(8 * 86400)
    last = kept.start("true")
    await kept.ends.get()
    await kept.keeper.stop(last)
    kept.keeper.acknowledge(last)
    assert kept.remembered() == {last}
    assert (await kept.keeper.stop(started[0])).error == "job not found"


async def test_and_by_the_size_of_their_outputs(kept: Kept) -> None:
    (kept.scripts / "x").write_text("head -c 6000 /dev/zero")
    started = []
    for _ in range(2):
        started.append(kept.start("sh", "x"))
        await kept.ends.get()
        await kept.keeper.stop(started[-1])
        kept.keeper.acknowledge(started[-1])
    assert kept.remembered() == {started[1]}


async def test_a_start_that_comes_after_its_time_to_live_is_refused(kept: Kept) -> None:
    asked = StartProcess(process_id=str(uuid.uuid4()), command="true", path="")
    late = msgspec.structs.replace(asked, not_after=kept.clock.now() - 1.5)
    assert kept.keeper.start(late).error == "it came 1.5 seconds after its time to live"
    in_time = StartProcess(
        process_id=str(uuid.uuid4()), command="true", path="", not_after=kept.clock.now()
    )
    assert kept.keeper.start(in_time).state is ProcessState.RUNNING


async def test_no_signal_reaches_a_group_that_is_gone(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number may be another's by then."""
    process_id = kept.start("true")
    await kept.ends.get()
    assert (await kept.keeper.stop(process_id)).gone

    def forbidden(*_: object) -> None:
        raise AssertionError("a signal to a number that is not held")

    monkeypatch.setattr(os, "killpg", forbidden)
    answer = await kept.keeper.stop(process_id)
    assert answer.gone
    assert answer.proof is not None
    assert answer.proof.group_empty


async def test_a_leader_is_not_reaped_while_somebody_of_its_group_is_left(kept: Kept) -> None:
    """Its zombie holds the number, so that a later stop cannot reach strangers."""
    (kept.scripts / "x").write_text("sleep 1000 >/dev/null 2>&1 & exit 0")
    process_id = kept.start("sh", "x")
    await kept.ends.get()
    tree = kept.keeper._alive[process_id]
    assert Path(f"/proc/{tree.pid}").exists()
    assert (await kept.keeper.stop(process_id)).gone
    assert not Path(f"/proc/{tree.pid}").exists()


async def test_who_does_not_vanish_is_named(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of one who hangs in the kernel; and the next stop tries again."""
    monkeypatch.setattr(process_running, "_KILL_SECONDS", 0.05)
    process_id = kept.start("sleep", "1000")
    pid = kept.keeper._alive[process_id].pid
    stuck = Member(pid=123456, parent=1, group=pid, session=pid, threads=1, start_ticks=1)
    with monkeypatch.context() as patched:
        patched.setattr(process_tree, "members", lambda: [stuck])
        patched.setattr(process_running, "members", lambda: [stuck])
        answer = await kept.keeper.stop(process_id)
        assert (answer.gone, answer.left) == (False, (123456,))
        assert answer.proof is not None
        assert not answer.proof.group_empty
    monkeypatch.setattr(process_running, "_KILL_SECONDS", 5)
    assert (await kept.keeper.stop(process_id)).gone
    assert [member for member in members() if member.group == pid] == []


def test_a_signal_finds_whom_another_has_left_an_orphan() -> None:
    """Its parent, told before it, may have gone since it was looked at."""
    child = subprocess.Popen(["sleep", "1000"])
    member = process_tree.member_of(child.pid)
    assert member is not None
    elsewhere = msgspec.structs.replace(member, parent=1, group=1, session=1)
    another = msgspec.structs.replace(member, start_ticks=member.start_ticks - 1)
    process_tree.send_signal(another, signal.SIGKILL)
    process_tree.send_signal(elsewhere, signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("controllers", "written"),
    [
        ((), {}),
        (
            ("memory",),
            {"memory.max": "1048576", "memory.oom.group": "1", "memory.swap.max": "0"},
        ),
        (("cpu",), {"cpu.max": "150000 100000"}),
        (("pids",), {"pids.max": "7"}),
    ],
)
def test_limits_are_written_to_a_cgroup_s_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    controllers: tuple[str, ...],
    written: dict[str, str],
) -> None:
    """To a folder that is none of the kernel's: few machines hand all controllers to a test."""
    said: dict[str, str] = {}
    monkeypatch.setattr(kernel_files, "write", said.__setitem__)
    cgroup = Cgroup(tmp_path / "one")
    limits = ProcessLimits(memory_bytes=1 << 20, processors=1.5, tasks=7)
    cgroup.create(limits, frozenset(controllers))
    assert said == {f"{tmp_path}/one/{name}": text for name, text in written.items()}
    assert cgroup.limited is bool(controllers)  # so that a keeper does not step into it


def test_cgroups_of_killed_keepers_are_removed(tmp_path: Path) -> None:
    for pid in (os.getpid(), 999_999_999, 1):
        (tmp_path / f"roundsman-{pid}" / "process").mkdir(parents=True)
    (tmp_path / "roundsman-other").mkdir()
    process_leftovers.sweep_cgroups(tmp_path / f"roundsman-{os.getpid()}")
    left = {folder.name for folder in tmp_path.iterdir()}
    assert left == {f"roundsman-{os.getpid()}", "roundsman-1", "roundsman-other"}

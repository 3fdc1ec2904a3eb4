"""Real programs at their worst: each ends as documented, and nothing of it outlives a stop.

Each runs twice where the machine gives cgroups: with one, and by the subreaper alone.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import re
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roundsman.clock import SystemClock
from roundsman.wire.control import ProcessChanged, StartProcess
from roundsman.wire.process import OutputChunk, ProcessLimits, ProcessState, StopProof
from roundsman.worker.runners import process_link
from roundsman.worker.runners.process import ProcessRunner
from tests.policies import policy
from tests.worker.helpers import keepers

LONG = "ROUNDSMAN_TORTURE" in os.environ
LIMIT = 1 << 20
STARTS = 1000 if LONG else 40
MARK = f"{random.SystemRandom().randrange(10**9, 10**10)}"
"""Stands in the arguments of everybody who is started here, whatever they do with the rest."""


class Torture:
    """A runner, what it said, and whoever is left of what it started."""

    def __init__(self, folder: Path, *, tasks: int = 120, user: str | None = None) -> None:
        self.scripts = folder / "scripts"
        self.scripts.mkdir()
        self.folder = folder / "state" / "processes"
        self.runner = ProcessRunner(
            policy(
                self.scripts,
                *("sh", "python3", "true", "./tool"),
                limits=ProcessLimits(output_bytes=LIMIT, tasks=tasks),
                user=user,
                grace_seconds=0.3,
            ),
            folder=self.folder,
            clock=SystemClock(),
        )
        self.ends: dict[str, asyncio.Future[ProcessChanged]] = {}
        self.runner.on_change = self._told

    def _told(self, change: ProcessChanged) -> None:
        end = self.ends[change.process_id]
        if not end.done():  # who is left behind is told afterwards
            end.set_result(change)

    def gives(self, name: str) -> bool:
        """Whether the machine holds this bound."""
        return {bound.name: bound.given for bound in self.runner.bounds}[name]

    async def start(self, command: str, text: str = "", **more: object) -> str:
        process_id = str(uuid.uuid4())
        self.ends[process_id] = asyncio.get_running_loop().create_future()
        path = ""
        if command in ("sh", "python3"):
            path = f"{process_id}-{MARK}"
            (self.scripts / path).write_text(text.replace("MARK", MARK))
        return await self._start(process_id, command, path, **more)

    async def start_at(self, command: str, path: str) -> str:
        """A script that is there already."""
        process_id = str(uuid.uuid4())
        self.ends[process_id] = asyncio.get_running_loop().create_future()
        return await self._start(process_id, command, path)

    async def _start(self, process_id: str, command: str, path: str, **more: object) -> str:
        # The tests pass what fits; of what type each is the checker cannot know.
        asked = StartProcess(process_id=process_id, command=command, path=path, **more)  # type: ignore[arg-type]
        change = await self.runner.start(asked)
        assert change.state is ProcessState.RUNNING, change.error
        return process_id

    async def chunks(self, process_id: str, upto: bytes | None = None) -> list[OutputChunk]:
        """All that it writes, or until this was seen."""
        seen: list[OutputChunk] = []
        async for batch in self.runner.read(process_id, follow=True):
            seen += batch
            if upto is not None and upto in b"".join(chunk.data for chunk in seen):
                break
        return seen

    async def stop(self, process_id: str, grace_seconds: float | None = None) -> StopProof:
        """Stop it, and see for oneself that nobody is left."""
        answer = await self.runner.stop(process_id, grace_seconds)
        assert answer.proof is not None
        assert (answer.gone, answer.left, answer.error) == (True, (), None)
        assert left() == []
        assert (await self.runner.stop(process_id)).gone  # and again
        return answer.proof


def left() -> list[str]:
    """Everybody who bears the mark, but zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if MARK in command:
                    found.append(f"{entry.name} {command}")
    return found


@pytest.fixture(params=["cgroup", "subreaper"])
async def torture(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Torture]:
    if request.param == "subreaper":
        without = "tests.worker.runners.keeper_without_cgroups"
        monkeypatch.setattr(process_link, "SERVER", without)
    torture = Torture(tmp_path)
    await torture.runner.open()
    if request.param == "cgroup" and not torture.runner.bounds[0].given:
        await torture.runner.detach()
        pytest.skip(f"no cgroup here: {torture.runner.bounds[0].how}")
    yield torture
    await torture.runner.close()
    await torture.runner.detach()
    assert left() == []


DAEMON = """
import os, sys, time
for _ in range(2):
    if os.fork():
        os._exit(0) if _ else time.sleep(1000)
    os.setsid()
os.chdir("/")
print("ready", flush=True)
null = os.open("/dev/null", os.O_RDWR)
for standard in range(3):
    os.dup2(null, standard)
time.sleep(1000)
"""
ZOMBIES = """
import os, time
for _ in range(50):
    if not os.fork():
        os._exit(0)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("command", "text"),
    [
        pytest.param("python3", DAEMON, id="double fork"),
        pytest.param("python3", ZOMBIES, id="zombie parent"),
        pytest.param("sh", "setsid sleep 1000.MARK & echo ready; wait", id="setsid"),
        pytest.param("sh", "setsid sleep 1000.MARK & echo ready; exit 0", id="setsid, left alone"),
        pytest.param(
            "sh", "nohup setsid sleep 1000.MARK >/dev/null 2>&1 & echo ready; wait", id="nohup"
        ),
        pytest.param(
            "sh", "env -i setsid sleep 1000.MARK & sleep 0.5; echo ready; wait", id="env -i"
        ),
        pytest.param(
            "sh", "trap '' TERM HUP INT; echo ready; while :; do sleep 1000.MARK; done", id="deaf"
        ),
        pytest.param("sh", "echo ready; kill -STOP $$; sleep 1000.MARK", id="stopped"),
        pytest.param(
            "sh",
            "trap '' TERM; sleep 1000.MARK & kill -STOP $!; echo ready; kill -STOP $$; wait",
            id="stopped and deaf",
        ),
        pytest.param("sh", "echo ready; exec >&- 2>&-; sleep 1000.MARK", id="closed streams"),
    ],
)
async def test_nobody_outlives_a_stop(torture: Torture, command: str, text: str) -> None:
    process_id = await torture.start(command, text)
    await torture.chunks(process_id, upto=b"ready")
    proof = await torture.stop(process_id)
    assert (proof.group_empty, proof.tree_empty) == (True, True)
    assert proof.cgroup_empty is (True if proof.method == "cgroup" else None)


@pytest.mark.parametrize("limits", [ProcessLimits(), ProcessLimits(cpu_seconds=50)])
async def test_its_cgroup_is_its_own_from_its_first_instruction(
    torture: Torture, limits: ProcessLimits
) -> None:
    """Started plainly, and with limits: two ways."""
    text = "echo $PPID; cat /proc/self/cgroup"
    process_id = await torture.start("sh", text, limits=limits)
    said = b"".join(chunk.data for chunk in await torture.chunks(process_id)).decode()
    assert (process_id in said) is (torture.runner.bounds[0].how == "a cgroup of its own")
    keeper = Path(f"/proc/{said.splitlines()[0]}")
    assert b"keeper" in (keeper / "cmdline").read_bytes()
    assert process_id not in (keeper / "cgroup").read_text()  # which has left it again


async def test_its_temporary_folder_is_empty_and_its_own(torture: Torture) -> None:
    text = "ls -A $TMPDIR; stat -c %a $TMPDIR; echo $TMPDIR"
    for leave in ("touch $TMPDIR/x", "chmod 755 $TMPDIR", "rmdir $TMPDIR", ":", ":"):
        process_id = await torture.start("sh", f"{text}; {leave}")
        said = b"".join(chunk.data for chunk in await torture.chunks(process_id)).decode()
        mode, name = said.split()  # and no name of a file
        assert mode == "700"
        await torture.stop(process_id)
        assert leave == ":" or not Path(name).exists()


TIDY = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
first = os.fork()
if not first:
    os.setsid()
    print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
print("bye" if first else "too", flush=True)
"""


async def test_who_hears_sigterm_may_tidy_up(torture: Torture) -> None:
    """In a session of its own too."""
    process_id = await torture.start("python3", TIDY)
    await torture.chunks(process_id, upto=b"ready")
    await torture.stop(process_id, grace_seconds=60)  # however slow the machine
    assert (await torture.ends[process_id]).exit_status == 0
    said: list[bytes] = []
    while b"too" not in said:  # who was left behind is read on, after the end was told
        await asyncio.sleep(0.01)
        said = b"".join(chunk.data for chunk in await torture.chunks(process_id)).split()
    assert sorted(said) == [b"bye", b"ready", b"too"]


CHAIN = """
import os
print("ready", flush=True)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


async def test_who_leaves_himself_all_the_time_is_stopped(torture: Torture) -> None:
    """A chain of orphans, each gone as soon as it can be looked at."""
    process_id = await torture.start("python3", CHAIN)
    await torture.chunks(process_id, upto=b"ready")
    await torture.stop(process_id)
    assert not any(left() for _ in range(20))  # one look may miss him


SESSIONS = """
import os
while True:
    try:
        if not os.fork():
            os.setsid()
    except OSError:
        pass
"""


@pytest.mark.skipif(not LONG, reason="it takes the whole machine: make torture has it")
async def test_a_fork_bomb_of_sessions_is_bounded_and_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a cgroup, as a user whose tasks the kernel counts."""
    folder = tempfile.TemporaryDirectory()  # one that others may look into
    Path(folder.name).chmod(0o755)
    monkeypatch.setattr(process_link, "SERVER", "tests.worker.runners.keeper_without_cgroups")
    torture = Torture(Path(folder.name), tasks=20, user="nobody" if os.geteuid() == 0 else None)
    await torture.runner.open()
    process_id = await torture.start("python3", SESSIONS)
    assert (await torture.ends[process_id]).cause == "became more than 20 tasks"
    while not (await torture.runner.stop(process_id)).gone:
        pass  # said who is left, and goes on
    assert not any(left() for _ in range(20))
    await torture.runner.close()
    await torture.runner.detach()
    folder.cleanup()


async def test_a_fork_bomb_is_bounded(torture: Torture) -> None:
    """3 + 9 + … to more than a thousand, were it let."""
    text = (
        "bomb() { for i in 1 2 3; do [ $1 -gt 0 ] && (bomb $(($1 - 1))) & done; "
        "sleep 1000.MARK; }\nbomb 6"
    )
    process_id = await torture.start("sh", text)
    if torture.gives("tasks"):
        await torture.chunks(process_id, upto=b"Cannot fork")  # and lives with it
    else:
        assert (await torture.ends[process_id]).cause == "became more than 120 tasks"
    await torture.stop(process_id)


async def test_who_is_kept_from_forking_and_fails_is_told_why(torture: Torture) -> None:
    if not torture.gives("tasks"):
        pytest.skip("no cgroup with pids here: who becomes too many is ended")
    text = "import os\nwhile os.fork() or True:\n    pass"
    process_id = await torture.start("python3", text, limits=ProcessLimits(tasks=20))
    end = await torture.ends[process_id]
    assert (end.exit_status, end.cause) == (1, "was kept from becoming more than 20 tasks")
    await torture.stop(process_id)


async def test_a_flood_on_both_streams_is_read_cut_and_stopped(torture: Torture) -> None:
    text = "cat /dev/zero & cat /dev/zero >&2 & sleep 1000.MARK"
    process_id = await torture.start("sh", text)
    await torture.chunks(process_id, upto=b"output is cut here")
    await torture.stop(process_id)
    chunks = await torture.chunks(process_id)
    assert chunks[-1].stream == "roundsman"
    # One of the two may have filled it before the other was begun.
    assert {"roundsman"} < {chunk.stream for chunk in chunks} <= {"stdout", "stderr", "roundsman"}
    assert sum(len(chunk.data) for chunk in chunks) < LIMIT


BLOCKS = """
import os
block = memoryview(bytes(1 << 20))
child = os.fork()
left = 128 * len(block)
while left:
    left -= os.write(1 if child else 2, block[:left])
os._exit(os.waitstatus_to_exitcode(os.wait()[1]) if child else 0)
"""


async def test_a_flood_comes_to_its_end_and_fills_no_memory(torture: Torture) -> None:
    """In large blocks, to both streams, as fast as they are taken."""
    (keeper,) = keepers(torture.folder)

    def peak() -> int:
        (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{keeper}/status").read_text())
        return int(line) << 10

    before = peak()
    process_id = await torture.start("python3", BLOCKS)
    assert (await torture.ends[process_id]).exit_status == 0
    assert peak() - before < 16 << 20
    chunks = await torture.chunks(process_id)
    assert b"output is cut here" in chunks[-1].data
    assert sum(len(chunk.data) for chunk in chunks) < LIMIT
    await torture.stop(process_id)


async def test_a_hundred_megabytes_without_an_end_of_line(torture: Torture) -> None:
    process_id = await torture.start("sh", "head -c 100000000 /dev/zero; exit 6")
    assert (await torture.ends[process_id]).exit_status == 6
    chunks = await torture.chunks(process_id)
    assert LIMIT - 66_000 < sum(len(chunk.data) for chunk in chunks) < LIMIT
    await torture.stop(process_id)


async def test_binary_output_comes_as_it_is(torture: Torture) -> None:
    data = os.urandom(500_000)
    (torture.scripts / "data").write_bytes(data)
    process_id = await torture.start("sh", "cat data")
    chunks = await torture.chunks(process_id)
    assert hashlib.sha256(b"".join(chunk.data for chunk in chunks)).digest() == (
        hashlib.sha256(data).digest()
    )


async def test_a_script_has_its_name_and_its_neighbours(torture: Torture) -> None:
    """As the contract's argv has it: the command, and the path as it was given."""
    (torture.scripts / "deep").mkdir()
    (torture.scripts / "deep" / "lib.sh").write_text("echo lib")
    (torture.scripts / "deep" / "count").write_text(
        'echo "$0"; . "$(dirname "$0")/lib.sh"; tr "\\0" " " < /proc/$$/cmdline'
    )
    process_id = await torture.start_at("sh", "deep/count")
    said = b"".join(chunk.data for chunk in await torture.chunks(process_id))
    assert said == b"deep/count\nlib\nsh deep/count "
    (torture.scripts / "neighbour.py").write_text("word = 'imported'")
    (torture.scripts / "main.py").write_text(
        "import neighbour, os, sys\n"
        "print(sys.argv, neighbour.word, sorted(os.listdir('/proc/self/fd'))[:4])"
    )
    process_id = await torture.start_at("python3", "main.py")
    said = b"".join(chunk.data for chunk in await torture.chunks(process_id))
    assert said == b"['main.py'] imported ['0', '1', '2', '3']\n"  # 3 is the folder it lists


async def test_an_executable_replaced_while_it_runs_goes_on(
    torture: Torture, tmp_path: Path
) -> None:
    def place(text: str) -> None:
        (torture.scripts / "next").write_text(text.replace("MARK", MARK))
        (torture.scripts / "next").chmod(0o700)
        (torture.scripts / "next").replace(torture.scripts / "tool")

    place(f"#!/bin/sh\necho old; read x < {tmp_path}/go; echo still old")
    os.mkfifo(tmp_path / "go")
    old = await torture.start("./tool")
    await torture.chunks(old, upto=b"old")
    place("#!/bin/sh\necho new")
    new = await torture.start("./tool")
    assert [chunk.data for chunk in await torture.chunks(new)] == [b"new\n"]
    await asyncio.to_thread((tmp_path / "go").write_text, "\n")
    assert b"".join(chunk.data for chunk in await torture.chunks(old)) == b"old\nstill old\n"
    await torture.stop(old)


async def test_a_path_swapped_for_a_link_starts_nothing_from_outside(
    torture: Torture, tmp_path: Path
) -> None:
    """All the time, between any check and any use."""
    (tmp_path / "outside").write_text("echo outside")
    (torture.scripts / "inside").write_text("echo inside")
    following, now, done = torture.scripts / "next", torture.scripts / "now", threading.Event()
    now.hardlink_to(torture.scripts / "inside")

    def swap() -> None:
        while not done.is_set():
            following.symlink_to("../outside")
            following.replace(now)
            following.hardlink_to(torture.scripts / "inside")
            following.replace(now)

    swapping = threading.Thread(target=swap)
    swapping.start()
    said: set[bytes] = set()
    refused: set[str | None] = set()
    try:
        while not said or "path leaves the scripts folder: now" not in refused:
            asked = StartProcess(process_id=str(uuid.uuid4()), command="sh", path="now")
            torture.ends[asked.process_id] = asyncio.get_running_loop().create_future()
            change = await torture.runner.start(asked)
            if change.state is ProcessState.REFUSED:
                refused.add(change.error)
            else:
                said.add(b"".join(chunk.data for chunk in await torture.chunks(asked.process_id)))
    finally:
        done.set()
        swapping.join()
    assert said == {b"inside\n"}


async def test_many_short_ones_all_end_well(torture: Torture) -> None:
    started = [await torture.start("true") for _ in range(STARTS)]
    ends = [await torture.ends[process_id] for process_id in started]
    assert {(end.state, end.exit_status) for end in ends} == {(ProcessState.ENDED, 0)}


@pytest.mark.parametrize(
    ("limits", "text", "cause"),
    [
        (ProcessLimits(wall_seconds=0.3), "sleep 1000.MARK", "ran longer than 0.3 seconds"),
        (
            ProcessLimits(idle_seconds=0.5),
            "for i in 1 2 3 4; do sleep 0.2; echo $i; done; sleep 1000.MARK",
            "wrote nothing for 0.5 seconds",
        ),
        (
            ProcessLimits(cpu_seconds=1),
            "while :; do :; done",
            "took more than 1 seconds of processor time",
        ),
    ],
)
async def test_a_limit_ends_it_and_says_so(
    torture: Torture, limits: ProcessLimits, text: str, cause: str
) -> None:
    process_id = str(uuid.uuid4())
    torture.ends[process_id] = asyncio.get_running_loop().create_future()
    (torture.scripts / f"x-{MARK}").write_text(text.replace("MARK", MARK))
    asked = StartProcess(process_id=process_id, command="sh", path=f"x-{MARK}", limits=limits)
    assert (await torture.runner.start(asked)).state is ProcessState.RUNNING
    assert (await torture.ends[process_id]).cause == cause
    await torture.stop(process_id)


async def test_memory_is_limited(torture: Torture) -> None:
    process_id = str(uuid.uuid4())
    torture.ends[process_id] = asyncio.get_running_loop().create_future()
    (torture.scripts / "x").write_text("print(len(bytearray(1 << 30)))")
    limits = ProcessLimits(memory_bytes=200 << 20)
    asked = StartProcess(process_id=process_id, command="python3", path="x", limits=limits)
    await torture.runner.start(asked)
    end = await torture.ends[process_id]
    assert end.exit_status != 0
    await torture.stop(process_id)


OUTER = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
module = "tests.worker.runners.ask_for_signals"
os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])
"""


async def test_signals_that_the_worker_ignores_are_not_ignored_by_what_it_starts(
    tmp_path: Path,
) -> None:
    """As of a worker under nohup, or started in the background by a shell."""
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OUTER, tmp_path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asking.communicate()
    said = dict(line.split(":\t") for line in output.decode().splitlines() if ":\t" in line)
    # The C library keeps two real-time signals for itself: nobody can set those.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    assert int(said["SigIgn"], 16) & settable == 0
    assert int(said["SigBlk"], 16) == 0
    assert said["NoNewPrivs"] == "1"
